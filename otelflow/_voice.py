"""What a run can say: log messages, artifacts, results. The same for flows and tasks."""

from __future__ import annotations

from typing import Any

from otelflow import _emit
from otelflow._run import Run

__all__ = ["Voice"]


class Voice(Run):
    """A run that speaks: everything goes on the span of the object that is called, whoever calls it."""

    __slots__ = ()

    def log_debug(self, message: object, **attributes: Any) -> None:
        """Send a message at DEBUG. ``attributes`` go on its span event; values are cut to the largest size."""
        _emit.message(self, 10, message, attributes)

    def log_info(self, message: object, **attributes: Any) -> None:
        """Send a message at INFO."""
        _emit.message(self, 20, message, attributes)

    def log_warning(self, message: object, **attributes: Any) -> None:
        """Send a message at WARNING."""
        _emit.message(self, 30, message, attributes)

    def log_error(self, message: object, **attributes: Any) -> None:
        """Send a message at ERROR. The run does not fail for it."""
        _emit.message(self, 40, message, attributes)

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
        made_key = "artifact" if key is None else str(key)
        _emit.artifact(self, made_key, data, _text(description), _text(artifact_type) or type(data).__name__)

    def add_result(self, key: str, description: object = "") -> None:
        """Record a result that should be seen, in words."""
        _emit.result(self, _text(key), _text(description))


def _text(value: object) -> str:
    return "" if value is None else _emit.safe_str(value)
