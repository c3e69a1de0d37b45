"""Promise: arguments are passed on, and neither looked at, nor kept, nor sent."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any


class Unprintable:
    """Refuses to be shown, compared, hashed, measured or iterated."""

    def _refuse(self, *_: Any) -> Any:
        raise AssertionError("looked at")

    __repr__ = __str__ = __eq__ = __hash__ = __len__ = __iter__ = __bool__ = _refuse  # type: ignore[assignment]


class Payload:
    """Something that should be let go."""


def test_they_are_not_looked_at(subject: Any) -> None:
    """An object that raises at every look is passed on."""

    @subject.decorate
    def takes(first: Any, *, second: Any) -> str:
        return "taken"

    assert subject.call(takes, Unprintable(), second=Unprintable()) == "taken"


def test_large_ones_are_not_copied(subject: Any) -> None:
    """A list of five million items is the same list, and nothing of it is on the span."""
    large = list(range(5_000_000))

    @subject.decorate
    def takes(items: Any) -> bool:
        return items is large

    assert subject.call(takes, large) is True
    assert sum(len(str(value)) for value in (subject.span.attributes or {}).values()) < 1000


def test_they_are_let_go(subject: Any) -> None:
    """When the call has returned and the caller lets go, the object dies: plain and async."""

    @subject.decorate
    def takes(payload: Any) -> None: ...

    @subject.decorate
    async def takes_later(payload: Any) -> None:
        await asyncio.sleep(0)

    async def main() -> Any:
        payload = Payload()
        alive = weakref.ref(payload)
        await takes_later(payload)
        return alive

    payload = Payload()
    alive = weakref.ref(payload)
    subject.call(takes, payload)
    del payload
    later = asyncio.run(main())
    gc.collect()
    assert alive() is None
    assert later() is None


def test_no_value_is_on_the_wire(subject: Any) -> None:
    """Neither arguments nor the return value."""

    @subject.decorate
    def login(user: str, password: str) -> str:
        return "token-4711"

    subject.call(login, "ada", password="hunter2")
    assert "hunter2" not in subject.span.to_json()
    assert "token-4711" not in subject.span.to_json()


def test_the_return_value_is_the_same_object(subject: Any) -> None:
    """Not a copy, not a proxy."""
    value = Payload()

    @subject.decorate
    def gives() -> Payload:
        return value

    assert subject.call(gives) is value
