"""Subjects of the conformance tests: decorators, and how to call the functions that they return."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan

from otelflow import FlowRunConfig, flow, task
from otelflow.testing import Capture


class Subject:
    """A decorator, and how to call the functions that it returns."""

    captured: Capture
    """Capture of the test that uses this subject."""

    def __init__(self, name: str, decorate: Callable[[Any], Any], deferred: bool = False) -> None:
        self.name = name
        self.decorate = decorate
        self.deferred = deferred

    def call(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Call ``function`` and return its value."""
        result = function(*args, **kwargs)
        return result.execute().return_value if self.deferred else result

    async def acall(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Await a call and return its value."""
        result = await function(*args, **kwargs)
        return result.return_value if self.deferred else result

    def steps(self, function: Any, *args: Any) -> Any:
        """Return the generator of a call."""
        return iter(function(*args)) if self.deferred else function(*args)

    def asteps(self, function: Any, *args: Any) -> Any:
        """Return the async generator of a call."""
        return function(*args).__aiter__() if self.deferred else function(*args)

    def run(self, function: Any, *args: Any) -> Any:
        """Call a coroutine function on a new event loop and return its value."""
        return asyncio.run(self.acall(function, *args))

    @property
    def spans(self) -> list[ReadableSpan]:
        """Spans that have ended so far, in the order of their start."""
        return [run.span for run in self.captured.spans if not run.is_open]

    @property
    def span(self) -> ReadableSpan:
        """The only span."""
        (span,) = self.spans
        return span

    @property
    def failed(self) -> list[str]:
        """Names of the spans whose status is an error."""
        return [span.name for span in self.spans if not span.status.is_ok]

    @property
    def exceptions(self) -> int:
        """Number of exception events."""
        return sum(event.name == "exception" for span in self.spans for event in span.events)


def own_subjects() -> list[Subject]:
    """Return otelflow's decorators. Flows do not capture output, as these tests do not check it."""
    config = FlowRunConfig(capture_output=False)
    return [
        Subject("task", task),
        Subject("transparent flow", flow(transparent=True)),
        Subject("deferred flow", flow(flow_config=config), deferred=True),
    ]
