"""Test that no secret leaves a process: in runs, artifacts, the terminal, logs, errors and baggage."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from programs import command, run
from receiver import Sink, attributes_of
from secret_samples import PEM

from otelflow import FlowRunConfig, flow, flow_events, stats, task
from otelflow import attributes as wire
from otelflow.errors import ConfigError
from otelflow.testing import Capture

# --- runs, artifacts and the terminal ---------------------------------------------------------------------------------


def text_of_span(run: Any) -> str:
    """Return all texts of a run's span."""
    span = run.span
    events = [(event.name, dict(event.attributes or {})) for event in span.events]
    return repr((span.name, dict(span.attributes or {}), events, span.status.description))


CANARY = "canary-0d9f2c"


@task(attributes={"db.password": CANARY, "dsn": f"postgres://me:{CANARY}@db"})
def record_secrets(password: str, this_task: Any = None) -> None:
    this_task.log_info(f"token={CANARY}", api_key=CANARY, body={"deep": [{"secret": CANARY}]})
    this_task.add_artifact(f"password={CANARY}", f"token={CANARY}", {"password": CANARY, "ok": 1}, f"pwd={CANARY}")
    this_task.add_result(f"token={CANARY}", f"password={CANARY}")
    print(f"Authorization: Bearer {CANARY}")
    local = ValueError(f"cannot log in with password={CANARY}")
    local.__cause__ = KeyError(f"secret={CANARY}")
    raise local


@flow(name=f"night token={CANARY}")
def night() -> None:
    record_secrets(CANARY)


def test_no_part_of_a_run_contains_the_secret(captured: Capture) -> None:
    """Names, attributes, messages, artifacts, results, exceptions, printed lines: on spans, in history, in memory."""
    events: list[Any] = []
    with flow_events.listen(events.append):
        flow_run = night()
        flow_run.flow_config = FlowRunConfig(raise_flow_error=False)
        flow_run.execute()
    for captured_run in (*captured.flows, *captured.tasks):
        assert CANARY not in text_of_span(captured_run)
    task_run = captured.tasks[0]
    assert task_run.attributes["db.password"] == "[redacted:name password]"
    assert task_run.attributes["dsn"] == "postgres://me:[redacted:url password]@db"
    assert flow_run.messages[0] == "token=[redacted:name token]"
    assert CANARY not in json.dumps(flow_run.to_dict())
    assert CANARY not in repr(flow_run) + repr(flow_run.tasks) + repr(flow_run.messages) + repr(flow_run.results)
    assert CANARY not in repr([(event, event.event_data) for event in flow_events.history()])
    messages = [event.event_data.data["message_data"] for event in events if "message_data" in event.event_data.data]
    assert CANARY not in repr(messages)
    # The user's own objects do not change.
    assert flow_run.artifacts[0].data == {"password": CANARY, "ok": 1}
    assert CANARY in str(flow_run.tasks[0].error)


def test_redacted_values_are_counted(captured: Capture) -> None:
    """The count is in stats() and on the span. A span without secrets does not have the attribute."""
    before = stats().dropped.get("values_redacted", 0)

    @task
    def log_text(text: str, this_task: Any = None) -> None:
        this_task.log_info(text, note="password=hunter2")

    @flow
    def logs_secrets() -> None:
        log_text("token=abc")

    @flow
    def logs_no_secret(this_flow: Any = None) -> None:
        this_flow.log_info("nothing", n=1)

    logs_secrets().execute()
    logs_no_secret().execute()
    assert captured.tasks[0].attributes[wire.REDACTED] == 2
    assert all(wire.REDACTED not in flow_run.attributes for flow_run in captured.flows)
    assert stats().dropped["values_redacted"] == before + 2


def test_an_artifact_or_result_under_a_secret_key_is_redacted(captured: Capture) -> None:
    """The key is a name as well: its value is replaced on the span, and stays on the Flow object."""

    @flow
    def makes(this_flow: Any = None) -> None:
        this_flow.add_flow_artifact("data", "api_token", "hunter2")
        this_flow.add_flow_result("password", "hunter2")

    flow_run = makes().execute()
    assert "hunter2" not in text_of_span(captured.flows[0]) + json.dumps(flow_run.to_dict())
    assert flow_run.artifacts["api_token"].data == "hunter2"


