"""Delivery: what becomes of a request that the receiver refuses, limits or is not there for."""

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
from sending import OK, Scripted, Sending, both, names

from otelflow._export.batch_processor import BatchProcessor
from otelflow._providers.exporters import make_exporter


def test_a_receiver_that_is_busy_is_asked_again(started: list[Any]) -> None:
    """503 and 429 with Retry-After: the same spans come again, not before the time that it says."""
    answers = {1: (503, {}, b""), 2: (429, {"Retry-After": "0.5"}, b"")}
    receiver, sending = both(started, lambda number, _: answers.get(number, OK))
    sending.spans(10)
    assert sending.pipeline.drain(30)
    assert receiver.accepted == names(10)
    assert len(receiver.times) == 3
    assert receiver.times[2] - receiver.times[1] >= 0.5


@pytest.mark.parametrize("wish", ["0", "-3", "0.001", "Mon, 01 Jan 0001 00:00:00 -0000"])
def test_a_receiver_that_asks_for_no_time_is_left_some(started: list[Any], wish: str) -> None:
    """A Retry-After of 0, or a date of a clock that is behind: it is not asked again and again without a rest."""
    receiver, sending = both(started, lambda *_: (503, {"Retry-After": wish}, b""))
    sending.spans(1)
    assert not sending.pipeline.drain(0.7)
    assert 2 <= len(receiver.times) <= 4


def test_a_header_that_cannot_be_sent_is_refused(started: list[Any]) -> None:
    """It will not be better later; so nothing waits for that."""
    receiver = Scripted(lambda *_: OK)
    sending = Sending(receiver.endpoint)
    started += [receiver, sending]
    sending.pipeline.exporter.sender._headers["X-Key"] = "two\nlines"
    sending.spans(2)
    assert sending.pipeline.drain(30)
    assert sending.pipeline.stats() == (2, 0, {"refused": 2}, 0)


def test_an_outage_loses_nothing(started: list[Any]) -> None:
    """Nobody listens while the spans end; they arrive when somebody does."""
    (port,) = free_ports(1)
    sending = Sending(f"http://127.0.0.1:{port}")
    started.append(sending)
    sending.spans(20)
    assert not sending.pipeline.drain(0.6)
    assert sending.pipeline.stats() == (20, 0, {}, 20)
    sink = receivers.Sink(port)
    started.append(sink)
    assert sending.pipeline.drain(30)
    assert [span.name for span, _, _ in sink.spans] == names(20)


@pytest.mark.parametrize(("status", "tries"), [(400, 3), (422, 3), (401, 1), (404, 1), (500, 5)])
def test_what_a_receiver_refuses_is_lost_and_counted(started: list[Any], status: int, tries: int) -> None:
    """It is not sent again; after an error of the receiver's own a few times, and in halves where it may be malformed.
    What comes after it goes its way."""
    refused = (status, {"Retry-After": "0"}, b"")
    receiver, sending = both(started, lambda number, _: OK if number > tries else refused)
    sending.spans(3)
    assert sending.pipeline.drain(30)
    sending.spans(2)
    assert sending.pipeline.drain(30)
    assert len(receiver.sizes) == tries + 1
    assert sending.pipeline.stats() == (5, 2, {"refused": 3}, 0)


@pytest.mark.parametrize("bad", [0, 37, 99])
def test_one_malformed_span_does_not_take_others_with_it(started: list[Any], bad: int) -> None:
    """400 for the request that it is in: it alone is lost, found with at most 2 · log2(100) + 1 requests."""
    receiver, sending = both(started, lambda *_: OK)
    receiver.malformed = {f"span {bad}"}
    sending.spans(100)
    assert sending.pipeline.drain(30)
    assert sorted(receiver.accepted) == sorted(set(names(100)) - receiver.malformed)
    assert sending.pipeline.stats() == (100, 99, {"refused": 1}, 0)
    assert len(receiver.sizes) <= 14


def test_a_wrong_address_is_asked_three_times(started: list[Any]) -> None:
    """400 for everything: the request and its halves are tried, then all is lost."""
    receiver, sending = both(started, lambda *_: (400, {}, b""))
    sending.spans(512)
    assert sending.pipeline.drain(30)
    assert sending.pipeline.stats() == (512, 0, {"refused": 512}, 0)
    assert len(receiver.sizes) == 3


