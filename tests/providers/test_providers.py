"""configure, flush, shutdown, stats: each in a process of its own, as a global provider can be set once."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import programs
import pytest

MEMORY = """
from opentelemetry.sdk.trace.export import SpanExportResult, SpanExporter
class Memory(SpanExporter):
    def __init__(self, result=SpanExportResult.SUCCESS, wait=0):
        self.spans, self.result, self.wait, self.downs = [], result, wait, 0
    def export(self, spans):
        time.sleep(self.wait)
        self.spans.extend(spans)
        return self.result
    def shutdown(self):
        self.downs += 1
memory = Memory()
"""


def said(source: str, **environment: str) -> dict[str, Any]:
    """What a program says that has an exporter ``memory``; it must end well."""
    done = programs.run(source, head=programs.HEAD + MEMORY, **environment)
    assert done.returncode == 0, done.stderr
    return {**done.said, "stderr": done.stderr}


def test_the_environment_says_everything() -> None:
    """Service name, resource attributes, sampler and limits come from OpenTelemetry's variables."""
    facts = said(
        """
        provider = configure(exporters=[memory])
        work().execute(); flush()
        attributes = dict(provider.resource.attributes)
        say(service=attributes["service.name"], team=attributes["team"], sampler=provider.sampler.get_description(),
            values=[len(v) for v in memory.spans[0].attributes.values()], count=len(memory.spans))
        """,
        OTEL_SERVICE_NAME="named",
        OTEL_RESOURCE_ATTRIBUTES="team=data",
        OTEL_TRACES_SAMPLER="parentbased_traceidratio",
        OTEL_TRACES_SAMPLER_ARG="1.0",
        OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT="5",
    )
    assert (facts["service"], facts["team"], facts["count"]) == ("named", "data", 4)
    assert "TraceIdRatioBased{1.0}" in facts["sampler"]
    assert max(facts["values"]) == 5


def test_arguments_go_before_the_environment() -> None:
    """service_name, resource_attributes and sampler given in code win."""
    facts = said(
        """
        from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
        provider = configure("code", exporters=[memory], resource_attributes={"team": "core"}, sampler=ALWAYS_OFF)
        work().execute()
        say(service=provider.resource.attributes["service.name"], team=provider.resource.attributes["team"],
            produced=stats().produced, ok=bool(flush()))
        """,
        OTEL_SERVICE_NAME="named",
        OTEL_RESOURCE_ATTRIBUTES="team=data",
        OTEL_TRACES_SAMPLER="always_on",
    )
    assert (facts["service"], facts["team"], facts["produced"], facts["ok"]) == ("code", "core", 0, True)


def test_exporters_are_found_by_name() -> None:
    """Entry-point names, in the environment or in code; ``none`` is none."""
    in_code = programs.run("configure(exporters='console'); work(1).execute(); shutdown()")
    assert '"name": "work"' in in_code.stdout
    by_environment = programs.run("configure(); work(1).execute(); shutdown()", OTEL_TRACES_EXPORTER="console")
    assert '"name": "work"' in by_environment.stdout
    none = programs.run("configure(); work(1).execute(); say(ok=bool(shutdown()))", OTEL_TRACES_EXPORTER="none")
    assert none.said == {"ok": True}
    assert none.stderr == ""


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_provider_of_the_users_own_is_used_and_left_alone(when: str) -> None:
    """Set before or after otelflow is imported and the functions are decorated; configure() does not touch it."""
    provider = """
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    own, mine = TracerProvider(), InMemorySpanExporter()
    own.add_span_processor(SimpleSpanProcessor(mine))
    trace.set_tracer_provider(own)
    """.replace("\n    ", "\n")
    body = """
        work(1).execute()
        used = configure("ignored")
        work(1).execute()
        report = flush(1)
        say(same=used is own, spans=len(mine.get_finished_spans()), ok=bool(report), unknown=report.unknown,
            down=bool(shutdown(1)), after=work(1).execute().status, processors=len(
                own._active_span_processor._span_processors))
    """
    head = provider + programs.HEAD if when == "before" else programs.HEAD + "work(1).execute()\n" + provider
    done = programs.run(body, head=head)
    assert done.said == {
        "same": True,
        "spans": 4,
        "ok": False,
        "unknown": True,
        "down": False,
        "after": "completed",
        "processors": 1,
    }
    assert "A global tracer provider is set already" in done.stderr


