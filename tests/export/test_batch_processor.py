"""The batch processor: its queue, its thread, and the results of spans for each behaviour of a receiver."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections import deque
from typing import Any

import programs
import pytest
import receiver as receivers
from opentelemetry.sdk.trace import TracerProvider
from processes import free_ports
from sending import OK, Answer, AnsweringReceiver, Sending, receiver_and_sender, span_names
from services import until

from otelflow._export.batch_processor import BatchProcessor
from otelflow._export.queue import Queue
from otelflow._providers.exporters import make_exporter


def test_spans_arrive_in_order(cleanup: list[Any]) -> None:
    """With more spans than a batch, each arrives once, in the order in which they ended."""
    receiver, sending = receiver_and_sender(cleanup, lambda *_: OK)
    sending.spans(5000)
    assert sending.pipeline.drain(30)
    assert receiver.accepted == span_names(5000)
    assert sending.pipeline.stats() == (5000, 5000, {}, 0)


def test_an_idle_processor_holds_no_span(cleanup: list[Any]) -> None:
    """Delivered spans are freed, also those of the last batch."""
    _, sending = receiver_and_sender(cleanup, lambda *_: OK)
    span = TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span("span")
    span.end()
    sending.pipeline.put(span)
    reference = weakref.ref(span)
    del span
    assert sending.pipeline.drain(30)
    until(lambda: gc.collect() >= 0 and reference() is None, "end of the span")


def test_put_waits_for_room_in_a_full_queue(cleanup: list[Any]) -> None:
    """With ``wait``, ending a span waits for room. A slow receiver then causes no loss."""

    def answer_slowly(*_: int) -> Answer:
        time.sleep(0.02)
        return OK

    receiver, sending = receiver_and_sender(cleanup, answer_slowly, queue_size=100, batch_size=50, wait=30.0)
    sending.spans(1000)
    assert sending.pipeline.drain(30)
    assert (len(receiver.accepted), sending.pipeline.stats().lost) == (1000, {})


def test_a_full_queue_overflows_to_another_exporter(cleanup: list[Any]) -> None:
    """With ``overflow``, the oldest spans go to another exporter, and the numbers include both."""
    second = AnsweringReceiver(lambda *_: OK)
    cleanup.append(second)
    overflow = BatchProcessor(make_exporter("otlp", second.endpoint), "second", delay=60.0)
    (port,) = free_ports(1)
    sending = Sending(f"http://127.0.0.1:{port}", queue_size=100, batch_size=50, overflow=overflow)
    cleanup.append(sending)
    sending.spans(1000)
    sending.pipeline.drain(0.5)
    overflow.drain(30)
    numbers = sending.pipeline.stats()
    assert (numbers.produced, numbers.lost, numbers.delivered) == (1000, {}, len(second.accepted))
    assert numbers.delivered >= 850
    assert numbers.delivered + numbers.pending == 1000


def test_a_large_item_and_its_size_are_added_in_one_step() -> None:
    """Another thread that takes items in between never gets the internal wrapper of the item."""
    items: list[Any] = []

    class Interrupted(deque[Any]):
        def append(self, item: Any) -> None:
            other = threading.Thread(target=lambda: items.extend(queue.take(9)))
            other.start()
            other.join(0.2)
            super().append(item)

    queue = Queue(100, 1_000_000, lambda: None)
    queue._items = Interrupted()
    queue.put("large", 5000)
    until(lambda: items.extend(queue.take(9)) or items, "the item")
    assert items == ["large"]
    assert queue._bytes == 0


def test_a_signal_handler_can_flush_while_its_thread_holds_the_lock(cleanup: list[Any]) -> None:
    """The export thread needs that lock: the flush releases it while it waits, and acquires it again."""
    receiver, sending = receiver_and_sender(cleanup, lambda *_: OK)
    queue = sending.pipeline._queue
    with queue.lock, queue.lock:
        sending.spans(3)
        assert sending.pipeline.drain(10)
        other = threading.Thread(target=queue.take, args=(1,), daemon=True)
        other.start()
        other.join(0.1)
        assert other.is_alive()
    assert receiver.accepted == span_names(3)


def test_a_thread_that_could_not_start_is_started_later(cleanup: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The process may be at its limit of threads when the first span ends, and below it later."""
    receiver, sending = receiver_and_sender(cleanup, lambda *_: OK)

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as limited:
        limited.setattr(threading.Thread, "start", start)
        sending.spans(2)
    assert sending.pipeline.stats() == (2, 0, {}, 2)
    assert sending.pipeline.drain(30)
    assert receiver.accepted == span_names(2)


