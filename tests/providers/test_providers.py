"""configure, flush, shutdown, stats: each test in a process of its own, as a global provider can be set only once."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import programs
import pytest
from provider_programs import reported_values


def test_the_environment_configures_the_provider() -> None:
    """Service name, resource attributes, sampler and limits come from OpenTelemetry's variables."""
    facts = reported_values(
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


def test_arguments_override_the_environment() -> None:
    """service_name, resource_attributes and sampler."""
    facts = reported_values(
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
    """By entry-point name, in the environment or in code; ``none`` means no exporter."""
    in_code = programs.run("configure(exporters='console'); work(1).execute(); shutdown()")
    assert '"name": "work"' in in_code.stdout
    by_environment = programs.run("configure(); work(1).execute(); shutdown()", OTEL_TRACES_EXPORTER="console")
    assert '"name": "work"' in by_environment.stdout
    none = programs.run("configure(); work(1).execute(); say(ok=bool(shutdown()))", OTEL_TRACES_EXPORTER="none")
    assert none.facts == {"ok": True}
    assert none.stderr == ""


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_existing_provider_is_used_unchanged(when: str) -> None:
    """It may be set before or after functions are decorated; configure() does not change it."""
    provider = """
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    own, memory = TracerProvider(), InMemorySpanExporter()
    own.add_span_processor(SimpleSpanProcessor(memory))
    trace.set_tracer_provider(own)
    """.replace("\n    ", "\n")
    body = """
        work(1).execute()
        used = configure("ignored")
        work(1).execute()
        report = flush(1)
        say(same=used is own, spans=len(memory.get_finished_spans()), ok=bool(report), unknown=report.unknown,
            down=bool(shutdown(1)), after=work(1).execute().status, processors=len(
                own._active_span_processor._span_processors))
    """
    head = provider + programs.HEAD if when == "before" else programs.HEAD + "work(1).execute()\n" + provider
    process = programs.run(body, head=head)
    assert process.facts == {
        "same": True,
        "spans": 4,
        "ok": False,
        "unknown": True,
        "down": False,
        "after": "completed",
        "processors": 1,
    }
    assert "A global tracer provider is already set" in process.stderr


def test_a_second_configure_changes_nothing() -> None:
    """It returns the provider in use, and logs that its arguments have no effect."""
    facts = reported_values("first = configure(exporters=[memory]); say(same=configure() is first)")
    assert facts == {"same": True, "stderr": ""}
    facts = reported_values("first = configure(exporters=[memory]); say(same=configure('other') is first)")
    assert facts["same"] is True
    assert "the arguments of this configure() have no effect" in facts["stderr"]


def test_random_seed_cannot_repeat_ids() -> None:
    """Trace, span and run ids differ, although the program seeds the random module with the same number each time."""
    facts = reported_values(
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
    """Return a local port that refuses connections: it is bound, and nothing listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture
def hanging() -> Iterator[int]:
    """Return a local port that accepts connections and never responds."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen(16)
        yield bound.getsockname()[1]


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("kind", ["dead", "hanging"])
def test_a_flow_does_not_notice_that_its_endpoint_does_not_respond(
    kind: str, protocol: str, request: pytest.FixtureRequest
) -> None:
    """flush returns in time and reports the undelivered spans; the exit does not wait long."""
    facts = reported_values(
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
    """The program ends after the limit without progress, not after the exporter's retries."""
    process = programs.run(
        "configure(); work(20).execute(); say(end=time.time())",
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{dead}",
        OTELFLOW_EXIT_SECONDS="0.2",
        timeout=8,
    )
    assert process.returncode == 0


def test_exit_waits_for_everything_that_hangs_at_the_same_time() -> None:
    """Spans, metrics and an exporter's own shutdown share the seconds without progress: the times do not add up."""
    hangs = """
        class Hangs(Memory):
            def shutdown(self): time.sleep(60)
        began = time.time()
        import atexit; atexit.register(lambda: say(began=began, over=time.time()))
        configure(exporters=[Hangs(wait=60)], metrics=True); work(2).execute(); began = time.time()
    """
    with socket.create_server(("127.0.0.1", 0)) as silent:
        facts = reported_values(
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
            "The OTLP endpoint 'localhost:4318' is not a valid URL. Use one like http://localhost",
        ),
        ("http://", "is not a valid URL"),
        ("http://host:notaport", "is not a valid URL"),
        ("ftp://host", "is not a valid URL"),
    ],
)
def test_a_malformed_endpoint_is_an_error(endpoint: str, message: str) -> None:
    """In code it raises ConfigError. In the environment it is logged, flows run, and their spans count as lost."""
    facts = reported_values(
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


def test_an_unknown_exporter_is_an_error() -> None:
    """The error lists the installed exporters."""
    process = programs.run("configure(exporters=['jaeger'])")
    assert "ConfigError: No exporter is installed under the name 'jaeger'. Use one of: console, " in process.stderr
    facts = reported_values(
        "configure(); run = work(1).execute(); say(status=run.status, lost=flush(5).lost)", OTEL_TRACES_EXPORTER="x"
    )
    assert (facts["status"], facts["lost"]) == ("completed", {"export_failed": 2})


def test_an_unknown_argument_of_configure_is_an_error() -> None:
    """The error suggests the nearest name."""
    process = programs.run("configure(service='x')")
    assert "configure() has no argument 'service'. Did you mean 'service_name'?" in process.stderr


def test_the_import_loads_only_the_api_and_wrapt() -> None:
    """No SDK and no exporters. Of the standard library only ``dataclasses``: the API has imported the rest."""
    process = programs.run(
        """
        import sys, opentelemetry.trace, wrapt
        before = set(sys.modules)
        import otelflow
        print(sorted(name for name in set(sys.modules) - before if name.partition(".")[0] != "otelflow"))
        """,
        head="",
    )
    assert process.stdout == "['dataclasses']\n", process.stderr


@pytest.mark.parametrize("set_up", ["", "otelflow.configure(exporters=[])"])
def test_the_first_task_imports_nothing(set_up: str) -> None:
    """Its modules are imported before its span starts: otherwise its duration would include the imports."""
    process = programs.run(
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
    assert process.stdout == "set()\n", process.stderr


LOGS = """
class Records(Memory):
    def export(self, batch):
        from opentelemetry.sdk._logs.export import LogRecordExportResult
        self.spans.extend(item.log_record for item in batch)
        return LogRecordExportResult.SUCCESS
records = Records()
from otelflow._providers import exporters
exporters.make_exporter = lambda *arguments: records  # everything else is real
"""


@pytest.mark.parametrize(("where", "on_span", "on_logs"), [("span", 3, 0), ("logs", 0, 3), ("both", 3, 3)])
def test_events_go_to_spans_logs_or_both(where: str, on_span: int, on_logs: int) -> None:
    """As OTELFLOW_EVENTS says. Log records have the trace and the span of the event."""
    facts = reported_values(
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


def test_an_unused_endpoint_is_logged() -> None:
    """configure(endpoint=...) with an exporter that does not use it."""
    facts = reported_values("configure(exporters=['console'], endpoint='http://localhost:4318'); say(done=True)")
    assert "configure(endpoint=...) has no effect: console does not use it" in facts["stderr"]
    assert reported_values("configure(endpoint='http://localhost:4318'); say(done=True)")["stderr"] == ""


OWN_KIND = """
class Own:
    def __init__(self, *arguments):
        self.arguments = arguments
    sending_to = classmethod(lambda cls, endpoint, headers: cls(endpoint, headers))
    def export(self, spans): ...
    def shutdown(self): ...
"""


def test_an_exporter_class_with_sending_to_gets_endpoint_and_headers(tmp_path: Path) -> None:
    """``sending_to`` is called if an endpoint or headers are set; otherwise the class is called without arguments. An
    exporter object does not get them, which is logged."""
    metadata = tmp_path / "own_kind-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Name: own_kind\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[opentelemetry_traces_exporter]\nown = own_kind:Own\n")
    (tmp_path / "own_kind.py").write_text(OWN_KIND)
    environment = {"PYTHONPATH": str(tmp_path), "OTEL_TRACES_EXPORTER": "own"}
    show = "from otelflow._export.registry import span_processors as s; say(arguments=s[0].exporter.arguments)"
    both = reported_values(f"configure(endpoint='http://a:4318', headers={{'key': 'x'}}); {show}", **environment)
    assert (both["arguments"], both["stderr"]) == (["http://a:4318", {"key": "x"}], "")
    assert reported_values(f"configure(headers={{'key': 'x'}}); {show}", **environment)["arguments"] == [
        None,
        {"key": "x"},
    ]
    assert reported_values(f"configure(); {show}", **environment)["arguments"] == []
    with_object = reported_values(
        f"from own_kind import Own; configure(exporters=[Own()], endpoint='http://a:4318'); {show}", **environment
    )
    assert with_object["arguments"] == []
    assert "configure(endpoint=...) has no effect: Own does not use it" in with_object["stderr"]
    invalid = reported_values(
        "try: configure(endpoint='ftp://a')\nexcept Exception as error: say(error=str(error))", **environment
    )
    assert "'ftp://a' is not a valid URL" in invalid["error"]
