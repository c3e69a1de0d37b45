"""What the promises are run against: a decorator, and how the functions that it made are used."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan

from otelflow import FlowRunConfig, flow, task
from otelflow.testing import Capture


class Subject:
    """A decorator, and how the functions that it made are used."""

    captured: Capture
    """What the test that uses it captures."""

    def __init__(self, name: str, decorate: Callable[[Any], Any], deferred: bool = False) -> None:
        self.name = name
        self.decorate = decorate
        self.deferred = deferred

    def call(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """The value of a plain call."""
        made = function(*args, **kwargs)
        return made.execute().return_value if self.deferred else made

    async def acall(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """The value of an awaited call."""
        made = await function(*args, **kwargs)
        return made.return_value if self.deferred else made

    def steps(self, function: Any, *args: Any) -> Any:
        """The generator of a call."""
        return iter(function(*args)) if self.deferred else function(*args)

    def asteps(self, function: Any, *args: Any) -> Any:
        """The async generator of a call."""
        return function(*args).__aiter__() if self.deferred else function(*args)

    def run(self, function: Any, *args: Any) -> Any:
        """The value of a coroutine function's call, on a loop of its own."""
        return asyncio.run(self.acall(function, *args))

    @property
    def spans(self) -> list[ReadableSpan]:
        """The spans that have ended so far, in the order of their start."""
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
        """How many exception events there are."""
        return sum(event.name == "exception" for span in self.spans for event in span.events)


def own_subjects() -> list[Subject]:
    """otelflow's decorators; flows without captured output, as that is not what is looked at here."""
    quiet = FlowRunConfig(capture_output=False)
    return [
        Subject("task", task),
        Subject("transparent flow", flow(transparent=True)),
        Subject("deferred flow", flow(flow_config=quiet), deferred=True),
    ]
