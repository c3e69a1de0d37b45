"""``otelflow doctor`` against receivers: real ones, and ones that refuse, hang or are none. All in real processes."""

from __future__ import annotations

import threading
from email.utils import formatdate
from pathlib import Path

import bad_receivers as bad
import pytest
import receiver as receivers
from diagnosis import ENDPOINT, PROTOCOL, Diagnosis, local
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otelflow._doctor.check_network import within

# --- real receivers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_the_canary_arrives(receiver: receivers.Receiver, protocol: str, compression: str) -> None:
    """All is well: the span is in the receiver under the trace id that is told, with the program's service name."""
    endpoint = receiver.grpc if protocol == "grpc" else receiver.http
    found = Diagnosis(**{ENDPOINT: endpoint, PROTOCOL: protocol, "OTEL_EXPORTER_OTLP_COMPRESSION": compression})
    assert (found.status, found.trace_id in found.next) == (0, True)
    assert found.of("canary").startswith("ok: accepted")
    arrived = {span.trace_id.hex(): (span, resource) for span, resource, _ in receiver.sink.wait_for(1)}
    span, resource = arrived[found.trace_id]
    assert span.name == "otelflow doctor"
    assert receivers.attributes_of(resource)["service.name"] == "doctor-test"
    assert found.of("clock").startswith("skipped: not known" if protocol == "grpc" else "ok: within")


def test_http_to_a_grpc_port(receiver: receivers.Receiver) -> None:
    """The port is asked what it speaks, and the other protocol is proposed."""
    found = Diagnosis(**{ENDPOINT: receiver.grpc})
    assert found.status == 1
    assert "speaks HTTP/2 only" in found.of("canary")
    assert found.next.startswith(f"Set {PROTOCOL}=grpc")


def test_grpc_to_an_http_port(receiver: receivers.Receiver) -> None:
    """The reverse, whether the server knows HTTP/2 or not."""
    found = Diagnosis(**{ENDPOINT: receiver.http, PROTOCOL: "grpc"})
    assert found.status == 1
    assert "gRPC" in found.of("canary")
    assert found.next.startswith(f"Set {PROTOCOL}=http/protobuf")


def test_without_sending_the_port_is_asked(receiver: receivers.Receiver) -> None:
    """--no-send tells a wrong protocol, too, and no span arrives by it."""
    before = len(receiver.sink.spans)
    wrong = Diagnosis("--no-send", **{ENDPOINT: receiver.grpc, PROTOCOL: "http/protobuf"})
    right = Diagnosis("--no-send", **{ENDPOINT: receiver.grpc, PROTOCOL: "grpc"})
    assert (wrong.status, right.status) == (1, 0)
    assert wrong.of("spoken").startswith("error: port")
    assert right.of("spoken").endswith("answers in HTTP/2")
    assert "--no-send" in right.next
    assert len(receiver.sink.spans) == before


def test_an_endpoint_for_traces_without_its_path(receiver: receivers.Receiver) -> None:
    """Nothing is appended to it: the receiver has nothing there, and both ways out are told."""
    found = Diagnosis(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=receiver.http)
    assert found.status == 1
    assert "called as it is" in found.of("url")
    assert found.of("canary").startswith("error: HTTP 404")
    assert found.next.startswith(f"Set OTEL_EXPORTER_OTLP_TRACES_ENDPOINT={receiver.http}/v1/traces,")


def test_a_path_that_is_doubled(receiver: receivers.Receiver) -> None:
    """The general endpoint has the path for traces already: that is the cause, and the 404 its effect."""
    found = Diagnosis(**{ENDPOINT: f"{receiver.http}/v1/traces"})
    assert f"error: {receiver.http}/v1/traces/v1/traces: the path is doubled" in found.of("url")
    assert found.of("canary").startswith("error: HTTP 404")
    assert found.next.startswith(f"Take /v1/traces off {ENDPOINT}")


def test_tls_to_a_port_that_speaks_plain_text(receiver: receivers.Receiver) -> None:
    """Said by the handshake, once."""
    for protocol, endpoint in (("grpc", receiver.grpc), ("http/protobuf", receiver.http)):
        found = Diagnosis(**{ENDPOINT: endpoint.replace("http:", "https:"), PROTOCOL: protocol})
        assert found.status == 1
        assert found.of("tls").startswith("error: no TLS is spoken")
        assert found.of("canary").startswith("skipped: not accepted")
        assert found.next.startswith("Write http:// instead of https://")


