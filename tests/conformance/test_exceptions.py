"""Exceptions reach the caller unchanged, and only errors mark a span as failed."""

from __future__ import annotations

import asyncio
import sys
import traceback
from typing import Any

import pytest

EXCEPT_STAR = """
try:
    call()
except* ValueError as error:
    caught.append(error)
except* TypeError as error:
    caught.append(error)
"""


def raising(subject: Any, error: BaseException) -> Any:
    """Return a decorated function that raises ``error``."""

    @subject.decorate
    def raises() -> None:
        raise error

    return raises


@pytest.mark.parametrize("error", [ValueError("no"), MemoryError(), StopIteration(), OSError(2, "gone")], ids=repr)
def test_the_caller_gets_the_same_exception_object(subject: Any, error: Exception) -> None:
    """With its traceback. The span is an error, and the exception is recorded once."""
    with pytest.raises(type(error)) as caught:
        subject.call(raising(subject, error))
    assert caught.value is error
    assert traceback.extract_tb(error.__traceback__)[-1].name == "raises"
    assert subject.failed == ["raises"]
    assert subject.exceptions == 1


def test_cause_and_context_are_kept(subject: Any) -> None:
    """After ``raise ... from``."""

    @subject.decorate
    def raises() -> None:
        try:
            raise KeyError("cause")
        except KeyError as cause:
            raise ValueError("effect") from cause

    with pytest.raises(ValueError, match="effect") as caught:
        subject.call(raises)
    assert isinstance(caught.value.__cause__, KeyError)


def test_an_exception_whose_text_raises_reaches_the_caller(subject: Any) -> None:
    """Its __str__ and __repr__ raise."""

    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError

        __repr__ = __str__

    error = Broken()
    with pytest.raises(Broken) as caught:
        subject.call(raising(subject, error))
    assert caught.value is error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(0), asyncio.CancelledError()], ids=repr)
def test_an_exception_that_only_stops_a_program_is_no_error(subject: Any, error: BaseException) -> None:
    """Ctrl-C, sys.exit(0) and cancellation reach the caller, and the span is no error."""
    with pytest.raises(type(error)) as caught:
        subject.call(raising(subject, error))
    assert caught.value is error
    assert subject.failed == []
    assert subject.exceptions == 0


def test_a_failing_exit_is_an_error(subject: Any) -> None:
    """sys.exit(1)."""
    with pytest.raises(SystemExit):
        subject.call(raising(subject, SystemExit(1)))
    assert subject.failed == ["raises"]


def test_a_recursion_error_reaches_the_caller(subject: Any) -> None:
    """Also if the decorated function itself causes it."""

    @subject.decorate
    def deeper(number: int) -> int:
        return int(subject.call(deeper, number + 1))

    with pytest.raises(RecursionError):
        subject.call(deeper, 0)


def test_a_cancelled_asyncio_task_is_no_error(subject: Any) -> None:
    """The task is cancelled, and its span is no error."""

    @subject.decorate
    async def sleeps() -> None:
        await asyncio.sleep(10)

    async def main() -> bool:
        running = asyncio.ensure_future(sleeps())
        await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return running.cancelled()

    assert asyncio.run(main()) is True
    assert subject.failed == []


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout is new in Python 3.11")
def test_a_timeout_inside_is_an_error(subject: Any) -> None:
    """The TimeoutError of asyncio.timeout reaches the caller."""

    @subject.decorate
    async def sleeps() -> None:
        async with asyncio.timeout(0.01):  # type: ignore[attr-defined]
            await asyncio.sleep(10)

    with pytest.raises(TimeoutError):
        subject.run(sleeps)
    assert subject.failed == ["sleeps"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="ExceptionGroup is new in Python 3.11")
def test_an_exception_group_can_be_caught_with_except_star(subject: Any) -> None:
    """Also if a decorated function raises it."""
    group: Any = ExceptionGroup("many", [ValueError(1), TypeError(2)])  # type: ignore[name-defined]  # noqa: F821
    caught: list[Any] = []
    namespace = {"call": lambda: subject.call(raising(subject, group)), "caught": caught}
    exec(EXCEPT_STAR, namespace)
    assert [len(item.exceptions) for item in caught] == [1, 1]


def test_an_exception_that_passes_three_spans_is_recorded_once(subject: Any) -> None:
    """On the span where it was raised. All three spans are errors."""

    @subject.decorate
    def inner() -> None:
        raise ValueError("no")

    @subject.decorate
    def middle() -> None:
        subject.call(inner)

    @subject.decorate
    def outer() -> None:
        subject.call(middle)

    with pytest.raises(ValueError, match="no"):
        subject.call(outer)
    assert subject.failed == ["outer", "middle", "inner"]
    assert subject.exceptions == 1
    assert subject.spans[2].events[0].name == "exception"


def test_a_caught_exception_leaves_the_outer_span_alone(subject: Any) -> None:
    """Only the span that the exception left is an error."""

    @subject.decorate
    def inner() -> None:
        raise ValueError("no")

    @subject.decorate
    def outer() -> str:
        with pytest.raises(ValueError, match="no"):
            subject.call(inner)
        return "fine"

    assert subject.call(outer) == "fine"
    assert subject.failed == ["inner"]
