"""Test ``otelflow doctor`` against real receivers and against servers that refuse, hang or are not receivers.

All of them run in real processes.
"""

from __future__ import annotations

import threading
from email.utils import formatdate
from pathlib import Path

import bad_receivers as bad
import pytest
import receiver as receivers
from diagnosis import ENDPOINT, PROTOCOL, Diagnosis, localhost_url
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otelflow._doctor.check_network import call_with_timeout

# --- real receivers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_the_canary_arrives(receiver: receivers.Receiver, protocol: str, compression: str) -> None:
    """The receiver gets the span with the reported trace id and the program's service name."""
    endpoint = receiver.grpc if protocol == "grpc" else receiver.http
    diagnosis = Diagnosis(**{ENDPOINT: endpoint, PROTOCOL: protocol, "OTEL_EXPORTER_OTLP_COMPRESSION": compression})
    assert (diagnosis.status, diagnosis.trace_id in diagnosis.next) == (0, True)
    assert diagnosis.of("canary").startswith("ok: accepted")
    arrived = {span.trace_id.hex(): (span, resource) for span, resource, _ in receiver.sink.wait_for(1)}
    span, resource = arrived[diagnosis.trace_id]
    assert span.name == "otelflow doctor"
    assert receivers.attributes_of(resource)["service.name"] == "doctor-test"
    assert diagnosis.of("clock").startswith("skipped: not known" if protocol == "grpc" else "ok: within")


def test_http_to_a_grpc_port(receiver: receivers.Receiver) -> None:
    """The doctor detects the port's protocol and advises to use the other one."""
    diagnosis = Diagnosis(**{ENDPOINT: receiver.grpc})
    assert diagnosis.status == 1
    assert "speaks only HTTP/2" in diagnosis.of("canary")
    assert diagnosis.next.startswith(f"Set {PROTOCOL}=grpc")


def test_grpc_to_an_http_port(receiver: receivers.Receiver) -> None:
    """The reverse case, whether the server knows HTTP/2 or not."""
    diagnosis = Diagnosis(**{ENDPOINT: receiver.http, PROTOCOL: "grpc"})
    assert diagnosis.status == 1
    assert "gRPC" in diagnosis.of("canary")
    assert diagnosis.next.startswith(f"Set {PROTOCOL}=http/protobuf")


def test_no_send_detects_the_protocol_of_the_port(receiver: receivers.Receiver) -> None:
    """With --no-send the doctor still finds a wrong protocol, and sends no span."""
    count_before = len(receiver.sink.spans)
    wrong = Diagnosis("--no-send", **{ENDPOINT: receiver.grpc, PROTOCOL: "http/protobuf"})
    right = Diagnosis("--no-send", **{ENDPOINT: receiver.grpc, PROTOCOL: "grpc"})
    assert (wrong.status, right.status) == (1, 0)
    assert wrong.of("spoken").startswith("error: port")
    assert right.of("spoken").endswith("answers in HTTP/2")
    assert "--no-send" in right.next
    assert len(receiver.sink.spans) == count_before


def test_an_endpoint_for_traces_without_its_path(receiver: receivers.Receiver) -> None:
    """Nothing is appended to it, so the receiver answers 404; the advice names both solutions."""
    diagnosis = Diagnosis(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=receiver.http)
    assert diagnosis.status == 1
    assert "used unchanged" in diagnosis.of("url")
    assert diagnosis.of("canary").startswith("error: HTTP 404")
    assert diagnosis.next.startswith(f"Set OTEL_EXPORTER_OTLP_TRACES_ENDPOINT={receiver.http}/v1/traces,")


def test_a_path_that_is_doubled(receiver: receivers.Receiver) -> None:
    """The general endpoint contains the path for traces already: the doctor reports it as the cause of the 404."""
    diagnosis = Diagnosis(**{ENDPOINT: f"{receiver.http}/v1/traces"})
    assert f"error: {receiver.http}/v1/traces/v1/traces: the path is doubled" in diagnosis.of("url")
    assert diagnosis.of("canary").startswith("error: HTTP 404")
    assert diagnosis.next.startswith(f"Remove /v1/traces from {ENDPOINT}")


