"""Delivery: the result of a request if the receiver refuses it, limits its size, or is down."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path
from typing import Any

import bad_receivers as bad
import pytest
import receiver as receivers
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace import TracerProvider
from processes import free_ports
from sending import OK, AnsweringReceiver, Sending, receiver_and_sender, span_names

from otelflow._export.batch_processor import BatchProcessor
from otelflow._providers.exporters import make_exporter


def test_a_request_to_a_busy_receiver_is_retried(cleanup: list[Any]) -> None:
    """After 503, or 429 with Retry-After, the same spans are sent again, and not before that time."""
    answers = {1: (503, {}, b""), 2: (429, {"Retry-After": "0.5"}, b"")}
    receiver, sending = receiver_and_sender(cleanup, lambda number, _: answers.get(number, OK))
    sending.spans(10)
    assert sending.pipeline.drain(30)
    assert receiver.accepted == span_names(10)
    assert len(receiver.times) == 3
    assert receiver.times[2] - receiver.times[1] >= 0.5


@pytest.mark.parametrize("retry_after", ["0", "-3", "0.001", "Mon, 01 Jan 0001 00:00:00 -0000"])
def test_retries_have_a_pause_even_if_retry_after_is_zero(cleanup: list[Any], retry_after: str) -> None:
    """Also for a negative or tiny number, and for a date in the past."""
    receiver, sending = receiver_and_sender(cleanup, lambda *_: (503, {"Retry-After": retry_after}, b""))
    sending.spans(1)
    assert not sending.pipeline.drain(0.7)
    assert 2 <= len(receiver.times) <= 4


def test_a_header_that_cannot_be_sent_is_refused(cleanup: list[Any]) -> None:
    """A retry would fail again, so the spans do not wait."""
    receiver = AnsweringReceiver(lambda *_: OK)
    sending = Sending(receiver.endpoint)
    cleanup += [receiver, sending]
    sending.pipeline.exporter.sender._headers["X-Key"] = "two\nlines"
    sending.spans(2)
    assert sending.pipeline.drain(30)
    assert sending.pipeline.stats() == (2, 0, {"refused": 2}, 0)


def test_an_outage_loses_nothing(cleanup: list[Any]) -> None:
    """No receiver listens when the spans end; they arrive when one does."""
    (port,) = free_ports(1)
    sending = Sending(f"http://127.0.0.1:{port}")
    cleanup.append(sending)
    sending.spans(20)
    assert not sending.pipeline.drain(0.6)
    assert sending.pipeline.stats() == (20, 0, {}, 20)
    sink = receivers.Sink(port)
    cleanup.append(sink)
    assert sending.pipeline.drain(30)
    assert [span.name for span, _, _ in sink.spans] == span_names(20)


@pytest.mark.parametrize(("status", "tries"), [(400, 3), (422, 3), (401, 1), (404, 1), (500, 5)])
def test_refused_spans_are_counted_as_lost(cleanup: list[Any], status: int, tries: int) -> None:
    """They are not sent again, except after a server error (five tries) and in halves if they may be malformed.
    Later spans are delivered."""
    refusal = (status, {"Retry-After": "0"}, b"")
    receiver, sending = receiver_and_sender(cleanup, lambda number, _: OK if number > tries else refusal)
    sending.spans(3)
    assert sending.pipeline.drain(30)
    sending.spans(2)
    assert sending.pipeline.drain(30)
    assert len(receiver.sizes) == tries + 1
    assert sending.pipeline.stats() == (5, 2, {"refused": 3}, 0)


@pytest.mark.parametrize("bad", [0, 37, 99])
def test_of_a_malformed_request_only_the_invalid_span_is_lost(cleanup: list[Any], bad: int) -> None:
    """The receiver answers 400 to its request. At most 2 · log2(100) + 1 requests find the span."""
    receiver, sending = receiver_and_sender(cleanup, lambda *_: OK)
    receiver.malformed = {f"span {bad}"}
    sending.spans(100)
    assert sending.pipeline.drain(30)
    assert sorted(receiver.accepted) == sorted(set(span_names(100)) - receiver.malformed)
    assert sending.pipeline.stats() == (100, 99, {"refused": 1}, 0)
    assert len(receiver.sizes) <= 14


def test_a_wrong_address_gets_three_requests(cleanup: list[Any]) -> None:
    """It answers 400 to everything: the request and its halves are tried, then all spans are lost."""
    receiver, sending = receiver_and_sender(cleanup, lambda *_: (400, {}, b""))
    sending.spans(512)
    assert sending.pipeline.drain(30)
    assert sending.pipeline.stats() == (512, 0, {"refused": 512}, 0)
    assert len(receiver.sizes) == 3


def test_spans_rejected_in_a_partial_success_are_lost(cleanup: list[Any]) -> None:
    """The other spans of the request count as delivered."""
    partial = ExportTraceServiceResponse()
    partial.partial_success.rejected_spans = 3
    _, sending = receiver_and_sender(cleanup, lambda *_: (200, {}, partial.SerializeToString()))
    sending.spans(10)
    assert sending.pipeline.drain(30)
    assert sending.pipeline.stats() == (10, 7, {"rejected": 3}, 0)


def test_requests_stay_below_the_usual_limit(cleanup: list[Any]) -> None:
    """Large batches of spans with 2 kB each: no request is above 4 MB."""
    receiver, sending = receiver_and_sender(cleanup, lambda *_: OK)
    sending.spans(6000, "x" * 2000)
    assert sending.pipeline.drain(60)
    assert sorted(receiver.accepted) == sorted(span_names(6000))
    assert max(receiver.sizes) <= 4_000_000
    assert sum(receiver.sizes) > 12_000_000


def test_a_request_that_is_too_large_is_halved(cleanup: list[Any]) -> None:
    """The receiver answers 413 to more than 10 spans. A single span that is too large is lost."""
    receiver, sending = receiver_and_sender(cleanup, lambda _, spans: OK if spans <= 10 else (413, {}, b""))
    sending.spans(100)
    assert sending.pipeline.drain(30)
    assert receiver.accepted == span_names(100)
    _, refusing = receiver_and_sender(cleanup, lambda *_: (413, {}, b""))
    refusing.spans(2)
    assert refusing.pipeline.drain(30)
    assert refusing.pipeline.stats() == (2, 0, {"too_large": 2}, 0)


@pytest.mark.skipif(
    receivers.missing_reason("collector") is not None, reason=str(receivers.missing_reason("collector"))
)
@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_requests_respect_the_limit_of_a_real_collector(
    cleanup: list[Any], tmp_path: Path, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It accepts 300 kB over HTTP and 1 MiB over gRPC, with a different error for each: all spans arrive."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    with bad.limited_collector(tmp_path) as collector:
        sending = Sending(collector.grpc if protocol == "grpc" else collector.http)
        cleanup.append(sending)
        sending.spans(1200, "x" * 1500)
        assert sending.pipeline.drain(60)
        assert sending.pipeline.stats() == (1200, 1200, {}, 0)
        assert sorted(span.name for span, _, _ in collector.sink.wait_for(1200)) == sorted(span_names(1200))


@pytest.mark.parametrize(
    ("code", "details", "lost"),
    [
        ("PERMISSION_DENIED", "no", "refused"),
        ("RESOURCE_EXHAUSTED", "received message larger than max (9 vs. 4)", "too_large"),
        ("RESOURCE_EXHAUSTED", "quota", "refused"),
    ],
)
def test_a_final_grpc_error_loses_the_spans(cleanup: list[Any], code: str, details: str, lost: str) -> None:
    """For the codes that are not retried, according to the OTLP specification."""
    with bad.grpc_server(code, details) as port:
        exporter = make_exporter("otlp_proto_grpc", f"http://127.0.0.1:{port}")
        sending = Sending.__new__(Sending)
        sending.pipeline = BatchProcessor(exporter, "grpc")
        for _ in range(3):
            sending.pipeline.put(TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span("span"))
        cleanup.append(sending)
        assert sending.pipeline.drain(30)
        assert sending.pipeline.stats() == (3, 0, {lost: 3}, 0)
        sending.pipeline.stop(5)


def test_spans_wait_while_the_grpc_receiver_is_down(cleanup: list[Any]) -> None:
    """It answers UNAVAILABLE."""
    with bad.grpc_server("UNAVAILABLE") as port:
        sending = Sending.__new__(Sending)
        sending.pipeline = BatchProcessor(make_exporter("otlp_proto_grpc", f"http://127.0.0.1:{port}"), "grpc")
        cleanup.append(sending)
        sending.pipeline.put(TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span("span"))
        assert not sending.pipeline.drain(1)
        assert sending.pipeline.stats() == (1, 0, {}, 1)
        sending.pipeline.stop(0)


def test_each_try_over_grpc_opens_a_connection(cleanup: list[Any]) -> None:
    """A channel that failed to connect would wait for seconds, later for minutes, before it tries again. The program
    could end before that, although the receiver is up again."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        tries = []

        def refuse() -> None:
            with contextlib.suppress(OSError):
                while True:
                    tries.append(listening.accept()[0].close())

        refusing = threading.Thread(target=refuse)
        refusing.start()
        sender = make_exporter("otlp_proto_grpc", f"http://127.0.0.1:{listening.getsockname()[1]}").sender
        answers = [sender.send(b"").outcome.name for _ in range(5)]
        sender.close()
        closed = sender.send(b"")
        listening.shutdown(socket.SHUT_RDWR)
        refusing.join()
    assert answers == ["RETRY"] * 5
    assert len(tries) >= 5
    assert closed.detail == "closed"