def test_a_shutdown_without_a_thread_returns_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """stop() tries to start the thread again; only at the interpreter's end does it export on the caller's thread."""

    class Hangs:
        def export(self, _: Any) -> None:
            hanging.wait(10)

        def shutdown(self) -> None:
            pass

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    hanging, pipeline = threading.Event(), BatchProcessor(Hangs(), "hangs")
    with monkeypatch.context() as limited:
        limited.setattr(threading.Thread, "start", start)
        pipeline.put("item")
    start_time = time.monotonic()
    pipeline.stop(0.2)
    took = time.monotonic() - start_time
    hanging.set()
    for thread in threading.enumerate():  # its losses must be logged during this test, not the next one
        if thread.name == "otelflow-export-hangs":
            thread.join(10)
    assert took < 5


def test_a_signal_handler_during_the_start_starts_no_second_thread(
    cleanup: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A span that ends in the handler is exported by the same thread."""
    receiver, sending = receiver_and_sender(cleanup, lambda *_: OK)
    threads: list[threading.Thread] = []
    original_start = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        threads.append(thread)
        if len(threads) == 1:
            sending.spans(1)
        original_start(thread)

    with monkeypatch.context() as interrupted:
        interrupted.setattr(threading.Thread, "start", start)
        sending.spans(1)
    assert [thread.name for thread in threads if thread.name == "otelflow-export-otlp"] == ["otelflow-export-otlp"]
    assert sending.pipeline.drain(30)
    assert len(receiver.accepted) == 2


def test_the_queue_is_bounded_in_bytes(cleanup: list[Any]) -> None:
    """Large spans fill it sooner; dropped spans are counted."""
    (port,) = free_ports(1)
    sending = Sending(f"http://127.0.0.1:{port}", queue_bytes=1_000_000)
    cleanup.append(sending)
    sending.spans(100, "x" * 100_000)
    numbers = sending.pipeline.stats()
    assert numbers.lost["queue_full"] >= 89
    assert numbers.produced == 100 == numbers.pending + numbers.lost["queue_full"]


def test_a_burst_of_100_000_spans_is_delivered() -> None:
    """One process creates them as fast as it can, with default settings and a real receiver: none is lost."""
    sink = receivers.Sink()
    try:
        process = programs.run(
            "configure(); results = [step(i) for i in range(100_000)]; r = flush(90); say(ok=bool(r), lost=r.lost)",
            OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
            timeout=120,
        )
        assert process.facts == {"ok": True, "lost": {}}, process.stderr
        assert len(sink.spans) == 100_000
    finally:
        sink.close()


def test_losses_are_logged_once_a_minute(cleanup: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    """One line has the numbers, the receiver's response and what to do; it has no credentials."""
    receiver = AnsweringReceiver(lambda *_: (401, {}, b""))
    sending = Sending(receiver.endpoint.replace("//", "//user:hidden@"))
    cleanup += [receiver, sending]
    for _ in range(5):
        sending.spans(3)
        sending.pipeline.drain(30)
    (line,) = [record.getMessage() for record in caplog.records if record.name == "otelflow"]
    assert "3 refused (otlp). The last response was: HTTP 401." in line
    assert "otelflow doctor" in line
    assert "hidden" not in line


def test_a_span_that_cannot_be_encoded_is_counted(cleanup: list[Any]) -> None:
    """The other spans of its batch arrive."""
    receiver, sending = receiver_and_sender(cleanup, lambda *_: OK)

    class Broken(type(TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span("span"))):  # type: ignore[misc]
        @property
        def attributes(self) -> Any:
            raise RuntimeError("no attributes")

        _attributes = attributes

    sending.spans(2)
    sending.pipeline.put(Broken.__new__(Broken))
    sending.spans(1)
    assert sending.pipeline.drain(30)
    assert len(receiver.accepted) == 3
    assert sending.pipeline.stats() == (4, 3, {"not_encoded": 1}, 0)