def test_a_second_configure_changes_nothing() -> None:
    """It returns the provider in use."""
    facts = said("first = configure(exporters=[memory]); say(same=configure() is first)")
    assert facts == {"same": True, "stderr": ""}
    facts = said("first = configure(exporters=[memory]); say(same=configure('other') is first)")
    assert facts["same"] is True
    assert "what was given to this configure() has no effect" in facts["stderr"]


def test_random_seed_cannot_repeat_ids() -> None:
    """Trace and span ids differ although the program seeds the random module the same way each time."""
    facts = said(
        """
        import random
        configure(exporters=[memory])
        ids = []
        for _ in range(3):
            random.seed(1)
            run = work(1).execute()
            ids += [run.trace_id, run.span_id, run.run_id]
        say(ids=ids)
        """
    )
    assert len(set(facts["ids"])) == 9


@pytest.fixture
def dead() -> Iterator[int]:
    """A port of loopback that refuses connections: bound, and nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture
def hanging() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen(16)
        yield bound.getsockname()[1]


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("kind", ["dead", "hanging"])
def test_an_endpoint_that_does_not_answer(kind: str, protocol: str, request: pytest.FixtureRequest) -> None:
    """flush returns in time and says what was not delivered; the exit is not held up; the flow does not notice."""
    facts = said(
        """
        configure()
        run = work(20).execute()
        begin = time.monotonic(); report = flush(0.5); took = time.monotonic() - begin
        say(status=run.status, ok=bool(report), delivered=report.delivered, took=took, produced=stats().produced,
            total=report.pending + sum(report.lost.values()))
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{request.getfixturevalue(kind)}",
        OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
        OTELFLOW_EXIT_SECONDS="0.5",
    )
    assert (facts["status"], facts["ok"], facts["delivered"]) == ("completed", False, 0)
    assert facts["total"] == facts["produced"] == 21
    assert "by otlp: 21 " in facts["stderr"]
    assert facts["took"] < 5  # seconds: ten times its timeout, for a busy machine; the SDK takes 30 and more
    assert "21 spans were not delivered" in facts["stderr"]


def test_the_exit_is_short_with_a_dead_endpoint(dead: int) -> None:
    """The whole program ends within the limit of no progress, not after the exporter's retries."""
    done = programs.run(
        "configure(); work(20).execute(); say(end=time.time())",
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{dead}",
        OTELFLOW_EXIT_SECONDS="0.2",
        timeout=8,
    )
    assert done.returncode == 0


