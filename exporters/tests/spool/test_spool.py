"""The spool in one process: what comes in, what goes out, what is counted, and what it survives."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import Timeout
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from otelflow_exporters._spool import record_format, segment_writer
from otelflow_exporters._spool.delivery import encode
from otelflow_exporters._spool.folder import Folder, lock_at
from otelflow_exporters.spool import SpoolSpanExporter, folder_of_environment
from spool_backend import Backend
from spooling import FAILURE, SUCCESS, files, said, span


def test_what_is_exported_arrives_as_it_was(make: Any, backend: Backend) -> None:
    """Name, ids, attributes and resource; the account says so, and nothing of it stays on disk when all is over."""
    exporter = make(backend)
    assert exporter.export([span("a", 1, x=1), span("b", 2)]) is SUCCESS
    assert exporter.force_flush()
    (first, resource, _), (second, _, _) = backend.spans
    assert (first.name, first.span_id, first.attributes[0].key) == ("a", (1).to_bytes(8, "big"), "x")
    assert second.name == "b"
    assert resource.attributes[0].value.string_value == "shop"
    account = exporter.account()
    assert (account.delivered, account.pending, account.lost) == (2, 0, {})
    exporter.shutdown()
    assert exporter.export([span("late")]) is FAILURE
    assert exporter.account().lost == {"after_shutdown": 1}
    assert files(Path(folder_of_environment()), ".spool") == []
    assert files(Path(folder_of_environment()), ".alive") == []


def test_an_outage_only_delays(make: Any, down: Backend, caplog: Any) -> None:
    """While the backend is down export succeeds and the spans are pending; then they come, in order, and once. It is
    said once that it is down, and once that it is over."""
    exporter = make(down)
    for number in range(1, 31):
        assert exporter.export([span(f"s{number}", number)]) is SUCCESS
    assert not exporter.force_flush(200)
    assert exporter.account().pending == 30
    down.up()
    assert exporter.force_flush()
    assert down.names == [f"s{number}" for number in range(1, 31)]
    assert exporter.account().delivered == 30
    kept, again = said(caplog)
    assert "cannot send to" in kept
    assert "again" in again


def test_a_backlog_is_delivered_by_the_next_process(make: Any, down: Backend) -> None:
    """A new exporter on the folder sends what the one before left, without an export of its own."""
    first = make(down)
    first.export([span("a"), span("b", 2)])
    first.shutdown()
    down.up()
    make(down)
    down.wait_for(2)


def test_requests_are_filled(make: Any, down: Backend) -> None:
    """Small records wait together and are sent together."""
    exporter = make(down)
    for number in range(1, 201):
        exporter.export([span("s", number)])
    down.up()
    assert exporter.force_flush()
    assert len(down.count()) == 200
    assert len(down.requests) < 10


def test_encoded_requests_are_taken(make: Any, backend: Backend) -> None:
    """Whoever has an encoder of its own hands in bytes."""
    exporter = make(backend)
    assert exporter.export_encoded(encode([span("a")]), 1) is SUCCESS
    assert exporter.force_flush()
    assert backend.names == ["a"]


def test_a_span_that_cannot_be_encoded_goes_alone(make: Any, backend: Backend, caplog: Any) -> None:
    """It is counted; the others of its batch arrive, and force_flush says that something is missing."""
    exporter = make(backend)
    before_time = span("b", 2)
    before_time._start_time = -1
    assert exporter.export([span("a"), before_time, span("c", 3)]) is SUCCESS
    assert not exporter.force_flush()
    assert exporter.force_flush()
    assert backend.names == ["a", "c"]
    assert exporter.account().lost == {"encode_failed": 1}
    assert len([text for text in said(caplog) if "cannot encode 1 span" in text]) == 1


def test_half_a_surrogate_pair_is_mended(make: Any, backend: Backend) -> None:
    """It comes from a file name, and protobuf refuses it; U+FFFD stands for it, as in what the core sends."""
    exporter = make(backend)
    assert exporter.export([span("bad \ud800")]) is SUCCESS
    assert exporter.force_flush()
    assert backend.names == ["bad \ufffd"]


def test_a_large_batch_is_several_records(make: Any, down: Backend) -> None:
    """So that none of them is more than a backend takes, and little is sent again after a crash."""
    exporter = make(down)
    assert exporter.export([span("s", number, text="x" * 50_000) for number in range(1, 101)]) is SUCCESS
    down.most_bytes = 1 << 20
    down.up()
    assert exporter.force_flush()
    assert len(down.count()) == 100


def test_files_are_private(make: Any, down: Backend, tmp_path: Path) -> None:
    """0600 in folders 0700, whatever the umask."""
    before = os.umask(0)
    try:
        exporter = make(down, dir=str(tmp_path / "a" / "b"))
        exporter.export([span("x", 1, **{"otelflow.kind": "flow"})])
        exporter.span_processor().on_start(span("x", 1, **{"otelflow.kind": "flow"}))
        exporter.force_flush(100)
    finally:
        os.umask(before)
    folders = [tmp_path / "a", tmp_path / "a" / "b"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o700}
    assert len(files(folders[1])) >= 4
    assert {stat.S_IMODE(path.stat().st_mode) for path in files(folders[1])} == {0o600}


def test_the_folder_of_a_service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Below the user's state, by the service's name, which may hold anything."""
    monkeypatch.delenv("OTELFLOW_EXPORTER_SPOOL_DIR", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("OTEL_SERVICE_NAME", "../shop & co")
    assert folder_of_environment() == str(tmp_path / "otelflow" / "spool" / "..%2Fshop%20%26%20co")
    monkeypatch.delenv("OTEL_SERVICE_NAME")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "a=b,service.name=cart")
    assert folder_of_environment().endswith("/cart")
    monkeypatch.delenv("OTEL_RESOURCE_ATTRIBUTES")
    assert folder_of_environment().endswith("/unknown_service")


