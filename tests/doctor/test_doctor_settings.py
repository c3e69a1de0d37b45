"""``otelflow doctor`` about settings: where each comes from, which are wrong, and how it is shown."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import bad_receivers as bad
import pytest
from click.testing import CliRunner
from diagnosis import ENDPOINT, OWN, PROTOCOL, Diagnosis, local
from programs import clean_environment, command, python

from otelflow.cli._doctor import doctor


def quick(*words: str, **environment: str) -> Diagnosis:
    """A diagnosis without a canary; nothing listens at its endpoint, unless that is given."""
    return Diagnosis("--no-send", *words, **environment)


# --- names ------------------------------------------------------------------------------------------------------------


MISSPELT = {
    "OTEL_EXPORTER_OTLP_ENDPONT": ENDPOINT,
    "OTEL_EXPORTER_OTLP_HEADER": "OTEL_EXPORTER_OTLP_HEADERS",
    "OTLP_EXPORTER_ENDPOINT": ENDPOINT,
    "otel_exporter_otlp_endpoint": ENDPOINT,
    "OTEL_TRACE_EXPORTER": "OTEL_TRACES_EXPORTER",
    "OTEL_TRACES_SAMPLE": "OTEL_TRACES_SAMPLER",
    "OTELFLOW_QUEUESIZE": "OTELFLOW_QUEUE_SIZE",
}
if find_spec("otelflow_exporters"):  # the names of its own variables are known where it is installed
    MISSPELT["OTELFLOW_EXPORTER_TREE_OUTPTU"] = "OTELFLOW_EXPORTER_TREE_OUTPUT"


def test_misspelt_variables() -> None:
    """The nearest name is told for each, and never the value."""
    found = quick(**dict.fromkeys(MISSPELT, "sesame-open-1"))
    expected = {f"error: {wrong} is read by nobody; {right} is meant, it seems" for wrong, right in MISSPELT.items()}
    assert set(found.of("misspelt").splitlines()) == expected
    assert "sesame" not in found.said


def test_the_misspelt_endpoint_is_the_first_thing_to_mend() -> None:
    """It explains why nothing listens at the default: more probable than a receiver that is missing."""
    found = quick(OTEL_EXPORTER_OTLP_ENDPONT="http://collector:4318", OTEL_BSP_MAX_QUEU_SIZE="1")
    assert found.next == f"Rename the variable OTEL_EXPORTER_OTLP_ENDPONT to {ENDPOINT}."


def test_variables_without_effect() -> None:
    """Known, and yet nobody looks at them here."""
    text = quick(OTEL_BSP_EXPORT_TIMEOUT="1", OTEL_EXPORTER_JAEGER_ENDPOINT="1").of("no effect")
    assert "warning: OTEL_BSP_EXPORT_TIMEOUT: configure() does not read it" in text
    assert "the Jaeger exporter is gone" in text


def test_names_that_are_none_of_ours() -> None:
    """What other signals and instrumentation packages read is no mistake; what nobody reads is said."""
    found = quick(OTEL_METRICS_EXPORTER="none", OTEL_PYTHON_FLASK_EXCLUDED_URLS="health", OTEL_SOMETHING="1")
    assert found.of("other signals") == "skipped: OTEL_METRICS_EXPORTER: not for traces"
    assert found.of("unknown").startswith("warning: OTEL_SOMETHING is read neither")
    assert "FLASK" not in found.said
    assert found.of("misspelt") == ""


def test_values_as_an_env_file_leaves_them() -> None:
    """Quotation marks that no shell took away, a variable that was not expanded, nothing at all."""
    quoted = quick(**{ENDPOINT: '"http://localhost:4318"'})
    assert quoted.of("quotes").startswith("error: the value of OTEL_EXPORTER_OTLP_ENDPOINT begins and ends")
    assert quoted.next.startswith("Take the quotation marks out")
    found = quick(OTEL_EXPORTER_OTLP_HEADERS="api-key=${TOKEN}", OTEL_TRACES_SAMPLER="")
    assert "a variable that was not expanded?" in found.of("not expanded")
    assert "OTEL_TRACES_SAMPLER is set, but empty" in found.of("empty")


# --- settings ---------------------------------------------------------------------------------------------------------


def test_nothing_set_at_all() -> None:
    """The defaults are told as such, the missing name is a warning, and a receiver is asked for."""
    done = command("doctor", "--no-send", "--endpoint", "http://127.0.0.1:1", **OWN)
    assert done.returncode == 1
    assert "! service.name    unknown_service" in done.stdout
    assert "✓ exporters       otlp  (default)" in done.stdout
    assert "Next: Start a receiver on port 1" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("variables", "name", "text", "step"),
    [
        ({"OTEL_SDK_DISABLED": "true"}, "provider", "switched off", "Unset OTEL_SDK_DISABLED."),
        ({"OTEL_TRACES_EXPORTER": "none"}, "exporters", "every span is thrown away", "Unset OTEL_TRACES_EXPORTER"),
        ({"OTEL_TRACES_EXPORTER": "otpl"}, "exporters", "'otpl' is not installed", "Write otlp instead of otpl"),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, "sampler", "no trace is sent", "Unset OTEL_TRACES_SAMPLER"),
        (
            {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"},
            "sampler",
            "no trace is sent",
            "Unset OTEL_TRACES_SAMPLER",
        ),
        ({PROTOCOL: "http"}, "protocol", f"{PROTOCOL} is 'http'", f"Set {PROTOCOL} to http/protobuf or grpc."),
        ({ENDPOINT: "localhost:4318"}, "url", "is not a valid URL", "Use one like http://localhost:4318"),
        (
            {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "many"},
            "sdk",
            "configure() raises ValueError",
            "Unset OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
        ),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "soon"}, "timeout", "is no number", "Set OTEL_EXPORTER_OTLP_TIMEOUT"),
    ],
)
def test_what_keeps_everything_from_being_sent(variables: dict[str, str], name: str, text: str, step: str) -> None:
    """It is an error, and goes before whatever is wrong on the way."""
    found = quick(**{ENDPOINT: "http://127.0.0.1:1", **variables})
    assert found.status == 1
    assert f"error: {text}" in found.of(name) or (text in found.of(name) and "error: " in found.of(name))
    assert found.next.startswith(step)


@pytest.mark.parametrize(
    ("sampler", "argument", "text"),
    [
        (
            "parentbased_traceidratio",
            "0.01",
            "warning: parentbased_traceidratio: 0.01 of the traces are sent, one in 100",
        ),
        ("traceidratio", "half", "OTEL_TRACES_SAMPLER_ARG is 'half', no number: every trace is sent"),
        ("always_on", "0.1", "OTEL_TRACES_SAMPLER_ARG has no effect with always_on"),
        ("sometimes", "", "'sometimes' is not known to the SDK"),
        ("parentbased_always_on", "", "ok: parentbased_always_on: every trace is sent"),
    ],
)
def test_a_sampler_in_words(sampler: str, argument: str, text: str) -> None:
    """The share of traces that is sent, and an argument that has no effect."""
    given = {"OTEL_TRACES_SAMPLER_ARG": argument} if argument else {}
    assert text in quick(OTEL_TRACES_SAMPLER=sampler, **given).of("sampler")


def test_values_that_configure_would_log() -> None:
    """They are told in the words of the log, and the number in use is."""
    found = quick(OTEL_BSP_MAX_QUEUE_SIZE="lots", OTEL_BSP_MAX_EXPORT_BATCH_SIZE="64")
    assert "OTEL_BSP_MAX_QUEUE_SIZE is 'lots'" in found.of("logged")
    assert found.of("queue").startswith("ok: 100,000 spans wait at most, 64 a batch")


def test_only_the_terminal() -> None:
    """The console exporter sends nothing: a warning, as it may be meant; with --strict an error."""
    found, strict = quick(OTEL_TRACES_EXPORTER="console"), quick("--strict", OTEL_TRACES_EXPORTER="console")
    assert (found.status, strict.status) == (0, 1)
    assert "sent nowhere" in found.of("exporters")
    assert strict.next.startswith("Set OTEL_TRACES_EXPORTER=otlp,console")


def test_a_setting_for_traces_goes_before_the_general_one() -> None:
    """Which of the two is used is told, and that the other has no effect."""
    found = quick(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="http://127.0.0.1:1/v1/traces", **{ENDPOINT: "http://127.0.0.1:2"})
    assert found.of("url") == "ok: http://127.0.0.1:1/v1/traces (called as it is)"
    assert f"{ENDPOINT} has no effect on traces" in found.of("no effect")


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        (
            {ENDPOINT: "http://127.0.0.1:4318", PROTOCOL: "grpc"},
            "warning: grpc, but 4318 is the port for http/protobuf",
        ),
        (
            {ENDPOINT: "http://127.0.0.1:4317", PROTOCOL: "http/protobuf"},
            "warning: http/protobuf, but 4317 is the port",
        ),
        ({ENDPOINT: "http://127.0.0.1:4317"}, "ok: grpc"),
        ({"OTEL_TRACES_EXPORTER": "otlp_proto_grpc"}, "ok: grpc"),
    ],
)
def test_protocol_against_port(variables: dict[str, str], text: str) -> None:
    """Mixed up is a warning: a receiver may listen anywhere. Without a protocol, port 4317 means gRPC."""
    assert text in quick(**variables).of("protocol")


def test_headers() -> None:
    """Names are shown, values are not; entries that are left out are told by their number."""
    variable = "OTEL_EXPORTER_OTLP_HEADERS"
    text = quick(**{variable: 'authorization=Bearer%20x,b,c="1",api-key=,d=e f,Authorization: Bearer abc'}).of(
        "headers"
    )
    assert set(text.splitlines()) == {
        f"error: entry 2 of {variable} has no '=' between name and value: it is left out",
        f"error: entry 3 of {variable} has characters that are not allowed: it is left out",
        "warning: api-key has no value",
        "warning: d has a space that is not %20: Python takes it, other SDKs may not",
        f"error: entry 6 of {variable} has no '=' between name and value: it is left out",
        "ok: authorization, api-key, d (values hidden)",
    }


def test_what_is_worth_a_look() -> None:
    """Small things that cost hours."""
    found = quick(
        **{ENDPOINT: "http://0.0.0.0", "OTEL_RESOURCE_ATTRIBUTES": "a=b,c,db.password=sesame-7"},
        OTEL_EXPORTER_OTLP_TIMEOUT="10000",
        OTEL_EXPORTER_OTLP_COMPRESSION="brotli",
        OTEL_EXPORTER_OTLP_CERTIFICATE="/x.pem",
        OTEL_EXPORTER_OTLP_INSECURE="true",
        OTEL_SPAN_EVENT_COUNT_LIMIT="0",
        OTEL_PYTHON_TRACER_PROVIDER="sdk_tracer_provider",
        OTEL_SDK_DISABLED="1",
    )
    for name, text in (
        ("timeout", "10000 seconds: Python's exporters read seconds"),
        ("compression", "'brotli' is not known"),
        ("host", "is where a server listens"),
        ("url", "no port: 80 is called"),
        ("tls", "has no effect: no TLS is spoken"),
        ("tls", "OTEL_EXPORTER_OTLP_INSECURE has no effect here"),
        ("resource", "entry 2 of OTEL_RESOURCE_ATTRIBUTES has no '='"),
        ("resource", "a=b, db.password=[redacted]"),
        ("limits", "flows lose what they say"),
        ("provider", "only 'true' switches the SDK off"),
    ):
        assert text in found.of(name)
    assert any(one["source"] == "OTEL_PYTHON_TRACER_PROVIDER" for one in found.findings)
    assert "sesame" not in found.said


def test_an_endpoint_of_grpc_that_is_written_for_http() -> None:
    """It has neither users nor paths."""
    found = quick(**{ENDPOINT: "http://me:sesame-7@localhost:4317/v1/traces"})
    assert "gRPC has no user and password" in found.of("url")
    assert "gRPC has no paths: /v1/traces is left out" in found.of("url")
    assert "sesame" not in found.said


def test_credentials_of_a_netrc_file(tmp_path: Path) -> None:
    """requests puts them over the header that was meant."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine localhost login me password sesame-7\n")
    netrc.chmod(0o600)
    with bad.http_server() as server:
        found = Diagnosis(
            **{ENDPOINT: local(server.port), "NETRC": str(netrc)}, OTEL_EXPORTER_OTLP_HEADERS="authorization=mine"
        )
    assert "a netrc file has credentials for localhost" in found.of("headers")
    assert server[0][0]["Authorization"].startswith("Basic ")
    assert "sesame" not in found.said


