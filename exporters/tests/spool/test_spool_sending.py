"""How the spool sends: responses over HTTP and gRPC, several endpoints, TLS, OpenTelemetry's variables."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bad_receivers import certificate, grpc_server, hanging_port, refusing_port
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import SpanContext, TraceFlags
from otelflow_exporters._spool import delivery_thread
from otelflow_exporters._spool.delivery import count_spans, encode, split
from otelflow_exporters.spool import SpoolSpanExporter
from receiver import Receiver, missing_reason, running
from spool_backend import Backend, partial_success_body

SUCCESS = SpanExportResult.SUCCESS


@pytest.fixture
def backend() -> Iterator[Backend]:
    receiver = Backend()
    yield receiver
    receiver.close()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The spool's folder, in an environment without other OpenTelemetry variables."""
    for name in [name for name in os.environ if name.startswith("OTEL")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OTELFLOW_EXPORTER_SPOOL_DIR", str(tmp_path / "spool"))
    monkeypatch.setenv("OTELFLOW_EXPORTER_SPOOL_EXIT", "0")
    return tmp_path / "spool"


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A function that makes a spool, which sends to an endpoint. OpenTelemetry's other variables are passed by the ends
    of their names."""
    exporters = []

    def spool(endpoint: str, **options: str) -> SpoolSpanExporter:
        for name, value in {"endpoint": endpoint, **options}.items():
            monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{name.upper()}", value)
        exporters.append(SpoolSpanExporter())
        return exporters[-1]

    yield spool
    for exporter in exporters:
        exporter.shutdown()


def spans(number: int, text: str = "") -> list[ReadableSpan]:
    return [
        ReadableSpan(f"s{index}", SpanContext(1, index, False, TraceFlags(1)), attributes={"text": text})
        for index in range(1, number + 1)
    ]


# --- responses ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_retryable_responses_are_retried(make: Any, backend: Backend, status: int) -> None:
    """Until the backend accepts the request. Nothing is lost."""
    backend.answers.extend([(status, {}, b"")] * 2)
    exporter = make(backend.endpoint)
    exporter.export(spans(3))
    assert exporter.force_flush()
    assert backend.names == ["s1", "s2", "s3"]
    assert len(backend.requests) == 3


def test_retry_after_is_respected(make: Any, backend: Backend) -> None:
    """Also during a flush."""
    backend.answers.append((429, {"Retry-After": "3600"}, b""))
    exporter = make(backend.endpoint)
    exporter.export(spans(1))
    assert not exporter.force_flush(1500)
    assert len(backend.requests) == 1
    assert exporter.account().pending == 1


@pytest.mark.parametrize("status", [401, 403, 404])
def test_refused_spans_are_counted_and_skipped(make: Any, backend: Backend, status: int) -> None:
    """OTLP: "the client MUST NOT retry". Later spans are sent."""
    backend.answers.append((status, {}, b""))
    exporter = make(backend.endpoint)
    exporter.export(spans(3))
    assert not exporter.force_flush()
    exporter.export(spans(1))
    assert exporter.force_flush()
    assert backend.names == ["s1"]
    account = exporter.account()
    assert (account.delivered, account.lost) == (1, {"refused": 3})


@pytest.mark.parametrize(("errors", "lost"), [(1, {}), (2, {"refused": 3})])
def test_an_internal_error_of_the_backend_is_retried(
    make: Any, backend: Backend, monkeypatch: pytest.MonkeyPatch, errors: int, lost: dict[str, int]
) -> None:
    """The cause may be the request or not. So it is sent again, but not without a limit."""
    monkeypatch.setattr(delivery_thread, "_MAX_SERVER_ERRORS", 1)
    backend.answers.extend([(500, {}, b"")] * errors)
    exporter = make(backend.endpoint)
    exporter.export(spans(3))
    assert exporter.force_flush() is not bool(lost)
    assert exporter.account().lost == lost
    assert backend.names == ([] if lost else ["s1", "s2", "s3"])


def test_one_malformed_span_is_lost_alone(make: Any, backend: Backend) -> None:
    """A malformed request is sent in parts, down to the malformed span."""
    backend.refused_name = "s7"
    exporter = make(backend.endpoint)
    exporter.export(spans(16))
    assert not exporter.force_flush()
    assert sorted(backend.names) == sorted(f"s{number}" for number in range(1, 17) if number != 7)
    assert exporter.account().lost == {"refused": 1}
    assert len(backend.requests) <= 9


@pytest.mark.parametrize("status", [400, 422])
def test_a_wrong_address_gets_three_requests(make: Any, backend: Backend, status: int) -> None:
    """It refuses everything. The request and its halves are tried, then all spans are lost."""
    backend.answers.extend([(status, {}, b"")] * 3)
    exporter = make(backend.endpoint)
    exporter.export(spans(512))
    assert not exporter.force_flush()
    assert exporter.account().lost == {"refused": 512}
    assert len(backend.requests) == 3


def test_a_request_that_is_too_large_is_split(make: Any, backend: Backend) -> None:
    """Down to one span. A span that is too large by itself is counted as lost."""
    backend.max_bytes = 3000
    exporter = make(backend.endpoint)
    exporter.export(spans(20, "x" * 500))
    exporter.export([*spans(1, "x" * 5000)])
    assert not exporter.force_flush()
    assert len(backend.count()) == 20
    assert exporter.account().lost == {"too_large": 1}


def test_parts_make_progress_with_a_backend_that_is_often_busy(make: Any, backend: Backend) -> None:
    """The request is too large, and the backend is busy after each part that it accepts. Accepted parts are not sent
    again."""
    backend.max_bytes = 3000
    take = backend.take
    state = {"turn": 0}

    def busy(headers: dict[str, str], body: bytes) -> Any:
        if len(body) <= backend.max_bytes:
            state["turn"] += 1
            if state["turn"] % 2 == 0:
                return 503, {"Retry-After": "0"}, b""
        return take(headers, body)

    backend.take = busy  # type: ignore[method-assign]
    exporter = make(backend.endpoint)
    exporter.export(spans(20, "x" * 500))
    assert exporter.force_flush()
    assert set(backend.count().values()) == {1}
    assert len(backend.count()) == 20


def test_partial_success_is_counted(make: Any, backend: Backend) -> None:
    """Spans that the backend says it has rejected count as lost."""
    backend.answers.append((200, {}, partial_success_body(2)))
    exporter = make(backend.endpoint)
    exporter.export(spans(5))
    assert not exporter.force_flush()
    account = exporter.account()
    assert (account.delivered, account.lost) == (3, {"rejected": 2})


def test_a_response_that_is_not_otlp_counts_as_success(make: Any, backend: Backend) -> None:
    """Some gateways return a body of their own with the status 200."""
    backend.answers.append((200, {}, b"<html>OK</html>"))
    exporter = make(backend.endpoint)
    exporter.export(spans(1))
    assert exporter.force_flush()


def test_a_backend_that_hangs_does_not_block_a_flush(make: Any) -> None:
    """The flush returns at its timeout, and the span is pending."""
    with hanging_port() as port:
        exporter = make(f"http://127.0.0.1:{port}", timeout="0.5")
        exporter.export(spans(1))
        assert not exporter.force_flush(300)
        assert exporter.account().pending == 1


# --- gRPC ---------------------------------------------------------------------------------------------------------


def test_grpc_accepts(make: Any) -> None:
    """With compression and headers."""
    with grpc_server() as port:
        exporter = make(f"http://127.0.0.1:{port}", protocol="grpc", compression="gzip", headers="x-key=1")
        exporter.export(spans(3))
        assert exporter.force_flush()
        assert exporter.account().delivered == 3


@pytest.mark.parametrize(
    ("code", "details", "reason"),
    [
        ("PERMISSION_DENIED", "no", "refused"),
        ("RESOURCE_EXHAUSTED", "no", "refused"),
        ("RESOURCE_EXHAUSTED", "received message larger than max (9 vs. 4)", "too_large"),
    ],
)
def test_grpc_refuses(make: Any, code: str, details: str, reason: str) -> None:
    """The spans are counted as lost."""
    with grpc_server(code, details) as port:
        exporter = make(f"http://127.0.0.1:{port}", protocol="grpc")
        exporter.export(spans(2))
        assert not exporter.force_flush()
        assert exporter.account().lost == {reason: 2}


def test_grpc_is_unavailable(make: Any) -> None:
    """No server listens, or the server is busy. The spans are pending."""
    with refusing_port() as port:
        exporter = make(f"http://127.0.0.1:{port}", protocol="grpc")
        exporter.export(spans(2))
        assert not exporter.force_flush(500)
        assert exporter.account().pending == 2
        exporter.shutdown()
    with grpc_server("UNAVAILABLE", "busy") as port:
        exporter = make(f"http://127.0.0.1:{port}", protocol="grpc")
        assert not exporter.force_flush(500)
        assert exporter.account().pending == 2


def test_grpc_rejects_some_spans(make: Any) -> None:
    """Partial success over gRPC."""
    with grpc_server("OK", "bad names", rejected=1) as port:
        exporter = make(f"http://127.0.0.1:{port}", protocol="grpc")
        exporter.export(spans(2))
        assert not exporter.force_flush()
        assert exporter.account().lost == {"rejected": 1}


# --- TLS, headers, compression ------------------------------------------------------------------------------------


def test_tls(make: Any, tmp_path: Path) -> None:
    """With the backend's certificate the spans are sent; without it they are pending."""
    pair = certificate(tmp_path)
    backend = Backend(pair=pair)
    try:
        exporter = make(backend.endpoint)
        exporter.export(spans(2))
        assert not exporter.force_flush(500)
        exporter.shutdown()
        exporter = make(backend.endpoint, certificate=str(pair[0]))
        assert exporter.force_flush()
        assert backend.names == ["s1", "s2"]
    finally:
        backend.close()


def test_tls_over_grpc(make: Any, tmp_path: Path) -> None:
    """The same variables work."""
    pair = certificate(tmp_path)
    with grpc_server(pair=pair) as port:
        exporter = make(f"https://localhost:{port}", protocol="grpc", certificate=str(pair[0]))
        exporter.export(spans(2))
        assert exporter.force_flush()


def test_a_missing_certificate(make: Any, backend: Backend, tmp_path: Path) -> None:
    """The spans are pending."""
    exporter = make(backend.endpoint.replace("http:", "https:"), certificate=str(tmp_path / "none.pem"))
    assert exporter.export(spans(1)) is SUCCESS
    assert not exporter.force_flush(500)
    assert exporter.account().pending == 1


@pytest.mark.parametrize("compression", ["gzip", "deflate", "none"])
def test_headers_and_compression(make: Any, backend: Backend, compression: str) -> None:
    """The standard variables are used; those of the signal have priority."""
    headers = "x-team=a%20b,authorization=Basic 1"
    exporter = make(backend.endpoint, compression="none", traces_compression=compression, headers=headers)
    exporter.export(spans(50, "x" * 100))
    assert exporter.force_flush()
    assert len(backend.spans) == 50
    (sent,) = backend.requests
    assert (sent["x-team"], sent["authorization"]) == ("a b", "Basic 1")
    assert sent.get("Content-Encoding", "none") == compression
    assert (int(sent["Content-Length"]) < 3000) == (compression != "none")


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    import sys

    monkeypatch.setitem(sys.modules, "requests", None)
    monkeypatch.delitem(sys.modules, "otelflow._otlp.http_sender", raising=False)
    with pytest.raises(ImportError, match=r"otelflow-exporters\[spool\]"):
        SpoolSpanExporter()


# --- several endpoints --------------------------------------------------------------------------------------------


def test_each_of_several_endpoints_gets_all_spans(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """While one is down, the other gets all spans, and the folder keeps them for the first. Later that one gets them
    too, none arrives twice, and their files are removed."""
    first, second = Backend(), Backend(is_up=False)
    monkeypatch.setenv("OTELFLOW_EXPORTER_SPOOL_ENDPOINTS", f"{first.endpoint}, {second.endpoint}")
    exporter = SpoolSpanExporter()
    try:
        exporter.export(spans(10))
        first.wait_for(10)
        assert not exporter.force_flush(200)
        assert (exporter.account().delivered, exporter.account().pending) == (0, 10)
        second.up()
        assert exporter.force_flush()
        assert first.count() == second.count()
        assert set(first.count().values()) == {1}
        assert exporter.account().delivered == 10
    finally:
        exporter.shutdown()
        first.close()
        second.close()
    assert not [path for path in folder.iterdir() if path.name.endswith((".spool", ".open"))]


# --- parts of a request -------------------------------------------------------------------------------------------


def test_a_request_is_split_in_halves() -> None:
    """Each span is in one half, with its resource. A request with one span cannot be split."""
    payload = encode(spans(7))
    halves = split(payload)
    assert halves is not None
    assert [count_spans(half) for half in halves] == [3, 4]
    assert split(encode(spans(1))) is None
    assert split(b"\xff\xff") is None


@pytest.mark.skipif(missing_reason("collector") is not None, reason=str(missing_reason("collector")))
@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_real_collector_gets_the_spans(make: Any, tmp_path: Path, protocol: str) -> None:
    """The Collector forwards all exported spans. A batch that is too large for one message is sent in several."""
    with running("collector", tmp_path) as receiver:
        assert isinstance(receiver, Receiver)
        exporter = make(receiver.grpc if protocol == "grpc" else receiver.http, protocol=protocol)
        exporter.export(spans(600, "x" * 20_000))
        assert exporter.force_flush()
        assert len(receiver.sink.wait_for(600)) == 600
