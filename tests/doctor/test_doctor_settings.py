"""Test what ``otelflow doctor`` reports on settings: the source of each, which are wrong; and the output's format."""

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
from diagnosis import CLEARED_VARIABLES, ENDPOINT, PROTOCOL, Diagnosis, localhost_url
from programs import clean_environment, command, python

from otelflow.cli._doctor import doctor


def quick(*options: str, **environment: str) -> Diagnosis:
    """Run a diagnosis without a canary. Nothing listens at its endpoint, unless the test sets one."""
    return Diagnosis("--no-send", *options, **environment)


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
if find_spec("otelflow_exporters"):  # the doctor knows the names of its variables only if it is installed
    MISSPELT["OTELFLOW_EXPORTER_TREE_OUTPTU"] = "OTELFLOW_EXPORTER_TREE_OUTPUT"


def test_misspelt_variables() -> None:
    """The doctor reports the most similar name for each, and never the value."""
    diagnosis = quick(**dict.fromkeys(MISSPELT, "sesame-open-1"))
    expected = {f"error: nothing reads {wrong}; it probably means {right}" for wrong, right in MISSPELT.items()}
    assert set(diagnosis.of("misspelt").splitlines()) == expected
    assert "sesame" not in diagnosis.output


def test_the_misspelt_endpoint_is_the_first_thing_to_fix() -> None:
    """It explains why nothing listens at the default endpoint, and is more probable than a missing receiver."""
    diagnosis = quick(OTEL_EXPORTER_OTLP_ENDPONT="http://collector:4318", OTEL_BSP_MAX_QUEU_SIZE="1")
    assert diagnosis.next == f"Rename the variable OTEL_EXPORTER_OTLP_ENDPONT to {ENDPOINT}."


def test_variables_without_effect() -> None:
    """OpenTelemetry knows these variables, but nothing reads them here."""
    text = quick(OTEL_BSP_EXPORT_TIMEOUT="1", OTEL_EXPORTER_JAEGER_ENDPOINT="1").of("no effect")
    assert "warning: OTEL_BSP_EXPORT_TIMEOUT: configure() does not read it" in text
    assert "the Jaeger exporter was removed" in text


def test_names_of_other_packages() -> None:
    """Variables of other signals and of instrumentation packages are in order; others that nothing reads are not."""
    diagnosis = quick(OTEL_METRICS_EXPORTER="none", OTEL_PYTHON_FLASK_EXCLUDED_URLS="health", OTEL_SOMETHING="1")
    assert diagnosis.of("other signals") == "skipped: OTEL_METRICS_EXPORTER: not for traces"
    assert diagnosis.of("unknown").startswith("warning: neither OpenTelemetry for Python nor otelflow reads OTEL_SOME")
    assert "FLASK" not in diagnosis.output
    assert diagnosis.of("misspelt") == ""


def test_values_from_an_env_file() -> None:
    """The doctor finds quotation marks that no shell removed, a variable that was not expanded, and an empty value."""
    quoted = quick(**{ENDPOINT: '"http://localhost:4318"'})
    assert quoted.of("quotes").startswith("error: the value of OTEL_EXPORTER_OTLP_ENDPOINT begins and ends")
    assert quoted.next.startswith("Remove the quotation marks")
    diagnosis = quick(OTEL_EXPORTER_OTLP_HEADERS="api-key=${TOKEN}", OTEL_TRACES_SAMPLER="")
    assert "was a variable not expanded?" in diagnosis.of("not expanded")
    assert "OTEL_TRACES_SAMPLER is set, but empty" in diagnosis.of("empty")


# --- settings ---------------------------------------------------------------------------------------------------------


