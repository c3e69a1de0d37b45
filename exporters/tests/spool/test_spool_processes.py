"""The spool among processes: killed ones, forked ones, several on one folder, and flows whose process died."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from otelflow_exporters._spool_target import targets
from programs import clean_environment, run
from receiver import attributes_of
from spool_backend import Backend

HEAD = """
import os, signal, sys, time, threading
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from otelflow_exporters.spool import SpoolSpanExporter
exporter = SpoolSpanExporter()
provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(exporter.span_processor())
provider.add_span_processor(SimpleSpanProcessor(exporter))
tracer = provider.get_tracer("any")

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def a_flow(name, **more):
    return tracer.start_span(name, attributes={"otelflow.kind": "flow", **more})
"""


@pytest.fixture
def backend() -> Iterator[Backend]:
    """A backend that is not up yet."""
    made = Backend(is_up=False)
    yield made
    made.close()


@pytest.fixture
def settings(backend: Backend, tmp_path: Path) -> dict[str, str]:
    """The environment of the programs."""
    return {
        "OTELFLOW_EXPORTER_SPOOL_DIR": str(tmp_path / "spool"),
        "OTEL_EXPORTER_OTLP_ENDPOINT": backend.endpoint,
        "OTEL_SERVICE_NAME": "shop",
        "OTEL_TRACES_EXPORTER": "otelflow_spool",
    }


def start(source: str, settings: dict[str, str], head: str = HEAD) -> subprocess.Popen[str]:
    """A program that runs beside."""
    return subprocess.Popen(
        [sys.executable, "-c", head + textwrap.dedent(source)],
        env=clean_environment(**settings),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


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


# --- flows whose process died ---------------------------------------------------------------------------------------


def test_a_flow_whose_process_died_is_closed(backend: Backend, settings: dict[str, str]) -> None:
    """At the next start, under its own ids: an error that says so, with what was known; those that had ended are left
    alone. Once, however many processes look."""
    died = run(
        """
        with tracer.start_as_current_span("request") as outer:
            a_flow("ended").end()
            flow = a_flow("died", customer="A-1")
            tracer.start_span("not a flow")
            print('SAID {"span": "%016x", "trace": "%032x", "parent": "%016x", "start": %d}' % (
                flow.context.span_id, flow.context.trace_id, outer.context.span_id, flow.start_time), flush=True)
            die()
        """,
        head=HEAD,
        **settings,
    )
    backend.up()
    for _ in range(2):
        assert run("sys.exit(not exporter.force_flush(20_000))", head=HEAD, **settings).returncode == 0
    assert sorted(backend.names) == ["died", "ended"]
    ((span, resource, scope),) = [each for each in backend.spans if each[0].name == "died"]
    said = died.said
    assert (span.span_id.hex(), span.trace_id.hex(), span.parent_span_id.hex(), span.start_time_unix_nano) == (
        said["span"],
        said["trace"],
        said["parent"],
        said["start"],
    )
    assert attributes_of(span) == {
        "otelflow.kind": "flow",
        "customer": "A-1",
        "otelflow.status": "failed",
        "error.type": "process_died",
    }
    assert (span.status.code, span.status.message) == (2, "process died")
    assert span.end_time_unix_nano >= span.start_time_unix_nano
    assert scope.name == "any"
    assert attributes_of(resource)["service.name"] == "shop"


def test_a_flow_is_closed_though_nothing_else_was_left(backend: Backend, settings: dict[str, str]) -> None:
    """The process died before its first export: the next one's flush closes the flow, and waits for that."""
    run("flow = a_flow('alone'); die()", head=HEAD, **settings)
    backend.up()
    done = run("sys.exit(not exporter.force_flush(20_000))", head=HEAD, **settings)
    assert (done.returncode, backend.names) == (0, ["alone"])


def test_a_real_flow_whose_process_died(backend: Backend, settings: dict[str, str]) -> None:
    """The same with otelflow: its finished task is there as well, below it."""
    died = run(
        """
        @flow
        def order():
            step(1)
            flush(0.1)
            os.kill(os.getpid(), 9)
        configure()
        order().execute()
        """,
        **settings,
    )
    assert died.returncode == -9
    backend.up()
    assert run("configure(); flush(20)", **settings).returncode == 0
    spans = {span.name: span for span, _, _ in backend.spans}
    assert sorted(spans) == ["order", "step"]
    assert spans["step"].parent_span_id == spans["order"].span_id
    assert spans["order"].status.message == "process died"


