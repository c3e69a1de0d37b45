"""Cases: several processes, and servers."""

from __future__ import annotations

import signal
import sys
import threading
import time
import urllib.request

from lifecycle.matrix import Case, Running

IN_CHILDREN = """
import multiprocessing

configure()

def job(_=None):
    make(5)
    return os.getpid()
"""


def _multiprocessing_case(method: str) -> Case:
    return Case(
        f"`multiprocessing`, {method}",
        f"""{IN_CHILDREN}
if __name__ == "__main__":
    make(5)
    children = [multiprocessing.get_context("{method}").Process(target=job) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    announce_exit()
""",
        spans=15,
    )


PROCESSES = [
    Case(
        "`os.fork`, the child ends as programs do",
        """
configure()
make(5)
if os.fork() == 0:
    make(5)
    sys.exit()
os.wait()
make(5)
announce_exit()
""",
        spans=15,
    ),
    Case(
        "`os.fork` inside a flow, which the child leaves, too",
        """
@flow
def parent():
    step()
    if os.fork() == 0:
        make(5)
        sys.exit()
    os.wait()
    step()

configure()
parent()
announce_exit()
""",
        spans=8,
    ),
    Case(
        "`os.fork`, the child calls `flush()` and `os._exit`",
        """
configure()
make(5)
if os.fork() == 0:
    make(5)
    flush()
    os._exit(0)
os.wait()
announce_exit()
""",
    ),
    Case(
        "`os.exec`",
        "configure()\nmake(10)\nannounce_exit()\n"
        "os.execv(sys.executable, [sys.executable, '-c', 'raise SystemExit(4)'])",
        code=4,
    ),
    *[_multiprocessing_case(method) for method in ("fork", "spawn", "forkserver")],
    Case(
        "`multiprocessing.Process.terminate()`",
        f"""{IN_CHILDREN}
def endless(pipe):
    job()
    pipe.send("done")
    time.sleep(60)

if __name__ == "__main__":
    read_end, write_end = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=endless, args=(write_end,))
    make(5)
    child.start()
    read_end.recv()
    announce_exit()
    child.terminate()
    child.join()
    sys.exit(child.exitcode + 100)
""",
        code=100 - signal.SIGTERM,
    ),
    Case(
        "`multiprocessing.Pool.terminate()`",
        f"""{IN_CHILDREN}
if __name__ == "__main__":
    make(5)
    pool = multiprocessing.get_context("fork").Pool(2)
    pool.map(job, range(4), 1)
    announce_exit()
    pool.terminate()
    pool.join()
""",
        spans=25,
    ),
    Case(
        "`ProcessPoolExecutor.shutdown(cancel_futures=True)` in the middle",
        f"""{IN_CHILDREN}
from concurrent.futures import ProcessPoolExecutor

if __name__ == "__main__":
    make(5)
    pool = ProcessPoolExecutor(2, multiprocessing.get_context("fork"))
    futures = [pool.submit(job) for _ in range(200)]
    futures[0].result()
    announce_exit()
    pool.shutdown(cancel_futures=True)
    report_span_count(5 + 5 * sum(not future.cancelled() for future in futures))
""",
    ),
]

APP = """
import asyncio

@flow
def answer():
    step()
    step()

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    answer()
    if scope["path"] == "/slow":
        write_line("in flight")
        await asyncio.sleep(0.5)
        answer()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})

configure()
"""

WSGI_APP = """
@flow
def answer():
    step()
    step()

def app(environ, start_response):
    answer()
    if environ["PATH_INFO"] == "/slow":
        write_line("in flight")
        time.sleep(0.5)
        answer()
    start_response("200 OK", [("Content-Length", "4")])
    return [b"done"]

configure()
"""


def _stop_server_with_two_workers(running: Running) -> None:
    """Stop the server once both workers of gunicorn have booted.

    On a busy machine, a worker that was just forked misses gunicorn's only SIGTERM, and is killed 30 s later.
    """
    running.wait_for("booted", times=2)
    _stop_server(running)


def _stop_server(running: Running) -> None:
    """Get three answers, and send SIGTERM during the fourth request, which must be answered as well."""
    assert running.listening
    url = f"http://127.0.0.1:{running.listening.getsockname()[1]}"
    for _ in range(3):
        _ask(url)
    answers: list[bytes] = []
    client = threading.Thread(target=lambda: answers.append(_ask(f"{url}/slow")))
    client.start()
    running.wait_for("in flight")
    time.sleep(0.1)
    running.signal(signal.SIGTERM)
    client.join()
    assert answers == [b"done"]


def _ask(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=30) as response:
        body: bytes = response.read()
        return body


UVICORN = (sys.executable, "-m", "uvicorn", "program:app", "--fd", "{fd}", "--log-level", "warning")
GUNICORN = (
    *(sys.executable, "-m", "gunicorn", "program:app", "--bind", "fd://{fd}", "--log-level", "warning"),
    *("--workers", "2", "--no-control-socket", "-c", "python:gunicorn_says"),
)

SERVERS = [
    Case(
        "SIGTERM to uvicorn, a request in flight",
        APP,
        spans=15,
        act=_stop_server,
        command=UVICORN,
        serves=True,
        code=-signal.SIGTERM,
    ),
    Case(
        "SIGTERM to uvicorn with two workers, a request in flight",
        APP,
        spans=15,
        act=_stop_server,
        command=(*UVICORN, "--workers", "2"),
        serves=True,
    ),
    Case(
        "SIGTERM to gunicorn with two workers, a request in flight",
        WSGI_APP,
        spans=15,
        act=_stop_server_with_two_workers,
        command=GUNICORN,
        serves=True,
    ),
    Case(
        "SIGTERM to gunicorn with `--preload`, a request in flight",
        WSGI_APP,
        spans=15,
        act=_stop_server_with_two_workers,
        command=(*GUNICORN, "--preload"),
        serves=True,
    ),
]