def test_what_hangs_at_the_exit_is_waited_for_together() -> None:
    """Spans, metrics and an exporter's own shutdown share the seconds without progress; they are not added up."""
    hangs = """
        class Hangs(Memory):
            def shutdown(self): time.sleep(60)
        began = time.time()
        import atexit; atexit.register(lambda: say(began=began, over=time.time()))
        configure(exporters=[Hangs(wait=60)], metrics=True); work(2).execute(); began = time.time()
    """
    with socket.create_server(("127.0.0.1", 0)) as silent:
        facts = said(
            hangs,
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{silent.getsockname()[1]}",
            OTELFLOW_EXIT_SECONDS="4",
        )
    assert 4 <= facts["over"] - facts["began"] < 7.5


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        (
            "localhost:4318",
            "The OTLP endpoint 'localhost:4318' is no URL that can be called. Use one like http://localhost",
        ),
        ("http://", "is no URL that can be called"),
        ("http://host:notaport", "is no URL that can be called"),
        ("ftp://host", "is no URL that can be called"),
    ],
)
def test_a_malformed_endpoint(endpoint: str, message: str) -> None:
    """In code it is a ConfigError; in the environment it is logged, the flow runs, and the loss is counted."""
    facts = said(
        """
        configure()
        run = work(2).execute()
        report = flush(5)
        say(status=run.status, ok=bool(report), lost=report.lost)
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
    )
    assert (facts["status"], facts["ok"], facts["lost"]) == ("completed", False, {"export_failed": 3})
    assert message in facts["stderr"]
    in_code = programs.run(f"configure(endpoint={endpoint!r})")
    assert in_code.returncode == 1
    assert "ConfigError" in in_code.stderr
    assert message in in_code.stderr


def test_an_exporter_that_nobody_knows() -> None:
    """The error names what there is, and for ours the distribution that has it."""
    done = programs.run("configure(exporters=['jaeger'])")
    assert "ConfigError: No exporter is installed under the name 'jaeger'. There are: console, " in done.stderr
    facts = said(
        "configure(); run = work(1).execute(); say(status=run.status, lost=flush(5).lost)", OTEL_TRACES_EXPORTER="x"
    )
    assert (facts["status"], facts["lost"]) == ("completed", {"export_failed": 2})


def test_unknown_arguments_of_configure() -> None:
    """As everywhere: the nearest name."""
    done = programs.run("configure(service='x')")
    assert "configure() has no argument 'service'. Did you mean 'service_name'?" in done.stderr


def test_flush_delivers_and_reports() -> None:
    """Truthy when all was accepted; numbers since the start of the process."""
    facts = said(
        """
        configure(exporters=[memory])
        work(9).execute()
        report = flush(5)
        say(ok=bool(report), delivered=report.delivered, pending=report.pending, got=len(memory.spans))
        """
    )
    assert facts == {"ok": True, "delivered": 10, "pending": 0, "got": 10, "stderr": ""}


def test_what_an_exporter_refuses_is_lost_and_said() -> None:
    """FAILURE and an exception of the exporter are both losses; the program sees neither."""
    facts = said(
        """
        class Raises(Memory):
            def export(self, spans): raise RuntimeError("broken exporter")
        configure(exporters=[Memory(SpanExportResult.FAILURE), Raises()])
        work(1).execute()
        report = flush(5)
        say(ok=bool(report), delivered=report.delivered, lost=report.lost, dropped=stats().dropped)
        """
    )
    assert (facts["ok"], facts["delivered"], facts["lost"]) == (False, 0, {"export_failed": 4})
    assert facts["dropped"] == {"export_failed": 4}


def test_a_full_queue_drops_the_oldest_and_counts() -> None:
    """Never more in memory than the queue's size, and every span is in the account."""
    facts = said(
        """
        configure(exporters=[Memory(wait=0.3)])
        work(2000).execute()
        report = flush(20)
        say(delivered=report.delivered, lost=report.lost, produced=stats().produced)
        """,
        OTELFLOW_QUEUE_SIZE="100",
        OTEL_BSP_MAX_EXPORT_BATCH_SIZE="50",
    )
    assert facts["produced"] == 2001
    assert facts["delivered"] + facts["lost"]["queue_full"] == 2001
    assert facts["lost"]["queue_full"] > 1000


def test_a_burst_is_kept() -> None:
    """40,000 tasks as fast as one process can make them: none lost with the default queue."""
    facts = said(
        "configure(exporters=[memory]); work(40_000).execute(); say(ok=bool(flush(60)), got=len(memory.spans))"
    )
    assert (facts["ok"], facts["got"]) == (True, 40_001)


@pytest.mark.parametrize("end", ["flush", "shutdown"])
def test_an_exporter_that_hangs_takes_no_time_of_the_others(end: str) -> None:
    """All send at once: what the second would take arrives, though the first uses up the whole time."""
    facts = said(
        f"""
        configure(exporters=[Memory(wait=30), memory])
        work(2).execute()
        began = time.monotonic(); report = {end}(1)
        say(ok=bool(report), got=len(memory.spans), lost=report.lost, took=time.monotonic() - began)
        sys.stdout.flush(); os._exit(0)
        """
    )
    assert (facts["ok"], facts["got"], facts["lost"]) == (False, 3, {})
    assert facts["took"] < 5


@pytest.mark.parametrize("provider", ["exporters=[memory]", "exporters=[], metrics=True", "foreign"])
def test_a_flush_may_be_given_all_the_time_of_the_world(provider: str) -> None:
    """An infinite time is no error in the user's code."""
    set_up = f"configure({provider})"
    if provider == "foreign":
        set_up = (
            "from opentelemetry.sdk.trace import TracerProvider as P; otelflow.providers.trace.set_tracer_provider(P())"
        )
    facts = said(
        f"from opentelemetry import trace; {set_up}; work(1).execute()\nsay(unknown=flush(float('inf')).unknown)",
        OTEL_METRICS_EXPORTER="none",
    )
    assert facts["unknown"] is (provider == "foreign")


@pytest.mark.parametrize("provider", ["metrics", "foreign"])
def test_a_flush_that_hangs_is_not_begun_again(provider: str) -> None:
    """However often a program flushes while a backend hangs: there is one thread that waits for it."""
    facts = said(
        f"""
        import threading
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        class Hangs(TracerProvider):
            def force_flush(self, timeout_millis=0): time.sleep(60)
        if {provider == "foreign"}: trace.set_tracer_provider(Hangs(shutdown_on_exit=False))
        else:
            configure(exporters=[], metrics=True)
            otelflow._providers.meter_provider._own.provider.force_flush = lambda _: time.sleep(60)
        work(1).execute(); flush(0.01); before = threading.active_count()
        reports = [flush(0.01) for _ in range(10)]
        say(more=threading.active_count() - before, ok=any(reports))
        sys.stdout.flush(); os._exit(0)
        """,
        OTEL_METRICS_EXPORTER="none",
    )
    assert (facts["more"], facts["ok"]) == (0, False)


@pytest.mark.parametrize("put", ["time.sleep(60)", "{}[0]"])
def test_a_flush_is_not_whole_without_the_artifacts(put: str, tmp_path: Path) -> None:
    """The event names a file: one that the store has not taken yet, or refused, is missing at the backend."""
    facts = said(
        f"""
        import otelflow._artifacts.store
        configure(exporters=[memory])
        @flow
        def kept(this_flow=None): this_flow.add_artifact(key="whole", data="x" * 100_000)
        class Place:
            def open(self): pass
            def put(self, path, body): {put}
        otelflow._artifacts.store.place_of = lambda _: Place()
        kept().execute(); report = flush(0.5)
        say(ok=bool(report), lost=report.lost, delivered=report.delivered)
        sys.stdout.flush(); os._exit(0)
        """,
        OTELFLOW_ARTIFACT_STORE=f"file://{tmp_path}",
    )
    assert (facts["ok"], facts["delivered"], facts["lost"]) == (False, 1, {"artifact_not_stored": 1})


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "10s"])
def test_a_timeout_that_is_none(seconds: str) -> None:
    """It is said once, by the variable's name, and the loss is counted."""
    facts = said("configure(); work(1).execute(); say(lost=flush().lost)", OTEL_EXPORTER_OTLP_TIMEOUT=seconds)
    assert facts["lost"] == {"export_failed": 2}
    assert "The exporter 'otlp' cannot be made" in facts["stderr"]
    assert "Traceback" not in facts["stderr"]


