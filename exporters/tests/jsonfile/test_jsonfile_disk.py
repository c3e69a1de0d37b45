"""The JSON file exporter when the disk is full, files move, and several processes write and die."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import SpanContext, TraceFlags
from otelflow_exporters._jsonfile import rotating_file
from otelflow_exporters.jsonfile import JsonFileSpanExporter
from programs import clean_environment, run

SUCCESS, FAILURE = SpanExportResult.SUCCESS, SpanExportResult.FAILURE

needs_a_user = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make an exporter to ``spans.jsonl`` in a folder of this test, with settings by the last word of their names."""

    def made(**more: str) -> JsonFileSpanExporter:
        for name, value in {"path": str(tmp_path / "spans.jsonl"), **more}.items():
            monkeypatch.setenv(f"OTELFLOW_EXPORTER_JSONFILE_{name.upper()}", value)
        return JsonFileSpanExporter()

    return made


def span(name: str) -> ReadableSpan:
    return ReadableSpan(name, SpanContext(1, 1, False, TraceFlags(1)), start_time=1, end_time=2)


def names(*paths: Path) -> list[str]:
    """Names of the spans in the lines that are whole."""
    found = []
    for path in paths:
        for line in path.read_bytes().splitlines():
            try:
                (resource,) = json.loads(line)["resourceSpans"]
            except ValueError:
                continue
            found += [each["name"] for scope in resource["scopeSpans"] for each in scope["spans"]]
    return found


def rotated(folder: Path) -> list[Path]:
    return sorted(folder.glob("spans-*.jsonl"))


def said(caplog: Any) -> list[str]:
    return [record.message for record in caplog.records if record.name == "otelflow"]


HEAD = """
import os, sys, time
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from otelflow_exporters.jsonfile import JsonFileSpanExporter
exporter = JsonFileSpanExporter()
provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(SimpleSpanProcessor(exporter))
tracer = provider.get_tracer("any")
"""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_is_survived(make: Any, caplog: Any) -> None:
    """export says FAILURE, once in the log; force_flush says that something is missing."""
    exporter = make(path="/dev/full")
    assert exporter.export([span("a")]) is FAILURE
    assert exporter.export([span("b"), span("c")]) is FAILURE
    assert exporter.lost == 3
    (line,) = said(caplog)
    assert line.startswith("otelflow_jsonfile cannot write to /dev/full: ")
    assert "No space left" in line
    assert exporter.force_flush() is False


def test_half_a_line_is_taken_back(tmp_path: Path) -> None:
    """Where the disk takes only a part of a batch, no part is left; with room again, writing goes on."""
    path = tmp_path / "spans.jsonl"
    program = """
    import resource
    tracer.start_span("first").end()
    size = os.stat(exporter._file.path).st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, resource.RLIM_INFINITY))
    tracer.start_span("lost").end()
    assert os.stat(exporter._file.path).st_size == size
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    tracer.start_span("last").end()
    print(exporter.lost)
    """
    done = run(program, head=HEAD, OTELFLOW_EXPORTER_JSONFILE_PATH=str(path))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1\n"
    assert len(path.read_text().splitlines()) == 2
    assert names(path) == ["first", "last"]
    assert "File too large" in done.stderr
    assert f"otelflow_jsonfile writes to {path} again; 1 spans are lost." in done.stderr


def test_a_torn_line_spoils_nothing(make: Any, tmp_path: Path) -> None:
    """A writer that was killed left half a line: the next one starts on a new line."""
    path = tmp_path / "spans.jsonl"
    exporter = make()
    exporter.export([span("a")])
    path.write_bytes(path.read_bytes() + b'{"resourceSpans":[{"reso')
    exporter.export([span("b")])
    assert len(path.read_text().splitlines()) == 3
    assert names(path) == ["a", "b"]


def test_the_folder_may_go_and_come(make: Any, tmp_path: Path, caplog: Any) -> None:
    """It is made again; where that is impossible, spans are lost and counted until it is possible."""
    folder = tmp_path / "logs"
    exporter = make(path=str(folder / "spans.jsonl"))
    exporter.export([span("a")])
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.write_text("in the way")
    assert [exporter.export([span("b")]), exporter.export([span("b")])] == [FAILURE, FAILURE]
    folder.unlink()
    assert exporter.export([span("c")]) is SUCCESS
    assert names(folder / "spans.jsonl") == ["c"]
    assert [line.split(" to ")[0] for line in said(caplog)] == [
        "otelflow_jsonfile cannot write",
        "otelflow_jsonfile writes",
    ]
    assert exporter.lost == 2


@needs_a_user
def test_a_folder_that_cannot_be_written(make: Any, tmp_path: Path, caplog: Any) -> None:
    """A file that is there already is written, without lock and rotation."""
    path = tmp_path / "spans.jsonl"
    path.touch()
    tmp_path.chmod(0o500)
    try:
        exporter = make(max_bytes="1")
        assert [exporter.export([span("a")]), exporter.export([span("b")])] == [SUCCESS, SUCCESS]
    finally:
        tmp_path.chmod(0o700)
    assert names(path) == ["a", "b"]
    (line,) = said(caplog)
    assert line.startswith("otelflow_jsonfile writes without a lock, and cannot rotate: ")