# --- bounds -------------------------------------------------------------------------------------------------------


def test_the_folder_stays_below_its_size(make: Any, down: Backend, tmp_path: Path) -> None:
    """The oldest spans go and are counted; the newest arrive, and all are accounted for."""
    exporter = make(down, max_bytes="100000")
    for number in range(1, 1001):
        assert exporter.export([span(f"s{number}", number, text="x" * 200)]) is SUCCESS
    assert sum(path.stat().st_size for path in files(tmp_path / "spool", "n")) < 110_000
    account = exporter.account()
    assert account.lost["spool_full"] + account.pending == 1000
    assert account.lost["spool_full"] > 500
    down.up()
    exporter.force_flush()
    assert down.names == [f"s{number}" for number in range(1001 - account.pending, 1001)]
    assert exporter.account().delivered == account.pending


def test_a_record_larger_than_the_folder_is_counted(make: Any, down: Backend) -> None:
    """It takes nothing else with it."""
    exporter = make(down, max_bytes="5000")
    assert exporter.export([span("small")]) is SUCCESS
    assert exporter.export([span("large", 2, text="x" * 10_000)]) is FAILURE
    assert exporter.account().lost == {"too_large": 1}
    assert exporter.account().pending == 1


def test_what_is_too_old_goes(make: Any, down: Backend, monkeypatch: Any) -> None:
    """By age, counted once however often it was tried; what is younger arrives."""
    exporter = make(down, max_age="3600")
    with monkeypatch.context() as patch:
        patch.setattr(record_format, "time", SimpleNamespace(time_ns=lambda: time.time_ns() - 3601 * 10**9))
        exporter.export([span("old"), span("old", 2)])
    exporter.export([span("young", 3)])
    down.answers.extend([(503, {}, b"")] * 2)
    down.up()
    assert not exporter.force_flush()
    assert down.names == ["young"]
    assert exporter.account().lost == {"spool_expired": 2}


@contextlib.contextmanager
def nobody_reads(folder: Path, exporter: SpoolSpanExporter) -> Iterator[None]:
    """As if another process were sending: what is read before a test changes the file is sent as it was."""
    (key,) = exporter._spool.keys
    with lock_at(str(folder / f"sender-{key}.lock")):
        yield


def test_damage_is_counted_and_passed_over(make: Any, down: Backend, tmp_path: Path) -> None:
    """A bit of a record flips on disk: the others arrive."""
    exporter = make(down)
    with nobody_reads(tmp_path / "spool", exporter):
        for number in range(1, 4):
            exporter.export([span(f"s{number}", number)])
        (segment,) = files(tmp_path / "spool", ".open")
        data = bytearray(segment.read_bytes())
        data[data.index(b"s2")] ^= 1
        segment.write_bytes(data)
    down.up()
    assert not exporter.force_flush()
    assert down.names == ["s1", "s3"]
    assert exporter.account().lost == {"spool_damaged": 1}
    assert exporter.account().delivered == 2


def test_spans_whose_number_cannot_be_read_are_counted(make: Any, down: Backend, tmp_path: Path) -> None:
    """A record's head is damaged: of how many spans it was, its process knows."""
    exporter = make(down)
    with nobody_reads(tmp_path / "spool", exporter):
        exporter.export([span("a")])
        exporter.export([span(f"s{number}", number) for number in range(2, 7)])
        exporter.export([span("b", 7)])
        (segment,) = files(tmp_path / "spool", ".open")
        data = bytearray(segment.read_bytes())
        head = data.index(bytes.fromhex(segment.stem[-16:]), data.index(b"shop"))
        data[head + 10] ^= 1
        segment.write_bytes(data)
    down.up()
    assert not exporter.force_flush()
    exporter.shutdown()
    account = exporter.account()
    assert (account.delivered, account.pending, account.lost) == (2, 0, {"spool_damaged": 5})


