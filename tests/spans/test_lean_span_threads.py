"""Lean spans in many threads, and lean spans whose methods are interrupted by Ctrl-C."""

from __future__ import annotations

import dis
import itertools
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otelflow._spans import lean_span, lean_tracer
from otelflow._spans.event_overflow import add_event
from otelflow._spans.tracer import TracerSource

START = {"otelflow.kind": "task", "number": 3, "list": ("a", "b")}


@pytest.mark.parametrize("looks", [False, True])
def test_threads_that_add_and_read_events_lose_none(looks: bool) -> None:
    """The SDK's list of events is created while other threads add events."""
    source = TracerSource(TracerProvider(shutdown_on_exit=False).get_tracer("x"))
    for _ in range(30):
        span: Any = source.start("t", Context(), (START,), 1)
        begin = threading.Barrier(5)

        def say(number: int, span: Any = span, begin: Any = begin) -> None:
            begin.wait(20)
            for ns in range(number * 20, number * 20 + 20):
                add_event(span, "event", {"n": ns}, ns)
                if looks:
                    assert ns in [event.timestamp for event in span.events]

        threads = [threading.Thread(target=say, args=(number,)) for number in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert sorted(event.timestamp for event in span.events) == list(range(100))
        assert span.dropped_events == 0


def test_many_threads_read_write_and_end_one_span() -> None:
    """Nothing that was written in time is lost, and the span is exported once."""
    provider, memory = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    source = TracerSource(provider.get_tracer("x"))
    for _ in range(20):
        span: Any = source.start("t", Context(), (START,), 1)
        begin = threading.Barrier(6)

        def write(number: int, span: Any = span, begin: Any = begin) -> None:
            begin.wait(20)
            span.set_attribute(f"n{number}", number)
            span.add_event("e", {"n": number})
            assert span.attributes["number"] == 3

        def finish(span: Any = span, begin: Any = begin) -> None:
            begin.wait(20)
            span.finish({"otelflow.status": "completed"}, 9)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        threads += [threading.Thread(target=finish) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        (exported,) = memory.get_finished_spans()
        memory.clear()
        assert exported.attributes is not None
        assert exported.attributes["otelflow.status"] == "completed"
        assert set(START) <= set(exported.attributes)


def interrupted(call: Callable[[], object], after: int) -> bool:
    """Interrupt ``call`` after call number ``after`` in :mod:`otelflow._spans.lean_span`. Return whether it got there.

    Python handles signals at these places.
    """
    passed, before = 0, ""

    def trace(frame: Any, event: str, _: Any) -> Any:
        nonlocal passed, before
        if frame.f_code.co_filename != lean_span.__file__:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            is_behind, before = before.startswith("CALL"), dis.opname[frame.f_code.co_code[frame.f_lasti]]
            passed += is_behind
            if is_behind and passed == after:
                raise KeyboardInterrupt
        return trace

    tracing = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(tracing)
    return False


def is_free(lock: Any) -> bool:
    """Return whether another thread can acquire ``lock``."""
    results: list[bool] = []
    thread = threading.Thread(target=lambda: results.append(lock.acquire(blocking=False) and not lock.release()))
    thread.start()
    thread.join()
    return results == [True]


@pytest.mark.parametrize("name", ["finish", "conclude", "add_scrubbed_event"])
def test_a_ctrl_c_leaves_no_lock_locked(name: str) -> None:
    """A lock that stays locked would block the end of the flow."""
    start = lean_tracer.starter_for(TracerProvider(shutdown_on_exit=False).get_tracer("otelflow"))
    assert start is not None
    arguments: Any = {"finish": ({}, 5), "conclude": ({}, "no"), "add_scrubbed_event": ("message", {}, 5)}[name]
    for number in itertools.count(1):
        span = start("task", Context(), (START,), 10)
        was_interrupted = interrupted(partial(getattr(span, name), *arguments), number)
        assert is_free(span._lock), f"after call {number}"
        if not was_interrupted:
            break