def test_a_child_does_not_close_its_parents_flow(backend: Backend, settings: dict[str, str]) -> None:
    """It may end the span object that it has inherited; the flow is the parent's, and is closed when that dies."""
    run(
        """
        flow = a_flow("parent's")
        if os.fork() == 0:
            flow.end()
            own = a_flow("child's")
            own.end()
            os._exit(0)
        os.wait()
        die()
        """,
        head=HEAD,
        **settings,
    )
    backend.up()
    run("exporter.force_flush(20_000)", head=HEAD, **settings)
    by_name = [(span.name, span.status.message) for span, _, _ in backend.spans]
    assert ("parent's", "process died") in by_name
    assert [status for name, status in by_name if name == "child's"] == [""]


def test_the_journal_does_not_grow_with_the_number_of_flows(settings: dict[str, str], tmp_path: Path) -> None:
    """Thousands of flows, one of them open all the time: the file is written anew, and the open one is still in it."""
    died = run(
        """
        long = a_flow("long")
        for number in range(3000):
            a_flow("short").end()
        print("SAID {\\"size\\": %d}" % os.path.getsize(exporter._spool._journal_path()), flush=True)
        die()
        """,
        head=HEAD,
        **settings,
    )
    assert 0 < died.said["size"] < 600_000
    from otelflow_exporters._spool_flows import closed_flows

    (journal,) = (path for path in (tmp_path / "spool").iterdir() if path.suffix == ".flows")
    assert closed_flows(str(journal), 0)[1] == 1
    for harm in (b"", journal.read_bytes()[:10], journal.read_bytes()[:-3], os.urandom(500)):
        journal.write_bytes(harm)
        assert closed_flows(str(journal), 0)[1] <= 2


def test_a_flow_that_is_open_at_the_end_is_closed_by_the_next(backend: Backend, settings: dict[str, str]) -> None:
    """A generator that nobody finished, a thread that was left: the process ended in order, its flow did not."""
    run("flow = a_flow('left'); provider.shutdown()", head=HEAD, **settings)
    backend.up()
    run("exporter.force_flush(20_000); provider.shutdown()", head=HEAD, **settings)
    assert backend.names == ["left"]


def test_exit_is_quick_when_the_backend_is_down(backend: Backend, settings: dict[str, str]) -> None:
    """A program of the bare SDK, set up by its variables alone, ends, and its spans are on disk."""
    source = """
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from importlib.metadata import entry_points
    (entry,) = entry_points(group="opentelemetry_traces_exporter", name="otelflow_spool")
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(entry.load()()))
    for number in range(100):
        provider.get_tracer("any").start_span("s").end()
    """
    assert run(source, head="", timeout=30, **settings).returncode == 0
    backend.up()
    run("exporter.force_flush(20_000)", head=HEAD, **settings)
    assert len(backend.count()) == 100


# --- with otelflow --------------------------------------------------------------------------------------------------


def test_otelflow_tells_what_became_of_it(backend: Backend, settings: dict[str, str]) -> None:
    """flush() is false while the backend is down, with the number that waits; true when all is there; what is refused
    is lost once, with its reason."""
    source = """
    import json, threading
    configure()
    work().execute()
    report = flush(0.5)
    say(down=[bool(report), report.delivered, report.pending, report.lost])
    """
    down = run(source, **settings)
    assert down.said["down"] == [False, 0, 4, {}]
    backend.answers.extend([(200, {}, b""), (403, {}, b"")])
    backend.up()
    up = run(
        """
        configure()
        first = flush(20)
        work().execute()
        report = flush(20)
        say(first=[bool(first), first.pending], second=[bool(report), report.delivered, report.pending, report.lost])
        say(stats=stats().dropped)
        """,
        **settings,
    )
    assert up.said["first"] == [True, 0]
    assert up.said["second"] == [False, 0, 0, {"refused": 4}]
    assert up.said["stats"].get("refused") == 4


