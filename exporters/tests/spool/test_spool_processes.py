"""The spool among processes: killed ones, forked ones, several on one folder, and flows whose process died."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from programs import run
from receiver import attributes_of
from spool_backend import Backend
from spool_programs import HEAD, start


@pytest.fixture
def backend(down: Backend) -> Backend:
    """A backend that is not up yet."""
    return down


FLOWS = """
import json, os, signal, sys
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry import trace
import otelflow
from otelflow import configure, flow, flush, shutdown, task

class Told(SpanProcessor):
    # What a finished flow's spans were, in a file of the test's own.
    def on_end(self, span):
        os.write(told, (json.dumps({
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

told = os.open(os.environ["TOLD"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
configure()
trace.get_tracer_provider().add_span_processor(Told())
begin, end = map(int, sys.argv[1:3]) if len(sys.argv) > 2 else map(int, os.environ["FLOWS"].split())
for number in range(begin, end):
    order(number).execute()
    if number % 50 == 49:
        flush(0.05)
        os.write(told, b'"spooled"\\n')
    if number == int(os.environ.get("KILL", -1)):
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nothing_spooled_is_lost(backend: Backend, settings: dict[str, str], tmp_path: Path) -> None:
    """The backend is down for the whole of a run of 1,000 flows; the process is killed half-way and started again; the
    backend comes up: every span of every finished flow that was spooled arrives exactly as it was."""
    told = tmp_path / "told"
    both = {**settings, "TOLD": str(told)}
    killed = run("", head=FLOWS, **both, FLOWS="0 1000", KILL="512")
    assert killed.returncode == -9
    after_kill = told.read_text().splitlines()
    ended = run("shutdown(10)", head=FLOWS, **both, FLOWS="500 1000")
    assert ended.returncode == 0, ended.stderr
    spooled = len(after_kill) - after_kill[::-1].index('"spooled"')
    kept = after_kill[:spooled] + told.read_text().splitlines()[len(after_kill) :]
    expected = {facts["id"]: facts for facts in map(json.loads, kept) if facts != "spooled"}
    assert len(expected) == 3000
    backend.up()
    assert run("flush(30)", head=FLOWS, **both, FLOWS="0 0").returncode == 0
    backend.wait_for(3000)
    came = {span.span_id.hex(): span for span, _, _ in backend.spans}
    for identity, facts in expected.items():
        span = came[identity]
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
    assert duplicates <= 512  # what was under way at one moment, at most


def test_what_a_killed_process_left_is_sent_by_the_next(backend: Backend, settings: dict[str, str]) -> None:
    """Whichever it is, and without an export of its own."""
    assert run("tracer.start_span('a').end(); die()", head=HEAD, **settings).returncode == -9
    backend.up()
    done = run("print('SAID {\"is_sent\": %s}' % str(exporter.force_flush()).lower())", head=HEAD, **settings)
    assert done.said == {"is_sent": True}
    assert backend.names == ["a"]


def test_a_living_process_sends_what_a_dead_one_left(backend: Backend, settings: dict[str, str]) -> None:
    """It looks from time to time, when it has nothing else to do."""
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
    """Four at once, the backend up and down: every span arrives, each process's in order, and the folder is empty."""
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
    """What the parent wrote is sent once, what the child wrote as well, also where the parent is killed first."""
    done = run(
        """
        tracer.start_span("before").end()
        if os.fork() == 0:
            time.sleep(0.2)
            tracer.start_span("child").end()
            os._exit(0)
        tracer.start_span("parent").end()
        print('SAID {"pid": %d}' % os.getpid(), flush=True)
        die()
        """,
        head=HEAD,
        **settings,
    )
    assert done.returncode == -9
    backend.up()
    run("time.sleep(0.5); exporter.force_flush(20_000)", head=HEAD, **settings)
    backend.wait_for(3)
    assert sorted(backend.names) == ["before", "child", "parent"]


def test_a_child_that_lives_does_not_keep_its_parent_alive(backend: Backend, settings: dict[str, str]) -> None:
    """The parent's lock is the parent's: its open segment is sent while the child is still there."""
    source = """
    flow = a_flow("parent's")
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
    """Children are made while the thread sends and writes: none hangs, nothing is lost."""
    backend.up()
    done = run(
        """
        children = []
        for number in range(20):
            for each in range(5):
                tracer.start_span(f"parent {number} {each}").end()
            pid = os.fork()
            if not pid:
                tracer.start_span(f"child {number}").end()
                os._exit(0)
            children.append(pid)
        print("SAID {\\"codes\\": %s}" % [os.waitpid(pid, 0)[1] for pid in children])
        exporter.force_flush(20_000)
        """,
        head=HEAD,
        **settings,
    )
    assert done.said == {"codes": [0] * 20}
    backend.wait_for(120)


def test_a_limit_of_file_sizes(backend: Backend, settings: dict[str, str]) -> None:
    """A process that may write no file above 20 kB begins another one; nothing is lost, and it is not stopped."""
    done = run(
        """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        for number in range(100):
            tracer.start_span("s", attributes={"text": "x" * 1000}).end()
        print('SAID {"pending": %d, "lost": %d}' % (exporter.account().pending, len(exporter.account().lost)))
        """,
        head=HEAD,
        **settings,
    )
    assert done.said == {"pending": 100, "lost": 0}
    backend.up()
    run("exporter.force_flush(20_000)", head=HEAD, **settings)
    assert len(backend.count()) == 100
