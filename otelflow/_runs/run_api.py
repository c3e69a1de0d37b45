"""Define the public methods of runs: send messages, artifacts, results and progress, and read them back."""

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
    """A run with its public methods. Events go on the span of the object whose method is called, whoever calls it."""

    @property
    def run_id(self) -> str:
        raise NotImplementedError

    # --- send ---------------------------------------------------------------------------------------------------

    def log_debug(self, message: object, /, **attributes: Any) -> None:
        """Send a message at DEBUG.

        Args:
            message: the text, or any object: its ``str()`` is sent.
            **attributes: attributes of the span event. Values are truncated to ``OTELFLOW_MAX_VALUE_BYTES`` (bytes).
        """
        emit_message(self, 10, message, attributes)

    def log_info(self, message: object, /, **attributes: Any) -> None:
        """Send a message at INFO.

        Args:
            message: the text, or any object: its ``str()`` is sent.
            **attributes: attributes of the span event. Values are truncated to ``OTELFLOW_MAX_VALUE_BYTES`` (bytes).
        """
        emit_message(self, 20, message, attributes)

    def log_warning(self, message: object, /, **attributes: Any) -> None:
        """Send a message at WARNING.

        Args:
            message: the text, or any object: its ``str()`` is sent.
            **attributes: attributes of the span event. Values are truncated to ``OTELFLOW_MAX_VALUE_BYTES`` (bytes).
        """
        emit_message(self, 30, message, attributes)

    def log_error(self, message: object, /, **attributes: Any) -> None:
        """Send a message at ERROR. The run does not fail because of it.

        Args:
            message: the text, or any object: its ``str()`` is sent.
            **attributes: attributes of the span event. Values are truncated to ``OTELFLOW_MAX_VALUE_BYTES`` (bytes).
        """
        emit_message(self, 40, message, attributes)

    def add_artifact(
        self,
        description: str | None = None,
        key: str | None = None,
        data: Any = None,
        artifact_type: str | None = None,
    ) -> None:
        """Record an artifact: something that the run produced.

        Args:
            description: one line for a person.
            key: name of the artifact within the run; ``artifact`` if left out.
            data: any object. The span event has it as JSON of at most ``OTELFLOW_MAX_VALUE_BYTES`` (bytes); values that
                JSON does not have are described in words. ``artifacts`` and listeners get the object itself.
            artifact_type: kind of the artifact (``json``, ``table``, ``link``, ...); the class name of ``data`` if left
                out.
        """
        kind = type(data).__name__ if artifact_type is None else artifact_type
        outputs.emit_artifact(self, "artifact" if key is None else _text(key), data, _text(description), _text(kind))

    def add_result(self, key: str, description: object = "") -> None:
        """Record a result for people to read.

        Args:
            key: name of the result within the run.
            description: the result in words; of an object, its ``str()``.
        """
        outputs.emit_result(self, _text(key), _text(description))

    def progress(self, done: float, total: float | None = None) -> None:
        """Report the progress of the run. A live tree shows it as a bar; the span keeps the last call's values.

        Args:
            done: how much work is done, in any unit.
            total: how much work there is, in the same unit. If left out, an earlier total stays.
        """
        span = self._span
        if span is None or not span.is_recording():
            return
        try:
            span.set_attribute(wire.PROGRESS_DONE, _number(done))
            if total is not None:
                span.set_attribute(wire.PROGRESS_TOTAL, _number(total))
        except Exception as error:
            kind = type(self).__name__
            log_once("progress", "%s.progress() of %r: %s. Pass numbers, in any unit.", kind, self.name, error)

    def _log_end(self, config: FlowRunConfig, kind: str, what: str) -> None:
        """Send the messages at the end of a run that ``config`` asks for."""
        if config.print_none_return_value and self.return_value is None and self.status == "completed":
            self.log_info(f"{kind} return value: None")
        if config.print_finished_message:
            self.log_info(f"Finished {what}")

    # --- read ---------------------------------------------------------------------------------------------------

    def _memories(self) -> Iterable[RunMemory]:
        raise NotImplementedError

    def _owns(self, entry: tuple[Any, ...]) -> bool:
        raise NotImplementedError

    @property
    def messages(self) -> list[Message]:
        """Messages of this run, for a flow with those of its tasks: ``str`` objects with level, time and task."""
        return [
            message_of(entry) for memory in self._memories() for entry in tuple(memory.messages) if self._owns(entry)
        ]

    @property
    def artifacts(self) -> Keyed[Artifact]:
        """Artifacts of this run, for a flow with those of its tasks: ``artifacts[0]`` or ``artifacts["key"]``."""
        return Keyed(
            artifact_of(entry) for memory in self._memories() for entry in tuple(memory.artifacts) if self._owns(entry)
        )

    @property
    def results(self) -> Keyed[Result]:
        """Results of this run, for a flow with those of its tasks: ``results[0]`` or ``results["key"]``."""
        return Keyed(
            result_of(entry) for memory in self._memories() for entry in tuple(memory.results) if self._owns(entry)
        )

    @property
    def duration(self) -> float | None:
        """Seconds from start to end; up to now while the run is in progress; None before its start."""
        if not self._started_ns:
            return None
        return max(0, (self._ended_ns or clock.now()) - self._started_ns) / 1e9

    @property
    def trace_id(self) -> str | None:
        """The trace id as 32 lower-case hex digits; None if there is no span."""
        context = self._span_context
        return None if context is None or not context.trace_id else format(context.trace_id, "032x")

    @property
    def span_id(self) -> str | None:
        """The span id as 16 lower-case hex digits; None if there is no span."""
        context = self._span_context
        return None if context is None or not context.span_id else format(context.span_id, "016x")

    def to_dict(self) -> dict[str, Any]:
        """Return the run as plain data.

        Returns:
            A dict whose values are str, number, bool, None, list or dict. ``duration`` is in seconds; ``return_value``
            and the ``data`` of artifacts are JSON texts.
        """
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
    """Convert a number of another library, such as NumPy, to a float; return an int or float unchanged."""
    return value if type(value) in (int, float) else float(value)


def _text(value: object) -> str:
    if type(value) is str:
        return value
    return "" if value is None else safe_str(value)
