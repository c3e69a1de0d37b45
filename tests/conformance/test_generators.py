"""A decorated generator keeps its behaviour, and is the current run only while it executes."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from opentelemetry import trace


def current_span() -> Any:
    """Return the current span."""
    return trace.get_current_span()


def test_send_throw_and_return_value_work(subject: Any) -> None:
    """Values and exceptions reach the generator, and its values reach the caller."""

    @subject.decorate
    def talks() -> Any:
        value = yield 1
        try:
            yield value
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


def test_yield_from_works(subject: Any) -> None:
    """A delegating generator gets the items and the return value."""

    @subject.decorate
    def inner() -> Any:
        yield 1
        return 2

    def outer() -> Any:
        value = yield from subject.steps(inner)
        yield value

    assert list(outer()) == [1, 2]


def test_the_span_covers_the_iteration(subject: Any) -> None:
    """It starts with the first step, ends with the last one, and ends once."""

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
    """The span is current inside each step and never outside. No context fails to detach."""
    inside: list[bool] = []

    @subject.decorate
    def watches() -> Any:
        for number in range(3):
            inside.append(current_span().is_recording())
            yield number

    outside = current_span()
    for _ in subject.steps(watches):
        assert current_span() is outside
    assert inside == [True] * 3
    assert "detach" not in caplog.text


def test_the_span_ends_after_break_close_or_garbage_collection(subject: Any, caplog: Any) -> None:
    """It ends once and without an error, and finally blocks run."""
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


def test_two_interleaved_generators_have_their_own_spans(subject: Any) -> None:
    """In each step, the current span is that of its generator."""

    @subject.decorate
    def ids() -> Any:
        for _ in range(3):
            yield current_span().get_span_context().span_id

    first, second = subject.steps(ids), subject.steps(ids)
    pairs = list(zip(first, second, strict=True))
    assert len({first_id for first_id, _ in pairs}) == len({second_id for _, second_id in pairs}) == 1
    assert pairs[0][0] != pairs[0][1]


def test_an_error_in_a_generator_reaches_the_caller(subject: Any) -> None:
    """The span is an error, too."""
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


def test_an_async_generator_keeps_its_behaviour(subject: Any) -> None:
    """asend, athrow and aclose work."""

    @subject.decorate
    async def talks() -> Any:
        value = yield 1
        try:
            yield value
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


def test_the_consumer_of_an_async_generator_sees_no_span(subject: Any, caplog: Any) -> None:
    """Neither between steps nor after a break. No context fails to detach."""
    inside: list[bool] = []

    @subject.decorate
    async def watches() -> Any:
        for number in range(5):
            await asyncio.sleep(0)
            inside.append(current_span().is_recording())
            yield number

    async def main() -> None:
        outside = current_span()
        async for number in subject.asteps(watches):
            assert current_span() is outside
            if number == 2:
                break
        assert current_span() is outside

    asyncio.run(main())
    gc.collect()
    assert inside == [True] * 3
    assert len(subject.spans) == 1
    assert subject.failed == []
    assert "detach" not in caplog.text
