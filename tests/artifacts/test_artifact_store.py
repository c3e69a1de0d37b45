"""Artifacts that are too large for a span: whole in a store, by a thread beside, and never in the program's way."""

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
from otelflow._artifacts.storage import Missing, place_of, shown
from otelflow._artifacts.store import Store


@pytest.fixture
def lost() -> Iterator[Counter[str]]:
    """What was left out since the test began; brought up to date by calling ``update``."""

    class Lost(Counter[str]):
        def now(self) -> dict[str, int]:
            return dict(Counter(stats().dropped) - before)

    before = Counter(stats().dropped)
    return Lost()  # type: ignore[return-value]


# --- end to end -----------------------------------------------------------------------------------------------------


def test_a_large_artifact_is_stored_whole(tmp_path: Path) -> None:
    """The event says where, how large and with what digest, and has a preview; the file is there when the program has
    ended, for its owner alone; the Flow object has the object."""
    folder = tmp_path / "a" / "store"
    source = STORES + "run = makes(rows).execute()\nsay(event=event(), same=run.artifacts['rows'].data is rows)"
    done = program(source, OTELFLOW_ARTIFACT_STORE=folder.as_uri())
    event, whole = done.said["event"], json.dumps(ROWS, ensure_ascii=False).encode()
    (file,) = stored_files(folder)
    body = file.read_bytes()
    assert json.loads(body) == ROWS
    digest = hashlib.sha256(body).hexdigest()
    assert event["otelflow.artifact.uri"] == f"{folder.as_uri()}/{digest[:2]}/{digest[2:4]}/{digest}.json"
    assert (event["otelflow.artifact.size"], event["otelflow.artifact.sha256"]) == (len(body), digest)
    assert len(body) == pytest.approx(len(whole), rel=0.01)
    assert event["otelflow.artifact.data"].startswith('[{"id": 0, "name": "customer 0"')
    assert event["otelflow.artifact.type"] == "table"
    assert done.said["same"] is True
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for above in (file.parent, file.parent.parent, folder, folder.parent):
        assert stat.S_IMODE(above.stat().st_mode) == 0o700


def test_what_fits_a_span_is_not_stored(tmp_path: Path) -> None:
    """It is there whole already; and the module of the store is not even loaded."""
    source = STORES + "makes([1, 2]).execute()\nsay(event=event(), loaded='otelflow._artifacts.store' in sys.modules)"
    done = program(source, OTELFLOW_ARTIFACT_STORE=tmp_path.as_uri())
    assert done.said["event"]["otelflow.artifact.data"] == "[1, 2]"
    assert done.said["loaded"] is False
    assert stored_files(tmp_path) == []


def test_without_a_store() -> None:
    """The preview stays; of a text the digest, too."""
    source = (
        STORES + "makes(rows).execute()\nfirst = event()\nmakes('x' * 5000).execute()\nsay(first=first, second=event())"
    )
    done = program(source)
    assert "otelflow.artifact.uri" not in done.said["first"]
    assert "otelflow.artifact.sha256" not in done.said["first"]
    assert done.said["second"]["otelflow.artifact.size"] == 5000


def test_a_span_that_is_not_recorded_stores_nothing(tmp_path: Path) -> None:
    """Nothing is written for what nobody can find."""
    source = STORES + "makes(rows).execute()\nsay(spans=len(exporter.get_finished_spans()))"
    done = program(source, OTELFLOW_ARTIFACT_STORE=tmp_path.as_uri(), OTEL_TRACES_SAMPLER="always_off")
    assert done.said == {"spans": 0}
    assert stored_files(tmp_path) == []


def test_a_workers_artifacts_are_stored_once(tmp_path: Path) -> None:
    """By the process that made them, before it ends; the submitting process does not store them again."""
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
    assert done.said == {"uris": [file.as_uri()], "loaded": False}, done.stderr


