"""The batch processor in programs that fork, get signals, or end."""

from __future__ import annotations

from pathlib import Path

import programs
import pytest
import receiver as receivers
from processes import free_ports


def test_a_child_does_not_use_its_parents_connections() -> None:
    """Parent and child both send after a fork with an open connection, and each span arrives once."""
    sink = receivers.Sink()
    try:
        process = programs.run(
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
        assert process.facts == {"child": 0, "ok": True}, process.stderr
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
def test_a_signal_sends_waiting_spans_and_ends_the_process(name: str, status: int, sink: receivers.Sink) -> None:
    """Without a handler of the program: all spans are delivered, and the exit status is that of the signal."""
    process = programs.run(
        f"{HANDLED}os.kill(os.getpid(), signal.{name}); time.sleep(30)", OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint
    )
    assert (process.returncode, len(sink.spans)) == (status, 4), process.stderr


def test_a_signal_during_a_span(sink: receivers.Sink) -> None:
    """The handler waits for no lock of the interrupted code. The program creates spans all the time."""
    process = programs.run(
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
    assert process.returncode == -15, process.stderr
    assert len(sink.spans) > 100


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_handler_of_the_program_stays_in_place(when: str, sink: receivers.Sink) -> None:
    """It may be set before or after configure(); waiting spans are sent at exit as usual."""
    handler = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))"
    lines = [handler, "configure()"] if when == "before" else ["configure()", handler]
    process = programs.run(
        "\n".join(["import signal", *lines, "work(3).execute()", "os.kill(os.getpid(), signal.SIGTERM)"]),
        OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
    )
    assert (process.returncode, len(sink.spans)) == (7, 4), process.stderr


def test_otelflow_sets_no_signal_handlers_if_disabled_or_off_the_main_thread() -> None:
    """``OTELFLOW_SIGNALS=false`` disables them. configure() on another thread than the main one sets none."""
    facts = programs.run(
        """
        import signal, threading
        thread = threading.Thread(target=configure); thread.start(); thread.join()
        say(thread=signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
        """,
        OTEL_TRACES_EXPORTER="none",
    ).facts
    off = programs.run(
        "import signal; configure(); say(off=signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)",
        OTEL_TRACES_EXPORTER="none",
        OTELFLOW_SIGNALS="false",
    ).facts
    assert {**facts, **off} == {"thread": True, "off": True}


def test_spans_of_an_atexit_function_are_sent(sink: receivers.Sink) -> None:
    """No thread can be started at that time; the spans of its flow still arrive."""
    process = programs.run(
        "import atexit; configure(); atexit.register(lambda: work(2).execute())",
        OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
    )
    assert (process.returncode, len(sink.spans)) == (0, 3), process.stderr


def test_a_flush_waits_until_the_spool_has_sent_its_folder(tmp_path: Path) -> None:
    """The report is true if and only if everything on disk was accepted; its numbers are those of the folder."""
    (port,) = free_ports(1)
    environment = {
        "OTEL_TRACES_EXPORTER": "otelflow_spool",
        "OTELFLOW_EXPORTER_SPOOL_DIR": str(tmp_path / "spool"),
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
    }
    say = "work(3).execute(); r = flush({}); say(ok=bool(r), delivered=r.delivered, pending=r.pending, lost=r.lost)"
    down = programs.run(f"configure(); {say.format(1)}", **environment)
    assert down.facts == {"ok": False, "delivered": 0, "pending": 4, "lost": {}}, down.stderr
    sink = receivers.Sink(port)
    try:
        up = programs.run(f"configure(); {say.format(30)}", **environment)
        assert up.facts == {"ok": True, "delivered": 4, "pending": 0, "lost": {}}, up.stderr
        assert len(sink.spans) == 8
    finally:
        sink.close()


def test_a_flush_after_shutdown_does_not_wait_for_the_spool(tmp_path: Path) -> None:
    """The spool sends nothing after shutdown; its folder is for the next process. The timeout may be infinite."""
    process = programs.run(
        """
        configure(); work(3).execute(); shutdown(1)
        began = time.monotonic(); report = flush(float("inf"))
        say(took=time.monotonic() - began, ok=bool(report), pending=report.pending)
        """,
        OTEL_TRACES_EXPORTER="otelflow_spool",
        OTELFLOW_EXPORTER_SPOOL_DIR=str(tmp_path / "spool"),
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{free_ports(1)[0]}",
    )
    assert (process.facts["ok"], process.facts["pending"]) == (False, 4), process.stderr
    assert process.facts["took"] < 5


def test_overflow_of_a_full_queue_goes_to_the_spool(tmp_path: Path) -> None:
    """With ``OTELFLOW_WHEN_FULL=spool``, nothing is lost, and all spans arrive."""
    environment = {
        "OTELFLOW_EXPORTER_SPOOL_DIR": str(tmp_path / "spool"),
        "OTELFLOW_WHEN_FULL": "spool",
        "OTELFLOW_QUEUE_SIZE": "100",
    }
    sink = receivers.Sink()
    try:
        process = programs.run(
            "configure(); work(5000).execute(); r = flush(60); say(ok=bool(r), produced=stats().produced, lost=r.lost)",
            OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
            **environment,
        )
        assert process.facts == {"ok": True, "produced": 5001, "lost": {}}, process.stderr
        assert len({span.span_id for span, _, _ in sink.spans}) == 5001
    finally:
        sink.close()