def test_stored_artifacts_contain_no_secret(tmp_path: Path) -> None:
    """A large artifact is stored whole but redacted: as JSON, as text, and with a private key in the middle of 1 MB."""
    source = f"""
@flow
def makes(this_flow=None):
    this_flow.add_flow_artifact("d", "rows", {{"rows": [{{"n": n, "password": {CANARY!r}}} for n in range(9000)]}})
    body = ("word " * 100_000) + {PEM.replace("MIIBOgIBAAJBAKj34", "MII" + CANARY)!r} + (" token={CANARY}" * 20_000)
    this_flow.add_flow_artifact("d", "log", body)
configure(exporters=[])
makes().execute()
say(dropped=stats().dropped)
"""
    result = run(source, OTELFLOW_ARTIFACT_STORE=tmp_path.as_uri(), OTELFLOW_ARTIFACT_STORE_MILLIS="30000")
    assert result.returncode == 0, result.stderr
    texts = [path.read_text() for path in tmp_path.rglob("*.*") if path.is_file()]
    assert len(texts) == 2, (result.facts, result.stderr)
    assert CANARY not in "".join(texts)
    assert sum("[redacted:private key]" in text for text in texts) == 1
    assert sum("[redacted:name password]" in text for text in texts) == 1


def test_the_terminal_gets_printed_text_unchanged(capfd: pytest.CaptureFixture[str]) -> None:
    """Printed lines reach the terminal as they are. Only the message made from them is redacted."""

    @flow
    def prints() -> None:
        print("password=hunter2")

    assert prints().execute().messages == ["password=[redacted:name password]"]
    assert capfd.readouterr().out == "password=hunter2\n"


def test_a_printed_stack_trace_contains_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    """print_error_stack_trace and messages on the console often end in a log file."""

    @flow(flow_config=FlowRunConfig(raise_flow_error=False, print_error_stack_trace=True, log_to_console=True))
    def fails() -> None:
        raise ValueError("password=" + "hunter2")

    fails().execute()
    printed = capsys.readouterr()
    assert "ValueError: password=[redacted:name password]" in printed.err
    assert "hunter2" not in printed.out


# --- log and errors ---------------------------------------------------------------------------------------------------


def test_the_log_contains_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    """Neither a log line nor the traceback of a listener's error contains it."""

    def listener(event: Any) -> None:
        raise RuntimeError("password=" + "hunter2")

    @flow
    def quiet() -> None:
        pass

    with flow_events.listen(listener):
        quiet().execute()
    logging.getLogger("otelflow").warning("endpoint %s", "http://me:hunter2@h")
    assert "http://me:[redacted:url password]@h" in caplog.text
    assert "RuntimeError: password=[redacted:name password]" in caplog.text
    assert "hunter2" not in caplog.text.replace('"hunter2"', "")  # the line of source that raises


def test_errors_contain_no_secret() -> None:
    """An error about a setting quotes its value without the credentials."""
    error = ConfigError("The OTLP endpoint 'ftp://me:hunter2@h' is no URL.", setting="OTEL_EXPORTER_OTLP_ENDPOINT")
    assert str(error) == "The OTLP endpoint 'ftp://me:[redacted:url password]@h' is no URL."
    assert error.setting == "OTEL_EXPORTER_OTLP_ENDPOINT"


PROGRAM = f"""
from opentelemetry import baggage, context
from otelflow import FlowRunConfig
CANARY = {CANARY!r}
context.attach(baggage.set_baggage("user.token", CANARY))

class Odd(Exception):
    pass

@task(attributes={{"password": CANARY}})
def load(password, this_task=None):
    this_task.log_info("connect with token=" + CANARY)
    this_task.add_artifact("d", "k", {{"a": [{{"api_key": CANARY}}]}})
    print("secret: " + CANARY)
    raise Odd("bad password=" + CANARY)

@flow(flow_config=FlowRunConfig(raise_flow_error=False, print_error_stack_trace=True, log_to_console=True))
def nightly():
    load(CANARY)
    return {{"password": CANARY}}

def listener(event):
    raise Odd("api_key=" + CANARY)

flow_events.listen(listener)
configure(service_name="shop")
run = nightly().execute()
say(flow=run.to_dict(), history=repr([(event, event.event_data) for event in flow_events.history()]))
print("REPORT", bool(flush(20)), stats().dropped, file=sys.stderr)
"""