def test_after_a_fork(tmp_path: Path) -> None:
    """The child stores what is its own, with a thread of its own; what waited in the parent is the parent's."""
    source = STORES + (
        "makes(rows).execute()\n"
        "pid = os.fork()\n"
        "makes([pid == 0, *rows]).execute()\n"
        "if pid == 0:\n"
        "    sys.exit(0)\n"
        "say(child=os.waitpid(pid, 0)[1])"
    )
    done = program(source, OTELFLOW_ARTIFACT_STORE=tmp_path.as_uri())
    assert done.said == {"child": 0}, done.stderr
    first = {json.loads(path.read_bytes())[0] is True for path in stored_files(tmp_path)}
    assert (first, len(stored_files(tmp_path))) == ({True, False}, 3)


# --- one store ------------------------------------------------------------------------------------------------------


@dataclass
class Point:
    x: int
    y: Any


class Hostile:
    """Nothing of it can be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_what_json_cannot_say() -> None:
    """Is said in words, as in the preview, and the rest of it is whole."""
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
    """Every value of it, as the standard library writes it."""
    assert json.loads(whole_json(value, 1 << 24, 20)) == value


def test_json_is_bounded() -> None:
    """In bytes, in time and in depth, also where the value never ends."""

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


def test_texts_and_bytes_are_stored_as_they_are(tmp_path: Path, lost: Any) -> None:
    """And what is changed afterwards was stored as it was."""
    store = Store(tmp_path.as_uri(), 1 << 20, 5)
    changing = bytearray(b"1" * 3000)
    kept = [store.keep(value) for value in ("é" * 3000, b"\x00\xff" * 2000, changing, memoryview(b"view" * 1000))]
    changing[:] = b"2" * 3000
    assert store.drain(20)
    bodies = [(tmp_path / "/".join(one.uri.split("/")[-3:])).read_bytes() for one in kept if one and one.uri]
    assert bodies == ["é".encode() * 3000, b"\x00\xff" * 2000, b"1" * 3000, b"view" * 1000]
    assert [one.uri.rpartition(".")[2] for one in kept if one and one.uri] == ["txt", "bin", "bin", "bin"]
    assert lost.now() == {}


def test_the_same_content_is_stored_once(tmp_path: Path) -> None:
    """Under one name; by another process, too, whose file is left as it is."""
    first, second = Store(tmp_path.as_uri(), 1 << 20, 5), Store(str(tmp_path), 1 << 20, 5)
    assert first.keep(ROWS) == first.keep(ROWS)
    assert first.drain(20)
    (file,) = stored_files(tmp_path)
    before = file.stat()
    assert second.keep(list(ROWS)) == first.keep(ROWS)
    assert second.drain(20)
    assert os.stat(file).st_mtime_ns == before.st_mtime_ns
    assert os.stat(file).st_ino == before.st_ino


def test_too_large_is_counted(tmp_path: Path, lost: Any) -> None:
    """Text, bytes and JSON above the bound, and what takes too long."""
    store = Store(tmp_path.as_uri(), 1000, 5)
    assert [store.keep(value) for value in ("x" * 1001, "é" * 600, b"x" * 1001, ["x" * 1000])] == [None] * 4
    assert Store(tmp_path.as_uri(), 1 << 30, 0.0001).keep(ROWS * 100) is None
    assert lost.now() == {"artifact_too_large": 5}
    assert stored_files(tmp_path) == []


def test_flush_waits_for_the_store(tmp_path: Path) -> None:
    """With a provider of the program's own, too: a process that is killed afterwards has lost nothing."""
    source = STORES + "makes(rows).execute()\nflush(20)\nos.kill(os.getpid(), 9)"
    program(source, OTELFLOW_ARTIFACT_STORE=tmp_path.as_uri())
    assert len(stored_files(tmp_path)) == 1