def test_a_lock_that_cannot_be_had(make: Any, tmp_path: Path, caplog: Any) -> None:
    """Here a folder is in its place: the file is written all the same, and rotated when the lock can be had again."""
    (tmp_path / "spans.jsonl.lock").mkdir()
    exporter = make(max_bytes="1")
    assert [exporter.export([span("a")]), exporter.export([span("b")])] == [SUCCESS, SUCCESS]
    (line,) = said(caplog)
    assert line.startswith("otelflow_jsonfile writes without a lock, and cannot rotate: ")
    assert rotated(tmp_path) == []
    (tmp_path / "spans.jsonl.lock").rmdir()
    exporter.export([span("c")])
    assert names(*rotated(tmp_path)) == ["a", "b"]


def test_a_holder_that_is_stopped(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for it for ever: lines are appended without the lock."""
    monkeypatch.setattr(rotating_file, "_PATIENCE_SECONDS", 0.05)
    holder = FileLock(str(tmp_path / "spans.jsonl.lock"))
    exporter = make()
    with holder:
        assert exporter.export([span("a")]) is SUCCESS
    assert exporter.export([span("b")]) is SUCCESS
    assert names(tmp_path / "spans.jsonl") == ["a", "b"]


def test_other_tools_may_move_the_file(make: Any, tmp_path: Path) -> None:
    """logrotate moves or removes it: the next batch begins a new one, and what was moved is synced where it is."""
    path, exporter = tmp_path / "spans.jsonl", make()
    exporter.export([span("a")])
    path.rename(tmp_path / "spans.jsonl.1")
    exporter.export([span("b")])
    assert exporter.force_flush() is True
    assert (names(tmp_path / "spans.jsonl.1"), names(path)) == (["a"], ["b"])
    exporter.export([span("c")])
    path.unlink()
    assert exporter.force_flush() is False
    exporter.export([span("d")])
    assert exporter.force_flush() is True
    assert names(path) == ["d"]


@pytest.mark.parametrize(("policy", "synced"), [("never", [0, 0]), ("flush", [0, 1]), ("batch", [2, 2])])
def test_when_it_syncs(policy: str, synced: list[int], make: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """With ``batch`` each batch, with ``flush`` when asked, with ``never`` never."""
    files = []

    def fsync(file: int, real: Any = os.fsync) -> None:
        if os.fstat(file).st_ino == path.stat().st_ino:
            files.append(file)
        real(file)

    path = tmp_path / "spans.jsonl"
    exporter = make(fsync=policy)
    monkeypatch.setattr(os, "fsync", fsync)
    exporter.export([span("a")])
    exporter.export([span("b")])
    before = len(files)
    assert exporter.force_flush() is True
    assert [before, len(files)] == synced
    exporter.shutdown()
    assert len(files) == synced[1]


def test_a_disk_that_fails_to_sync(make: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """force_flush says so, and raises nothing."""

    def fsync(file: int) -> None:
        raise OSError(5, "Input/output error")

    exporter = make()
    exporter.export([span("a")])
    monkeypatch.setattr(os, "fsync", fsync)
    assert exporter.force_flush() is False
    assert "Input/output error" in said(caplog)[0]
    exporter.shutdown()


def test_rotation_by_size(make: Any, tmp_path: Path, caplog: Any) -> None:
    """No file grows beyond it, the newest are kept, other files are left alone, and the first deletion is told."""
    other = tmp_path / "spans-other.jsonl"
    other.touch()
    exporter = make(max_bytes="1000", keep="2")
    for number in range(20):
        assert exporter.export([span(f"s{number}")]) is SUCCESS
    files = [*(each for each in rotated(tmp_path) if each != other), tmp_path / "spans.jsonl"]
    assert len(files) == 3
    assert all(path.stat().st_size <= 1000 for path in files)
    found = names(*files)
    assert found == [f"s{number}" for number in range(20 - len(found), 20)]
    assert other.exists()
    (line,) = said(caplog)
    assert line.startswith("otelflow_jsonfile keeps 2 rotated files: deleted ")


def test_rotation_by_age(make: Any, tmp_path: Path) -> None:
    """A file has what was written in one period; the one before is put away at the first batch of the next."""
    path = tmp_path / "spans.jsonl"
    exporter = make(max_age="3600", max_bytes="0")
    exporter.export([span("a")])
    os.utime(path, (path.stat().st_mtime - 3600,) * 2)
    exporter.export([span("b")])
    assert (names(*rotated(tmp_path)), names(path)) == (["a"], ["b"])


def test_where_it_cannot_rotate_it_writes_on(make: Any, tmp_path: Path, monkeypatch: Any, caplog: Any) -> None:
    """Too long a file is better than none."""

    def rename(*_: Any) -> None:
        raise PermissionError("open in another program")

    exporter = make(max_bytes="1")
    monkeypatch.setattr(os, "rename", rename)
    for name in "abc":
        assert exporter.export([span(name)]) is SUCCESS
    assert names(tmp_path / "spans.jsonl") == ["a", "b", "c"]
    assert said(caplog) == ["otelflow_jsonfile cannot rotate: open in another program."]


WRITER = """
for number in range(100):
    tracer.start_span(f"{sys.argv[1]}.{number}", attributes={"text": "x" * 2000}).end()
assert exporter.lost == 0
"""


def test_many_processes_write_one_file(tmp_path: Path) -> None:
    """No line is torn or lost, also while the file is rotated under them, and nobody rotates what is new."""
    environment = clean_environment(
        OTELFLOW_EXPORTER_JSONFILE_PATH=str(tmp_path / "spans.jsonl"),
        OTELFLOW_EXPORTER_JSONFILE_MAX_BYTES="100000",
        OTELFLOW_EXPORTER_JSONFILE_KEEP="1000",
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", HEAD + WRITER, str(number)], env=environment) for number in range(4)
    ]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0, 0]
    old = rotated(tmp_path)
    assert all(90_000 < path.stat().st_size <= 100_000 for path in old)
    files = [*old, tmp_path / "spans.jsonl"]
    assert sum(len(path.read_text().splitlines()) for path in files) == 400
    assert Counter(names(*files)) == Counter(f"{writer}.{number}" for writer in range(4) for number in range(100))


KILLED = """
from filelock import FileLock
lock = FileLock(exporter._file.path + ".lock")
lock.acquire()
file = os.open(exporter._file.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
os.write(file, b'{"resourceSpans":[{"res')
os.kill(os.getpid(), 9)
"""


def test_a_writer_that_is_killed_holds_nobody_up(make: Any, tmp_path: Path, caplog: Any) -> None:
    """The lock goes with its process, and the half line of it is a line by itself."""
    done = run(KILLED, head=HEAD, OTELFLOW_EXPORTER_JSONFILE_PATH=str(tmp_path / "spans.jsonl"))
    assert done.returncode == -9
    exporter = make(fsync="batch")
    assert exporter.export([span("a")]) is SUCCESS
    assert said(caplog) == []
    assert names(tmp_path / "spans.jsonl") == ["a"]


THREADS_AND_FORKS = """
import threading

def make(who):
    for number in range(50):
        tracer.start_span(f"{who}.{number}").end()

threads = [threading.Thread(target=make, args=(f"thread{number}",)) for number in range(4)]
for thread in threads:
    thread.start()
children = []
for number in range(5):
    child = os.fork()
    if not child:
        make(f"child{number}")
        whole = exporter.lost == 0 and exporter.force_flush()
        os._exit(0 if whole else 1)
    children.append(child)
for thread in threads:
    thread.join()
assert [os.waitpid(child, 0)[1] for child in children] == [0] * 5
assert exporter.lost == 0
assert exporter.force_flush()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_threads_and_forks(tmp_path: Path) -> None:
    """A fork in the midst of other threads' writes: the children write as well, and every span is there once."""
    path = tmp_path / "spans.jsonl"
    done = run(THREADS_AND_FORKS, head=HEAD, OTELFLOW_EXPORTER_JSONFILE_PATH=str(path))
    assert done.returncode == 0, done.stderr
    who = [f"thread{number}" for number in range(4)] + [f"child{number}" for number in range(5)]
    assert Counter(names(path)) == Counter(f"{each}.{number}" for each in who for number in range(50))


def test_a_pipe_is_written_as_it_is(tmp_path: Path) -> None:
    """``/dev/stdout``: nothing is locked or rotated there."""
    done = run('tracer.start_span("a").end()', head=HEAD, OTELFLOW_EXPORTER_JSONFILE_PATH="/dev/stdout", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (resource,) = json.loads(done.stdout)["resourceSpans"]
    assert resource["scopeSpans"][0]["spans"][0]["name"] == "a"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_a_pipe_that_nobody_reads(make: Any, tmp_path: Path) -> None:
    """Is an error, not a program that hangs."""
    os.mkfifo(tmp_path / "spans.jsonl")
    assert make().export([span("a")]) is FAILURE


def test_in_a_program_that_never_heard_of_otelflow(tmp_path: Path) -> None:
    """``opentelemetry-instrument`` finds it by OTEL_TRACES_EXPORTER; what the program made is there when it ends."""
    (tmp_path / "app.py").write_text(
        "from opentelemetry import trace\n"
        'with trace.get_tracer("plain").start_as_current_span("request"):\n'
        "    pass\n"
        "import sys\n"
        'assert "otelflow" not in sys.modules\n'
    )
    environment = clean_environment(
        OTEL_TRACES_EXPORTER="otelflow_jsonfile",
        OTEL_METRICS_EXPORTER="none",
        OTEL_LOGS_EXPORTER="none",
        OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="*",
        OTELFLOW_EXPORTER_JSONFILE_PATH="out.jsonl",
    )
    words = [str(Path(sys.executable).with_name("opentelemetry-instrument")), sys.executable, "app.py"]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert names(tmp_path / "out.jsonl") == ["request"]
