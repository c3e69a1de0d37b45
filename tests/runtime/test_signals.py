"""Signals, and os.exec: handled where there is something to send, and where nobody else handles them."""

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
    "A call that keeps the main thread from every handler, as a database's driver may."
    import ctypes
    lock, c = ctypes.create_string_buffer(64), ctypes.CDLL(None)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    c.pthread_mutex_lock(lock)
    c.pthread_mutex_lock(lock)

def names():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("otelflow")]
"""
)

linux = pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells who wrote to a socket on Linux only")


def run(source: str, sink: Sink, **environment: str) -> Any:
    return programs.run(source, head=HEAD, OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint, timeout=30, **environment)


@linux
def test_a_main_thread_that_does_not_return(sink: Sink) -> None:
    """A thread beside sends what waits and ends the process, by the signal."""
    done = run("configure(); work(3).execute(); stuck()", sink)
    assert (done.returncode, len(sink.spans)) == (-signal.SIGTERM, 4)


def test_a_handler_of_the_users_in_the_midst_of_counting(sink: Sink) -> None:
    """It asks for the numbers while its thread holds their lock, and waits for nobody."""
    done = run(
        """
        from otelflow._runtime.drop_counts import counts
        stats()
        asked = 0
        def handler(*_):
            global asked
            asked += 1
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
        say(exact=stats().dropped["values_cut"] == number, asked=asked > 9)
        """,
        sink,
    )
    assert done.said == {"exact": True, "asked": True}, done.stderr


@linux
def test_nothing_to_send(sink: Sink) -> None:
    """There is no thread, and the signal ends the process in the midst of whatever it does."""
    done = run("configure(); say(names=names()); stuck()", sink)
    assert (done.returncode, done.said) == (-signal.SIGTERM, {"names": []})


@linux
def test_a_forked_child_has_nothing_to_send(sink: Sink) -> None:
    """It is ended at once as well; with spans of its own, they are sent before."""
    done = run(
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
    assert (done.said, len(sink.spans)) == ({"codes": [-signal.SIGTERM, -signal.SIGTERM]}, 6), done.stderr


@linux
def test_a_signal_to_a_child_is_none_to_its_parent(sink: Sink) -> None:
    """Just after the fork, a child's handler writes to its parent's socket: nobody listens to that."""
    done = run(
        """
        from otelflow._runtime import exit_hooks
        configure(); work(3).execute()
        theirs = [there for _, there in exit_hooks._watchdog._sockets]
        child = subprocess.Popen([sys.executable, "-c", "import os; os.write(0, b'x')"], stdin=theirs[0])
        assert child.wait() == 0
        time.sleep(0.6)
        say(lives=True)
        """,
        sink,
    )
    assert (done.returncode, done.said) == (0, {"lives": True})


@linux
def test_a_handler_in_c_is_left_alone(sink: Sink) -> None:
    """Python does not tell of one that it did not set: faulthandler's, a driver's, a virtual machine's."""
    done = run(
        """
        import faulthandler
        faulthandler.register(signal.SIGTERM, file=sys.stderr)
        configure(); work(3).execute()
        os.kill(os.getpid(), signal.SIGTERM)
        say(lives=True, handler=signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
        """,
        sink,
    )
    assert (done.returncode, done.said) == (0, {"lives": True, "handler": True})
    assert "Current thread" in done.stderr or "Stack (most recent call first)" in done.stderr


def test_exec_fails_as_it_does(sink: Sink) -> None:
    """The same exceptions, and another program once there is one: what waited has been sent then."""
    done = run(
        """
        configure(); work(3).execute()
        caught = []
        for path in ("/not/there", "/not\\0valid", 1.5):
            try:
                os.execv(path, ["x"])
            except Exception as error:
                caught.append(type(error).__name__)
        say(caught=caught)
        os.execlp(sys.executable, "python", "-c", "print('SAID {\\"replaced\\": true}')")
        """,
        sink,
    )
    assert done.said == {"caught": ["FileNotFoundError", "ValueError", "TypeError"], "replaced": True}, done.stderr
    assert len(sink.spans) == 4


def test_no_files_left(sink: Sink) -> None:
    """What cannot be watched is left to the main thread, and the program does not notice."""
    done = run(
        """
        import resource
        configure()
        resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
        held = []
        try:
            while True:
                held.append(open(os.devnull))
        except OSError:
            step(1)
        for file in held:
            file.close()
        say(handler=callable(signal.getsignal(signal.SIGTERM)))
        os.kill(os.getpid(), signal.SIGTERM)
        """,
        sink,
    )
    assert (done.returncode, done.said, len(sink.spans)) == (-signal.SIGTERM, {"handler": True}, 1), done.stderr
