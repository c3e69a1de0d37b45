"""Fixtures for the tests of the spool."""

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
    """A backend that is up."""
    receiver = Backend()
    yield receiver
    receiver.close()


@pytest.fixture
def stopped_backend() -> Iterator[Backend]:
    """A backend that is not up yet."""
    receiver = Backend(is_up=False)
    yield receiver
    receiver.close()


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A function that makes a spool in a folder of this test, which sends to a backend. Settings are passed by the last
    words of their names."""
    exporters = []
    for name in [name for name in os.environ if name.startswith("OTEL")]:
        monkeypatch.delenv(name)

    def spool(backend: Backend, **options: str) -> SpoolSpanExporter:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", backend.endpoint)
        for name, value in {"dir": str(tmp_path / "spool"), "exit": "0", **options}.items():
            monkeypatch.setenv(f"OTELFLOW_EXPORTER_SPOOL_{name.upper()}", value)
        exporters.append(SpoolSpanExporter())
        return exporters[-1]

    yield spool
    for exporter in exporters:
        exporter.shutdown()


@pytest.fixture
def settings(backend: Backend, tmp_path: Path) -> dict[str, str]:
    """The environment of the programs of a test."""
    return {
        "OTELFLOW_EXPORTER_SPOOL_DIR": str(tmp_path / "spool"),
        "OTEL_EXPORTER_OTLP_ENDPOINT": backend.endpoint,
        "OTEL_SERVICE_NAME": "shop",
        "OTEL_TRACES_EXPORTER": "otelflow_spool",
    }