def test_a_partial_success_is_no_success(started: list[Any]) -> None:
    """Spans that the receiver rejects are counted as lost."""
    partial = ExportTraceServiceResponse()
    partial.partial_success.rejected_spans = 3
    _, sending = both(started, lambda *_: (200, {}, partial.SerializeToString()))
    sending.spans(10)
    assert sending.pipeline.drain(30)
    assert sending.pipeline.stats() == (10, 7, {"rejected": 3}, 0)


def test_requests_are_below_the_receivers_limit(started: list[Any]) -> None:
    """Spans of 2 kB, in batches as large as they come: no request is above 4 MiB."""
    receiver, sending = both(started, lambda *_: OK)
    sending.spans(6000, "x" * 2000)
    assert sending.pipeline.drain(60)
    assert sorted(receiver.accepted) == sorted(names(6000))
    assert max(receiver.sizes) <= 4_000_000
    assert sum(receiver.sizes) > 12_000_000


def test_a_request_that_is_too_large_is_halved(started: list[Any]) -> None:
    """413 for more than 10 spans: parts of it are sent. A single span that is too large is lost, and no other."""
    receiver, sending = both(started, lambda _, spans: OK if spans <= 10 else (413, {}, b""))
    sending.spans(100)
    assert sending.pipeline.drain(30)
    assert receiver.accepted == names(100)
    _, refusing = both(started, lambda *_: (413, {}, b""))
    refusing.spans(2)
    assert refusing.pipeline.drain(30)
    assert refusing.pipeline.stats() == (2, 0, {"too_large": 2}, 0)


@pytest.mark.skipif(receivers.missing("collector") is not None, reason=str(receivers.missing("collector")))
@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_the_limit_of_a_real_collector(
    started: list[Any], tmp_path: Path, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes 300 kB by HTTP and 1 MiB by gRPC, and says so in its own ways: all spans arrive."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    with bad.limited_collector(tmp_path) as collector:
        sending = Sending(collector.grpc if protocol == "grpc" else collector.http)
        started.append(sending)
        sending.spans(1200, "x" * 1500)
        assert sending.pipeline.drain(60)
        assert sending.pipeline.stats() == (1200, 1200, {}, 0)
        assert sorted(span.name for span, _, _ in collector.sink.wait_for(1200)) == sorted(names(1200))


@pytest.mark.parametrize(
    ("code", "details", "lost"),
    [
        ("PERMISSION_DENIED", "no", "refused"),
        ("RESOURCE_EXHAUSTED", "received message larger than max (9 vs. 4)", "too_large"),
        ("RESOURCE_EXHAUSTED", "quota", "refused"),
    ],
)
def test_what_grpc_refuses(started: list[Any], code: str, details: str, lost: str) -> None:
    """The codes of OTLP's specification that are not to be tried again."""
    with bad.grpc_server(code, details) as port:
        exporter = make_exporter("otlp_proto_grpc", f"http://127.0.0.1:{port}")
        sending = Sending.__new__(Sending)
        sending.pipeline = BatchProcessor(exporter, "grpc")
        for _ in range(3):
            sending.pipeline.put(TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span("span"))
        started.append(sending)
        assert sending.pipeline.drain(30)
        assert sending.pipeline.stats() == (3, 0, {lost: 3}, 0)
        sending.pipeline.stop(5)


def test_grpc_is_asked_again_while_it_is_away(started: list[Any]) -> None:
    """UNAVAILABLE: the spans wait."""
    with bad.grpc_server("UNAVAILABLE") as port:
        sending = Sending.__new__(Sending)
        sending.pipeline = BatchProcessor(make_exporter("otlp_proto_grpc", f"http://127.0.0.1:{port}"), "grpc")
        started.append(sending)
        sending.pipeline.put(TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span("span"))
        assert not sending.pipeline.drain(1)
        assert sending.pipeline.stats() == (1, 0, {}, 1)
        sending.pipeline.stop(0)


def test_each_try_over_grpc_is_one(started: list[Any]) -> None:
    """A channel that could not connect would not for seconds, and after some minutes for minutes: the receiver is there
    again, and the program ends without having asked it."""
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
