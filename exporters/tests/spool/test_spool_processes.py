"""The spool in several processes: killed processes, forked processes, and several processes on one folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from programs import run
from receiver import attributes_of
from spool_backend import Backend
from spool_programs import HEAD, start


@pytest.fixture
def backend(stopped_backend: Backend) -> Backend:
    """A backend that is not up yet."""
    return stopped_backend


FLOWS = """
import json, os, signal, sys
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry import trace
import otelflow
from otelflow import configure, flow, flush, shutdown, task

class SpanRecorder(SpanProcessor):
    # Writes each ended span to a file of the test.
    def on_end(self, span):
        os.write(record_file, (json.dumps({
            "id": f"{span.context.span_id:016x}", "trace": f"{span.context.trace_id:032x}", "name": span.name,
            "start": span.start_time, "end": span.end_time, "events": [event.name for event in span.events],
            "attributes": dict(span.attributes)}) + "\\n").encode())

@task
def step(number, this_task=None):
    this_task.log_info("working", number=number)
    return number * 2

@flow
def order(number):
    return [step(number), step(number + 1)]

record_file = os.open(os.environ["RECORD_FILE"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
configure()
trace.get_tracer_provider().add_span_processor(SpanRecorder())
begin, end = map(int, sys.argv[1:3]) if len(sys.argv) > 2 else map(int, os.environ["FLOWS"].split())
for number in range(begin, end):
    order(number).execute()
    if number % 50 == 49:
        flush(0.05)
        os.write(record_file, b'"spooled"\\n')
    if number == int(os.environ.get("KILL", -1)):
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_no_spooled_span_is_lost(backend: Backend, settings: dict[str, str], tmp_path: Path) -> None:
    """The backend is down during 1,000 flows. The process is killed half-way and started again. When the backend is up,
    every spooled span of every finished flow arrives unchanged."""
    record_file = tmp_path / "spans"
    environment = {**settings, "RECORD_FILE": str(record_file)}
    first_run = run("", head=FLOWS, **environment, FLOWS="0 1000", KILL="512")
    assert first_run.returncode == -9
    after_kill = record_file.read_text().splitlines()
    second_run = run("shutdown(10)", head=FLOWS, **environment, FLOWS="500 1000")
    assert second_run.returncode == 0, second_run.stderr
    spooled = len(after_kill) - after_kill[::-1].index('"spooled"')
    lines = after_kill[:spooled] + record_file.read_text().splitlines()[len(after_kill) :]
    expected = {facts["id"]: facts for facts in map(json.loads, lines) if facts != "spooled"}
    assert len(expected) == 3000
    backend.up()
    assert run("flush(30)", head=FLOWS, **environment, FLOWS="0 0").returncode == 0
    backend.wait_for(3000)
    arrived = {span.span_id.hex(): span for span, _, _ in backend.spans}
    for identity, facts in expected.items():
        span = arrived[identity]
        assert span.trace_id.hex() == facts["trace"]
        assert (span.name, span.start_time_unix_nano, span.end_time_unix_nano) == (
            facts["name"],
            facts["start"],
            facts["end"],
        )
        assert [event.name for event in span.events] == facts["events"]
        assert attributes_of(span) == facts["attributes"]
    duplicates = sum(backend.count().values()) - len(backend.count())
    print(f"{duplicates} duplicates")
    assert duplicates <= 512  # at most the requests that were in flight at one moment


def test_spans_of_a_killed_process_are_sent_by_the_next(backend: Backend, settings: dict[str, str]) -> None:
    """Any next process does that, without an export of its own."""
    assert run("tracer.start_span('a').end(); die()", head=HEAD, **settings).returncode == -9
    backend.up()
    process = run("print('FACTS {\"is_sent\": %s}' % str(exporter.force_flush()).lower())", head=HEAD, **settings)
    assert process.facts == {"is_sent": True}
    assert backend.names == ["a"]


def test_a_living_process_sends_spans_of_a_dead_one(backend: Backend, settings: dict[str, str]) -> None:
    """It checks the folder at intervals, when it is idle."""
    backend.up()
    with start("tracer.start_span('a').end(); print('up', flush=True); sys.stdin.read()", settings) as living:
        assert living.stdout is not None
        living.stdout.readline()
        backend.wait_for(1)
        backend.down()
        assert run("tracer.start_span('b').end(); die()", head=HEAD, **settings).returncode == -9
        backend.up()
        backend.wait_for(2)
        living.kill()


def test_several_processes_on_one_folder(backend: Backend, settings: dict[str, str], tmp_path: Path) -> None:
    """Four at once, while the backend goes down and up. Every span arrives, in order for each process. Then the folder
    is empty."""
    backend.up()
    work = """
    for number in range(200):
        tracer.start_span(f"{os.getpid()} {number:04d}").end()
        time.sleep(0.005)
    exporter.force_flush(20_000)
    provider.shutdown()
    """
    programs = [start(work, settings) for _ in range(4)]
    backend.wait_for(100)
    backend.down()
    backend.up()
    for program in programs:
        with program:
            assert program.wait(60) == 0
    backend.wait_for(800)
    by_process: dict[str, list[str]] = {}
    for name in dict.fromkeys(backend.names):
        by_process.setdefault(name.split()[0], []).append(name)
    assert [len(names) for names in by_process.values()] == [200] * 4
    assert all(names == sorted(names) for names in by_process.values())
    assert not [path for path in (tmp_path / "spool").iterdir() if path.name.endswith((".spool", ".open", ".alive"))]


def test_a_forked_child_has_a_segment_of_its_own(backend: Backend, settings: dict[str, str]) -> None:
    """The spans of parent and child are sent once, also if the parent is killed first."""
    process = run(
        """
        tracer.start_span("before").end()
        if os.fork() == 0:
            time.sleep(0.2)
            tracer.start_span("child").end()
            os._exit(0)
        tracer.start_span("parent").end()
        print('FACTS {"pid": %d}' % os.getpid(), flush=True)
        die()
        """,
        head=HEAD,
        **settings,
    )
    assert process.returncode == -9
    backend.up()
    run("time.sleep(0.5); exporter.force_flush(20_000)", head=HEAD, **settings)
    backend.wait_for(3)
    assert sorted(backend.names) == ["before", "child", "parent"]


def test_a_living_child_does_not_keep_its_dead_parent_registered(backend: Backend, settings: dict[str, str]) -> None:
    """The child does not hold the parent's lock: the parent's open segment is sent while the child runs."""
    source = """
    flow = start_flow("parent's")
    tracer.start_span("a").end()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        sys.stdin.read()
        os._exit(0)
    time.sleep(0.3)
    die()
    """
    with start(source, settings) as program:
        assert program.stdout is not None
        program.stdout.readline()
        assert program.wait(20) == -9
        backend.up()
        run("exporter.force_flush(20_000)", head=HEAD, **settings)
        backend.wait_for(2)
        assert sorted(backend.names) == ["a", "parent's"]


def test_many_forks_while_sending(backend: Backend, settings: dict[str, str]) -> None:
    """Children are forked while the thread sends and writes. None hangs, and nothing is lost."""
    backend.up()
    process = run(
        """
        children = []
        for number in range(20):
            for index in range(5):
                tracer.start_span(f"parent {number} {index}").end()
            pid = os.fork()
            if not pid:
                tracer.start_span(f"child {number}").end()
                os._exit(0)
            children.append(pid)
        print("FACTS {\\"codes\\": %s}" % [os.waitpid(pid, 0)[1] for pid in children])
        exporter.force_flush(20_000)
        """,
        head=HEAD,
        **settings,
    )
    assert process.facts == {"codes": [0] * 20}
    backend.wait_for(120)


def test_a_child_reports_only_its_own_losses(backend: Backend, settings: dict[str, str]) -> None:
    """The parent reported a loss. The first force_flush of its child is True, as the child lost nothing."""
    backend.up()
    process = run(
        """
        span = tracer.start_span("ends before it starts")
        span._start_time = -1
        span.end()
        results = [exporter.force_flush(20_000), exporter.force_flush(20_000)]
        pid = os.fork()
        if not pid:
            os._exit(not exporter.force_flush(20_000))
        print("FACTS {\\"codes\\": %s}" % [*map(int, results), os.waitpid(pid, 0)[1]])
        """,
        head=HEAD,
        **settings,
    )
    assert process.facts == {"codes": [0, 1, 0]}, process.stderr


def test_a_limit_of_the_file_size(backend: Backend, settings: dict[str, str]) -> None:
    """A process whose files may have 20 kB at most begins a new file. Nothing is lost, and it is not stopped."""
    process = run(
        """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        for number in range(100):
            tracer.start_span("s", attributes={"text": "x" * 1000}).end()
        print('FACTS {"pending": %d, "lost": %d}' % (exporter.account().pending, len(exporter.account().lost)))
        """,
        head=HEAD,
        **settings,
    )
    assert process.facts == {"pending": 100, "lost": 0}
    backend.up()
    run("exporter.force_flush(20_000)", head=HEAD, **settings)
    assert len(backend.count()) == 100
