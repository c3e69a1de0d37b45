"""The entry point for ``opentelemetry-instrument``: it picks up ``otelflow.toml`` beside other instrumentations.

Needs the extra ``otelflow[instrument]``.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]  # no __all__

from otelflow._instrument.api import Instrumentation, instrument_leniently

__all__ = ["OtelflowInstrumentor"]


class OtelflowInstrumentor(BaseInstrumentor):  # type: ignore[misc,unused-ignore]
    """Instruments what the configuration file names. Never raises: what cannot be is skipped, and said in one log
    line. In code, use :func:`otelflow.instrument` instead, which says what is wrong."""

    _undo: Instrumentation | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        """Nothing: it goes by names."""
        return ()

    def _instrument(self, **_: Any) -> None:
        self._undo = instrument_leniently()

    def _uninstrument(self, **_: Any) -> None:
        undo, self._undo = self._undo, None
        if undo is not None:
            undo()
