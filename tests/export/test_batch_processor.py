"""The queue, the thread and the senders: what a receiver does, and what becomes of the spans."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections import deque
from pathlib import Path
from typing import Any

import programs
import pytest
import receiver as receivers
from opentelemetry.sdk.trace import TracerProvider
from processes import free_ports
from sending import OK, Answer, Scripted, Sending, both, names
from services import until

from otelflow._export.batch_processor import Pipeline
from otelflow._export.queue import Queue
from otelflow._providers.exporters import make_exporter


def test_what_arrives_is_in_order(started: list[Any]) -> None:
    """More spans than a batch: all arrive, once, in the order in which they ended."""
    receiver, sending = both(started, lambda *_: OK)
    sending.spans(5000)
    assert sending.pipeline.drain(30)
    assert receiver.accepted == names(5000)
    assert sending.pipeline.account() == (5000, 5000, {}, 0)


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
    assert (len(receiver.accepted), sending.pipeline.account().lost) == (1000, {})


def test_a_full_queue_may_go_elsewhere(started: list[Any]) -> None:
    """With ``overflow``, the oldest go to another exporter, and one account has all."""
    second = Scripted(lambda *_: OK)
    started.append(second)
    overflow = Pipeline(make_exporter("otlp", second.endpoint), "second", delay=60.0)
    (port,) = free_ports(1)
    sending = Sending(f"http://127.0.0.1:{port}", queue_size=100, batch_size=50, overflow=overflow)
    started.append(sending)
    sending.spans(1000)
    sending.pipeline.drain(0.5)
    overflow.drain(30)
    account = sending.pipeline.account()
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
    assert sending.pipeline.account() == (2, 0, {}, 2)
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

    hanging, pipeline = threading.Event(), Pipeline(Hangs(), "hangs")
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
    account = sending.pipeline.account()
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


def test_a_child_does_not_use_its_parents_connections() -> None:
    """A connection that is open at the fork stays the parent's; both send, and each span arrives once."""
    sink = receivers.Sink()
    try:
        done = programs.run(
            """
            configure()
            work(1).execute(); flush(10)
            child = os.fork()
            ok = [bool(work(1).execute()) and bool(flush(10)) for _ in range(20)]
            if child == 0:
                os._exit(0 if all(ok) else 1)
            say(child=os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), ok=all(ok))
            """,
            OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
        )
        assert done.said == {"child": 0, "ok": True}, done.stderr
        ids = [span.span_id for span, _, _ in sink.spans]
        assert (len(ids), len(set(ids))) == (82, 82)
    finally:
        sink.close()


HANDLED = """
import signal
configure()
work(3).execute()
"""


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", -15), ("SIGHUP", -1)])
def test_a_signal_sends_what_waits_and_ends_the_process(name: str, status: int, sink: receivers.Sink) -> None:
    """Where nobody handles it: all is delivered, and the exit status is the signal's own."""
    done = programs.run(
        f"{HANDLED}os.kill(os.getpid(), signal.{name}); time.sleep(30)", OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint
    )
    assert (done.returncode, len(sink.spans)) == (status, 4), done.stderr