def test_a_signal_handler_may_end_a_span(make: Any, backend: Backend) -> None:
    """Signals come in the midst of writes, and their handlers write as well: nothing hangs, nothing is lost."""
    exporter = make(backend)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("any")
    handled = 0

    def handler(*_: Any) -> None:
        nonlocal handled
        handled += 1
        tracer.start_span("handler").end()

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0007)
    try:
        for _ in range(1000):
            tracer.start_span("main").end()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert exporter.force_flush()
    assert handled > 20
    assert backend.names.count("main") == 1000
    assert backend.names.count("handler") == handled


def test_threads_export_at_once(make: Any, backend: Backend) -> None:
    """Eight threads, one exporter: all arrives, once."""
    exporter = make(backend)

    def work(base: int) -> None:
        for number in range(100):
            exporter.export([span("s", base + number)])

    threads = [threading.Thread(target=work, args=(1 + 1000 * each,)) for each in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert exporter.force_flush()
    assert len(backend.count()) == 800
    assert set(backend.count().values()) == {1}


def test_progress_that_cannot_be_saved_is_remembered(make: Any, down: Backend, tmp_path: Path) -> None:
    """What is delivered is not sent again, though the file that says so cannot be written; and it leaves the disk."""
    exporter = make(down)
    exporter.export([span("a")])
    (segment,) = Folder(str(tmp_path / "spool")).segments()
    key = _key(down)
    (tmp_path / "spool" / f"sent-{key}.json.{os.getpid()}").mkdir()
    down.up()
    assert exporter.force_flush()
    exporter.export([span("b", 2)])
    assert exporter.force_flush()
    assert down.names == ["a", "b"]
    exporter.shutdown()
    assert not os.path.exists(segment.path)


def _key(backend: Backend) -> str:
    from otelflow_exporters._spool.destination import destinations

    (destination,) = destinations(backend.endpoint)
    return destination.key


def test_settings_that_make_no_sense_are_ignored(make: Any, backend: Backend, caplog: Any) -> None:
    """With a line each; the exporter works."""
    exporter = make(backend, max_bytes="lots", max_age="-1", fsync="perhaps", exit="soon")
    exporter.export([span("a")])
    assert exporter.force_flush()
    assert len(said(caplog)) == 4


@pytest.mark.parametrize("policy", ["never", "flush", "batch"])
def test_fsync_as_wanted(make: Any, backend: Backend, monkeypatch: Any, policy: str) -> None:
    """batch: with each export; flush: at force_flush; never: not at all."""
    synced: list[int] = []
    monkeypatch.setattr(segment_writer.os, "fsync", synced.append)
    exporter = make(backend, fsync=policy)
    exporter.export([span("a")])
    by_export = len(synced)
    exporter.force_flush()
    assert (bool(by_export), bool(synced)) == (policy == "batch", policy != "never")


def test_the_thread_is_one_and_ends(make: Any, backend: Backend) -> None:
    """It starts with the first export, and shutdown ends it."""

    def running() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "otelflow-spool"]

    before = len(running())
    exporter = make(backend)
    assert len(running()) == before
    exporter.export([span("a")])
    exporter.export([span("b", 2)])
    assert len(running()) == before + 1
    exporter.force_flush()
    exporter.shutdown()
    for thread in running():
        thread.join(20)
    assert len(running()) == before


def test_shutdown_does_not_wait_for_a_backend_that_is_down(make: Any, down: Backend, monkeypatch: Any) -> None:
    """It has been tried and refused: what is on disk is safe. A wait would be seen: nobody is left to end it."""
    exporter = make(down, exit="3600")
    exporter.export([span("a")])
    assert not exporter.force_flush(300)
    exporter.shutdown()
    assert down.requests == []


def test_shutdown_sends_what_it_can(make: Any, backend: Backend) -> None:
    """A program that ends right after its last span has that at the backend."""
    exporter = make(backend, exit="10")
    exporter.export([span("a")])
    exporter.shutdown()
    assert backend.names == ["a"]


def test_waiting_costs_next_to_nothing(make: Any, down: Backend, tmp_path: Path) -> None:
    """Nothing to do; a backend that is down; another process that sends, or was about to when it was stopped; a record
    that is not whole yet: the thread looks from time to time, and does not spin."""
    exporter = make(down)
    looks = []
    (courier,) = exporter._spool._couriers
    courier._before = lambda: looks.append(1)
    exporter.export([span("a")])
    assert not exporter.force_flush(300)
    lock = lock_at(str(tmp_path / "spool" / f"sender-{_key(down)}.lock"))
    while True:  # it may be at it at this moment
        with contextlib.suppress(Timeout):
            lock.acquire(timeout=0)
            break
    looks.clear()
    exporter.force_flush(1000)
    lock.release()
    assert len(looks) < 30
    down.up()
    assert exporter.force_flush()
    (segment,) = files(tmp_path / "spool", ".open")
    with segment.open("ab") as file:
        file.write(b"half a rec")
    looks.clear()
    exporter.force_flush(1000)
    assert len(looks) < 30
    exporter.export([span("b", 2)])
    exporter.force_flush()
    assert down.names == ["a", "b"]