def test_without_any_setting() -> None:
    """The doctor marks defaults as such, warns of the missing service name, and advises to start a receiver."""
    result = command("doctor", "--no-send", "--endpoint", "http://127.0.0.1:1", **CLEARED_VARIABLES)
    assert result.returncode == 1
    assert "! service.name    unknown_service" in result.stdout
    assert "✓ exporters       otlp  (default)" in result.stdout
    assert "Next: Start a receiver on port 1" in result.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("variables", "name", "text", "step"),
    [
        ({"OTEL_SDK_DISABLED": "true"}, "provider", "switched off", "Unset OTEL_SDK_DISABLED."),
        ({"OTEL_TRACES_EXPORTER": "none"}, "exporters", "every span is discarded", "Unset OTEL_TRACES_EXPORTER"),
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
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "soon"}, "timeout", "is not a number", "Set OTEL_EXPORTER_OTLP_TIMEOUT"),
    ],
)
def test_settings_that_prevent_all_sending(variables: dict[str, str], name: str, text: str, step: str) -> None:
    """Such a setting is an error, and comes before problems of the connection."""
    diagnosis = quick(**{ENDPOINT: "http://127.0.0.1:1", **variables})
    assert diagnosis.status == 1
    assert f"error: {text}" in diagnosis.of(name) or (text in diagnosis.of(name) and "error: " in diagnosis.of(name))
    assert diagnosis.next.startswith(step)


@pytest.mark.parametrize(
    ("sampler", "argument", "text"),
    [
        (
            "parentbased_traceidratio",
            "0.01",
            "warning: parentbased_traceidratio: 0.01 of the traces are sent, one in 100",
        ),
        ("traceidratio", "half", "OTEL_TRACES_SAMPLER_ARG is 'half', not a number: every trace is sent"),
        ("always_on", "0.1", "OTEL_TRACES_SAMPLER_ARG has no effect with always_on"),
        ("sometimes", "", "'sometimes' is not known to the SDK"),
        ("parentbased_always_on", "", "ok: parentbased_always_on: every trace is sent"),
    ],
)
def test_a_sampler_is_explained(sampler: str, argument: str, text: str) -> None:
    """The doctor reports the share of traces that is sent, and an argument that has no effect."""
    variables = {"OTEL_TRACES_SAMPLER_ARG": argument} if argument else {}
    assert text in quick(OTEL_TRACES_SAMPLER=sampler, **variables).of("sampler")


def test_values_that_configure_would_log() -> None:
    """The doctor reports the log message and the number that is used instead."""
    diagnosis = quick(OTEL_BSP_MAX_QUEUE_SIZE="lots", OTEL_BSP_MAX_EXPORT_BATCH_SIZE="64")
    assert "OTEL_BSP_MAX_QUEUE_SIZE must be a whole number, at least 1; got 'lots'" in diagnosis.of("logged")
    assert diagnosis.of("queue").startswith("ok: at most 100,000 spans, 64 in a batch")


def test_only_the_terminal() -> None:
    """The console exporter sends nothing: a warning, because it may be intended; with --strict the command fails."""
    diagnosis, strict = quick(OTEL_TRACES_EXPORTER="console"), quick("--strict", OTEL_TRACES_EXPORTER="console")
    assert (diagnosis.status, strict.status) == (0, 1)
    assert "sent nowhere" in diagnosis.of("exporters")
    assert strict.next.startswith("Set OTEL_TRACES_EXPORTER=otlp,console")


def test_a_setting_for_traces_overrides_the_general_one() -> None:
    """The doctor reports the one that is used, and that the other has no effect."""
    diagnosis = quick(
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="http://127.0.0.1:1/v1/traces", **{ENDPOINT: "http://127.0.0.1:2"}
    )
    assert diagnosis.of("url") == "ok: http://127.0.0.1:1/v1/traces (used unchanged)"
    assert f"{ENDPOINT} has no effect on traces" in diagnosis.of("no effect")


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
    """A mismatch is only a warning: a receiver may listen on any port. Without a protocol, port 4317 means gRPC."""
    assert text in quick(**variables).of("protocol")