def test_a_signal_in_the_midst_of_a_span(sink: receivers.Sink) -> None:
    """The handler waits for no lock that the interrupted code holds: spans all the time, and a signal among them."""
    done = programs.run(
        """
        import signal, threading
        configure()
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
        while True:
            step(1)
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
        timeout=60,
    )
    assert done.returncode == -15, done.stderr
    assert len(sink.spans) > 100


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_handler_of_the_users_own_is_left_in_place(when: str, sink: receivers.Sink) -> None:
    """Set before configure() or after it; what waits is sent at the end, as at any."""
    own = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))"
    lines = [own, "configure()"] if when == "before" else ["configure()", own]
    done = programs.run(
        "\n".join(["import signal", *lines, "work(3).execute()", "os.kill(os.getpid(), signal.SIGTERM)"]),
        OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
    )
    assert (done.returncode, len(sink.spans)) == (7, 4), done.stderr


def test_signals_can_be_left_alone() -> None:
    """``OTELFLOW_SIGNALS=false``; and configure() in another thread than the main one never sets a handler."""
    facts = programs.run(
        """
        import signal, threading
        thread = threading.Thread(target=configure); thread.start(); thread.join()
        say(thread=signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
        """,
        OTEL_TRACES_EXPORTER="none",
    ).said
    off = programs.run(
        "import signal; configure(); say(off=signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)",
        OTEL_TRACES_EXPORTER="none",
        OTELFLOW_SIGNALS="false",
    ).said
    assert {**facts, **off} == {"thread": True, "off": True}


def test_spans_of_the_very_end_are_sent(sink: receivers.Sink) -> None:
    """A flow in an ``atexit`` function, where no thread can be started any more: its spans arrive."""
    done = programs.run(
        "import atexit; configure(); atexit.register(lambda: work(2).execute())",
        OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
    )
    assert (done.returncode, len(sink.spans)) == (0, 3), done.stderr


def test_a_flush_with_the_spool_waits_for_its_folder(tmp_path: Path) -> None:
    """True when, and only when, all that is on disk was taken; the numbers are those of the folder."""
    (port,) = free_ports(1)
    environment = {
        "OTEL_TRACES_EXPORTER": "otelflow_spool",
        "OTELFLOW_EXPORTER_SPOOL_DIR": str(tmp_path / "spool"),
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
    }
    say = "work(3).execute(); r = flush({}); say(ok=bool(r), delivered=r.delivered, pending=r.pending, lost=r.lost)"
    down = programs.run(f"configure(); {say.format(1)}", **environment)
    assert down.said == {"ok": False, "delivered": 0, "pending": 4, "lost": {}}, down.stderr
    sink = receivers.Sink(port)
    try:
        up = programs.run(f"configure(); {say.format(30)}", **environment)
        assert up.said == {"ok": True, "delivered": 4, "pending": 0, "lost": {}}, up.stderr
        assert len(sink.spans) == 8
    finally:
        sink.close()


def test_a_flush_after_the_end_does_not_wait_for_the_spool(tmp_path: Path) -> None:
    """It sends nothing any more, and what is in its folder is for the next process. An infinite time is one, too."""
    done = programs.run(
        """
        configure(); work(3).execute(); shutdown(1)
        began = time.monotonic(); report = flush(float("inf"))
        say(took=time.monotonic() - began, ok=bool(report), pending=report.pending)
        """,
        OTEL_TRACES_EXPORTER="otelflow_spool",
        OTELFLOW_EXPORTER_SPOOL_DIR=str(tmp_path / "spool"),
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{free_ports(1)[0]}",
    )
    assert (done.said["ok"], done.said["pending"]) == (False, 4), done.stderr
    assert done.said["took"] < 5


def test_what_the_queue_has_no_room_for_goes_to_the_spool(tmp_path: Path) -> None:
    """``OTELFLOW_WHEN_FULL=spool``: nothing is lost while the receiver hangs, and all is there afterwards."""
    environment = {
        "OTELFLOW_EXPORTER_SPOOL_DIR": str(tmp_path / "spool"),
        "OTELFLOW_WHEN_FULL": "spool",
        "OTELFLOW_QUEUE_SIZE": "100",
    }
    sink = receivers.Sink()
    try:
        done = programs.run(
            "configure(); work(5000).execute(); r = flush(60); say(ok=bool(r), produced=stats().produced, lost=r.lost)",
            OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
            **environment,
        )
        assert done.said == {"ok": True, "produced": 5001, "lost": {}}, done.stderr
        assert len({span.span_id for span, _, _ in sink.spans}) == 5001
    finally:
        sink.close()


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
    assert sending.pipeline.account() == (4, 3, {"not_encoded": 1}, 0)