def test_a_fork_while_another_thread_configures() -> None:
    """The child has a lock of its own: the thread that held it is not there."""
    facts = said(
        """
        import signal, threading, otelflow.providers
        held, over = threading.Event(), threading.Event()
        def configuring():
            with otelflow.providers._lock:
                held.set(); over.wait()
        threading.Thread(target=configuring, daemon=True).start()
        held.wait()
        child = os.fork()
        if not child:
            signal.alarm(20); configure(exporters=[memory]); os._exit(0)
        say(code=os.waitpid(child, 0)[1]); over.set()
        """
    )
    assert facts["code"] == 0


def test_shutdown_is_idempotent() -> None:
    """A second call only reports; the exporter is shut down once; what ends later is counted."""
    facts = said(
        """
        configure(exporters=[memory])
        work(1).execute()
        reports = [shutdown(5), shutdown(5)]
        work(1).execute()
        say(ok=[bool(r) for r in reports], downs=memory.downs, lost=shutdown().lost, got=len(memory.spans))
        """
    )
    assert facts["ok"] == [True, True]
    assert (facts["downs"], facts["lost"], facts["got"]) == (1, {"after_shutdown": 2}, 2)


def test_a_normal_end_delivers_everything() -> None:
    """Without flush or shutdown: at exit, at sys.exit, and after an exception."""
    for end in ("", "sys.exit(3)", "raise ValueError('end')"):
        done = programs.run(
            f"""
class Says(Memory):
    def shutdown(self): say(got=len(self.spans))
configure(exporters=[Says()])
work(700).execute()
{end}
""",
            head=programs.HEAD + MEMORY,
        )
        assert done.said == {"got": 701}
        assert done.returncode == {"": 0, "sys.exit(3)": 3}.get(end, 1)


