"""Artifacts that are too large for a span: a background thread stores them whole, and never blocks the program."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from artifact_stores import ROWS, STORES, stored_files
from programs import run as program

from otelflow import stats
from otelflow._artifacts.json_writer import OutOfBounds, whole_json
from otelflow._artifacts.storage import StorageUnavailable, public_url, storage_for
from otelflow._artifacts.store import Store


@pytest.fixture
def dropped() -> Iterator[Counter[str]]:
    """Counts what was left out since the test began; ``now()`` returns the current numbers."""

    class Dropped(Counter[str]):
        def now(self) -> dict[str, int]:
            return dict(Counter(stats().dropped) - before)

    before = Counter(stats().dropped)
    return Dropped()  # type: ignore[return-value]


# --- end to end -----------------------------------------------------------------------------------------------------


def test_a_large_artifact_is_stored_whole(tmp_path: Path) -> None:
    """The event has the URI, the size, the digest and a preview. When the program has ended, the file is complete.

    Only its owner can read it. The Flow object has the original object.
    """
    folder = tmp_path / "a" / "store"
    source = STORES + "run = makes(rows).execute()\nsay(event=event(), same=run.artifacts['rows'].data is rows)"
    done = program(source, OTELFLOW_ARTIFACT_STORE=folder.as_uri())
    event, whole = done.facts["event"], json.dumps(ROWS, ensure_ascii=False).encode()
    (file,) = stored_files(folder)
    body = file.read_bytes()
    assert json.loads(body) == ROWS
    digest = hashlib.sha256(body).hexdigest()
    assert event["otelflow.artifact.uri"] == f"{folder.as_uri()}/{digest[:2]}/{digest[2:4]}/{digest}.json"
    assert (event["otelflow.artifact.size"], event["otelflow.artifact.sha256"]) == (len(body), digest)
    assert len(body) == pytest.approx(len(whole), rel=0.01)
    assert event["otelflow.artifact.data"].startswith('[{"id": 0, "name": "customer 0"')
    assert event["otelflow.artifact.type"] == "table"
    assert done.facts["same"] is True
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for above in (file.parent, file.parent.parent, folder, folder.parent):
        assert stat.S_IMODE(above.stat().st_mode) == 0o700


def test_an_artifact_that_fits_a_span_is_not_stored(tmp_path: Path) -> None:
    """The span has all of it, and the module of the store is not even loaded."""
    source = STORES + "makes([1, 2]).execute()\nsay(event=event(), loaded='otelflow._artifacts.store' in sys.modules)"
    done = program(source, OTELFLOW_ARTIFACT_STORE=tmp_path.as_uri())
    assert done.facts["event"]["otelflow.artifact.data"] == "[1, 2]"
    assert done.facts["loaded"] is False
    assert stored_files(tmp_path) == []


def test_without_a_store() -> None:
    """The span has a preview, and for a text also its size."""
    source = (
        STORES + "makes(rows).execute()\nfirst = event()\nmakes('x' * 5000).execute()\nsay(first=first, second=event())"
    )
    done = program(source)
    assert "otelflow.artifact.uri" not in done.facts["first"]
    assert "otelflow.artifact.sha256" not in done.facts["first"]
    assert done.facts["second"]["otelflow.artifact.size"] == 5000


def test_a_span_that_is_not_recorded_stores_nothing(tmp_path: Path) -> None:
    """No file is written, as no event would refer to it."""
    source = STORES + "makes(rows).execute()\nsay(spans=len(exporter.get_finished_spans()))"
    done = program(source, OTELFLOW_ARTIFACT_STORE=tmp_path.as_uri(), OTEL_TRACES_SAMPLER="always_off")
    assert done.facts == {"spans": 0}
    assert stored_files(tmp_path) == []


def test_a_workers_artifacts_are_stored_once(tmp_path: Path) -> None:
    """The worker stores them before it ends; the submitting process does not store them again."""
    source = STORES.replace("@flow\ndef makes", "@task\ndef makes").replace("this_flow", "this_task")
    source = source.replace("return this_task", "return os.getpid()") + (
        "from concurrent.futures import ProcessPoolExecutor\n"
        "import multiprocessing\n"
        "from otelflow.propagate import propagating\n"
        "@flow\n"
        "def submits():\n"
        "    with propagating(ProcessPoolExecutor(1, multiprocessing.get_context('fork'))) as pool:\n"
        "        return pool.submit(makes, rows).result()\n"
        "submits().execute()\n"
        "spans = exporter.get_finished_spans()\n"
        "uris = [dict(e.attributes)['otelflow.artifact.uri'] for s in spans for e in s.events]\n"
        "say(uris=uris, loaded='otelflow._artifacts.store' in sys.modules)"
    )
    done = program(source, OTELFLOW_ARTIFACT_STORE=tmp_path.as_uri())
    (file,) = stored_files(tmp_path)
    assert done.facts == {"uris": [file.as_uri()], "loaded": False}, done.stderr


def test_after_a_fork(tmp_path: Path) -> None:
    """The child stores its own artifacts with its own thread; the parent stores those that waited in the parent."""
    source = STORES + (
        "makes(rows).execute()\n"
        "pid = os.fork()\n"
        "makes([pid == 0, *rows]).execute()\n"
        "if pid == 0:\n"
        "    sys.exit(0)\n"
        "say(child=os.waitpid(pid, 0)[1])"
    )
    done = program(source, OTELFLOW_ARTIFACT_STORE=tmp_path.as_uri())
    assert done.facts == {"child": 0}, done.stderr
    first = {json.loads(path.read_bytes())[0] is True for path in stored_files(tmp_path)}
    assert (first, len(stored_files(tmp_path))) == ({True, False}, 3)


# --- one store ------------------------------------------------------------------------------------------------------


@dataclass
class Point:
    x: int
    y: Any


class Hostile:
    """An object whose ``repr()`` raises."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_values_that_json_does_not_have_become_text() -> None:
    """The text is the same as in the preview, and all other values are complete."""
    value: list[Any] = [float("nan"), {1: b"abc", None: "\udc80"}, Point(1, {2}), Hostile(), 10**5000, 1e300, "é"]
    value.append(value)
    read = json.loads(whole_json(value, 1 << 20, 5))
    assert read[0] == "nan"
    assert read[1]["1"] == "<3 bytes: 616263>"
    assert read[2] == {"x": 1, "y": [2]}
    assert read[3] == "<Hostile: repr() raised RuntimeError>"
    assert read[4:] == ["<int of 16610 bits>", 1e300, "é", "<cycle: list>"]


