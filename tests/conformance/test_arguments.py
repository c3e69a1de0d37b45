"""Arguments are passed on unchanged. The decorator does not inspect, keep or send them."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any


class Unprintable:
    """Raises on repr, comparison, hash, len and iteration."""

    def _refuse(self, *_: Any) -> Any:
        raise AssertionError("inspected")

    __repr__ = __str__ = __eq__ = __hash__ = __len__ = __iter__ = __bool__ = _refuse  # type: ignore[assignment]


class Payload:
    """An object that should be freed."""


def test_arguments_are_not_inspected(subject: Any) -> None:
    """An object that raises in each special method is passed on."""

    @subject.decorate
    def takes(first: Any, *, second: Any) -> str:
        return "passed"

    assert subject.call(takes, Unprintable(), second=Unprintable()) == "passed"


def test_large_arguments_are_not_copied(subject: Any) -> None:
    """A list of five million items arrives as the same list, and none of it is on the span."""
    large = list(range(5_000_000))

    @subject.decorate
    def takes(items: Any) -> bool:
        return items is large

    assert subject.call(takes, large) is True
    assert sum(len(str(value)) for value in (subject.span.attributes or {}).values()) < 1000


def test_arguments_are_freed(subject: Any) -> None:
    """After the call, when the caller deletes its reference: for plain and async functions."""

    @subject.decorate
    def takes(payload: Any) -> None: ...

    @subject.decorate
    async def takes_later(payload: Any) -> None:
        await asyncio.sleep(0)

    async def main() -> Any:
        payload = Payload()
        reference = weakref.ref(payload)
        await takes_later(payload)
        return reference

    payload = Payload()
    reference = weakref.ref(payload)
    subject.call(takes, payload)
    del payload
    async_reference = asyncio.run(main())
    gc.collect()
    assert reference() is None
    assert async_reference() is None


def test_no_value_is_on_the_span(subject: Any) -> None:
    """Neither arguments nor the return value."""

    @subject.decorate
    def login(user: str, password: str) -> str:
        return "token-4711"

    subject.call(login, "ada", password="hunter2")
    assert "hunter2" not in subject.span.to_json()
    assert "token-4711" not in subject.span.to_json()


def test_the_return_value_is_the_same_object(subject: Any) -> None:
    """It is neither a copy nor a proxy."""
    value = Payload()

    @subject.decorate
    def gives() -> Payload:
        return value

    assert subject.call(gives) is value
