"""Attributes from arguments: found by path, of simple kinds, never a secret, and never in the way of the call."""

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
    """Something of every kind of parameter."""


def read(path: str, *args: Any, name: str = "value", **kwargs: Any) -> Any:
    """What a call has on its span under one path; None for nothing."""
    made, _ = ArgumentPaths(place, [(name, path)], "shop:place").read(args, kwargs)
    return made.get(name)


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
def test_paths(path: str, expected: Any) -> None:
    """Parameters, their defaults, attributes, keys and positions; of objects no more than their class."""
    assert read(path, ORDER) == expected


def test_what_is_passed_wins_over_defaults() -> None:
    """By position, by name, among the rest."""
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
    """Primitive values stay what they are; what has parts is not shown, as they were not named."""
    found = read("order", value)
    assert found == expected
    assert type(found) is type(expected)


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
def test_secrets_stay_out(name: str, path: str, value: Any) -> None:
    """By the name of the attribute or of the argument, and by the form of the value."""
    made = read(path, value, name=name)
    texts = made if isinstance(made, tuple) else (made,)
    assert all("[redacted:" in text for text in texts)
    assert not any(secret in str(made) for secret in ("hunter2", "abcdefgh", "user:pass", "12345", "dXNl"))


def test_a_huge_value_is_cut() -> None:
    """To the size of every value on a span, in time that does not grow with it."""
    made, cut = ArgumentPaths(place, [("value", "order")], "shop:place").read(("x" * 10_000_000,), {})
    assert len(made["value"].encode()) <= 2048
    assert cut == 1


class Raises:
    """Every look at it fails."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("no connection")

    def __len__(self) -> int:
        raise RuntimeError("no connection")

    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_a_path_that_raises_is_left_out_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """The others are there; the log names the path and the function."""
    paths = ArgumentPaths(place, [("a", "order.x.y"), ("b", "count")], "shop:once")
    with caplog.at_level(logging.WARNING, "otelflow"):
        for _ in range(3):
            assert paths.read((Raises(),), {}) == ({"b": 3}, 0)
    (record,) = caplog.records
    assert record.getMessage() == (
        "The attribute 'a' of shop:once is left out where its path 'order.x.y' cannot be read: RuntimeError"
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
def test_nothing_that_is_passed_raises(value: Any, steps: list[str]) -> None:
    """Whatever a path meets, the call goes on, and what is there can be an attribute."""
    found = read(".".join(["order", *steps]), value)
    assert found is None or isinstance(found, bool | int | float | str | tuple)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("self.id", "there is no parameter 'self'. It takes: order, count"),
        ("ordr.id", "there is no parameter 'ordr'. Did you mean 'order'? It takes: order, count"),
    ],
)
def test_a_path_without_its_parameter(path: str, text: str) -> None:
    """Told before any call, with the parameters that are there."""

    def function(order: Any, count: int = 1) -> None: ...

    with pytest.raises(ValueError, match="parameter") as caught:
        ArgumentPaths(function, [("a", path)], "shop:function")
    assert str(caught.value) == text


def test_a_function_without_a_signature() -> None:
    """Some of C's tell none."""
    with pytest.raises(ValueError, match="tells no signature"):
        ArgumentPaths(max, [("a", "b")], "builtins:max")