def test_the_options_go_before_the_variables(receiver: receivers.Receiver) -> None:
    """An endpoint and a protocol can be tried without changing anything."""
    found = Diagnosis("--endpoint", receiver.grpc, "--protocol", "grpc", **{ENDPOINT: "http://nowhere.invalid:4318"})
    assert found.status == 0
    assert "accepted (gRPC OK)" in found.of("canary")


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_limit_of_the_size(protocol: str, tmp_path: Path) -> None:
    """The canary passes and the large request does not; a smaller one does. Compression hides nothing."""
    if reason := receivers.missing("collector"):
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
    """4 MiB in one message: both receivers refuse more, each with its own words."""
    found = Diagnosis("--size", "5MiB", "--protocol", "grpc", **{ENDPOINT: receiver.grpc})
    assert "the request is too large" in found.of("size")
    assert "OTEL_BSP_MAX_EXPORT_BATCH_SIZE" in found.next


# --- no receiver ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_closed_port(protocol: str) -> None:
    """Refused: nothing is sent, and a receiver is asked for."""
    with bad.closed() as port:
        found = Diagnosis(**{ENDPOINT: f"http://127.0.0.1:{port}", PROTOCOL: protocol})
    assert found.status == 1
    assert found.of("connect") == f"error: port {port}: 127.0.0.1 refuses: nothing listens there"
    assert found.of("canary").startswith("skipped: not sent")
    assert found.next.startswith(f"Start a receiver on port {port}")


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_port_that_never_answers(protocol: str, scheme: str) -> None:
    """It takes the connection, and that is all; the diagnosis ends all the same."""
    with bad.hanging() as port:
        words = ["--timeout", "0.5", "--endpoint", f"{scheme}://127.0.0.1:{port}", "--protocol", protocol]
        found = Diagnosis(*words)
        asked = Diagnosis(*words, "--no-send")
    assert found.of("connect").startswith("ok: ")
    if scheme == "https":
        assert "no answer to the TLS handshake" in found.of("tls")
    else:
        assert "connected, but no answer in time" in found.of("canary")
        assert "answers nothing" in asked.of("spoken")
    assert found.status == 1


def test_a_name_without_an_address() -> None:
    """The name service says so, and how to ask it is told."""
    found = Diagnosis(**{ENDPOINT: "http://no-such-host.invalid:4318"})
    assert found.of("dns").startswith("error: no-such-host.invalid has no address")
    assert "getent hosts no-such-host.invalid" in found.next


def test_a_proxy_that_fails() -> None:
    """It stands between: it is looked at in place of the receiver, and named without its password."""
    with bad.closed() as port:
        found = Diagnosis(
            **{ENDPOINT: "http://backend.invalid:4318", "http_proxy": f"http://me:sesame9@127.0.0.1:{port}"}
        )
    assert found.status == 1
    assert f"requests go through http://[redacted]@127.0.0.1:{port}" in found.of("proxy")
    assert found.next.startswith(f"Start the proxy at 127.0.0.1:{port}")
    assert "sesame9" not in found.said


def test_an_exception_from_the_proxy() -> None:
    """With the host in NO_PROXY there is none. gRPC reads the names in lower case only."""
    with bad.closed() as port, bad.http_server() as server, bad.grpc_server() as grpc:
        proxy, words = f"http://127.0.0.1:{port}", ["--protocol", "grpc"]
        excepted = Diagnosis(**{ENDPOINT: local(server.port), "http_proxy": proxy, "no_proxy": "localhost"})
        upper = Diagnosis(*words, **{ENDPOINT: local(grpc), "HTTP_PROXY": proxy})
        lower = Diagnosis(*words, **{ENDPOINT: local(grpc), "http_proxy": proxy})
        not_there = Diagnosis(
            *words, **{ENDPOINT: local(grpc), "http_proxy": proxy, "no_proxy": "x.example, localhost"}
        )
    assert [one.status for one in (excepted, upper, lower, not_there)] == [0, 0, 1, 0]


def test_a_call_that_hangs_is_left_behind() -> None:
    """As a name's resolution may: nothing can interrupt it."""
    over = threading.Event()
    with pytest.raises(TimeoutError):
        within(0.05, over.wait)
    over.set()
    assert within(20, lambda: "done") == "done"
    with pytest.raises(KeyError):
        within(20, lambda: {}["x"])


# --- answers ----------------------------------------------------------------------------------------------------------

JSON, HTML, PROTOBUF = ({"Content-Type": kind} for kind in ("application/json", "text/html", "application/x-protobuf"))


