"""Command ``otelflow spool``: show, send and delete waiting spans."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, TraceFlags
from otelflow_exporters.cli.spool import spool
from otelflow_exporters.spool import SpoolSpanExporter
from programs import command
from spool_backend import Backend


@pytest.fixture
def backend() -> Iterator[Backend]:
    """A backend that is not up yet."""
    backend = Backend(is_up=False)
    yield backend
    backend.close()


@pytest.fixture
def folder(backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A spool folder with five waiting spans in a sealed segment."""
    for name in [name for name in os.environ if name.startswith("OTEL")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", backend.endpoint)
    monkeypatch.setenv("OTELFLOW_EXPORTER_SPOOL_DIR", str(tmp_path / "spool"))
    monkeypatch.setenv("OTELFLOW_EXPORTER_SPOOL_EXIT", "0")
    exporter = SpoolSpanExporter()
    exporter.export([ReadableSpan("s", SpanContext(1, number, False, TraceFlags(1))) for number in range(1, 6)])
    exporter.shutdown()
    return tmp_path / "spool"


def run_command(*words: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(spool, list(words), input=stdin)


def test_status_shows_waiting_spans(folder: Path) -> None:
    """The text and the JSON have the same numbers."""
    result = run_command("status")
    assert result.exit_code == 0
    assert "5 spans waiting" in result.output
    assert "sealed" in result.output
    facts: dict[str, Any] = json.loads(run_command("status", "--dir", str(folder), "--json").output)
    assert facts["waiting"]["spans"] == 5
    assert facts["waiting"]["bytes"] > 100
    assert [entry["state"] for entry in facts["segments"]] == ["sealed"]


def test_status_shows_running_processes(backend: Backend, folder: Path) -> None:
    """It shows a running process, its open flows, and lost spans."""
    backend.answers.append((403, {}, b""))
    backend.up()
    exporter = SpoolSpanExporter()
    exporter.force_flush()
    flow = ReadableSpan("f", SpanContext(1, 9, False, TraceFlags(1)), attributes={"otelflow.kind": "flow"})
    exporter.span_processor().on_start(flow)  # type: ignore[arg-type]
    result = run_command("status").output
    facts = json.loads(run_command("status", "--json").output)
    exporter.shutdown()
    assert [(entry["alive"], entry["open_flows"]) for entry in facts["processes"]] == [(True, 1)]
    assert facts["lost"] == {"refused": 5}
    assert facts["endpoints"] == [{"endpoint": f"{backend.endpoint}/v1/traces", "spans": 0}]
    assert "refused" in result
    assert "alive" in result


def test_flush_sends(backend: Backend, folder: Path) -> None:
    """The exit status is 0 if all spans were sent, else 1."""
    waits = run_command("flush", "--timeout", "0.5")
    assert (waits.exit_code, waits.output.strip()) == (1, "0 spans sent, 0 lost, 5 waiting")
    for thread in threading.enumerate():  # a real process would end here, and its open request with it
        if thread.name == "otelflow-spool":
            thread.join(30)
    backend.up()
    sent = run_command("flush")
    assert (sent.exit_code, sent.output.strip()) == (0, "5 spans sent, 0 lost, 0 waiting")
    assert len(backend.count()) == 5
    assert not [path for path in folder.iterdir() if path.suffix == ".spool"]


def test_flush_says_what_was_lost(backend: Backend, folder: Path) -> None:
    """If the backend refuses spans, the exit status is 1."""
    backend.answers.append((403, {}, b""))
    backend.up()
    sent = run_command("flush")
    assert (sent.exit_code, sent.output.strip()) == (1, "0 spans sent, 5 lost, 0 waiting")


def test_purge_asks_and_counts(folder: Path) -> None:
    """It deletes nothing without a confirmation. Deleted spans are counted as lost."""
    refused = run_command("purge", stdin="n\n")
    assert refused.exit_code == 1
    assert "5 spans" in refused.output
    assert json.loads(run_command("status", "--json").output)["waiting"]["spans"] == 5
    done = run_command("purge", "--yes")
    assert (done.exit_code, done.output.strip()) == (0, "5 spans deleted")
    facts = json.loads(run_command("status", "--json").output)
    assert (facts["waiting"]["spans"], facts["lost"]) == (0, {"purged": 5})


def test_purge_keeps_the_segments_of_running_processes(folder: Path) -> None:
    """The open segment of a running process stays."""
    exporter = SpoolSpanExporter()
    exporter.export([ReadableSpan("s", SpanContext(1, 7, False, TraceFlags(1)))])
    assert run_command("purge", "--yes").output.strip() == "5 spans deleted"
    assert exporter.account().pending == 1
    exporter.shutdown()


@pytest.mark.parametrize("which", ["status", "flush", "purge"])
def test_a_missing_folder_is_an_error(tmp_path: Path, which: str) -> None:
    """The exit status is 1, the message says what to do, and the folder is not created."""
    missing = tmp_path / "none"
    result = run_command(which, "--dir", str(missing))
    assert result.exit_code == 1
    assert "--dir" in result.output
    assert not missing.exists()


def test_otelflow_has_the_command() -> None:
    """Its entry point adds it to ``otelflow``."""
    assert "flush" in command("spool", "--help").stdout
