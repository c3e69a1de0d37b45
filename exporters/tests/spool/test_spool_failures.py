"""What the spool survives: full disks, folders that are taken away, and other processes."""

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
from otelflow_exporters._spool import segment_writer as _spool_writer
from otelflow_exporters._spool.open_flows import closed_flows
from otelflow_exporters.spool import SpoolSpanExporter
from spool_backend import Backend
from spooling import FAILURE, SUCCESS, files, said, span

# --- what it survives ---------------------------------------------------------------------------------------------


def no_space(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_without_disk_it_sends_at_once(make: Any, backend: Backend, caplog: Any, monkeypatch: Any) -> None:
    """The disk is full: spans are sent without it, in order with what is there; said once, and once when it works."""
    exporter = make(backend)
    exporter.export([span("a")])
    assert exporter.force_flush()
    with monkeypatch.context() as patch:
        patch.setattr(_spool_writer, "write_all", no_space)
        assert exporter.export([span("b", 2)]) is SUCCESS
        assert exporter.export([span("c", 3)]) is SUCCESS
    assert exporter.export([span("d", 4)]) is SUCCESS
    assert exporter.force_flush()
    assert backend.names == ["a", "b", "c", "d"]
    assert exporter.account().delivered == 4
    assert len(said(caplog)) == 2


def test_without_disk_and_backend_the_loss_is_counted(make: Any, down: Backend, monkeypatch: Any) -> None:
    """FAILURE, and a reason."""
    exporter = make(down)
    monkeypatch.setattr(_spool_writer, "write_all", no_space)
    assert exporter.export([span("a"), span("b", 2)]) is FAILURE
    assert exporter.account().lost == {"spool_unwritable": 2}
    assert not exporter.force_flush(100)


def test_a_folder_that_cannot_be_made(make: Any, backend: Backend, tmp_path: Path, caplog: Any) -> None:
    """A file stands where it should be: spans are sent without it."""
    (tmp_path / "file").write_text("")
    exporter = make(backend, dir=str(tmp_path / "file" / "spool"))
    exporter.span_processor().on_start(span("x", 1, **{"otelflow.kind": "flow"}))
    assert exporter.export([span("a")]) is SUCCESS
    assert backend.names == ["a"]
    assert any("cannot write" in text for text in said(caplog))


def test_a_folder_that_is_taken_away_is_made_again(make: Any, backend: Backend, tmp_path: Path) -> None:
    """Somebody removes it while it is in use: what comes after is spooled again."""
    exporter = make(backend)
    exporter.export([span("a")])
    exporter.force_flush()
    for path in files(tmp_path / "spool"):
        path.unlink()
    (tmp_path / "spool").rmdir()
    assert exporter.export([span("b", 2)]) is SUCCESS
    exporter.force_flush()
    assert backend.names == ["a", "b"]


def test_what_is_taken_away_was_not_delivered(make: Any, down: Backend, tmp_path: Path, caplog: Any) -> None:
    """The backend has some of it: those are delivered, the others are lost, and a flush says so once. The folder is
    made again, with the flow that is open."""
    exporter = make(down)
    flow = span("flow", 99, **{"otelflow.kind": "flow"})
    exporter.span_processor().on_start(flow)
    down.up()
    exporter.export([span(f"s{number}", number) for number in range(1, 11)])
    assert exporter.force_flush()
    down.down()
    exporter.export([span(f"s{number}", number) for number in range(11, 16)])
    exporter.force_flush(100)
    shutil.rmtree(tmp_path / "spool")
    assert not exporter.force_flush(100)
    account = exporter.account()
    assert (account.delivered, account.pending, account.lost) == (10, 0, {"spool_removed": 5})
    assert any("took them away" in text for text in said(caplog))
    assert exporter.export([span("later", 16)]) is SUCCESS
    assert exporter.account().pending == 1
    (journal,) = files(tmp_path / "spool", ".flows")
    assert closed_flows(str(journal), 0)[1] == 1
    assert len(files(tmp_path / "spool", ".alive")) == 1
    down.up()
    assert exporter.force_flush()
    account = exporter.account()
    assert (account.delivered, account.pending, account.lost) == (11, 0, {"spool_removed": 5})
    assert len(down.count()) == 11


def test_what_is_under_way_when_the_folder_is_taken_away(make: Any, tmp_path: Path, backend: Backend) -> None:
    """The backend takes its time: it is pending until there is an answer, and then delivered."""
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
    """Two at work on one folder; only the second ever sends."""
    lazy = make(backend)
    for courier in lazy._spool._couriers:
        courier.wake = lambda hurry=False: None
    return lazy, make(backend)


def test_what_another_process_has_sent_is_delivered(two: Any, backend: Backend, tmp_path: Path) -> None:
    """The owner knows; the other one leaves the file to it, and when it is gone in order, nothing is lost."""
    lazy, busy = two
    lazy.export([span("a"), span("b", 2)])
    lazy._spool._writer.seal()
    lazy.export([span("c", 3)])
    assert busy.force_flush()
    assert len(backend.count()) == 3
    busy._spool._sweep()
    assert len(files(tmp_path / "spool", ".spool")) == 1
    lazy._spool._sweep()
    assert files(tmp_path / "spool", ".spool") == []
    shutil.rmtree(tmp_path / "spool")
    account = lazy.account()
    assert (account.delivered, account.pending, account.lost) == (2, 0, {"spool_removed": 1})  # it has not looked since
    account = busy.account()
    assert (account.delivered, account.pending, account.lost) == (0, 0, {})


def test_what_another_process_sends_after_the_end(two: Any, backend: Backend, tmp_path: Path) -> None:
    """Who has shut down has left its files to others, who send and remove them: delivered."""
    lazy, busy = two
    lazy.export([span("a"), span("b", 2)])
    lazy.shutdown()
    assert busy.force_flush()
    busy._spool._sweep()
    assert files(tmp_path / "spool", ".spool") == []
    account = lazy.account()
    assert (account.delivered, account.pending, account.lost) == (2, 0, {})


def test_a_file_that_another_process_drops_for_room(make: Any, down: Backend) -> None:
    """Its owner counts what was lost with it, by the other's reason and once."""
    one, other = make(down), make(down, max_bytes="20000")
    one.export([span(f"s{number}", number, text="x" * 200) for number in range(1, 21)])
    one._spool._writer.seal()
    for number in range(21, 101):
        other.export([span(f"s{number}", number, text="x" * 200)])
    account = one.account()
    assert (account.delivered, account.lost) == (0, {"spool_full": 20})
    assert other.account().lost["spool_full"] + other.account().pending == 80


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 128 kB."""
    where = tmp_path / "disk"
    where.mkdir()
    if os.system(f"mount -t tmpfs -o size=128k tmpfs {where} 2>/dev/null"):
        pytest.skip("no right to mount a small file system")
    yield where
    os.system(f"umount -l {where}")


def test_a_full_disk_is_survived(make: Any, down: Backend, disk: Path) -> None:
    """Something else fills it: what is there waits, what comes then is sent without it, and everything arrives; then
    there is room again."""
    exporter = make(down, dir=str(disk / "spool"))
    for number in range(1, 51):
        assert exporter.export([span(f"s{number}", number, text="x" * 1000)]) is SUCCESS
    with contextlib.suppress(OSError), (disk / "other").open("wb", buffering=0) as other:
        while True:
            other.write(b"x" * 1000)
    assert exporter.export([span("lost", 99, text="x" * 9000)]) is FAILURE
    down.up()
    for number in range(51, 81):
        assert exporter.export([span(f"s{number}", number, text="x" * 1000)]) is SUCCESS
    exporter.force_flush()
    assert len(down.count()) == 80
    assert exporter.account().delivered == 80
    assert exporter.account().lost == {"spool_unwritable": 1}
    exporter.shutdown()
    assert files(disk / "spool", ".spool") == []


def test_a_disk_that_becomes_read_only(make: Any, backend: Backend, disk: Path, caplog: Any) -> None:
    """As disks do that fail: spans are sent without it, and it is used again when it can be."""
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
    cannot, again = said(caplog)
    assert "Read-only" in cannot
    assert "again" in again