def test_nothing_that_leaves_a_process_contains_the_secret(sink: Sink, tmp_path: Path) -> None:
    """A canary in endpoint, headers, baggage, arguments, exceptions and values is on no wire, in no log or file."""
    host = sink.endpoint.removeprefix("http://")
    result = run(
        PROGRAM,
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://me:{CANARY}@{host}",
        OTEL_EXPORTER_OTLP_HEADERS=f"authorization=Bearer%20{CANARY},x-team={CANARY}-2",
        OTEL_TRACES_EXPORTER="otlp,otelflow_jsonfile,otelflow_tree",
        OTELFLOW_EXPORTER_JSONFILE_PATH=str(tmp_path / "run.jsonl"),
        OTEL_METRICS_EXPORTER="none",
    )
    assert "REPORT True" in result.stderr, result.stderr
    spans = sink.wait_for(2)
    assert len(spans) == 2
    assert CANARY not in repr(spans)
    assert sum(attributes_of(span).get(wire.REDACTED, 0) for span, _, _ in spans) >= 4
    assert CANARY not in result.stderr
    # The program's own print() reaches the terminal unchanged, and no other text does.
    assert result.stdout.replace(f"secret: {CANARY}\n", "", 1).count(CANARY) == 0
    files = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert "nightly" in files
    assert CANARY not in files
    page = command("show", str(tmp_path / "run.jsonl"), "--html", str(tmp_path / "run.html"))
    assert page.returncode == 0, page.stderr
    assert CANARY not in (tmp_path / "run.html").read_text() + page.stdout


@pytest.mark.parametrize(
    "environment",
    [
        {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://me:{CANARY}@127.0.0.1:9"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:9/?api_key={CANARY}"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": f"ftp://me:{CANARY}@h"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://me:{CANARY}@127.0.0.1:9", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        {"OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer {CANARY}\x01,=,nonsense"},
        {"OTEL_EXPORTER_OTLP_HEADERS": f"authorization: {CANARY}"},
        {"OTEL_EXPORTER_OTLP_HEADERS": f"x-team={CANARY}%0A"},
    ],
)
def test_a_wrong_setting_is_reported_without_its_secret(environment: dict[str, str]) -> None:
    """Reports of refused, unreachable and malformed settings have no credentials; nor has otelflow doctor's."""
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTELFLOW_EXIT_SECONDS": "0.2", **environment}
    result = run("configure()\nwork().execute()\nflush(1)", **settings)
    assert CANARY not in result.stdout + result.stderr
    doctor = command("doctor", **settings)
    assert CANARY not in doctor.stdout + doctor.stderr


# --- baggage ----------------------------------------------------------------------------------------------------------

BAGGAGE = """
from otelflow import propagate
spans = []
from otelflow.testing import capture
carrier = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "baggage": sys.argv[1]} \
    if len(sys.argv) > 1 else {"baggage": os.environ["HEADER"]}
with capture() as captured:
    with propagate.attached(carrier):
        work(1).execute()
say(attributes=dict(captured.flows[0].attributes), task=dict(captured.tasks[0].attributes))
"""


@pytest.mark.parametrize(
    ("header", "allowed", "expected"),
    [
        ("tenant=acme,user.password=hunter2", "", {}),
        ("tenant=acme,user.password=hunter2", "tenant", {"tenant": "acme"}),
        ("tenant=acme", "Tenant , other", {}),
        ("tenant=token%3Dhunter2", "tenant", {"tenant": "token=[redacted:name token]"}),
        ("user.password=hunter2", "user.password", {"user.password": "[redacted:name password]"}),
        ("otelflow.kind=evil,code.function.name=evil", "otelflow.kind,code.function.name", {"otelflow.kind": "flow"}),
        (f"tenant={'x' * 4000}", "tenant", {"tenant": "cut"}),
        ("tenant=a%00%0A,,=,tenant;p=q," + "k=v," * 500, "tenant", {"tenant": "a\x00"}),
    ],
)
def test_incoming_baggage_is_copied_by_name_only(header: str, allowed: str, expected: dict[str, str]) -> None:
    """By default nothing is copied. An allowed entry is cut and redacted, and cannot replace otelflow's attributes."""
    result = run(BAGGAGE, HEADER=header, OTELFLOW_BAGGAGE_ATTRIBUTES=allowed)
    assert result.returncode == 0, result.stderr
    attributes = result.facts["attributes"]
    for key, value in expected.items():
        assert (attributes[key] == value) or (value == "cut" and len(attributes[key].encode()) <= 2048)
    assert "hunter2" not in json.dumps(result.facts)
    assert "evil" not in json.dumps(result.facts)
    if not expected:
        assert "acme" not in json.dumps(result.facts)
    assert not any(key in result.facts["task"] for key in expected if not key.startswith(("otelflow.", "code.")))
