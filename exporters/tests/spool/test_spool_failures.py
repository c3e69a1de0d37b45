"""The spool with full disks, removed folders, and other processes on its folder."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from otelflow_exporters._spool import segment_writer
from otelflow_exporters._spool.open_flows import encode_closed_flows
from otelflow_exporters.spool import SpoolSpanExporter
from spool_backend import Backend
from spooling import FAILURE, SUCCESS, files, log_messages, span


def no_space(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_with_a_full_disk_it_sends_directly(make: Any, backend: Backend, caplog: Any, monkeypatch: Any) -> None:
    """Spans are sent without the disk, in order. The log has one line when this begins, and one when it ends."""
    exporter = make(backend)
    exporter.export([span("a")])
    assert exporter.force_flush()
    with monkeypatch.context() as patch:
        patch.setattr(segment_writer, "write_all", no_space)
        assert exporter.export([span("b", 2)]) is SUCCESS
        assert exporter.export([span("c", 3)]) is SUCCESS
    assert exporter.export([span("d", 4)]) is SUCCESS
    assert exporter.force_flush()
    assert backend.names == ["a", "b", "c", "d"]
    assert exporter.account().delivered == 4
    assert len(log_messages(caplog)) == 2


def test_without_disk_and_backend_spans_are_lost(make: Any, stopped_backend: Backend, monkeypatch: Any) -> None:
    """export returns FAILURE, and the spans are counted with a reason."""
    exporter = make(stopped_backend)
    monkeypatch.setattr(segment_writer, "write_all", no_space)
    assert exporter.export([span("a"), span("b", 2)]) is FAILURE
    assert exporter.account().lost == {"spool_unwritable": 2}
    assert not exporter.force_flush(100)


def test_a_folder_that_cannot_be_created(make: Any, backend: Backend, tmp_path: Path, caplog: Any) -> None:
    """A file is in its place. Spans are sent directly."""
    (tmp_path / "file").write_text("")
    exporter = make(backend, dir=str(tmp_path / "file" / "spool"))
    exporter.span_processor().on_start(span("x", 1, **{"otelflow.kind": "flow"}))
    assert exporter.export([span("a")]) is SUCCESS
    assert backend.names == ["a"]
    assert any("cannot write" in text for text in log_messages(caplog))


def test_a_removed_folder_is_created_again(make: Any, backend: Backend, tmp_path: Path) -> None:
    """Somebody removes it while it is in use. Later spans are spooled again."""
    exporter = make(backend)
    exporter.export([span("a")])
    exporter.force_flush()
    for path in files(tmp_path / "spool"):
        path.unlink()
    (tmp_path / "spool").rmdir()
    assert exporter.export([span("b", 2)]) is SUCCESS
    exporter.force_flush()
    assert backend.names == ["a", "b"]


def test_spans_in_a_removed_folder_are_lost(make: Any, stopped_backend: Backend, tmp_path: Path, caplog: Any) -> None:
    """Spans that the backend has are delivered. The others are lost, and one flush returns False. The folder is created
    again, with the open flow."""
    exporter = make(stopped_backend)
    flow = span("flow", 99, **{"otelflow.kind": "flow"})
    exporter.span_processor().on_start(flow)
    stopped_backend.up()
    exporter.export([span(f"s{number}", number) for number in range(1, 11)])
    assert exporter.force_flush()
    stopped_backend.down()
    exporter.export([span(f"s{number}", number) for number in range(11, 16)])
    exporter.force_flush(100)
    shutil.rmtree(tmp_path / "spool")
    assert not exporter.force_flush(100)
    account = exporter.account()
    assert (account.delivered, account.pending, account.lost) == (10, 0, {"spool_removed": 5})
    assert any("removed them from" in text for text in log_messages(caplog))
    assert exporter.export([span("later", 16)]) is SUCCESS
    assert exporter.account().pending == 1
    (journal,) = files(tmp_path / "spool", ".flows")
    assert encode_closed_flows(str(journal), 0)[1] == 1
    assert len(files(tmp_path / "spool", ".alive")) == 1
    stopped_backend.up()
    assert exporter.force_flush()
    account = exporter.account()
    assert (account.delivered, account.pending, account.lost) == (11, 0, {"spool_removed": 5})
    assert len(stopped_backend.count()) == 11


def test_a_request_in_flight_while_the_folder_is_removed(make: Any, tmp_path: Path, backend: Backend) -> None:
    """The backend is slow. The span is pending until there is a response, and then delivered."""
    came, go = threading.Event(), threading.Event()
    take = backend.take

    def slowly(*request: Any) -> Any:
        came.set()
        go.wait(10)
        return take(*request)

    backend.take = slowly  # type: ignore[method-assign]
    exporter = make(backend)
    exporter.export([span("a")])
    assert came.wait(10)
    shutil.rmtree(tmp_path / "spool")
    assert not exporter.force_flush(100)
    account = exporter.account()
    assert (account.delivered, account.pending, account.lost) == (0, 1, {})
    go.set()
    assert exporter.force_flush()
    account = exporter.account()
    assert (account.delivered, account.pending, account.lost) == (1, 0, {})


@pytest.fixture
def two(make: Any, backend: Backend) -> tuple[SpoolSpanExporter, SpoolSpanExporter]:
    """Two exporters on one folder. Only the second one sends."""
    lazy = make(backend)
    for thread in lazy._spool._delivery_threads:
        thread.wake = lambda now=False: None
    return lazy, make(backend)


def test_spans_sent_by_another_process_count_as_delivered(two: Any, backend: Backend, tmp_path: Path) -> None:
    """The owner counts them and removes its file, which the other one leaves to it. So no span counts as lost."""
    lazy, busy = two
    lazy.export([span("a"), span("b", 2)])
    lazy._spool._writer.seal()
    lazy.export([span("c", 3)])
    assert busy.force_flush()
    assert len(backend.count()) == 3
    busy._spool._remove_delivered()
    assert len(files(tmp_path / "spool", ".spool")) == 1
    lazy._spool._remove_delivered()
    assert files(tmp_path / "spool", ".spool") == []
    shutil.rmtree(tmp_path / "spool")
    account = lazy.account()
    assert (account.delivered, account.pending, account.lost) == (
        2,
        0,
        {"spool_removed": 1},
    )  # it has not read the progress since
    account = busy.account()
    assert (account.delivered, account.pending, account.lost) == (0, 0, {})


def test_spans_sent_by_another_process_after_shutdown(two: Any, backend: Backend, tmp_path: Path) -> None:
    """After shutdown, another process sends and removes the files. The spans count as delivered."""
    lazy, busy = two
    lazy.export([span("a"), span("b", 2)])
    lazy.shutdown()
    assert busy.force_flush()
    busy._spool._remove_delivered()
    assert files(tmp_path / "spool", ".spool") == []
    account = lazy.account()
    assert (account.delivered, account.pending, account.lost) == (2, 0, {})


def test_a_file_that_another_process_drops_to_make_room(make: Any, stopped_backend: Backend) -> None:
    """Its owner counts the lost spans once, with the reason that the other process noted."""
    owner, other = make(stopped_backend), make(stopped_backend, max_bytes="20000")
    owner.export([span(f"s{number}", number, text="x" * 200) for number in range(1, 21)])
    owner._spool._writer.seal()
    for number in range(21, 101):
        other.export([span(f"s{number}", number, text="x" * 200)])
    account = owner.account()
    assert (account.delivered, account.lost) == (0, {"spool_full": 20})
    assert other.account().lost["spool_full"] + other.account().pending == 80


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 128 kB."""
    path = tmp_path / "disk"
    path.mkdir()
    if os.system(f"mount -t tmpfs -o size=128k tmpfs {path} 2>/dev/null"):
        pytest.skip("no right to mount a small file system")
    yield path
    os.system(f"umount -l {path}")


