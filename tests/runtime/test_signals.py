"""Test signals and os.exec: handled if there is data to send and no other handler."""

from __future__ import annotations

import signal
import sys
from typing import Any

import programs
import pytest
from receiver import Sink

HEAD = (
    programs.HEAD
    + """
import signal, subprocess, threading

def stuck():
    "Block the main thread in a call that runs no handler, as a database driver may."
    import ctypes
    lock, c = ctypes.create_string_buffer(64), ctypes.CDLL(None)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    c.pthread_mutex_lock(lock)
    c.pthread_mutex_lock(lock)

def names():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("otelflow")]
"""
)

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports who wrote to a socket")


def run(source: str, sink: Sink, **environment: str) -> Any:
    return programs.run(source, head=HEAD, OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint, timeout=30, **environment)


@linux
def test_a_signal_sends_spans_while_the_main_thread_hangs(sink: Sink) -> None:
    """A thread sends the queued spans and ends the process by the signal."""
    result = run("configure(); work(3).execute(); stuck()", sink)
    assert (result.returncode, len(sink.spans)) == (-signal.SIGTERM, 4)


def test_a_signal_handler_can_call_stats_during_counting(sink: Sink) -> None:
    """The handler reads the counts while its own thread holds their lock, and does not block."""
    result = run(
        """
        from otelflow._runtime.drop_counts import counts
        stats()
        calls = 0
        def handler(*_):
            global calls
            calls += 1
            stats()
            signal.setitimer(signal.ITIMER_REAL, 0.0005)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.0005)
        end = time.monotonic() + 2
        number = 0
        while time.monotonic() < end:
            counts.add("values_cut")
            number += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        say(exact=stats().dropped["values_cut"] == number, called=calls > 9)
        """,
        sink,
    )
    assert result.facts == {"exact": True, "called": True}, result.stderr


@linux
def test_a_signal_ends_a_process_with_nothing_to_send_at_once(sink: Sink) -> None:
    """There is no thread, and the signal ends the process during any call."""
    result = run("configure(); say(names=names()); stuck()", sink)
    assert (result.returncode, result.facts) == (-signal.SIGTERM, {"names": []})


@linux
def test_a_signal_ends_a_forked_child(sink: Sink) -> None:
    """It ends a child without spans at once. A child with spans sends them first."""
    result = run(
        """
        configure(); work(3).execute()
        codes = []
        for spans in (0, 2):
            child = os.fork()
            if child == 0:
                if spans:
                    work(spans - 1).execute()
                stuck()
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        say(codes=codes)
        """,
        sink,
    )
    assert (result.facts, len(sink.spans)) == ({"codes": [-signal.SIGTERM, -signal.SIGTERM]}, 6), result.stderr


@linux
def test_a_signal_to_a_child_does_not_end_its_parent(sink: Sink) -> None:
    """Just after the fork, a child's handler writes to its parent's socket: the parent ignores that."""
    result = run(
        """
        from otelflow._runtime import exit_hooks
        configure(); work(3).execute()
        writers = [writer for _, writer in exit_hooks._watchdog._sockets]
        child = subprocess.Popen([sys.executable, "-c", "import os; os.write(0, b'x')"], stdin=writers[0])
        assert child.wait() == 0
        time.sleep(0.6)
        say(lives=True)
        """,
        sink,
    )
    assert (result.returncode, result.facts) == (0, {"lives": True})


@linux
def test_a_handler_in_c_is_left_alone(sink: Sink) -> None:
    """Python does not report handlers that it did not set: of faulthandler, a driver, a virtual machine."""
    result = run(
        """
        import faulthandler
        faulthandler.register(signal.SIGTERM, file=sys.stderr)
        configure(); work(3).execute()
        os.kill(os.getpid(), signal.SIGTERM)
        say(lives=True, handler=signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
        """,
        sink,
    )
    assert (result.returncode, result.facts) == (0, {"lives": True, "handler": True})
    assert "Current thread" in result.stderr or "Stack (most recent call first)" in result.stderr


def test_exec_sends_spans_and_raises_the_usual_errors(sink: Sink) -> None:
    """The exceptions are unchanged. If the call succeeds, the queued spans were sent before."""
    result = run(
        """
        configure(); work(3).execute()
        caught = []
        for path in ("/not/there", "/not\\0valid", 1.5):
            try:
                os.execv(path, ["x"])
            except Exception as error:
                caught.append(type(error).__name__)
        say(caught=caught)
        os.execlp(sys.executable, "python", "-c", "print('FACTS {\\"replaced\\": true}')")
        """,
        sink,
    )
    assert result.facts == {"caught": ["FileNotFoundError", "ValueError", "TypeError"], "replaced": True}, result.stderr
    assert len(sink.spans) == 4


def test_signals_work_when_no_file_descriptor_is_left(sink: Sink) -> None:
    """The handler on the main thread remains, and the program does not notice."""
    result = run(
        """
        import resource
        configure()
        resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
        files = []
        try:
            while True:
                files.append(open(os.devnull))
        except OSError:
            step(1)
        for file in files:
            file.close()
        say(handler=callable(signal.getsignal(signal.SIGTERM)))
        os.kill(os.getpid(), signal.SIGTERM)
        """,
        sink,
    )
    assert (result.returncode, result.facts, len(sink.spans)) == (-signal.SIGTERM, {"handler": True}, 1), result.stderr
