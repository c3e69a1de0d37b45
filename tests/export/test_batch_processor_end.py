"""The batch processor in programs that fork, hear signals and end."""

from __future__ import annotations

from pathlib import Path

import programs
import pytest
import receiver as receivers
from processes import free_ports


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