@pytest.mark.parametrize(
    ("status", "body", "headers", "text", "step"),
    [
        (301, b"", {"Location": "https://new.example/v1/traces"}, "sent on to https://new.example", "Set the endpoint"),
        (400, b"what?\x1b[2J", {}, "does not understand the request; it says: what??[2J", "Check that"),
        (401, b"", {}, "not authenticated", "Set OTEL_EXPORTER_OTLP_HEADERS"),
        (403, b'{"message": "no such key"}', JSON, "not allowed", "Check the key"),
        (404, b"", {}, "nothing is at this path", "Set OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
        (405, b"", {}, "takes no POST", "Set OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
        (413, b"", {}, "too large", "Raise the receiver's limit"),
        (415, b"", {}, "does not take protobuf", "Call a receiver"),
        (418, b"", {}, "refused", "Look at the receiver's log"),
        (429, b"", {"Retry-After": "30"}, "retry after 30; the exporter tries again", "Wait, or send less"),
        (500, b"<html><title>Oops</title>", HTML, "it says: a web page ('Oops')", "Look at the receiver's log"),
        (502, b"", {}, "a gateway does not reach", "Look at the gateway"),
        (503, b"", {}, "overloaded or not ready; the exporter tries again", "Look at the receiver's log"),
    ],
)
def test_a_refusal_in_words(status: int, body: bytes, headers: dict[str, str], text: str, step: str) -> None:
    """HTTP statuses: what each means, what the receiver says, whether the exporter tries again, what to do."""
    with bad.http_server(status, body, headers) as server:
        found = Diagnosis(**{ENDPOINT: local(server.port)})
    assert len(server) == 1, "the diagnosis sends one request, whatever the exporter would do"
    assert found.status == 1
    assert found.of("canary").startswith(f"error: HTTP {status}: ")
    assert text in found.of("canary")
    assert found.next.startswith(step)


def partial(rejected: int, message: str) -> bytes:
    response = ExportTraceServiceResponse()
    response.partial_success.rejected_spans = rejected
    response.partial_success.error_message = message
    return response.SerializeToString()


@pytest.mark.parametrize(
    ("body", "headers", "status", "text"),
    [
        (b"", {}, 0, "ok: accepted (HTTP 200)"),
        (b"{}", JSON, 0, "ok: accepted (HTTP 200)"),
        (partial(1, "too old"), PROTOBUF, 1, "1 span rejected: too old"),
        (partial(0, "near the quota"), PROTOBUF, 0, "the receiver says: near the quota"),
        (b'{"partialSuccess": {"rejectedSpans": "1", "errorMessage": "too old"}}', JSON, 1, "1 span rejected: too old"),
        (b"<html><title>Jaeger UI</title>", HTML, 1, "a web page ('Jaeger UI')"),
        (b"OK", {"Content-Type": "text/plain"}, 1, "the answer is not OTLP (text/plain)"),
    ],
    ids=["empty", "JSON", "rejected", "a warning", "rejected, in JSON", "a web page", "some text"],
)
def test_success_is_looked_at(body: bytes, headers: dict[str, str], status: int, text: str) -> None:
    """A partial success, a web page, an answer of something else: all are success to the exporter."""
    with bad.http_server(200, body, headers) as server:
        found = Diagnosis(**{ENDPOINT: local(server.port)})
    assert found.status == status
    assert text in found.of("canary")


@pytest.mark.parametrize(
    ("code", "text", "step"),
    [
        ("UNAVAILABLE", "overloaded or not ready", "Look at the receiver's log"),
        ("UNAUTHENTICATED", "not authenticated", "Set OTEL_EXPORTER_OTLP_HEADERS"),
        ("PERMISSION_DENIED", "not allowed", "Check the key"),
        ("UNIMPLEMENTED", "takes no traces", "Call an OTLP receiver"),
        ("NO_SERVICE", "takes no traces", "Call an OTLP receiver"),
        ("RESOURCE_EXHAUSTED", "a limit of the receiver", "Send less"),
        ("DEADLINE_EXCEEDED", "no answer in time", "Check that an OTLP receiver"),
        ("DATA_LOSS", "refused", "Look at the receiver's log"),
    ],
)
def test_a_grpc_status_in_words(code: str, text: str, step: str) -> None:
    """The same for gRPC: its status, what the server says, what to do."""
    with bad.grpc_server(code, "the reason") as port:
        found = Diagnosis("--protocol", "grpc", **{ENDPOINT: local(port)})
    assert found.status == 1
    assert text in found.of("canary")
    assert "it says: " in found.of("canary")
    assert found.next.startswith(step)


def test_a_partial_success_over_grpc() -> None:
    """Rejected spans are told, with the reason."""
    with bad.grpc_server("OK", "too old", rejected=1) as port:
        found = Diagnosis("--protocol", "grpc", **{ENDPOINT: local(port)})
    assert found.status == 1
    assert "1 span rejected: too old" in found.of("canary")


@pytest.mark.parametrize(("seconds", "text"), [(-3600, "ahead of"), (3600, "behind"), (0, "within 5 s")])
def test_a_clock_that_is_wrong(seconds: int, text: str) -> None:
    """Told by the Date of the answer; spans are accepted then, and found at another time."""
    import time

    with bad.http_server(200, headers={"Date": formatdate(time.time() + seconds, usegmt=True)}) as server:
        found = Diagnosis(**{ENDPOINT: local(server.port)})
    assert found.status == 0
    assert text in found.of("clock")
