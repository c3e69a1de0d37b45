"""``otelflow spool``: what waits, sent, thrown away."""

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
    made = Backend(is_up=False)
    yield made
    made.close()


@pytest.fixture
def folder(backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which five spans wait, sealed."""
    for name in [name for name in os.environ if name.startswith("OTEL")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", backend.endpoint)
    monkeypatch.setenv("OTELFLOW_EXPORTER_SPOOL_DIR", str(tmp_path / "spool"))
    monkeypatch.setenv("OTELFLOW_EXPORTER_SPOOL_EXIT", "0")
    exporter = SpoolSpanExporter()
    exporter.export([ReadableSpan("s", SpanContext(1, each, False, TraceFlags(1))) for each in range(1, 6)])
    exporter.shutdown()
    return tmp_path / "spool"


def called(*words: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(spool, list(words), input=stdin)


def test_status_says_what_waits(folder: Path) -> None:
    """For whom, since when, in which files; the same as JSON."""
    shown = called("status")
    assert shown.exit_code == 0
    assert "5 spans wait" in shown.output
    assert "sealed" in shown.output
    facts: dict[str, Any] = json.loads(called("status", "--dir", str(folder), "--json").output)
    assert facts["waiting"]["spans"] == 5
    assert facts["waiting"]["bytes"] > 100
    assert [one["state"] for one in facts["segments"]] == ["sealed"]


def test_status_knows_the_living(backend: Backend, folder: Path) -> None:
    """A process that is at work, with the flow that it has open, and what it could not deliver."""
    backend.answers.append((403, {}, b""))
    backend.up()
    exporter = SpoolSpanExporter()
    exporter.force_flush()
    flow = ReadableSpan("f", SpanContext(1, 9, False, TraceFlags(1)), attributes={"otelflow.kind": "flow"})
    exporter.span_processor().on_start(flow)  # type: ignore[arg-type]
    shown = called("status").output
    facts = json.loads(called("status", "--json").output)
    exporter.shutdown()
    assert [(one["alive"], one["open_flows"]) for one in facts["processes"]] == [(True, 1)]
    assert facts["lost"] == {"refused": 5}
    assert facts["endpoints"] == [{"endpoint": f"{backend.endpoint}/v1/traces", "spans": 0}]
    assert "refused" in shown
    assert "alive" in shown


def test_flush_sends(backend: Backend, folder: Path) -> None:
    """0 when all is sent; 1 when it is not."""
    waits = called("flush", "--timeout", "0.5")
    assert (waits.exit_code, waits.output.strip()) == (1, "0 spans sent, 0 lost, 5 wait")
    for thread in threading.enumerate():  # a process would end here, with the request that is under way
        if thread.name == "otelflow-spool":
            thread.join(30)
    backend.up()
    sent = called("flush")
    assert (sent.exit_code, sent.output.strip()) == (0, "5 spans sent, 0 lost, 0 wait")
    assert len(backend.count()) == 5
    assert not [path for path in folder.iterdir() if path.suffix == ".spool"]


def test_flush_says_what_was_lost(backend: Backend, folder: Path) -> None:
    """The backend refuses: 1."""
    backend.answers.append((403, {}, b""))
    backend.up()
    sent = called("flush")
    assert (sent.exit_code, sent.output.strip()) == (1, "0 spans sent, 5 lost, 0 wait")


def test_purge_asks_and_counts(folder: Path) -> None:
    """It throws nothing away without a yes; then it is counted as lost."""
    refused = called("purge", stdin="n\n")
    assert refused.exit_code == 1
    assert "5 spans" in refused.output
    assert json.loads(called("status", "--json").output)["waiting"]["spans"] == 5
    done = called("purge", "--yes")
    assert (done.exit_code, done.output.strip()) == (0, "5 spans thrown away")
    facts = json.loads(called("status", "--json").output)
    assert (facts["waiting"]["spans"], facts["lost"]) == (0, {"purged": 5})


def test_purge_leaves_what_is_being_written(folder: Path) -> None:
    """A living process's open segment stays."""
    exporter = SpoolSpanExporter()
    exporter.export([ReadableSpan("s", SpanContext(1, 7, False, TraceFlags(1)))])
    assert called("purge", "--yes").output.strip() == "5 spans thrown away"
    assert exporter.account().pending == 1
    exporter.shutdown()


@pytest.mark.parametrize("which", ["status", "flush", "purge"])
def test_a_folder_that_is_not_there(tmp_path: Path, which: str) -> None:
    """1, with what to do; and it is not made."""
    missing = tmp_path / "none"
    shown = called(which, "--dir", str(missing))
    assert shown.exit_code == 1
    assert "--dir" in shown.output
    assert not missing.exists()


def test_otelflow_has_the_command() -> None:
    """It is found by its entry point."""
    assert "flush" in command("spool", "--help").stdout
