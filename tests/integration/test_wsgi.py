"""Two programs without tracing code: a WSGI service in pre-fork workers, and a script that cron runs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import services
from services import ERROR, EXAMPLES, SERVER, STARTERS, UNSET, Answer, Service, Spans

# --- examples/wsgi ----------------------------------------------------------------------------------------------------

# The log has the worker of each request, and each span has the process that made it.
CONFIGURATION = """
import os

control_socket_disable = True  # the socket would be in the home folder
accesslog = {access!r}
access_log_format = "%(p)s %({{x-book}}i)s"

def post_fork(server, worker):
    from opentelemetry import trace
    from opentelemetry.sdk.trace import SpanProcessor

    class AddWorkerPid(SpanProcessor):
        def on_start(self, span, parent_context=None):
            span.set_attribute("worker", os.getpid())

    trace.get_tracer_provider().add_span_processor(AddWorkerPid())
"""


@dataclass
class Library:
    """A running library, its answer for each book, and the spans of its workers."""

    service: Service
    spans: Spans
    access: Path
    answers: dict[str, Answer] = field(default_factory=dict)

    def lend(self, book: str) -> None:
        """Request a book."""
        self.answers[book] = self.service.ask("/loans", {"book": book, "reader": "Ada"}, {"X-Book": book})

    def workers(self) -> dict[str, int]:
        """Return the process that answered the request for each book."""
        lines = (line.split(maxsplit=1) for line in self.access.read_text().splitlines())
        return {book: int(pid.strip("<>")) for pid, book in lines if book != "-"}


@contextlib.contextmanager
def library(starter: str, folder: Path) -> Iterator[Library]:
    """Run the library in two workers, and stop it with SIGTERM like a supervisor."""
    access, configuration = folder / "access.log", folder / "gunicorn.conf.py"
    configuration.write_text(CONFIGURATION.format(access=str(access)))
    options = ["--bind", "fd://{fd}", "--workers", "2", "-c", str(configuration)]
    command = [*STARTERS[starter], services.script("gunicorn"), *options, "reports:app"]
    spans, environment = Spans(), {"LIBRARY_DATABASE": str(folder / "library.db")}
    try:
        with services.running(command, "wsgi", spans, folder / "log", stop=signal.SIGTERM, **environment) as service:
            yield Library(service, spans, access)
    finally:
        spans.close()


@pytest.mark.parametrize("starter", STARTERS)
def test_each_worker_sends_the_flows_of_the_requests_that_it_answered(starter: str, tmp_path: Path) -> None:
    """Each flow arrives once, with its task. For a book that is lent already, the flow has failed."""
    with library(starter, tmp_path) as books, ThreadPoolExecutor(4) as clients:
        for turn in range(50):
            list(clients.map(books.lend, [f"{turn}-{number}" for number in range(4)]))
            if len(set(books.workers().values())) == 2:
                break
        books.lend("Moby-Dick")
    books.spans.assert_each_once()
    workers = books.workers()
    assert len(set(workers.values())) == 2
    assert Counter(answer.status for answer in books.answers.values()) == {201: len(workers) - 1, 409: 1}
    for name in ("lend a book", "find_reader"):
        sent = [(span.attributes["book.title"], span.attributes["worker"]) for span in books.spans.find(name)]
        assert sorted(sent) == sorted(workers.items())
    for book, answer in books.answers.items():
        assert_as_answered(books.spans, book, answer)
    requests = {span.span_id: span.trace_id for span in books.spans.arrived if span.kind == SERVER}
    for flow in books.spans.find("lend a book"):
        trace_id = books.answers[flow.attributes["book.title"]].trace_id
        if starter == "opentelemetry-instrument":
            assert requests[flow.parent_id] == flow.trace_id == trace_id
        else:
            assert (flow.parent_id, flow.service) == ("", "reports")


def assert_as_answered(spans: Spans, book: str, answer: Answer) -> None:
    """Assert that the task is below its flow, which failed if the answer was a 409."""
    flow, task = (
        spans.wait_for_span("lend a book", book_title=book),
        spans.wait_for_span("find_reader", book_title=book),
    )
    assert (task.parent_id, task.trace_id, task.status) == (flow.span_id, flow.trace_id, UNSET)
    if answer.status == 201:
        assert (flow.status, flow.attributes["otelflow.status"], flow.exceptions) == (UNSET, "completed", [])
    else:
        assert (flow.status, flow.attributes["otelflow.status"]) == (ERROR, "failed")
        assert flow.attributes["error.type"] == "library.AlreadyLent"
        assert [error["exception.message"] for error in flow.exceptions] == ["Ishmael has Moby-Dick"]


# --- examples/nightly -------------------------------------------------------------------------------------------------

# Root may write everywhere. This drops that capability (CAP_DAC_OVERRIDE), then executes the program.
WITHOUT_OVERRIDE = """
import ctypes, os, sys
if os.geteuid() == 0 and sys.platform == "linux":
    drop_from_bounding_set, dac_override = 24, 1
    assert ctypes.CDLL(None).prctl(drop_from_bounding_set, dac_override, 0, 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def spans() -> Iterator[Spans]:
    """Return the receiver of the script's spans."""
    receiver = Spans()
    yield receiver
    receiver.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with two files that are two days old, and a new one."""
    files = tmp_path / "files"
    files.mkdir()
    for name, days in {"a.log": 2, "b.log": 2, "new.log": 0}.items():
        (files / name).write_text("12345")
        changed = time.time() - days * 24 * 60 * 60
        os.utime(files / name, (changed, changed))
    return files


def clean_up(*arguments: str, environment: dict[str, str], prefix: list[str] | None = None) -> tuple[int, str, str]:
    """Run ``otelflow run clean_up.py``. Return its exit status, standard output and standard error."""
    result = subprocess.run(
        [*(prefix or []), services.script("otelflow"), "run", "clean_up.py", *arguments],
        cwd=EXAMPLES / "nightly",
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return result.returncode, result.stdout, result.stderr


@pytest.mark.parametrize("how", ["shell", "cron"])
def test_a_script_run_by_cron_or_from_a_shell(how: str, folder: Path, spans: Spans) -> None:
    """Old files are gone, and exit status and output are the script's. It needs no environment variables."""
    cron_environment = {"PATH": "/usr/bin:/bin", "OTEL_EXPORTER_OTLP_ENDPOINT": spans.endpoint}
    environment = cron_environment if how == "cron" else services.settings(spans)
    assert clean_up(str(folder), "1", environment=environment) == (0, "10 bytes freed\n", "")
    assert os.listdir(folder) == ["new.log"]
    trace = spans.trace(spans.wait_for_span("clean up").trace_id)
    tasks = trace.children(trace.find_one("clean up"))
    assert [(span.name, span.attributes["file.name"]) for span in tasks] == [("remove", "a.log"), ("remove", "b.log")]
    assert len(spans.arrived) == 3
    assert {span.service for span in trace.spans} == {"clean_up"}
    assert {span.attributes["otelflow.status"] for span in trace.spans} == {"completed"}


def test_a_script_that_cannot_remove_all_files(folder: Path, spans: Spans) -> None:
    """Each such file is a failed task. The script goes on, and its exit status is 1."""
    folder.chmod(0o555)
    try:
        prefix = [sys.executable, "-c", WITHOUT_OVERRIDE]
        status, output, errors = clean_up(str(folder), "1", environment=services.settings(spans), prefix=prefix)
    finally:
        folder.chmod(0o755)
    assert (status, output) == (1, "0 bytes freed\n")
    assert errors.splitlines() == [f"{folder / name} stays: Permission denied" for name in ("a.log", "b.log")]
    assert sorted(os.listdir(folder)) == ["a.log", "b.log", "new.log"]
    flow = spans.wait_for_span("clean up")
    assert flow.attributes["otelflow.flow.tasks_failed"] == 2
    assert (flow.status, flow.attributes["error.type"]) == (ERROR, "SystemExit")
    for task in spans.find("remove"):
        assert (task.status, task.attributes["error.type"]) == (ERROR, "PermissionError")
        assert [error["exception.type"] for error in task.exceptions] == ["PermissionError"]
    assert len(spans.arrived) == 3


def test_a_script_with_wrong_arguments(spans: Spans) -> None:
    """Usage and exit status are the script's own."""
    status, output, errors = clean_up(environment=services.settings(spans))
    assert (status, output) == (2, "")
    assert errors.splitlines()[-1].startswith("clean_up.py: error: the following arguments are required")
