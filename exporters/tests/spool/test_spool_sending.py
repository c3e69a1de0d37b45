"""How the spool sends: what endpoints answer over HTTP and gRPC, several of them, TLS, the variables."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bad_receivers import certificate, closed, grpc_server, hanging
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import SpanContext, TraceFlags
from otelflow_exporters._spool import delivery_thread
from otelflow_exporters._spool.delivery import encode, spans_of, split
from otelflow_exporters.spool import SpoolSpanExporter
from receiver import Receiver, missing, running
from spool_backend import Backend, rejecting

SUCCESS = SpanExportResult.SUCCESS


@pytest.fixture
def backend() -> Iterator[Backend]:
    made = Backend()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The spool's folder, in an environment that says nothing else."""
    for name in [name for name in os.environ if name.startswith("OTEL")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OTELFLOW_EXPORTER_SPOOL_DIR", str(tmp_path / "spool"))
    monkeypatch.setenv("OTELFLOW_EXPORTER_SPOOL_EXIT", "0")
    return tmp_path / "spool"


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Make a spool that sends to an endpoint; OpenTelemetry's other variables by the ends of their names."""
    made = []

    def spool(endpoint: str, **more: str) -> SpoolSpanExporter:
        for name, value in {"endpoint": endpoint, **more}.items():
            monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{name.upper()}", value)
        made.append(SpoolSpanExporter())
        return made[-1]

    yield spool
    for one in made:
        one.shutdown()


def spans(number: int, text: str = "") -> list[ReadableSpan]:
    return [
        ReadableSpan(f"s{each}", SpanContext(1, each, False, TraceFlags(1)), attributes={"text": text})
        for each in range(1, number + 1)
    ]


# --- answers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_what_may_be_retried_is(make: Any, backend: Backend, status: int) -> None:
    """Until it is taken; nothing is lost."""
    backend.answers.extend([(status, {}, b"")] * 2)
    exporter = make(backend.endpoint)
    exporter.export(spans(3))
    assert exporter.force_flush()
    assert backend.names == ["s1", "s2", "s3"]
    assert len(backend.requests) == 3


def test_a_backend_that_asks_to_wait_is_left_alone(make: Any, backend: Backend) -> None:
    """Retry-After counts, also for who is in a hurry."""
    backend.answers.append((429, {"Retry-After": "3600"}, b""))
    exporter = make(backend.endpoint)
    exporter.export(spans(1))
    assert not exporter.force_flush(1500)
    assert len(backend.requests) == 1
    assert exporter.account().pending == 1


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_is_refused_is_counted_and_passed(make: Any, backend: Backend, status: int) -> None:
    """OTLP: "the client MUST NOT retry". What comes after it goes on."""
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
def test_an_error_of_the_backend_may_pass(
    make: Any, backend: Backend, monkeypatch: pytest.MonkeyPatch, errors: int, lost: dict[str, int]
) -> None:
    """It comes from what was sent, or it does not: so that is sent again, and not for ever."""
    monkeypatch.setattr(delivery_thread, "_MOST_DOUBTS", 1)
    backend.answers.extend([(500, {}, b"")] * errors)
    exporter = make(backend.endpoint)
    exporter.export(spans(3))
    assert exporter.force_flush() is not bool(lost)
    assert exporter.account().lost == lost
    assert backend.names == ([] if lost else ["s1", "s2", "s3"])


def test_one_bad_span_does_not_take_others_with_it(make: Any, backend: Backend) -> None:
    """A request that is malformed is sent in parts, down to the span that is."""
    backend.poison = "s7"
    exporter = make(backend.endpoint)
    exporter.export(spans(16))
    assert not exporter.force_flush()
    assert sorted(backend.names) == sorted(f"s{number}" for number in range(1, 17) if number != 7)
    assert exporter.account().lost == {"refused": 1}
    assert len(backend.requests) <= 9


@pytest.mark.parametrize("status", [400, 422])
def test_a_wrong_address_is_asked_three_times(make: Any, backend: Backend, status: int) -> None:
    """It refuses everything: the request and its halves are tried, then all is lost."""
    backend.answers.extend([(status, {}, b"")] * 3)
    exporter = make(backend.endpoint)
    exporter.export(spans(512))
    assert not exporter.force_flush()
    assert exporter.account().lost == {"refused": 512}
    assert len(backend.requests) == 3


def test_a_request_that_is_too_large_is_split(make: Any, backend: Backend) -> None:
    """Down to one span; one that is too large by itself is counted."""
    backend.most_bytes = 3000
    exporter = make(backend.endpoint)
    exporter.export(spans(20, "x" * 500))
    exporter.export([*spans(1, "x" * 5000)])
    assert not exporter.force_flush()
    assert len(backend.count()) == 20
    assert exporter.account().lost == {"too_large": 1}


def test_parts_get_on_where_the_backend_takes_one_at_a_time(make: Any, backend: Backend) -> None:
    """Too large, and busy after each request that it takes: the parts that it took are not sent again for ever."""
    backend.most_bytes = 3000
    take = backend.take
    state = {"turn": 0}

    def busy(headers: dict[str, str], body: bytes) -> Any:
        if len(body) <= backend.most_bytes:
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
    """What the backend says that it left out."""
    backend.answers.append((200, {}, rejecting(2)))
    exporter = make(backend.endpoint)
    exporter.export(spans(5))
    assert not exporter.force_flush()
    account = exporter.account()
    assert (account.delivered, account.lost) == (3, {"rejected": 2})


def test_an_answer_that_is_no_otlp_is_fine(make: Any, backend: Backend) -> None:
    """Some gateways say OK in their own words."""
    backend.answers.append((200, {}, b"<html>OK</html>"))
    exporter = make(backend.endpoint)
    exporter.export(spans(1))
    assert exporter.force_flush()


def test_a_backend_that_hangs_keeps_nobody(make: Any) -> None:
    """The flush returns in its time, and the span waits."""
    with hanging() as port:
        exporter = make(f"http://127.0.0.1:{port}", timeout="0.5")
        exporter.export(spans(1))
        assert not exporter.force_flush(300)
        assert exporter.account().pending == 1


# --- gRPC ---------------------------------------------------------------------------------------------------------


def test_grpc_takes_it(make: Any) -> None:
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
    """Counted, and passed."""
    with grpc_server(code, details) as port:
        exporter = make(f"http://127.0.0.1:{port}", protocol="grpc")
        exporter.export(spans(2))
        assert not exporter.force_flush()
        assert exporter.account().lost == {reason: 2}


def test_grpc_is_away(make: Any) -> None:
    """Nobody listens, or the server is busy: the spans wait."""
    with closed() as port:
        exporter = make(f"http://127.0.0.1:{port}", protocol="grpc")
        exporter.export(spans(2))
        assert not exporter.force_flush(500)
        assert exporter.account().pending == 2
        exporter.shutdown()
    with grpc_server("UNAVAILABLE", "busy") as port:
        exporter = make(f"http://127.0.0.1:{port}", protocol="grpc")
        assert not exporter.force_flush(500)
        assert exporter.account().pending == 2


def test_grpc_rejects_a_part(make: Any) -> None:
    """Partial success over gRPC."""
    with grpc_server("OK", "bad names", rejected=1) as port:
        exporter = make(f"http://127.0.0.1:{port}", protocol="grpc")
        exporter.export(spans(2))
        assert not exporter.force_flush()
        assert exporter.account().lost == {"rejected": 1}


# --- TLS, headers, compression ------------------------------------------------------------------------------------


def test_tls(make: Any, tmp_path: Path) -> None:
    """With the backend's certificate it is trusted; without, the spans wait."""
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
    """The same variables."""
    pair = certificate(tmp_path)
    with grpc_server(pair=pair) as port:
        exporter = make(f"https://localhost:{port}", protocol="grpc", certificate=str(pair[0]))
        exporter.export(spans(2))
        assert exporter.force_flush()


def test_a_certificate_that_is_not_there(make: Any, backend: Backend, tmp_path: Path) -> None:
    """Said, and the spans wait until it is."""
    exporter = make(backend.endpoint.replace("http:", "https:"), certificate=str(tmp_path / "none.pem"))
    assert exporter.export(spans(1)) is SUCCESS
    assert not exporter.force_flush(500)
    assert exporter.account().pending == 1


@pytest.mark.parametrize("compression", ["gzip", "deflate", "none"])
def test_headers_and_compression(make: Any, backend: Backend, compression: str) -> None:
    """The standard variables, those of the signal first."""
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
    """What to install is in the error."""
    import sys

    monkeypatch.setitem(sys.modules, "requests", None)
    monkeypatch.delitem(sys.modules, "otelflow._otlp.http_sender", raising=False)
    with pytest.raises(ImportError, match=r"otelflow-exporters\[spool\]"):
        SpoolSpanExporter()


# --- several endpoints --------------------------------------------------------------------------------------------


def test_several_endpoints_each_get_all(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """One is down: the other has everything, and what waits for the first is kept. Then that has it too, nobody gets
    anything twice, and it leaves the disk."""
    one, other = Backend(), Backend(is_up=False)
    monkeypatch.setenv("OTELFLOW_EXPORTER_SPOOL_ENDPOINTS", f"{one.endpoint}, {other.endpoint}")
    exporter = SpoolSpanExporter()
    try:
        exporter.export(spans(10))
        one.wait_for(10)
        assert not exporter.force_flush(200)
        assert (exporter.account().delivered, exporter.account().pending) == (0, 10)
        other.up()
        assert exporter.force_flush()
        assert one.count() == other.count()
        assert set(one.count().values()) == {1}
        assert exporter.account().delivered == 10
    finally:
        exporter.shutdown()
        one.close()
        other.close()
    assert not [path for path in folder.iterdir() if path.name.endswith((".spool", ".open"))]


# --- parts of a request -------------------------------------------------------------------------------------------


def test_a_request_is_split_in_halves() -> None:
    """Each span is in one of them, with its resource; one span cannot be split."""
    payload = encode(spans(7))
    halves = split(payload)
    assert halves is not None
    assert [spans_of(half) for half in halves] == [3, 4]
    assert split(encode(spans(1))) is None
    assert split(b"\xff\xff") is None


@pytest.mark.skipif(missing("collector") is not None, reason=str(missing("collector")))
@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_real_collector_takes_it(make: Any, tmp_path: Path, protocol: str) -> None:
    """What the Collector forwards is what was exported; more than it takes in one message is sent in several."""
    with running("collector", tmp_path) as receiver:
        assert isinstance(receiver, Receiver)
        exporter = make(receiver.grpc if protocol == "grpc" else receiver.http, protocol=protocol)
        exporter.export(spans(600, "x" * 20_000))
        assert exporter.force_flush()
        assert len(receiver.sink.wait_for(600)) == 600