def test_headers() -> None:
    """The doctor shows the names but not the values, and reports ignored entries by their number."""
    variable = "OTEL_EXPORTER_OTLP_HEADERS"
    text = quick(**{variable: 'authorization=Bearer%20x,b,c="1",api-key=,d=e f,Authorization: Bearer abc'}).of(
        "headers"
    )
    assert set(text.splitlines()) == {
        f"error: entry 2 of {variable} has no '=' between name and value: it is ignored",
        f"error: entry 3 of {variable} has characters that are not allowed: it is ignored",
        "warning: api-key has no value",
        "warning: d has a space that is not %20: Python accepts it, other SDKs may not",
        f"error: entry 6 of {variable} has no '=' between name and value: it is ignored",
        "ok: authorization, api-key, d (values hidden)",
    }


def test_small_mistakes_are_warnings() -> None:
    """The doctor warns of small mistakes that can cost hours."""
    diagnosis = quick(
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
        ("host", "is an address for a server to listen on"),
        ("url", "no port: 80 is called"),
        ("tls", "has no effect: TLS is not used"),
        ("tls", "OTEL_EXPORTER_OTLP_INSECURE has no effect here"),
        ("resource", "entry 2 of OTEL_RESOURCE_ATTRIBUTES has no '='"),
        ("resource", "a=b, db.password=[redacted]"),
        ("limits", "flows lose their attributes or messages"),
        ("provider", "only 'true' switches the SDK off"),
    ):
        assert text in diagnosis.of(name)
    assert any(finding["source"] == "OTEL_PYTHON_TRACER_PROVIDER" for finding in diagnosis.findings)
    assert "sesame" not in diagnosis.output


def test_an_endpoint_of_grpc_that_is_written_for_http() -> None:
    """A gRPC endpoint has no user and no path."""
    diagnosis = quick(**{ENDPOINT: "http://me:sesame-7@localhost:4317/v1/traces"})
    assert "a gRPC endpoint has no user and password" in diagnosis.of("url")
    assert "gRPC has no paths: /v1/traces is ignored" in diagnosis.of("url")
    assert "sesame" not in diagnosis.output