@pytest.mark.parametrize(
    "value",
    [ROWS, list(range(10_000)), {f"key {n}": [n] * 3000 for n in range(5)}, [[[]]], {}, [None, True, 1.5, 'a\n"b']],
    ids=["rows", "numbers", "large parts", "nested", "empty", "plain"],
)
def test_json_is_complete(value: Any) -> None:
    """The standard library reads the same value back."""
    assert json.loads(whole_json(value, 1 << 24, 20)) == value


def test_json_is_bounded() -> None:
    """It is bounded in bytes, in time and in depth, also for a value that never ends."""

    class Endless(dict[str, int]):
        def items(self) -> Any:
            while True:
                yield "key", 1

    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    assert b"nested too deep" in whole_json(deep, 1 << 20, 20)
    with pytest.raises(OutOfBounds):
        whole_json(Endless({"a": 1}), 1 << 16, 20)
    with pytest.raises(OutOfBounds):
        whole_json(Endless({"a": 1}), 1 << 40, 0.05)


def test_texts_and_bytes_are_stored_as_they_are(tmp_path: Path, dropped: Any) -> None:
    """A later change of the object does not change what is stored."""
    store = Store(tmp_path.as_uri(), 1 << 20, 5)
    changing = bytearray(b"1" * 3000)
    stored = [store.add(value) for value in ("é" * 3000, b"\x00\xff" * 2000, changing, memoryview(b"view" * 1000))]
    changing[:] = b"2" * 3000
    assert store.drain(20)
    bodies = [
        (tmp_path / "/".join(result.uri.split("/")[-3:])).read_bytes() for result in stored if result and result.uri
    ]
    assert bodies == ["é".encode() * 3000, b"\x00\xff" * 2000, b"1" * 3000, b"view" * 1000]
    assert [result.uri.rpartition(".")[2] for result in stored if result and result.uri] == ["txt", "bin", "bin", "bin"]
    assert dropped.now() == {}


def test_the_same_content_is_stored_once(tmp_path: Path) -> None:
    """Another store for the same folder does not write the file again."""
    first, second = Store(tmp_path.as_uri(), 1 << 20, 5), Store(str(tmp_path), 1 << 20, 5)
    assert first.add(ROWS) == first.add(ROWS)
    assert first.drain(20)
    (file,) = stored_files(tmp_path)
    before = file.stat()
    assert second.add(list(ROWS)) == first.add(ROWS)
    assert second.drain(20)
    assert os.stat(file).st_mtime_ns == before.st_mtime_ns
    assert os.stat(file).st_ino == before.st_ino


def test_too_large_is_counted(tmp_path: Path, dropped: Any) -> None:
    """Text, bytes and JSON above the limit are counted, and so is a value that takes too long."""
    store = Store(tmp_path.as_uri(), 1000, 5)
    assert [store.add(value) for value in ("x" * 1001, "é" * 600, b"x" * 1001, ["x" * 1000])] == [None] * 4
    assert Store(tmp_path.as_uri(), 1 << 30, 0.0001).add(ROWS * 100) is None
    assert dropped.now() == {"artifact_too_large": 5}
    assert stored_files(tmp_path) == []


