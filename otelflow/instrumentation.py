"""Entry point for ``opentelemetry-instrument``: apply ``otelflow.toml`` together with other instrumentations.

Needs the extra ``otelflow[instrument]``.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]  # no __all__

from otelflow._instrument.api import Instrumentation, instrument_leniently

__all__ = ["OtelflowInstrumentor"]


class OtelflowInstrumentor(BaseInstrumentor):  # type: ignore[misc,unused-ignore]
    """Instrument the functions that the configuration file names.

    Never raises: it ignores entries with errors, and logs them in one warning. In code, use
    :func:`otelflow.instrument` instead, which raises an error for them.
    """

    _instrumentation: Instrumentation | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return an empty collection: otelflow finds functions by name and needs no particular library."""
        return ()

    def _instrument(self, **_: Any) -> None:
        self._instrumentation = instrument_leniently()

    def _uninstrument(self, **_: Any) -> None:
        instrumentation, self._instrumentation = self._instrumentation, None
        if instrumentation is not None:
            instrumentation()