def test_tls_to_a_port_that_speaks_plain_text(receiver: receivers.Receiver) -> None:
    """The handshake finds it, and the doctor reports it only once."""
    for protocol, endpoint in (("grpc", receiver.grpc), ("http/protobuf", receiver.http)):
        diagnosis = Diagnosis(**{ENDPOINT: endpoint.replace("http:", "https:"), PROTOCOL: protocol})
        assert diagnosis.status == 1
        assert diagnosis.of("tls").startswith("error: port ")
        assert "does not speak TLS" in diagnosis.of("tls")
        assert diagnosis.of("canary").startswith("skipped: not accepted")
        assert diagnosis.next.startswith("Write http:// instead of https://")


def test_the_options_override_the_variables(receiver: receivers.Receiver) -> None:
    """--endpoint and --protocol try other values without changing the environment."""
    diagnosis = Diagnosis(
        "--endpoint", receiver.grpc, "--protocol", "grpc", **{ENDPOINT: "http://nowhere.invalid:4318"}
    )
    assert diagnosis.status == 0
    assert "accepted (gRPC OK)" in diagnosis.of("canary")


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_size_limit_is_found(protocol: str, tmp_path: Path) -> None:
    """The receiver accepts the canary and a small request but not a large one, although compression is on."""
    if reason := receivers.missing_reason("collector"):
        pytest.skip(reason)
    with bad.limited_collector(tmp_path) as collector:
        where = {ENDPOINT: collector.grpc if protocol == "grpc" else collector.http, PROTOCOL: protocol}
        where["OTEL_EXPORTER_OTLP_COMPRESSION"] = "gzip"
        refused, passed = Diagnosis("--size", "2MiB", **where), Diagnosis("--size", "100k", **where)
    assert (refused.status, passed.status) == (1, 0)
    assert refused.of("canary").startswith("ok: accepted")
    assert "the request is too large" in refused.of("size")
    assert "max_recv_msg_size_mib" in refused.next if protocol == "grpc" else "max_request_body_size" in refused.next
    assert passed.of("size").startswith("ok: ")
    assert 95_000 < int(passed.of("size").split()[1].replace(",", "")) < 105_000


def test_the_default_limit_of_grpc(receiver: receivers.Receiver) -> None:
    """Both receivers refuse a message of more than 4 MiB, each with its own text."""
    diagnosis = Diagnosis("--size", "5MiB", "--protocol", "grpc", **{ENDPOINT: receiver.grpc})
    assert "the request is too large" in diagnosis.of("size")
    assert "OTEL_BSP_MAX_EXPORT_BATCH_SIZE" in diagnosis.next


# --- no receiver ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_closed_port(protocol: str) -> None:
    """The connection is refused: the doctor sends nothing, and advises to start a receiver."""
    with bad.refusing_port() as port:
        diagnosis = Diagnosis(**{ENDPOINT: f"http://127.0.0.1:{port}", PROTOCOL: protocol})
    assert diagnosis.status == 1
    assert diagnosis.of("connect") == f"error: port {port}: 127.0.0.1 refuses the connection: nothing listens there"
    assert diagnosis.of("canary").startswith("skipped: not sent")
    assert diagnosis.next.startswith(f"Start a receiver on port {port}")


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_port_that_never_answers(protocol: str, scheme: str) -> None:
    """The port accepts the connection but sends nothing; the diagnosis still ends."""
    with bad.hanging_port() as port:
        options = ["--timeout", "0.5", "--endpoint", f"{scheme}://127.0.0.1:{port}", "--protocol", protocol]
        diagnosis = Diagnosis(*options)
        without_canary = Diagnosis(*options, "--no-send")
    assert diagnosis.of("connect").startswith("ok: ")
    if scheme == "https":
        assert "no answer to the TLS handshake" in diagnosis.of("tls")
    else:
        assert "connected, but no response in time" in diagnosis.of("canary")
        assert "answers nothing" in without_canary.of("spoken")
    assert diagnosis.status == 1


def test_a_name_without_an_address() -> None:
    """The doctor reports that the name has no address, and how to check the name."""
    diagnosis = Diagnosis(**{ENDPOINT: "http://no-such-host.invalid:4318"})
    assert diagnosis.of("dns").startswith("error: no-such-host.invalid has no address")
    assert "getent hosts no-such-host.invalid" in diagnosis.next