def test_a_full_disk(make: Any, stopped_backend: Backend, disk: Path) -> None:
    """Another program fills it. Spooled spans wait, new spans are sent directly, and all arrive. Then there is room
    again."""
    exporter = make(stopped_backend, dir=str(disk / "spool"))
    for number in range(1, 51):
        assert exporter.export([span(f"s{number}", number, text="x" * 1000)]) is SUCCESS
    with contextlib.suppress(OSError), (disk / "other").open("wb", buffering=0) as other:
        while True:
            other.write(b"x" * 1000)
    assert exporter.export([span("lost", 99, text="x" * 9000)]) is FAILURE
    stopped_backend.up()
    for number in range(51, 81):
        assert exporter.export([span(f"s{number}", number, text="x" * 1000)]) is SUCCESS
    exporter.force_flush()
    assert len(stopped_backend.count()) == 80
    assert exporter.account().delivered == 80
    assert exporter.account().lost == {"spool_unwritable": 1}
    exporter.shutdown()
    assert files(disk / "spool", ".spool") == []


def test_a_disk_that_becomes_read_only(make: Any, backend: Backend, disk: Path, caplog: Any) -> None:
    """As failing disks do. Spans are sent directly, and the disk is used again when it is writable."""
    exporter = make(backend, dir=str(disk / "spool"))
    exporter.export([span("a")])
    assert exporter.force_flush()
    exporter.shutdown()
    exporter = make(backend, dir=str(disk / "spool"))
    os.system(f"mount -o remount,ro {disk}")
    assert exporter.export([span("b", 2)]) is SUCCESS
    os.system(f"mount -o remount,rw {disk}")
    assert exporter.export([span("c", 3)]) is SUCCESS
    assert exporter.force_flush()
    assert backend.names == ["a", "b", "c"]
    cannot, again = log_messages(caplog)
    assert "Read-only" in cannot
    assert "again" in again
