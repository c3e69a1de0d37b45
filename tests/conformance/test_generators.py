"""Promise: a generator is passed through whole, and is the current run only while it works."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from opentelemetry import trace


def here() -> Any:
    """The current span."""
    return trace.get_current_span()


def test_send_throw_and_return_value(subject: Any) -> None:
    """Everything reaches the generator and comes back."""

    @subject.decorate
    def talks() -> Any:
        got = yield 1
        try:
            yield got
        except KeyError:
            yield "caught"
        return "end"

    steps = subject.steps(talks)
    assert next(steps) == 1
    assert steps.send("hello") == "hello"
    assert steps.throw(KeyError("k")) == "caught"
    with pytest.raises(StopIteration) as stop:
        next(steps)
    assert stop.value.value == "end"
    assert subject.failed == []


def test_yield_from(subject: Any) -> None:
    """Delegated to, it gives its items and its value."""

    @subject.decorate
    def inner() -> Any:
        yield 1
        return 2

    def outer() -> Any:
        value = yield from subject.steps(inner)
        yield value

    assert list(outer()) == [1, 2]


def test_the_span_covers_the_iteration(subject: Any) -> None:
    """It begins with the first step, ends with the last, and is ended once."""

    @subject.decorate
    def counts() -> Any:
        yield from range(3)

    steps = subject.steps(counts)
    assert subject.spans == []
    assert next(steps) == 0
    assert subject.spans == []
    assert list(steps) == [1, 2]
    assert subject.span.name == "counts"


def test_the_consumer_sees_no_span_between_steps(subject: Any, caplog: Any) -> None:
    """Inside, the span is current in every step; outside, never; and nothing fails to detach."""
    inside: list[bool] = []

    @subject.decorate
    def watches() -> Any:
        for number in range(3):
            inside.append(here().is_recording())
            yield number

    outside = here()
    for _ in subject.steps(watches):
        assert here() is outside
    assert inside == [True] * 3
    assert "detach" not in caplog.text


def test_early_break_close_and_garbage(subject: Any, caplog: Any) -> None:
    """No error: the span ends, once, and finally blocks run."""
    closed: list[str] = []

    @subject.decorate
    def counts() -> Any:
        try:
            yield from range(10)
        finally:
            closed.append("finally")

    for number in subject.steps(counts):
        if number == 2:
            break
    steps = subject.steps(counts)
    next(steps)
    steps.close()
    steps = subject.steps(counts)
    next(steps)
    del steps
    gc.collect()
    assert closed == ["finally"] * 3
    assert len(subject.spans) == 3
    assert subject.failed == []
    assert "detach" not in caplog.text


def test_two_interleaved(subject: Any) -> None:
    """Each step sees its own span."""

    @subject.decorate
    def ids() -> Any:
        for _ in range(3):
            yield here().get_span_context().span_id

    first, second = subject.steps(ids), subject.steps(ids)
    pairs = list(zip(first, second, strict=True))
    assert len({one for one, _ in pairs}) == len({two for _, two in pairs}) == 1
    assert pairs[0][0] != pairs[0][1]


def test_a_generator_that_raises(subject: Any) -> None:
    """The error is the caller's, and the span's."""
    error = ValueError("no")

    @subject.decorate
    def raises() -> Any:
        yield 1
        raise error

    steps = subject.steps(raises)
    next(steps)
    with pytest.raises(ValueError, match="no") as caught:
        next(steps)
    assert caught.value is error
    assert subject.failed == ["raises"]
    assert subject.exceptions == 1


def test_an_async_generator(subject: Any) -> None:
    """asend, athrow and aclose."""

    @subject.decorate
    async def talks() -> Any:
        got = yield 1
        try:
            yield got
        except KeyError:
            yield "caught"

    async def main() -> None:
        steps = subject.asteps(talks)
        assert await steps.asend(None) == 1
        assert await steps.asend("hello") == "hello"
        assert await steps.athrow(KeyError("k")) == "caught"
        await steps.aclose()

    asyncio.run(main())
    assert subject.span.name == "talks"
    assert subject.failed == []


def test_an_async_generators_consumer_sees_no_span(subject: Any, caplog: Any) -> None:
    """Between steps; after a break; and nothing fails to detach."""
    inside: list[bool] = []

    @subject.decorate
    async def watches() -> Any:
        for number in range(5):
            await asyncio.sleep(0)
            inside.append(here().is_recording())
            yield number

    async def main() -> None:
        outside = here()
        async for number in subject.asteps(watches):
            assert here() is outside
            if number == 2:
                break
        assert here() is outside

    asyncio.run(main())
    gc.collect()
    assert inside == [True] * 3
    assert len(subject.spans) == 1
    assert subject.failed == []
    assert "detach" not in caplog.text