def test_credentials_of_a_netrc_file(tmp_path: Path) -> None:
    """``requests`` replaces the authorization header by them."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine localhost login me password sesame-7\n")
    netrc.chmod(0o600)
    with bad.http_server() as server:
        diagnosis = Diagnosis(
            **{ENDPOINT: localhost_url(server.port), "NETRC": str(netrc)},
            OTEL_EXPORTER_OTLP_HEADERS="authorization=mine",
        )
    assert "a netrc file has credentials for localhost" in diagnosis.of("headers")
    assert server[0][0]["Authorization"].startswith("Basic ")
    assert "sesame" not in diagnosis.output


def test_with_opentelemetry_instrument() -> None:
    """It has set a provider already; the doctor reports its class."""
    pytest.importorskip("opentelemetry.instrumentation.auto_instrumentation")
    result = python(
        *("-c", "from opentelemetry.instrumentation.auto_instrumentation import run; run()"),
        *(sys.executable, "-m", "otelflow.cli", "doctor", "--no-send"),
        **{
            **CLEARED_VARIABLES,
            "OTEL_TRACES_EXPORTER": "console",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
        },
    )
    assert "other code has set one already (opentelemetry.sdk.trace.TracerProvider)" in result.stdout


# --- output -----------------------------------------------------------------------------------------------------------


def test_each_line_has_its_sign_and_the_last_is_the_next_step() -> None:
    """Lines start with a sign, blank lines separate sections, the end is the conclusion; a pipe gets no colours."""
    result = command("doctor", "--no-send", **CLEARED_VARIABLES, **{ENDPOINT: "http://127.0.0.1:1"})
    lines = result.stdout.splitlines()
    assert (result.returncode, result.stderr) == (1, "")
    assert "\x1b" not in result.stdout
    sections = [lines[number + 1] for number, line in enumerate(lines) if not line and lines[number + 1][1] != " "]
    assert sections == ["settings", "endpoint", "on the way"]
    assert all(line[0] in "✓!✗- " or line in sections for line in lines[:-1] if line)
    assert lines[-2].startswith("✗ connect: port 1: 127.0.0.1 refuses")
    assert lines[-1].startswith("Next: Start a receiver on port 1")


def test_a_terminal_that_knows_only_ascii() -> None:
    """The doctor uses plain signs, and escapes other letters instead of failing."""
    environment = {**CLEARED_VARIABLES, "PYTHONIOENCODING": "ascii", "OTEL_SERVICE_NAME": "täglich"}
    result = command("doctor", "--no-send", **environment, **{ENDPOINT: "http://127.0.0.1:1"})
    assert (result.returncode, result.stderr) == (1, "")
    assert "x connect " in result.stdout
    assert "+ service.name    t\\xe4glich" in result.stdout


@pytest.mark.parametrize("no_color", ["", "1"])
def test_on_a_terminal(no_color: str) -> None:
    """Output is coloured unless NO_COLOR is set, and wrapped to the terminal's width, with the text in its column."""
    leader, follower = pty.openpty()
    environment = {**CLEARED_VARIABLES, "NO_COLOR": no_color, "COLUMNS": "60", ENDPOINT: "http://127.0.0.1:1"}
    with os.fdopen(leader, "rb", 0) as terminal:
        process = subprocess.Popen(
            [sys.executable, "-m", "otelflow.cli", "doctor", "--no-send"],
            env=clean_environment(**environment),
            stdout=follower,
            stderr=subprocess.STDOUT,
        )
        os.close(follower)
        output = b""
        while True:
            try:
                chunk = terminal.read(65536)
            except OSError:  # the other end is closed
                break
            if not chunk:
                break
            output += chunk
        assert process.wait(30) == 1
    text = output.decode().replace("\r\n", "\n")
    assert ("\x1b[31m✗\x1b[0m" in text) == (not no_color)
    assert ("\x1b" in text) == (not no_color)
    if no_color:
        assert max(map(len, text.splitlines())) <= 60
        assert "\n                  " in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["--size", "tiny"],
        ["--size", "1"],
        ["--timeout", "0"],
        ["--endpoint", "http://["],
        ["--protocol", "x"],
        ["more"],
    ],
)
def test_wrong_arguments(arguments: list[str]) -> None:
    """The command exits with 2, and writes to standard error but not to standard output."""
    result = command("doctor", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert "otelflow doctor" in result.stderr
    assert "Traceback" not in result.stderr


def test_help_says_what_the_exit_status_means() -> None:
    """--help explains the exit status and has examples."""
    result = CliRunner().invoke(doctor, ["--help"])
    assert result.exit_code == 0
    assert "Exit status: 0 no errors; 1 an error" in " ".join(result.output.split())
    assert "otelflow doctor --endpoint http://collector:4317 --size 4MiB" in result.output


def test_a_bug_of_the_doctor_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug of the doctor shows one line without secrets, and status 1."""

    def fail(_: object) -> None:
        raise RuntimeError("password=sesame-7")

    monkeypatch.setattr("otelflow.cli._doctor.diagnose", fail)
    result = CliRunner().invoke(doctor, [])
    assert result.exit_code == 1
    assert "doctor: the diagnosis itself failed: RuntimeError" in result.output
    assert "Traceback" not in result.output
    assert "sesame" not in result.output


def test_the_environment_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the command runs in this process, it restores variables and log handlers, and sets no provider."""
    import logging

    from opentelemetry import trace

    for name, value in {**CLEARED_VARIABLES, "OTEL_SERVICE_NAME": "here"}.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ), list(logging.getLogger("opentelemetry").handlers), trace._TRACER_PROVIDER
    with bad.http_server() as server:
        result = CliRunner().invoke(doctor, ["--endpoint", localhost_url(server.port), "--protocol", "http/protobuf"])
    assert result.exit_code == 0, result.output
    assert len(server) == 1
    assert (dict(os.environ), list(logging.getLogger("opentelemetry").handlers), trace._TRACER_PROVIDER) == before
