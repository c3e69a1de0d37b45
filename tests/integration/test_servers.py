"""Flows in pre-fork servers: the workers of a real gunicorn deliver their spans before they end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import programs
import pytest
from receiver import Sink, attributes_of

APP = """
import json, os, time
from opentelemetry import trace
import otelflow
from otelflow import current_flow, flow, task

otelflow.configure("server", resource_attributes={"configured.in": os.getpid()})

def add_pid():
    trace.get_current_span().set_attribute("pid", os.getpid())

@task
def inner():
    add_pid()

@task
def outer():
    add_pid()
    inner()

@flow(transparent=True)
def load():
    return "loaded"

load()  # the importing process queues its span, and starts the exporter's thread

@flow(transparent=True)
def answer():
    add_pid()
    inner()
    outer()
    time.sleep(0.02)  # long enough for the other worker to take a request
    return {"pid": os.getpid(), "run_id": current_flow().run_id}

def app(environ, start_response):
    body = json.dumps(answer()).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
"""

SPANS_OF_A_REQUEST = 4


class Server:
    """A running gunicorn: its process, its address and its answers."""

    def __init__(self, process: subprocess.Popen[bytes], url: str) -> None:
        self.process = process
        self.url = url
        self.answers: list[dict[str, Any]] = []

    def ask(self, _: object = None) -> None:
        """Send a request. It waits in the socket's backlog until a worker takes it."""
        with urllib.request.urlopen(self.url, timeout=30) as response:
            self.answers.append(json.load(response))

    @property
    def pids(self) -> set[int]:
        """The workers that answered."""
        return {answer["pid"] for answer in self.answers}

    def stop(self) -> None:
        """Stop it with SIGTERM like a supervisor, and assert that it exits with 0."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0


@contextlib.contextmanager
def gunicorn(folder: Path, sink: Sink, *options: str) -> Iterator[Server]:
    """Run a gunicorn that serves ``APP`` on an open socket. Spans are queued until their process ends."""
    (folder / "served.py").write_text(APP)
    (folder / "gunicorn.conf.py").write_text("control_socket_disable = True")  # the socket would be in the home folder
    with socket.create_server(("127.0.0.1", 0)) as listening, (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "served:app", "--bind", f"fd://{listening.fileno()}", *options],
            cwd=folder,
            env=programs.clean_environment(
                OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
                OTEL_BSP_SCHEDULE_DELAY="600000",  # milliseconds: nothing is sent before the process ends
                OTELFLOW_EXIT_SECONDS="20",
            ),
            pass_fds=[listening.fileno()],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield Server(process, f"http://127.0.0.1:{listening.getsockname()[1]}")
        except BaseException:
            print((folder / "log").read_text())
            raise
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def assert_all_arrived(sink: Sink, answers: list[dict[str, Any]], imports: int) -> None:
    """Assert that these arrived once, and no others: a flow for each import, a flow and three tasks for each answer."""
    spans = [(span, attributes_of(span)) for span, _, _ in sink.spans]
    assert len({span.span_id for span, _ in spans}) == len(spans) == imports + SPANS_OF_A_REQUEST * len(answers)
    assert [span.name for span, _ in spans].count("load") == imports
    for answer in answers:
        run = [(span, facts) for span, facts in spans if facts["otelflow.flow.run_id"] == answer["run_id"]]
        (root,) = [span for span, _ in run if span.name == "answer"]
        (outer,) = [span for span, _ in run if span.name == "outer"]
        inner = [span for span, _ in run if span.name == "inner"]
        assert (root.parent_span_id, outer.parent_span_id) == (b"", root.span_id)
        assert sorted(span.parent_span_id for span in inner) == sorted([root.span_id, outer.span_id])
        assert {(span.trace_id, facts["pid"]) for span, facts in run} == {(root.trace_id, answer["pid"])}


@pytest.mark.parametrize(
    "options",
    [["--preload"], [], ["--preload", "--worker-class", "gthread", "--threads", "2"]],
    ids=["preload", "import in each worker", "preload and threads"],
)
def test_every_request_arrives_from_the_worker_that_answered_it(options: list[str], tmp_path: Path, sink: Sink) -> None:
    """configure() may run before the fork. At the stop, each process sends its own queue, once."""
    with gunicorn(tmp_path, sink, "--workers", "2", *options) as server, ThreadPoolExecutor(4) as clients:
        for _ in range(20):
            list(clients.map(server.ask, range(4)))
            if len(server.pids) == 2:
                break
        assert len(server.pids) == 2
        assert sink.spans == []
        server.stop()
    importers = {server.process.pid} if "--preload" in options else server.pids
    assert_all_arrived(sink, server.answers, len(importers))
    assert {attributes_of(resource)["configured.in"] for _, resource, _ in sink.spans} == importers


def test_a_recycled_worker_sends_its_spans(tmp_path: Path, sink: Sink) -> None:
    """With ``--max-requests``, each worker delivers its spans when the next one replaces it."""
    with gunicorn(tmp_path, sink, "--workers", "1", "--preload", "--max-requests", "2") as server:
        for _ in range(5):
            server.ask()
        assert len(server.pids) == 3
        server.stop()
    assert_all_arrived(sink, server.answers, 1)
