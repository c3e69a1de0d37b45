"""The handle of a flow that runs in another process: its name, its run id, and where its events go."""

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
    """Placeholder for the function of a flow in another process."""
    raise NotImplementedError


_SPEC = Definition("flow", remote_flow, flow_class=Flow, task_class=Task)


class RemoteFlow(Flow[Any]):
    """A handle of the flow that this process works for, while the Flow itself is in another process.

    ``name``, ``run_id`` and ``flow_config`` are those of the flow. In a job of
    :func:`otelflow.propagate.propagating`, messages, artifacts and results go back to the flow. Elsewhere they go on
    the span that is current here, and to this process's listeners. ``tasks``, ``messages`` and similar attributes hold
    what happened in this process. ``data`` is not shared: using it raises :class:`otelflow.errors.NotShared`.
    """

    def __init__(
        self,
        name: str,
        run_id: str,
        config: FlowRunConfig = DEFAULT_CONFIG,
        *,
        source: str | None = None,
        recorder: Any = None,
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
        self.data = cast("dict[str, Any]", _RefusedData(name))
        self._capturing, self._recorder, self._span_context = captures, recorder, span_context
        self._prints_end_messages = prints_end_messages
        if not is_submitter:  # not the flow of the job: its events have no way back, and go on spans of the job
            self._number = next_run_number()
        self._has_way_back = recorder is not None and is_submitter
        self._origin_head = (source or _SPEC.source, *self._make_origin()[1:4])

    @property  # in Run, this is a field
    def _span(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The span for this flow's events: the innermost recording span here; None if they go back to the flow."""
        if self._has_way_back:
            return None
        span = get_current_span()
        if span.is_recording():
            return span
        if span.get_span_context().trace_flags.sampled:  # the sender's span: this process has only its ids
            counts.add(NO_LOCAL_SPAN)
        return None

    @_span.setter
    def _span(self, _: Any) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        pass

    @property  # in Run, this is a field
    def _origin(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The origin of this flow's events; computed, because the span that carries them changes."""
        span = get_current_span()
        span_context = self._span_context if self._has_way_back or not span.is_recording() else span.get_span_context()
        return (*self._origin_head, span_context)

    @_origin.setter
    def _origin(self, _: Any) -> None:
        pass

    def _check_ready(self) -> CallableKind:
        raise OtelflowError(
            f"{self!r} runs in another process. This is a handle, which cannot be executed. Call the flow's function "
            "to start a new run."
        )


class _RefusedData(MutableMapping[str, Any]):
    """Placeholder for the data of a flow in another process. Every use raises :class:`NotShared`."""

    def __init__(self, flow: str) -> None:
        self._flow = flow

    def _refuse(self, *_: Any) -> NoReturn:
        raise NotShared(
            f"The data of flow {self._flow!r} is in another process and not shared with this one. Pass the values that "
            "the task needs as arguments, and return its results."
        )

    __getitem__ = __setitem__ = __delitem__ = __contains__ = _refuse

    def __iter__(self) -> Iterator[str]:
        self._refuse()

    def __len__(self) -> int:
        self._refuse()

    def __repr__(self) -> str:
        return f"<data of flow {self._flow!r}, in another process>"


class NoFlow(Run):
    """The current run of a worker's job that was submitted outside any flow.

    The job's tasks are orphans in the worker, as they would be here. They are recorded as well.
    """

    @property
    def _captures(self) -> bool:
        return False

    def __init__(self, recorder: Any) -> None:
        self._recorder = recorder
        self._origin = (_SPEC.source, (None, None), None, None, None)

    def _own_flow(self) -> None:
        return None
