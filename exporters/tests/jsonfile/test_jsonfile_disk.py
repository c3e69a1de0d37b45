"""The JSON file exporter with full disks, moved files, and several processes that write and die."""

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

not_as_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that makes an exporter with a file in ``tmp_path``. It takes settings by their last words."""

    def make_exporter(**options: str) -> JsonFileSpanExporter:
        for name, value in {"path": str(tmp_path / "spans.jsonl"), **options}.items():
            monkeypatch.setenv(f"OTELFLOW_EXPORTER_JSONFILE_{name.upper()}", value)
        return JsonFileSpanExporter()

    return make_exporter


def span(name: str) -> ReadableSpan:
    return ReadableSpan(name, SpanContext(1, 1, False, TraceFlags(1)), start_time=1, end_time=2)


def names(*paths: Path) -> list[str]:
    """Return the names of the spans in the complete lines."""
    span_names = []
    for path in paths:
        for line in path.read_bytes().splitlines():
            try:
                (resource,) = json.loads(line)["resourceSpans"]
            except ValueError:
                continue
            span_names += [span["name"] for scope in resource["scopeSpans"] for span in scope["spans"]]
    return span_names


def rotated_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("spans-*.jsonl"))


def log_messages(caplog: Any) -> list[str]:
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
def test_a_full_disk(make: Any, caplog: Any) -> None:
    """export returns FAILURE, the log has one line, and force_flush returns False."""
    exporter = make(path="/dev/full")
    assert exporter.export([span("a")]) is FAILURE
    assert exporter.export([span("b"), span("c")]) is FAILURE
    assert exporter.lost == 3
    (line,) = log_messages(caplog)
    assert line.startswith("otelflow_jsonfile cannot write to /dev/full, spans are lost: ")
    assert "No space left" in line
    assert exporter.force_flush() is False


def test_an_incomplete_line_is_removed(tmp_path: Path) -> None:
    """If the disk has room for only a part of a batch, no part is left. Writing continues when there is room again."""
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
    process = run(program, head=HEAD, OTELFLOW_EXPORTER_JSONFILE_PATH=str(path))
    assert process.returncode == 0, process.stderr
    assert process.stdout == "1\n"
    assert len(path.read_text().splitlines()) == 2
    assert names(path) == ["first", "last"]
    assert "File too large" in process.stderr
    assert f"otelflow_jsonfile writes to {path} again; 1 spans were lost." in process.stderr


def test_a_torn_line_does_not_damage_the_next_one(make: Any, tmp_path: Path) -> None:
    """A killed writer left an incomplete line. The next batch starts on a new line."""
    path = tmp_path / "spans.jsonl"
    exporter = make()
    exporter.export([span("a")])
    path.write_bytes(path.read_bytes() + b'{"resourceSpans":[{"reso')
    exporter.export([span("b")])
    assert len(path.read_text().splitlines()) == 3
    assert names(path) == ["a", "b"]


def test_a_removed_folder_is_created_again(make: Any, tmp_path: Path, caplog: Any) -> None:
    """While that is impossible, spans are lost and counted."""
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
    assert [line.split(" to ")[0] for line in log_messages(caplog)] == [
        "otelflow_jsonfile cannot write",
        "otelflow_jsonfile writes",
    ]
    assert exporter.lost == 2


@not_as_root
def test_a_folder_that_cannot_be_written(make: Any, tmp_path: Path, caplog: Any) -> None:
    """An existing file is written, without lock and rotation."""
    path = tmp_path / "spans.jsonl"
    path.touch()
    tmp_path.chmod(0o500)
    try:
        exporter = make(max_bytes="1")
        assert [exporter.export([span("a")]), exporter.export([span("b")])] == [SUCCESS, SUCCESS]
    finally:
        tmp_path.chmod(0o700)
    assert names(path) == ["a", "b"]
    (line,) = log_messages(caplog)
    assert line.startswith("otelflow_jsonfile writes without a lock and cannot rotate the file: ")


def test_a_lock_that_cannot_be_acquired(make: Any, tmp_path: Path, caplog: Any) -> None:
    """A folder is in its place. The file is written nevertheless, and rotated when the lock can be acquired again."""
    (tmp_path / "spans.jsonl.lock").mkdir()
    exporter = make(max_bytes="1")
    assert [exporter.export([span("a")]), exporter.export([span("b")])] == [SUCCESS, SUCCESS]
    (line,) = log_messages(caplog)
    assert line.startswith("otelflow_jsonfile writes without a lock and cannot rotate the file: ")
    assert rotated_files(tmp_path) == []
    (tmp_path / "spans.jsonl.lock").rmdir()
    exporter.export([span("c")])
    assert names(*rotated_files(tmp_path)) == ["a", "b"]


def test_a_stopped_process_that_holds_the_lock(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No batch waits for it without a limit: lines are appended without the lock."""
    monkeypatch.setattr(rotating_file, "_LOCK_TIMEOUT_SECONDS", 0.05)
    holder = FileLock(str(tmp_path / "spans.jsonl.lock"))
    exporter = make()
    with holder:
        assert exporter.export([span("a")]) is SUCCESS
    assert exporter.export([span("b")]) is SUCCESS
    assert names(tmp_path / "spans.jsonl") == ["a", "b"]


