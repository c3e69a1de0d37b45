"""A flow that runs in another process, as seen from here: a handle with its name and run id."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any, NoReturn, cast

from opentelemetry.trace import SpanContext, get_current_span

from otelflow._runs.callable_kind import CallableKind
from otelflow._runs.definition import Definition
from otelflow._runs.flow_and_task import Flow, Task
from otelflow._runs.run import Run
from otelflow._runtime.drop_counts import NO_LOCAL_SPAN, counts
from otelflow._runtime.run_ids import next_run_number
from otelflow._values.text import scrub_long
from otelflow.config import DEFAULT_CONFIG, FlowRunConfig
from otelflow.errors import NotShared, OtelflowError

__all__ = ["NoFlow", "RemoteFlow"]


def remote_flow() -> NoReturn:
    """Stands for the function of a flow elsewhere."""
    raise NotImplementedError


_SPEC = Definition("flow", remote_flow, flow_class=Flow, task_class=Task)


class RemoteFlow(Flow[Any]):
    """The flow that this process works for, while the Flow itself is in another one.

    ``name``, ``run_id`` and ``flow_config`` are the flow's. Messages, artifacts and results go to the flow where there
    is a way back (:func:`otelflow.propagate.propagating`); else on the span that is current here, and to this process's
    listeners. ``tasks``, ``messages`` and the like hold what happened here. ``data`` is not shared: using it raises
    :class:`otelflow.errors.NotShared`.
    """

    def __init__(
        self,
        name: str,
        run_id: str,
        config: FlowRunConfig = DEFAULT_CONFIG,
        *,
        source: str | None = None,
        relay: Any = None,
        captures: bool = False,
        prints_end_messages: bool = False,
        is_submitter: bool = True,
        span_context: SpanContext | None = None,
    ) -> None:
        self._spec = _SPEC
        self._given_name, self._given_run_id, self.flow_config = scrub_long(name), run_id, config
        self.data = {}
        self._memory = self._new_memory()
        self._join(None)
        self.data = cast("dict[str, Any]", _Elsewhere(name))
        self._capturing, self._relay, self._span_context = captures, relay, span_context
        self._prints_end_messages = prints_end_messages
        if not is_submitter:  # another flow than the job's: what it is told has no way back, and is on spans of the job
            self._number = next_run_number()
        self._has_way_back = relay is not None and is_submitter
        self._told_from = (source or _SPEC.source, *self._make_origin()[1:4])

    @property  # of a run it is a field
    def _span(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Where this flow's events go: nowhere with a way back, else the innermost span that records here."""
        if self._has_way_back:
            return None
        span = get_current_span()
        if span.is_recording():
            return span
        if span.get_span_context().trace_flags.sampled:  # the sender's: it can be named here, and not written on
            counts.add(NO_LOCAL_SPAN)
        return None

    @_span.setter
    def _span(self, _: Any) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        pass

    @property  # of a run it is a field
    def _origin(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Where its events come from: the span that carries them is not always the same one."""
        span = get_current_span()
        here = self._span_context if self._has_way_back or not span.is_recording() else span.get_span_context()
        return (*self._told_from, here)

    @_origin.setter
    def _origin(self, _: Any) -> None:
        pass

    def _ready(self) -> CallableKind:
        raise OtelflowError(
            f"{self!r} runs in another process: here is a handle, which cannot be executed. Call the flow's function "
            "to run another one."
        )


class _Elsewhere(MutableMapping[str, Any]):
    """Stands for the data of a flow in another process: says so, whatever one does with it."""

    def __init__(self, flow: str) -> None:
        self._flow = flow

    def _refuse(self, *_: Any) -> NoReturn:
        raise NotShared(
            f"The data of flow {self._flow!r} is in another process and not shared with this one. Pass what the task "
            "needs as an argument, and give back what it found as its return value."
        )

    __getitem__ = __setitem__ = __delitem__ = __contains__ = _refuse

    def __iter__(self) -> Iterator[str]:
        self._refuse()

    def __len__(self) -> int:
        self._refuse()

    def __repr__(self) -> str:
        return f"<data of flow {self._flow!r}, in another process>"


class NoFlow(Run):
    """Where a job runs that was submitted outside any flow: its tasks are orphans there as they would be here, and
    recorded all the same."""

    @property
    def _captures(self) -> bool:
        return False

    def __init__(self, relay: Any) -> None:
        self._relay = relay
        self._origin = (_SPEC.source, (None, None), None, None, None)

    def _own_flow(self) -> None:
        return None
