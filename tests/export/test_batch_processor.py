"""The queue, the thread and the senders: what a receiver does, and what becomes of the spans."""

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
from sending import OK, Answer, Scripted, Sending, both, names
from services import until

from otelflow._export.batch_processor import BatchProcessor
from otelflow._export.queue import Queue
from otelflow._providers.exporters import make_exporter


def test_what_arrives_is_in_order(started: list[Any]) -> None:
    """More spans than a batch: all arrive, once, in the order in which they ended."""
    receiver, sending = both(started, lambda *_: OK)
    sending.spans(5000)
    assert sending.pipeline.drain(30)
    assert receiver.accepted == names(5000)
    assert sending.pipeline.stats() == (5000, 5000, {}, 0)


def test_a_pipeline_at_rest_holds_no_span(started: list[Any]) -> None:
    """What was delivered is free, also the last batch, though nothing comes after it."""
    _, sending = both(started, lambda *_: OK)
    span = TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span("span")
    span.end()
    sending.pipeline.put(span)
    left = weakref.ref(span)
    del span
    assert sending.pipeline.drain(30)
    until(lambda: gc.collect() >= 0 and left() is None, "end of the span")


def test_a_full_queue_may_be_waited_for(started: list[Any]) -> None:
    """With ``wait``, who ends a span waits for room: nothing is lost where the receiver is only slow."""

    def slowly(*_: int) -> Answer:
        time.sleep(0.02)
        return OK

    receiver, sending = both(started, slowly, queue_size=100, batch_size=50, wait=30.0)
    sending.spans(1000)
    assert sending.pipeline.drain(30)
    assert (len(receiver.accepted), sending.pipeline.stats().lost) == (1000, {})


def test_a_full_queue_may_go_elsewhere(started: list[Any]) -> None:
    """With ``overflow``, the oldest go to another exporter, and one account has all."""
    second = Scripted(lambda *_: OK)
    started.append(second)
    overflow = BatchProcessor(make_exporter("otlp", second.endpoint), "second", delay=60.0)
    (port,) = free_ports(1)
    sending = Sending(f"http://127.0.0.1:{port}", queue_size=100, batch_size=50, overflow=overflow)
    started.append(sending)
    sending.spans(1000)
    sending.pipeline.drain(0.5)
    overflow.drain(30)
    account = sending.pipeline.stats()
    assert (account.produced, account.lost, account.delivered) == (1000, {}, len(second.accepted))
    assert account.delivered >= 850
    assert account.delivered + account.pending == 1000


def test_a_large_item_is_taken_in_at_once() -> None:
    """Its bytes and itself: a thread that comes in between would get it with its wrapping on."""
    taken: list[Any] = []

    class Interrupted(deque[Any]):
        def append(self, item: Any) -> None:
            other = threading.Thread(target=lambda: taken.extend(queue.take(9)))
            other.start()
            other.join(0.2)
            super().append(item)

    queue = Queue(100, 1_000_000, lambda: None)
    queue._items = Interrupted()
    queue.put("large", 5000)
    until(lambda: taken.extend(queue.take(9)) or taken, "the item")
    assert taken == ["large"]
    assert queue._bytes == 0


def test_a_signal_handler_in_the_midst_of_the_account(started: list[Any]) -> None:
    """What it interrupted holds the lock that the sending thread needs: a flush lets go of it, and takes it back."""
    receiver, sending = both(started, lambda *_: OK)
    queue = sending.pipeline._queue
    with queue.lock, queue.lock:
        sending.spans(3)
        assert sending.pipeline.drain(10)
        other = threading.Thread(target=queue.take, args=(1,), daemon=True)
        other.start()
        other.join(0.1)
        assert other.is_alive()
    assert receiver.accepted == names(3)


def test_a_thread_that_cannot_be_had_is_asked_for_again(started: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A process may be at its limit of threads when the first span ends, and below it soon after."""
    receiver, sending = both(started, lambda *_: OK)

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as limited:
        limited.setattr(threading.Thread, "start", start)
        sending.spans(2)
    assert sending.pipeline.stats() == (2, 0, {}, 2)
    assert sending.pipeline.drain(30)
    assert receiver.accepted == names(2)


def test_a_shutdown_without_a_thread_keeps_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is another try to have one; the caller's is for the interpreter's end only."""

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
    began = time.monotonic()
    pipeline.stop(0.2)
    took = time.monotonic() - began
    hanging.set()
    for thread in threading.enumerate():  # what it loses is said in its time, and not in another test's
        if thread.name == "otelflow-export-hangs":
            thread.join(10)
    assert took < 5


def test_a_signal_handler_while_the_thread_starts(started: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its spans make no second thread, which would take the first one's for its own."""
    receiver, sending = both(started, lambda *_: OK)
    made: list[threading.Thread] = []
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        made.append(thread)
        if len(made) == 1:
            sending.spans(1)
        real(thread)

    with monkeypatch.context() as interrupted:
        interrupted.setattr(threading.Thread, "start", start)
        sending.spans(1)
    assert [thread.name for thread in made if thread.name == "otelflow-export-otlp"] == ["otelflow-export-otlp"]
    assert sending.pipeline.drain(30)
    assert len(receiver.accepted) == 2


def test_the_queue_is_bounded_in_bytes(started: list[Any]) -> None:
    """Large spans fill it sooner; what goes is counted."""
    (port,) = free_ports(1)
    sending = Sending(f"http://127.0.0.1:{port}", queue_bytes=1_000_000)
    started.append(sending)
    sending.spans(100, "x" * 100_000)
    account = sending.pipeline.stats()
    assert account.lost["queue_full"] >= 89
    assert account.produced == 100 == account.pending + account.lost["queue_full"]


def test_a_burst_of_100_000_is_kept() -> None:
    """As fast as one process can make them, with all defaults, to a real receiver: lost 0."""
    sink = receivers.Sink()
    try:
        done = programs.run(
            "configure(); step_only = [step(i) for i in range(100_000)]; r = flush(90); say(ok=bool(r), lost=r.lost)",
            OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
            timeout=120,
        )
        assert done.said == {"ok": True, "lost": {}}, done.stderr
        assert len(sink.spans) == 100_000
    finally:
        sink.close()


def test_losses_are_said_once_a_minute(started: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    """One line with numbers, the receiver's answer and what to do, however much is lost; no credentials in it."""
    receiver = Scripted(lambda *_: (401, {}, b""))
    sending = Sending(receiver.endpoint.replace("//", "//user:hidden@"))
    started += [receiver, sending]
    for _ in range(5):
        sending.spans(3)
        sending.pipeline.drain(30)
    (line,) = [record.getMessage() for record in caplog.records if record.name == "otelflow"]
    assert "3 refused (otlp). The last answer was: HTTP 401." in line
    assert "otelflow doctor" in line
    assert "hidden" not in line


def test_a_span_that_cannot_be_encoded_is_counted(started: list[Any]) -> None:
    """It is left out of its batch, whose other spans arrive, and counted."""
    receiver, sending = both(started, lambda *_: OK)

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
