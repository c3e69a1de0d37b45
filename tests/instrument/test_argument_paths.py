"""Attributes from arguments: read by path, simple types only, no secrets, and no effect on the call."""

from __future__ import annotations

import datetime
import decimal
import enum
import logging
import uuid
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelflow._instrument.argument_attributes import ArgumentPaths


def place(order: Any, count: int = 3, /, *more: Any, note: str = "none", **rest: Any) -> None:
    """Have every kind of parameter."""


def read(path: str, *args: Any, name: str = "value", **kwargs: Any) -> Any:
    """Return the attribute of a call for one path; None without an attribute."""
    attributes, _ = ArgumentPaths(place, [(name, path)], "shop:place").read(args, kwargs)
    return attributes.get(name)


class Colour(enum.Enum):
    """An enumeration."""

    RED = "red"


ORDER = {"id": 7, "customer": SimpleNamespace(tier="gold", tags=["a", "b"]), "lines": [{"sku": "x"}], "7": "seven"}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("order.id", 7),
        ("order.customer.tier", "gold"),
        ("order.customer.tags", ("a", "b")),
        ("order.lines.0.sku", "x"),
        ("order.lines.1.sku", None),
        ("order.7", "seven"),
        ("order.none", None),
        ("order", "<dict>"),
        ("order.customer", "<types.SimpleNamespace>"),
        ("order.lines", "<list>"),
        ("count", 3),
        ("note", "none"),
        ("more", None),
        ("rest", "<dict>"),
        ("extra", None),
    ],
)
def test_a_path_is_resolved(path: str, expected: Any) -> None:
    """Paths reach parameters, defaults, attributes, keys and positions. Of objects they show the class only."""
    assert read(path, ORDER) == expected


def test_passed_arguments_win_over_defaults() -> None:
    """By position, by keyword, and in ``*args`` and ``**kwargs``."""
    assert read("count", ORDER, 5) == 5
    assert read("note", ORDER, note="yes") == "yes"
    assert read("more.1", ORDER, 5, "first", "second") == "second"
    assert read("extra", ORDER, extra=True) is True
    assert read("rest.extra", ORDER, extra=True) is True


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, True),
        (3, 3),
        (2.5, 2.5),
        ("text", "text"),
        ([1, 2], (1, 2)),
        (Colour.RED, "red"),
        (decimal.Decimal("1.10"), "1.10"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (None, None),
        ([object()], "<list>"),
        ([[1]], "<list>"),
        (object(), "<object>"),
        (b"bytes", "<bytes>"),
        (range(5), "<range>"),
    ],
)
def test_values_keep_their_type_or_show_their_class(value: Any, expected: Any) -> None:
    """Primitive values keep their type. Other objects show their class only: the path does not name their parts."""
    attribute = read("order", value)
    assert attribute == expected
    assert type(attribute) is type(expected)


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("password", "order", "hunter2"),
        ("login", "order.password", {"password": "hunter2"}),
        ("header", "order", "Bearer abcdefghijklmnopqrstuvwxyz"),
        ("url", "order", "postgres://user:pass@host/db"),
        ("urls", "order", ["postgres://user:pass@host/db"]),
        ("body", "order", "a=1&password=hunter2"),
        ("bot", "order", "xoxb-1234567890"),
        ("model", "order", "sk-abcdefghijklmnop"),
        ("proxy", "order", "Basic dXNlcjpwYXNz"),
        ("proxies", "order", ["Basic dXNlcjpwYXNz"]),
    ],
)
def test_secrets_are_redacted(name: str, path: str, value: Any) -> None:
    """The name of the attribute or argument decides, or the form of the value."""
    attribute = read(path, value, name=name)
    texts = attribute if isinstance(attribute, tuple) else (attribute,)
    assert all("[redacted:" in text for text in texts)
    assert not any(secret in str(attribute) for secret in ("hunter2", "abcdefgh", "user:pass", "12345", "dXNl"))


def test_a_huge_value_is_truncated() -> None:
    """It gets the maximum size of a value on a span."""
    attributes, truncated = ArgumentPaths(place, [("value", "order")], "shop:place").read(("x" * 10_000_000,), {})
    assert len(attributes["value"].encode()) <= 2048
    assert truncated == 1


class Raises:
    """Raise on any attribute access, len and str."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("no connection")

    def __len__(self) -> int:
        raise RuntimeError("no connection")

    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_a_path_that_raises_is_skipped_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Other attributes are read; the log line names the path and the function."""
    paths = ArgumentPaths(place, [("a", "order.x.y"), ("b", "count")], "shop:once")
    with caplog.at_level(logging.WARNING, "otelflow"):
        for _ in range(3):
            assert paths.read((Raises(),), {}) == ({"b": 3}, 0)
    (record,) = caplog.records
    assert record.getMessage() == (
        "Attribute 'a' of shop:once is missing on some spans: its path 'order.x.y' could not be read: RuntimeError"
    )


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.builds(Raises)
    | st.builds(object),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(), inner) | st.builds(lambda value: SimpleNamespace(a=value), inner)
    ),
)


@given(JUNK, st.lists(st.sampled_from(["a", "0", "1", "real", "__class__", "x"]), max_size=4))
def test_no_argument_makes_a_path_raise(value: Any, steps: list[str]) -> None:
    """For any value, reading succeeds and gives a valid attribute or None."""
    attribute = read(".".join(["order", *steps]), value)
    assert attribute is None or isinstance(attribute, bool | int | float | str | tuple)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("self.id", "there is no parameter 'self'. Its parameters: order, count"),
        ("ordr.id", "there is no parameter 'ordr'. Did you mean 'order'? Its parameters: order, count"),
    ],
)
def test_a_path_with_an_unknown_parameter_raises(path: str, text: str) -> None:
    """The error comes before any call, and lists the parameters."""

    def function(order: Any, count: int = 1) -> None: ...

    with pytest.raises(ValueError, match="parameter") as caught:
        ArgumentPaths(function, [("a", path)], "shop:function")
    assert str(caught.value) == text


def test_a_function_without_a_signature_raises() -> None:
    """Some C functions have none."""
    with pytest.raises(ValueError, match="has no signature"):
        ArgumentPaths(max, [("a", "b")], "builtins:max")