def test_other_tools_may_move_the_file(make: Any, tmp_path: Path) -> None:
    """If logrotate moves or removes it, the next batch begins a new file. The moved file is synced at its new path."""
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
    """``batch``: at each batch. ``flush``: at force_flush. ``never``: not at all."""
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
    synced_by_export = len(files)
    assert exporter.force_flush() is True
    assert [synced_by_export, len(files)] == synced
    exporter.shutdown()
    assert len(files) == synced[1]


def test_a_disk_that_fails_to_sync(make: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """force_flush returns False, and does not raise."""

    def fsync(file: int) -> None:
        raise OSError(5, "Input/output error")

    exporter = make()
    exporter.export([span("a")])
    monkeypatch.setattr(os, "fsync", fsync)
    assert exporter.force_flush() is False
    assert "Input/output error" in log_messages(caplog)[0]
    exporter.shutdown()


def test_rotation_by_size(make: Any, tmp_path: Path, caplog: Any) -> None:
    """No file exceeds the size, the newest files are kept, other files stay, and the first deletion is logged."""
    other = tmp_path / "spans-other.jsonl"
    other.touch()
    exporter = make(max_bytes="1000", keep="2")
    for number in range(20):
        assert exporter.export([span(f"s{number}")]) is SUCCESS
    files = [*(path for path in rotated_files(tmp_path) if path != other), tmp_path / "spans.jsonl"]
    assert len(files) == 3
    assert all(path.stat().st_size <= 1000 for path in files)
    span_names = names(*files)
    assert span_names == [f"s{number}" for number in range(20 - len(span_names), 20)]
    assert other.exists()
    (line,) = log_messages(caplog)
    assert line.startswith("otelflow_jsonfile keeps 2 rotated files (OTELFLOW_EXPORTER_JSONFILE_KEEP) and deleted ")


def test_rotation_by_age(make: Any, tmp_path: Path) -> None:
    """A file has the spans of one period. It is rotated at the first batch of the next period."""
    path = tmp_path / "spans.jsonl"
    exporter = make(max_age="3600", max_bytes="0")
    exporter.export([span("a")])
    os.utime(path, (path.stat().st_mtime - 3600,) * 2)
    exporter.export([span("b")])
    assert (names(*rotated_files(tmp_path)), names(path)) == (["a"], ["b"])


def test_a_file_that_cannot_be_rotated_is_still_written(
    make: Any, tmp_path: Path, monkeypatch: Any, caplog: Any
) -> None:
    """A file that is too long is better than none."""

    def rename(*_: Any) -> None:
        raise PermissionError("open in another program")

    exporter = make(max_bytes="1")
    monkeypatch.setattr(os, "rename", rename)
    for name in "abc":
        assert exporter.export([span(name)]) is SUCCESS
    assert names(tmp_path / "spans.jsonl") == ["a", "b", "c"]
    assert log_messages(caplog) == [
        "otelflow_jsonfile cannot rotate the file and continues in it: open in another program."
    ]


WRITER = """
for number in range(100):
    tracer.start_span(f"{sys.argv[1]}.{number}", attributes={"text": "x" * 2000}).end()
assert exporter.lost == 0
"""


def test_many_processes_write_one_file(tmp_path: Path) -> None:
    """No line is torn or lost, also during rotations, and no process rotates a new file."""
    environment = clean_environment(
        OTELFLOW_EXPORTER_JSONFILE_PATH=str(tmp_path / "spans.jsonl"),
        OTELFLOW_EXPORTER_JSONFILE_MAX_BYTES="100000",
        OTELFLOW_EXPORTER_JSONFILE_KEEP="1000",
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", HEAD + WRITER, str(number)], env=environment) for number in range(4)
    ]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0, 0]
    old = rotated_files(tmp_path)
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