def test_under_the_starter_of_opentelemetry() -> None:
    """A provider is set there already: whose, is told."""
    pytest.importorskip("opentelemetry.instrumentation.auto_instrumentation")
    done = python(
        *("-c", "from opentelemetry.instrumentation.auto_instrumentation import run; run()"),
        *(sys.executable, "-m", "otelflow.cli", "doctor", "--no-send"),
        **{**OWN, "OTEL_TRACES_EXPORTER": "console", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"},
    )
    assert "set already, by somebody else (opentelemetry.sdk.trace.TracerProvider)" in done.stdout


# --- how it is shown --------------------------------------------------------------------------------------------------


def test_each_line_has_its_sign_and_the_last_is_the_next_step() -> None:
    """Signs at the start of lines, sections apart, the conclusion at the end; no escape sequences in a pipe."""
    done = command("doctor", "--no-send", **OWN, **{ENDPOINT: "http://127.0.0.1:1"})
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (1, "")
    assert "\x1b" not in done.stdout
    sections = [lines[number + 1] for number, line in enumerate(lines) if not line and lines[number + 1][1] != " "]
    assert sections == ["settings", "endpoint", "on the way"]
    assert all(line[0] in "✓!✗- " or line in sections for line in lines[:-1] if line)
    assert lines[-2].startswith("✗ connect: port 1: 127.0.0.1 refuses")
    assert lines[-1].startswith("Next: Start a receiver on port 1")


def test_where_the_terminal_knows_no_signs() -> None:
    """Plain signs, and no error for a name in other letters."""
    environment = {**OWN, "PYTHONIOENCODING": "ascii", "OTEL_SERVICE_NAME": "täglich"}
    done = command("doctor", "--no-send", **environment, **{ENDPOINT: "http://127.0.0.1:1"})
    assert (done.returncode, done.stderr) == (1, "")
    assert "x connect " in done.stdout
    assert "+ service.name    t\\xe4glich" in done.stdout


@pytest.mark.parametrize("no_color", ["", "1"])
def test_on_a_terminal(no_color: str) -> None:
    """Colours, unless NO_COLOR is set; lines are wrapped to the width, with the text kept in its column."""
    leader, follower = pty.openpty()
    environment = {**OWN, "NO_COLOR": no_color, "COLUMNS": "60", ENDPOINT: "http://127.0.0.1:1"}
    with os.fdopen(leader, "rb", 0) as terminal:
        process = subprocess.Popen(
            [sys.executable, "-m", "otelflow.cli", "doctor", "--no-send"],
            env=clean_environment(**environment),
            stdout=follower,
            stderr=subprocess.STDOUT,
        )
        os.close(follower)
        shown = b""
        while True:
            try:
                more = terminal.read(65536)
            except OSError:  # the other end is closed
                break
            if not more:
                break
            shown += more
        assert process.wait(30) == 1
    text = shown.decode().replace("\r\n", "\n")
    assert ("\x1b[31m✗\x1b[0m" in text) == (not no_color)
    assert ("\x1b" in text) == (not no_color)
    if no_color:
        assert max(map(len, text.splitlines())) <= 60
        assert "\n                  " in text


@pytest.mark.parametrize(
    "words",
    [
        ["--size", "tiny"],
        ["--size", "1"],
        ["--timeout", "0"],
        ["--endpoint", "http://["],
        ["--protocol", "x"],
        ["more"],
    ],
)
def test_called_wrongly(words: list[str]) -> None:
    """Status 2, a line on the standard error, nothing on the standard output."""
    done = command("doctor", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "otelflow doctor" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_says_what_the_exit_status_means() -> None:
    """And has examples."""
    done = CliRunner().invoke(doctor, ["--help"])
    assert done.exit_code == 0
    assert "Exit status: 0 all is well, 1 something is wrong" in " ".join(done.output.split())
    assert "otelflow doctor --endpoint http://collector:4317 --size 4MiB" in done.output


def test_a_mistake_of_ours_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has trouble already gets one line, and status 1."""

    def fail(_: object) -> None:
        raise RuntimeError("password=sesame-7")

    monkeypatch.setattr("otelflow.cli._doctor.diagnose", fail)
    done = CliRunner().invoke(doctor, [])
    assert done.exit_code == 1
    assert "doctor: the diagnosis itself fails: RuntimeError" in done.output
    assert "Traceback" not in done.output
    assert "sesame" not in done.output


def test_the_environment_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process: no variable, no log handler, no provider stays behind."""
    import logging

    from opentelemetry import trace

    for name, value in {**OWN, "OTEL_SERVICE_NAME": "here"}.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ), list(logging.getLogger("opentelemetry").handlers), trace._TRACER_PROVIDER
    with bad.http_server() as server:
        done = CliRunner().invoke(doctor, ["--endpoint", local(server.port), "--protocol", "http/protobuf"])
    assert done.exit_code == 0, done.output
    assert len(server) == 1
    assert (dict(os.environ), list(logging.getLogger("opentelemetry").handlers), trace._TRACER_PROVIDER) == before