def test_a_proxy_that_fails() -> None:
    """The doctor checks the proxy instead of the receiver, and shows its URL without the password."""
    with bad.refusing_port() as port:
        diagnosis = Diagnosis(
            **{ENDPOINT: "http://backend.invalid:4318", "http_proxy": f"http://me:sesame9@127.0.0.1:{port}"}
        )
    assert diagnosis.status == 1
    assert f"requests go through http://[redacted]@127.0.0.1:{port}" in diagnosis.of("proxy")
    assert diagnosis.next.startswith(f"Start the proxy at 127.0.0.1:{port}")
    assert "sesame9" not in diagnosis.output


def test_no_proxy_bypasses_the_proxy() -> None:
    """A host in no_proxy is called directly. gRPC reads only the lower-case variables."""
    with bad.refusing_port() as port, bad.http_server() as server, bad.grpc_server() as grpc:
        proxy, options = f"http://127.0.0.1:{port}", ["--protocol", "grpc"]
        excepted = Diagnosis(**{ENDPOINT: localhost_url(server.port), "http_proxy": proxy, "no_proxy": "localhost"})
        upper = Diagnosis(*options, **{ENDPOINT: localhost_url(grpc), "HTTP_PROXY": proxy})
        lower = Diagnosis(*options, **{ENDPOINT: localhost_url(grpc), "http_proxy": proxy})
        excepted_in_list = Diagnosis(
            *options, **{ENDPOINT: localhost_url(grpc), "http_proxy": proxy, "no_proxy": "x.example, localhost"}
        )
    assert [diagnosis.status for diagnosis in (excepted, upper, lower, excepted_in_list)] == [0, 0, 1, 0]


def test_a_call_that_hangs_times_out() -> None:
    """A call like name resolution cannot be interrupted; the doctor stops waiting for it."""
    finish = threading.Event()
    with pytest.raises(TimeoutError):
        call_with_timeout(0.05, finish.wait)
    finish.set()
    assert call_with_timeout(20, lambda: "done") == "done"
    with pytest.raises(KeyError):
        call_with_timeout(20, lambda: {}["x"])


# --- responses --------------------------------------------------------------------------------------------------------

JSON, HTML, PROTOBUF = ({"Content-Type": kind} for kind in ("application/json", "text/html", "application/x-protobuf"))