def test_a_forked_child_has_its_own_queue() -> None:
    """What waits in the parent is the parent's to send; the child's own spans are delivered by the child."""
    facts = said(
        """
        configure(exporters=[memory])
        work(3).execute()
        child = os.fork()
        if child == 0:
            work(1).execute()
            report = flush(5)
            os._exit(0 if report.delivered == 2 and len(memory.spans) == 2 else 1)
        _, status = os.waitpid(child, 0)
        flush(5)
        ids = {span.context.span_id for span in memory.spans}
        say(child=os.waitstatus_to_exitcode(status), parent=len(memory.spans), once=len(ids))
        """
    )
    assert (facts["child"], facts["parent"], facts["once"]) == (0, 4, 4)


def test_without_configure_flush_says_so() -> None:
    """Nothing is set up: nothing is delivered, and the report is not true."""
    facts = said("work(1).execute(); r = flush(1); say(ok=bool(r), unknown=r.unknown, produced=stats().produced)")
    assert facts == {"ok": False, "unknown": True, "produced": 0, "stderr": ""}


def test_the_import_loads_the_api_and_wrapt_only() -> None:
    """No SDK, no exporters; of the standard library what makes FlowRunConfig, as the API has loaded much of it."""
    done = programs.run(
        """
        import sys, opentelemetry.trace, wrapt
        below = set(sys.modules)
        import otelflow
        print(sorted(name for name in set(sys.modules) - below if name.partition(".")[0] != "otelflow"))
        """,
        head="",
    )
    assert done.stdout == "['dataclasses']\n", done.stderr


@pytest.mark.parametrize("set_up", ["", "otelflow.configure(exporters=[])"])
def test_the_first_task_loads_nothing(set_up: str) -> None:
    """What the first task needs is loaded before its time begins: its duration would tell of that instead."""
    done = programs.run(
        f"""
        import sys, otelflow
        {set_up}

        @otelflow.task
        def step(this_task=None):
            this_task.log_info("working", number=1)

        @otelflow.flow
        def work():
            before = set(sys.modules)
            step()
            return set(sys.modules) - before

        print(work().execute().return_value)
        """,
        head="",
    )
    assert done.stdout == "set()\n", done.stderr


LOGS = """
class Records(Memory):
    def export(self, batch):
        from opentelemetry.sdk._logs.export import LogRecordExportResult
        self.spans.extend(item.log_record for item in batch)
        return LogRecordExportResult.SUCCESS
records = Records()
from otelflow._providers import exporters as _exporters
_exporters.make_exporter = lambda *given: records  # the only part of the path that is not real
"""


@pytest.mark.parametrize(("where", "on_span", "on_logs"), [("span", 3, 0), ("logs", 0, 3), ("both", 3, 3)])
def test_events_go_where_they_are_wanted(where: str, on_span: int, on_logs: int) -> None:
    """OTELFLOW_EVENTS: on spans, as log records of the same trace and span, or both."""
    facts = said(
        LOGS
        + """
@task(raise_on_error=False)
def fails(this_task=None):
    this_task.log_warning("careful", left=3)
    raise ValueError("no")
configure(exporters=[memory])
fails(); report = flush(5)
span = memory.spans[0]
say(span=len(span.events), ok=bool(report), logs=[
    [r.event_name, r.severity_text, r.body, r.attributes.get("left"), r.span_id == span.context.span_id]
    for r in records.spans])
""",
        OTELFLOW_EVENTS=where,
    )
    assert (facts["span"], len(facts["logs"]), facts["ok"]) == (on_span, on_logs, True)
    if on_logs:
        assert facts["logs"] == [
            ["otelflow.message", "WARN", "careful", 3, True],
            ["exception", "ERROR", "no", None, True],
            ["otelflow.message", "ERROR", "Error executing 'fails' task: no", None, True],
        ]