def test_otelflow_tells_that_the_folder_was_taken_away(backend: Backend, settings: dict[str, str]) -> None:
    """What the backend had before is delivered; the rest is lost, and not delivered, however often one asks."""
    backend.answers.extend([(200, {}, b""), *[(503, {}, b"")] * 100])
    backend.up()
    done = run(
        """
        import shutil
        configure()
        work().execute()
        say(first=bool(flush(20)))
        work().execute()
        say(waits=flush(0.5).pending)
        shutil.rmtree(os.environ["OTELFLOW_EXPORTER_SPOOL_DIR"])
        reports = [flush(20), flush(20), shutdown(20)]
        say(after=[[bool(report), report.delivered, report.pending, report.lost] for report in reports])
        say(stats=[stats().produced, stats().delivered, stats().pending, stats().dropped])
        """,
        **settings,
    )
    assert done.said["first"] is True, done.stderr
    assert done.said["waits"] == 4
    assert done.said["after"] == [[False, 4, 0, {"spool_removed": 4}]] * 3
    assert done.said["stats"] == [8, 4, 0, {"spool_removed": 4}]
    assert len(backend.count()) == 4


def test_what_configure_is_given_reaches_the_spool(backend: Backend, settings: dict[str, str]) -> None:
    """Endpoint and headers, also for what waits in the folder since before; nothing goes where the environment says."""
    elsewhere = Backend()
    settings = {**settings, "OTEL_EXPORTER_OTLP_ENDPOINT": elsewhere.endpoint, "OTEL_EXPORTER_OTLP_HEADERS": "key=no"}
    given = f"configure(endpoint={backend.endpoint!r}, headers={{'key': 'yes'}})"
    try:
        run(f"{given}; work().execute()", **settings)
        backend.up()
        done = run(f"{given}; work().execute(); say(all=bool(flush(20)))", **settings)
        assert (done.said, done.stderr) == ({"all": True}, "")
        assert len(backend.count()) == 8
        assert {headers["key"] for headers in backend.requests} == {"yes"}
        done = run("configure(headers={'key': 'other'}); work().execute(); say(all=bool(flush(20)))", **settings)
        assert done.said == {"all": True}
        assert {headers["key"] for headers in elsewhere.requests} == {"other"}
        assert len(backend.count()) == 8
    finally:
        elsewhere.close()


def test_what_configure_is_given_reaches_the_overflow(backend: Backend, settings: dict[str, str]) -> None:
    """The spool that takes what the queue of another exporter has no room for sends where that one does."""
    backend.up()
    backend.answers.extend([(503, {"Retry-After": "1"}, b"")])
    elsewhere = Backend()
    settings = {
        **settings,
        "OTEL_EXPORTER_OTLP_ENDPOINT": elsewhere.endpoint,
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTELFLOW_WHEN_FULL": "spool",
        "OTELFLOW_QUEUE_SIZE": "4",
    }
    try:
        given = f"configure(endpoint={backend.endpoint!r}, headers={{'key': 'yes'}})"
        done = run(f"{given}; work(100).execute(); say(all=bool(flush(20)), done=stats().delivered)", **settings)
        assert done.said == {"all": True, "done": 101}, done.stderr
        assert len(backend.count()) == 101
        assert {headers["key"] for headers in backend.requests} == {"yes"}
        assert elsewhere.requests == []
    finally:
        elsewhere.close()


@pytest.mark.parametrize(
    ("endpoint", "url", "is_grpc"),
    [
        ("http://a:4318", "http://a:4318/v1/traces", False),
        ("http://a:4318/", "http://a:4318/v1/traces", False),
        ("http://a/own/path", "http://a/own/path", False),
        ("a:4318", "http://a:4318/v1/traces", False),
        ("http://a:4317", "http://a:4317", True),
    ],
)
def test_an_endpoint_that_is_given(monkeypatch: pytest.MonkeyPatch, endpoint: str, url: str, is_grpc: bool) -> None:
    """It goes before all variables, and gets the signal's path where it has none; headers are those alone."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://no:1/")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "a=b")
    (found,) = targets("http://one:1,http://two:2", endpoint, {"c": "d"})
    assert (found.url, found.is_grpc, found.headers) == (url, is_grpc, {"c": "d"})
    (found,) = targets("", endpoint)
    assert found.headers == {"a": "b"}