@pytest.mark.parametrize(
    ("status", "body", "headers", "text", "step"),
    [
        (
            301,
            b"",
            {"Location": "https://new.example/v1/traces"},
            "redirected to https://new.example",
            "Set the endpoint",
        ),
        (400, b"what?\x1b[2J", {}, "does not understand the request; it says: what??[2J", "Check that"),
        (401, b"", {}, "not authenticated", "Set OTEL_EXPORTER_OTLP_HEADERS"),
        (403, b'{"message": "no such key"}', JSON, "not allowed", "Check the key"),
        (404, b"", {}, "there is nothing at this path", "Set OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
        (405, b"", {}, "does not accept POST", "Set OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
        (413, b"", {}, "too large", "Raise the receiver's limit"),
        (415, b"", {}, "does not accept protobuf", "Call a receiver"),
        (418, b"", {}, "refused", "Look at the receiver's log"),
        (429, b"", {"Retry-After": "30"}, "retry after 30; the exporter retries", "Wait, or send less"),
        (500, b"<html><title>Oops</title>", HTML, "it says: a web page ('Oops')", "Look at the receiver's log"),
        (502, b"", {}, "a gateway does not reach", "Check the gateway"),
        (503, b"", {}, "overloaded or not ready; the exporter retries", "Look at the receiver's log"),
    ],
)
def test_an_http_status_is_explained(status: int, body: bytes, headers: dict[str, str], text: str, step: str) -> None:
    """For each HTTP status: its meaning, the receiver's message, whether the exporter retries, and advice."""
    with bad.http_server(status, body, headers) as server:
        diagnosis = Diagnosis(**{ENDPOINT: localhost_url(server.port)})
    assert len(server) == 1, "the diagnosis sends one request, even if the exporter would retry"
    assert diagnosis.status == 1
    assert diagnosis.of("canary").startswith(f"error: HTTP {status}: ")
    assert text in diagnosis.of("canary")
    assert diagnosis.next.startswith(step)


def partial_success(rejected: int, message: str) -> bytes:
    response = ExportTraceServiceResponse()
    response.partial_success.rejected_spans = rejected
    response.partial_success.error_message = message
    return response.SerializeToString()


@pytest.mark.parametrize(
    ("body", "headers", "status", "text"),
    [
        (b"", {}, 0, "ok: accepted (HTTP 200)"),
        (b"{}", JSON, 0, "ok: accepted (HTTP 200)"),
        (partial_success(1, "too old"), PROTOBUF, 1, "1 span rejected: too old"),
        (partial_success(0, "near the quota"), PROTOBUF, 0, "the receiver says: near the quota"),
        (b'{"partialSuccess": {"rejectedSpans": "1", "errorMessage": "too old"}}', JSON, 1, "1 span rejected: too old"),
        (b"<html><title>Jaeger UI</title>", HTML, 1, "a web page ('Jaeger UI')"),
        (b"OK", {"Content-Type": "text/plain"}, 1, "the response is not OTLP (text/plain)"),
    ],
    ids=["empty", "JSON", "rejected", "a warning", "rejected, in JSON", "a web page", "some text"],
)
def test_the_body_of_a_success_is_checked(body: bytes, headers: dict[str, str], status: int, text: str) -> None:
    """A partial success, a web page, a response that is not OTLP: the exporter counts all as success."""
    with bad.http_server(200, body, headers) as server:
        diagnosis = Diagnosis(**{ENDPOINT: localhost_url(server.port)})
    assert diagnosis.status == status
    assert text in diagnosis.of("canary")


@pytest.mark.parametrize(
    ("code", "text", "step"),
    [
        ("UNAVAILABLE", "overloaded or not ready", "Look at the receiver's log"),
        ("UNAUTHENTICATED", "not authenticated", "Set OTEL_EXPORTER_OTLP_HEADERS"),
        ("PERMISSION_DENIED", "not allowed", "Check the key"),
        ("UNIMPLEMENTED", "does not accept traces", "Call an OTLP receiver"),
        ("NO_SERVICE", "does not accept traces", "Call an OTLP receiver"),
        ("RESOURCE_EXHAUSTED", "a limit of the receiver", "Send less"),
        ("DEADLINE_EXCEEDED", "no response in time", "Check that an OTLP receiver"),
        ("DATA_LOSS", "refused", "Look at the receiver's log"),
    ],
)
def test_a_grpc_status_is_explained(code: str, text: str, step: str) -> None:
    """For each gRPC status: its meaning, the server's message, and advice."""
    with bad.grpc_server(code, "the reason") as port:
        diagnosis = Diagnosis("--protocol", "grpc", **{ENDPOINT: localhost_url(port)})
    assert diagnosis.status == 1
    assert text in diagnosis.of("canary")
    assert "it says: " in diagnosis.of("canary")
    assert diagnosis.next.startswith(step)


def test_a_partial_success_over_grpc() -> None:
    """The doctor reports rejected spans, with the reason."""
    with bad.grpc_server("OK", "too old", rejected=1) as port:
        diagnosis = Diagnosis("--protocol", "grpc", **{ENDPOINT: localhost_url(port)})
    assert diagnosis.status == 1
    assert "1 span rejected: too old" in diagnosis.of("canary")


@pytest.mark.parametrize(("seconds", "text"), [(-3600, "ahead of"), (3600, "behind"), (0, "within 5 s")])
def test_a_clock_that_is_wrong(seconds: int, text: str) -> None:
    """The doctor compares the Date header. The receiver accepts such spans, but shows them at another time."""
    import time

    with bad.http_server(200, headers={"Date": formatdate(time.time() + seconds, usegmt=True)}) as server:
        diagnosis = Diagnosis(**{ENDPOINT: localhost_url(server.port)})
    assert diagnosis.status == 0
    assert text in diagnosis.of("clock")