POOL = """
import multiprocessing, os, sys
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from otelflow import configure, flow, task

class File(SpanExporter):
    def export(self, spans):
        with open(os.environ["SPANS"], "a") as out:
            out.writelines(f"{os.getpid()} {span.name}\\n" for span in spans)
        return SpanExportResult.SUCCESS
    def shutdown(self):
        pass

@task
def step(x):
    return x

@flow
def in_child():
    for x in range(9):
        step(x)

def work():
    configure(exporters=[File()])
    in_child().execute()

if __name__ == "__main__":
    if sys.argv[1] == "fork":
        configure(exporters=[File()])
        step(0)
    processes = [multiprocessing.get_context(sys.argv[1]).Process(target=work) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    print([process.exitcode for process in processes])
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_multiprocessing_deliver_before_they_end(method: str, tmp_path: Path) -> None:
    """They leave without atexit; all their spans arrive, each once, by each start method."""
    program, spans = tmp_path / "pool.py", tmp_path / "spans"
    program.write_text(POOL)
    done = subprocess.run(
        [sys.executable, str(program), method],
        env=programs.clean_environment(SPANS=str(spans)),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "[0, 0, 0]\n", done.stderr
    lines = spans.read_text().splitlines()
    assert len(lines) == 30 + (method == "fork")
    assert sorted(Counter(line.split()[0] for line in lines).values()) == [1] * (method == "fork") + [10] * 3


def test_an_endpoint_that_nobody_takes() -> None:
    """Given in code beside an exporter that does not ask for it: that is said."""
    facts = said("configure(exporters=['console'], endpoint='http://localhost:4318'); say(done=True)")
    assert "configure(endpoint=...) has no effect: console sends where" in facts["stderr"]
    assert said("configure(endpoint='http://localhost:4318'); say(done=True)")["stderr"] == ""


OWN_KIND = """
class Own:
    def __init__(self, *given):
        self.given = given
    sending_to = classmethod(lambda kind, endpoint, headers: kind(endpoint, headers))
    def export(self, spans): ...
    def shutdown(self): ...
"""


def test_an_exporter_that_can_be_told(tmp_path: Path) -> None:
    """By its class method ``sending_to``: it is made by that with what was given, and without that by no argument. An
    object that was made before is told nothing, which is said."""
    about = tmp_path / "own_kind-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Name: own_kind\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[opentelemetry_traces_exporter]\nown = own_kind:Own\n")
    (tmp_path / "own_kind.py").write_text(OWN_KIND)
    there = {"PYTHONPATH": str(tmp_path), "OTEL_TRACES_EXPORTER": "own"}
    show = "from otelflow._providers.tracer_provider import pipelines; say(given=pipelines[0].exporter.given)"
    both = said(f"configure(endpoint='http://a:4318', headers={{'key': 'x'}}); {show}", **there)
    assert (both["given"], both["stderr"]) == (["http://a:4318", {"key": "x"}], "")
    assert said(f"configure(headers={{'key': 'x'}}); {show}", **there)["given"] == [None, {"key": "x"}]
    assert said(f"configure(); {show}", **there)["given"] == []
    made = said(f"from own_kind import Own; configure(exporters=[Own()], endpoint='http://a:4318'); {show}", **there)
    assert made["given"] == []
    assert "configure(endpoint=...) has no effect: Own sends where" in made["stderr"]
    wrong = said("try: configure(endpoint='ftp://a')\nexcept Exception as error: say(error=str(error))", **there)
    assert "'ftp://a' is no URL" in wrong["error"]