class Hanging:
    """A place that does not answer until it is told to."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.paths: list[str] = []

    def open(self) -> None:
        pass

    def put(self, path: str, data: bytes) -> None:
        self.go.wait(20)
        self.paths.append(path)


def test_a_store_that_hangs(lost: Any, caplog: pytest.LogCaptureFixture) -> None:
    """It holds nobody up: what waits is bounded in bytes, the rest is counted and named with its digest all the same;
    at the end there is a limit to patience, and it is said what is missing."""
    store = Store("memory://hangs", 1000, 5)
    place = store._place = Hanging()
    store._thread = threading.Thread(target=store._work, daemon=True)
    store._thread.start()
    kept = [store.keep(f"{number}" * 900) for number in range(6)]
    assert [one is not None and one.uri is not None for one in kept] == [True] * 4 + [False] * 2
    assert all(one is not None and one.size == 900 for one in kept)
    assert store.drain(0.05) is False
    assert lost.now() == {"artifact_store_full": 2}
    assert store._is_open
    store.close(0.05)
    assert lost.now() == {"artifact_store_full": 2, "artifact_not_stored": 4}
    assert [record.getMessage() for record in caplog.records] == [
        "Artifacts are not stored in memory://hangs (it did not answer for 0.05 s); their previews stay."
    ]
    caplog.clear()
    place.go.set()


def test_a_store_that_refuses(tmp_path: Path, lost: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Each artifact is tried and counted, the first failure is logged; when it takes them again, they are stored."""
    folder = tmp_path / "store"
    folder.write_text("a file where a folder should be")
    store = Store(folder.as_uri(), 1 << 20, 5)
    for number in range(3):
        store.keep([number] * 2000)
    assert store.drain(20)
    assert lost.now() == {"artifact_not_stored": 3}
    assert len(caplog.records) == 1
    assert "Not a directory" in caplog.text or "File exists" in caplog.text
    caplog.clear()
    folder.unlink()
    store.keep([0] * 2000)
    assert store.drain(20)
    assert len(stored_files(folder)) == 1


@pytest.mark.parametrize(("url", "why"), [("nosuch://place", "nosuch"), ("dropbox://place", "dropbox")])
def test_a_file_system_that_is_not_there(url: str, why: str, lost: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Said once, and every artifact is counted; previews stay."""
    store = Store(url, 1 << 20, 5)
    store.keep(ROWS)
    store.drain(20)
    assert store.keep("x" * 3000) is None
    assert lost.now() == {"artifact_not_stored": 2}
    (record,) = caplog.records
    assert why in record.getMessage()
    caplog.clear()


def test_without_fsspec(tmp_path: Path) -> None:
    """A local folder needs none of it; for all else the log names the extra, once."""
    source = (
        "sys.modules['fsspec'] = None\n" + STORES + "makes(rows).execute()\nmakes(rows).execute()\nsay(event=event())"
    )
    source = source.replace(
        "sys.modules['fsspec'] = None", "import importlib.util as u\nu.find_spec = lambda name: None"
    )
    done = program(source, OTELFLOW_ARTIFACT_STORE="s3://bucket")
    assert done.stderr.count("pip install 'otelflow[artifacts]'") == 1
    assert "otelflow.artifact.uri" not in done.said["event"]
    assert done.said["event"]["otelflow.artifact.data"].startswith("[{")
    done = program(source, OTELFLOW_ARTIFACT_STORE=str(tmp_path))
    assert len(stored_files(tmp_path)) == 1


def test_no_password_leaves_in_a_uri() -> None:
    """Neither on the span nor in the log."""
    assert shown("ftp://me:secret@host:21/dir/") == "ftp://host:21/dir"
    assert shown("s3://bucket/dir") == "s3://bucket/dir"
    assert shown("/a b") == "file:///a%20b"


def test_in_memory() -> None:
    """Any file system of fsspec's, here one in memory."""
    fsspec = pytest.importorskip("fsspec")
    store = Store("memory://artifacts", 1 << 20, 5)
    kept = store.keep(ROWS)
    assert store.drain(20)
    assert kept is not None
    assert kept.uri is not None
    with fsspec.open(kept.uri, "rb") as file:
        assert json.loads(file.read()) == ROWS
    with pytest.raises(Missing, match="nosuch"):
        place_of("nosuch://place").open()