def test_flush_waits_for_the_store(tmp_path: Path) -> None:
    """This also holds with the program's own provider: a process that is killed afterwards has lost nothing."""
    source = STORES + "makes(rows).execute()\nflush(20)\nos.kill(os.getpid(), 9)"
    program(source, OTELFLOW_ARTIFACT_STORE=tmp_path.as_uri())
    assert len(stored_files(tmp_path)) == 1


class Hanging:
    """A storage that blocks until the event ``go`` is set."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.paths: list[str] = []

    def open(self) -> None:
        pass

    def put(self, path: str, data: bytes) -> None:
        self.go.wait(20)
        self.paths.append(path)


def test_a_store_that_hangs(dropped: Any, caplog: pytest.LogCaptureFixture) -> None:
    """It does not block the program. The queue is bounded in bytes; other artifacts are counted, and have a digest.

    At the end the store gives up after its patience, and logs that artifacts are missing.
    """
    store = Store("memory://hangs", 1000, 5)
    place = store._storage = Hanging()
    store._thread = threading.Thread(target=store._run, daemon=True)
    store._thread.start()
    stored = [store.add(f"{number}" * 900) for number in range(6)]
    assert [result is not None and result.uri is not None for result in stored] == [True] * 4 + [False] * 2
    assert all(result is not None and result.size == 900 for result in stored)
    assert store.drain(0.05) is False
    assert dropped.now() == {"artifact_store_full": 2}
    assert store._is_open
    store.close(0.05)
    assert dropped.now() == {"artifact_store_full": 2, "artifact_not_stored": 4}
    assert [record.getMessage() for record in caplog.records] == [
        "Artifacts are not stored in memory://hangs: no answer for 0.05 s. Spans keep their previews."
    ]
    caplog.clear()
    place.go.set()


def test_a_store_that_refuses(tmp_path: Path, dropped: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Each failure is counted, and the first is logged. When the folder accepts files again, artifacts are stored."""
    folder = tmp_path / "store"
    folder.write_text("a file where a folder should be")
    store = Store(folder.as_uri(), 1 << 20, 5)
    for number in range(3):
        store.add([number] * 2000)
    assert store.drain(20)
    assert dropped.now() == {"artifact_not_stored": 3}
    assert len(caplog.records) == 1
    assert "Not a directory" in caplog.text or "File exists" in caplog.text
    caplog.clear()
    folder.unlink()
    store.add([0] * 2000)
    assert store.drain(20)
    assert len(stored_files(folder)) == 1


@pytest.mark.parametrize(("url", "reason"), [("nosuch://place", "nosuch"), ("dropbox://place", "dropbox")])
def test_a_file_system_that_is_not_there(url: str, reason: str, dropped: Any, caplog: pytest.LogCaptureFixture) -> None:
    """One log line says so, and every artifact is counted."""
    store = Store(url, 1 << 20, 5)
    store.add(ROWS)
    store.drain(20)
    assert store.add("x" * 3000) is None
    assert dropped.now() == {"artifact_not_stored": 2}
    (record,) = caplog.records
    assert reason in record.getMessage()
    caplog.clear()


def test_without_fsspec(tmp_path: Path) -> None:
    """A local folder works without it. For other URLs result log line names the extra to install."""
    source = (
        "sys.modules['fsspec'] = None\n" + STORES + "makes(rows).execute()\nmakes(rows).execute()\nsay(event=event())"
    )
    source = source.replace(
        "sys.modules['fsspec'] = None", "import importlib.util as u\nu.find_spec = lambda name: None"
    )
    done = program(source, OTELFLOW_ARTIFACT_STORE="s3://bucket")
    assert done.stderr.count("pip install 'otelflow[artifacts]'") == 1
    assert "otelflow.artifact.uri" not in done.facts["event"]
    assert done.facts["event"]["otelflow.artifact.data"].startswith("[{")
    done = program(source, OTELFLOW_ARTIFACT_STORE=str(tmp_path))
    assert len(stored_files(tmp_path)) == 1


def test_no_password_leaves_in_a_uri() -> None:
    """The URL on the span and in the log has no user name and no password."""
    assert public_url("ftp://me:secret@host:21/dir/") == "ftp://host:21/dir"
    assert public_url("s3://bucket/dir") == "s3://bucket/dir"
    assert public_url("/a b") == "file:///a%20b"


def test_in_memory() -> None:
    """Any file system of fsspec works, here the result in memory."""
    fsspec = pytest.importorskip("fsspec")
    store = Store("memory://artifacts", 1 << 20, 5)
    stored = store.add(ROWS)
    assert store.drain(20)
    assert stored is not None
    assert stored.uri is not None
    with fsspec.open(stored.uri, "rb") as file:
        assert json.loads(file.read()) == ROWS
    with pytest.raises(StorageUnavailable, match="nosuch"):
        storage_for("nosuch://place").open()
