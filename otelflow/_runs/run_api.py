"""What a run can say of itself, and what can be read of it: messages, artifacts, results, times, ids."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from otelflow import attributes as wire
from otelflow._events import outputs
from otelflow._events.message import emit_message as emit_message
from otelflow._events.run_memory import RunMemory, artifact_of, message_of, result_of
from otelflow._runs.run import Run
from otelflow._runtime import clock
from otelflow._runtime.log_once import log_once
from otelflow._values.attribute import to_json
from otelflow._values.text import safe_str, scrub_long
from otelflow.config import FlowRunConfig
from otelflow.records import Artifact, Keyed, Message, Result

__all__ = ["RunApi"]


class RunApi(Run):
    """A run that speaks: everything goes on the span of the object that is called, whoever calls it."""

    @property
    def run_id(self) -> str:
        raise NotImplementedError

    # --- to say -------------------------------------------------------------------------------------------------

    def log_debug(self, message: object, /, **attributes: Any) -> None:
        """Send a message at DEBUG. ``attributes`` go on its span event; values are cut to the largest size."""
        emit_message(self, 10, message, attributes)

    def log_info(self, message: object, /, **attributes: Any) -> None:
        """Send a message at INFO."""
        emit_message(self, 20, message, attributes)

    def log_warning(self, message: object, /, **attributes: Any) -> None:
        """Send a message at WARNING."""
        emit_message(self, 30, message, attributes)

    def log_error(self, message: object, /, **attributes: Any) -> None:
        """Send a message at ERROR. The run does not fail for it."""
        emit_message(self, 40, message, attributes)

    def add_artifact(
        self,
        description: str | None = None,
        key: str | None = None,
        data: Any = None,
        artifact_type: str | None = None,
    ) -> None:
        """Record something that the run produced.

        The span event carries ``data`` as JSON of at most ``OTELFLOW_MAX_VALUE_BYTES``; ``artifacts`` and listeners
        get the object itself. ``data`` may be anything: what is not JSON is described.
        """
        kind = type(data).__name__ if artifact_type is None else artifact_type
        outputs.emit_artifact(self, "artifact" if key is None else _text(key), data, _text(description), _text(kind))

    def add_result(self, key: str, description: object = "") -> None:
        """Record a result that should be seen, in words."""
        outputs.emit_result(self, _text(key), _text(description))

    def progress(self, done: float, total: float | None = None) -> None:
        """Say how far the run is: ``done`` of ``total``, in any unit. A live tree shows it as a bar; the span keeps the
        last that was said."""
        span = self._span
        if span is None or not span.is_recording():
            return
        try:
            span.set_attribute(wire.PROGRESS_DONE, _number(done))
            if total is not None:
                span.set_attribute(wire.PROGRESS_TOTAL, _number(total))
        except Exception as error:
            log_once("progress", "%s.progress() takes numbers, in any unit: %s", self.name, error)

    def _say_end(self, config: FlowRunConfig, kind: str, what: str) -> None:
        """The messages at the end that ``config`` asks for."""
        if config.print_none_return_value and self.return_value is None and self.status == "completed":
            self.log_info(f"{kind} return value: None")
        if config.print_finished_message:
            self.log_info(f"Finished {what}")

    # --- to read ------------------------------------------------------------------------------------------------

    def _journals(self) -> Iterable[RunMemory]:
        raise NotImplementedError

    def _owns(self, kept: tuple[Any, ...]) -> bool:
        raise NotImplementedError

    @property
    def messages(self) -> list[Message]:
        """Messages of this run (a flow's and its tasks'), as ``str`` with more facts on them."""
        return [
            message_of(kept) for journal in self._journals() for kept in tuple(journal.messages) if self._owns(kept)
        ]

    @property
    def artifacts(self) -> Keyed[Artifact]:
        """Artifacts of this run (a flow's and its tasks'): ``artifacts[0]`` or ``artifacts["key"]``."""
        return Keyed(
            artifact_of(kept) for journal in self._journals() for kept in tuple(journal.artifacts) if self._owns(kept)
        )

    @property
    def results(self) -> Keyed[Result]:
        """Results of this run (a flow's and its tasks'): ``results[0]`` or ``results["key"]``."""
        return Keyed(
            result_of(kept) for journal in self._journals() for kept in tuple(journal.results) if self._owns(kept)
        )

    @property
    def duration(self) -> float | None:
        """Seconds from start to end; so far, while it runs; None before it has started."""
        if not self._started_ns:
            return None
        return max(0, (self._ended_ns or clock.now()) - self._started_ns) / 1e9

    @property
    def trace_id(self) -> str | None:
        """32 hex digits; None where there is no span."""
        context = self._span_context
        return None if context is None or not context.trace_id else format(context.trace_id, "032x")

    @property
    def span_id(self) -> str | None:
        """16 hex digits; None where there is no span."""
        context = self._span_context
        return None if context is None or not context.span_id else format(context.span_id, "016x")

    def to_dict(self) -> dict[str, Any]:
        """The run as plain data: every value is a str, number, bool, None, list or dict."""
        return {
            "name": self.name,
            "run_id": self.run_id,
            "status": self.status,
            "duration": self.duration,
            "error": None if self.error is None else scrub_long(f"{type(self.error).__name__}: {safe_str(self.error)}"),
            "return_value": to_json(self.return_value).text,
            "trace_id": self.trace_id,
            "span_id": self.span_id,
            "messages": [{"text": m.text, "severity": m.severity, "task_name": m.task_name} for m in self.messages],
            "artifacts": [
                {"key": a.key, "type": a.type, "description": a.description, "data": to_json(a.data, name=a.key).text}
                for a in self.artifacts
            ],
            "results": [{"key": r.key, "description": r.description} for r in self.results],
        }

    def __repr__(self) -> str:
        duration = self.duration
        seconds = "" if duration is None else f" {'in' if self._ended_ns else 'for'} {duration:.3f} s"
        return f"<{type(self).__name__} {self.name!r} {self.status}{seconds}>"


def _number(value: Any) -> float:
    """Numbers as they are; those of other libraries, as NumPy's, as Python's."""
    return value if type(value) in (int, float) else float(value)


def _text(value: object) -> str:
    if type(value) is str:
        return value
    return "" if value is None else safe_str(value)
