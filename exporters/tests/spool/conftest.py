"""Fixtures of the tests of the spool."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from otelflow_exporters.spool import SpoolSpanExporter
from spool_backend import Backend


@pytest.fixture
def backend() -> Iterator[Backend]:
    made = Backend()
    yield made
    made.close()


@pytest.fixture
def down() -> Iterator[Backend]:
    """A backend that is not up yet."""
    made = Backend(is_up=False)
    yield made
    made.close()


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Make a spool in a folder of this test that sends to a backend; settings by the last words of their names."""
    made = []
    for name in [name for name in os.environ if name.startswith("OTEL")]:
        monkeypatch.delenv(name)

    def spool(backend: Backend, **more: str) -> SpoolSpanExporter:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", backend.endpoint)
        for name, value in {"dir": str(tmp_path / "spool"), "exit": "0", **more}.items():
            monkeypatch.setenv(f"OTELFLOW_EXPORTER_SPOOL_{name.upper()}", value)
        made.append(SpoolSpanExporter())
        return made[-1]

    yield spool
    for one in made:
        one.shutdown()


@pytest.fixture
def settings(backend: Backend, tmp_path: Path) -> dict[str, str]:
    """The environment of the programs."""
    return {
        "OTELFLOW_EXPORTER_SPOOL_DIR": str(tmp_path / "spool"),
        "OTEL_EXPORTER_OTLP_ENDPOINT": backend.endpoint,
        "OTEL_SERVICE_NAME": "shop",
        "OTEL_TRACES_EXPORTER": "otelflow_spool",
    }