def test_a_killed_writer_does_not_block_others(make: Any, tmp_path: Path, caplog: Any) -> None:
    """The lock ends with its process, and its incomplete line is a line by itself."""
    process = run(KILLED, head=HEAD, OTELFLOW_EXPORTER_JSONFILE_PATH=str(tmp_path / "spans.jsonl"))
    assert process.returncode == -9
    exporter = make(fsync="batch")
    assert exporter.export([span("a")]) is SUCCESS
    assert log_messages(caplog) == []
    assert names(tmp_path / "spans.jsonl") == ["a"]


THREADS_AND_FORKS = """
import threading

def make_spans(writer):
    for number in range(50):
        tracer.start_span(f"{writer}.{number}").end()

threads = [threading.Thread(target=make_spans, args=(f"thread{number}",)) for number in range(4)]
for thread in threads:
    thread.start()
children = []
for number in range(5):
    child = os.fork()
    if not child:
        make_spans(f"child{number}")
        is_complete = exporter.lost == 0 and exporter.force_flush()
        os._exit(0 if is_complete else 1)
    children.append(child)
for thread in threads:
    thread.join()
assert [os.waitpid(child, 0)[1] for child in children] == [0] * 5
assert exporter.lost == 0
assert exporter.force_flush()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_threads_and_forks(tmp_path: Path) -> None:
    """Processes fork while other threads write. The children write as well, and every span arrives once."""
    path = tmp_path / "spans.jsonl"
    process = run(THREADS_AND_FORKS, head=HEAD, OTELFLOW_EXPORTER_JSONFILE_PATH=str(path))
    assert process.returncode == 0, process.stderr
    writers = [f"thread{number}" for number in range(4)] + [f"child{number}" for number in range(5)]
    assert Counter(names(path)) == Counter(f"{writer}.{number}" for writer in writers for number in range(50))


def test_a_pipe_is_written_without_lock_and_rotation(tmp_path: Path) -> None:
    """The path is ``/dev/stdout``."""
    process = run(
        'tracer.start_span("a").end()', head=HEAD, OTELFLOW_EXPORTER_JSONFILE_PATH="/dev/stdout", cwd=tmp_path
    )
    assert process.returncode == 0, process.stderr
    (resource,) = json.loads(process.stdout)["resourceSpans"]
    assert resource["scopeSpans"][0]["spans"][0]["name"] == "a"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_a_pipe_without_a_reader(make: Any, tmp_path: Path) -> None:
    """It is an error, and the program does not hang."""
    os.mkfifo(tmp_path / "spans.jsonl")
    assert make().export([span("a")]) is FAILURE


def test_in_a_program_without_otelflow(tmp_path: Path) -> None:
    """``opentelemetry-instrument`` finds the exporter by OTEL_TRACES_EXPORTER. At the end its spans are in the file."""
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
    process = subprocess.run(
        words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert process.returncode == 0, process.stderr
    assert names(tmp_path / "out.jsonl") == ["request"]
