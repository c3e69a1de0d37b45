"""The spool in one process: export, delivery, counts, limits and damage."""

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
from spooling import FAILURE, SUCCESS, files, log_messages, span


def test_exported_spans_arrive_unchanged(make: Any, backend: Backend) -> None:
    """Name, ids, attributes and resource. The account counts them, and no file stays on disk after the shutdown."""
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


def test_an_outage_only_delays_spans(make: Any, stopped_backend: Backend, caplog: Any) -> None:
    """While the backend is down, export succeeds and the spans are pending. Then they arrive in order, and once. The
    log has one line when it goes down, and one when it is back."""
    exporter = make(stopped_backend)
    for number in range(1, 31):
        assert exporter.export([span(f"s{number}", number)]) is SUCCESS
    assert not exporter.force_flush(200)
    assert exporter.account().pending == 30
    stopped_backend.up()
    assert exporter.force_flush()
    assert stopped_backend.names == [f"s{number}" for number in range(1, 31)]
    assert exporter.account().delivered == 30
    down, again = log_messages(caplog)
    assert "cannot send to" in down
    assert "again" in again


def test_a_backlog_is_delivered_by_the_next_exporter(make: Any, stopped_backend: Backend) -> None:
    """A new exporter on the folder sends the spans of the previous one, without an export of its own."""
    first = make(stopped_backend)
    first.export([span("a"), span("b", 2)])
    first.shutdown()
    stopped_backend.up()
    make(stopped_backend)
    stopped_backend.wait_for(2)


def test_small_records_share_requests(make: Any, stopped_backend: Backend) -> None:
    """Records that wait together are sent together."""
    exporter = make(stopped_backend)
    for number in range(1, 201):
        exporter.export([span("s", number)])
    stopped_backend.up()
    assert exporter.force_flush()
    assert len(stopped_backend.count()) == 200
    assert len(stopped_backend.requests) < 10


def test_encoded_requests_are_accepted(make: Any, backend: Backend) -> None:
    """A caller with its own encoder passes bytes."""
    exporter = make(backend)
    assert exporter.export_encoded(encode([span("a")]), 1) is SUCCESS
    assert exporter.force_flush()
    assert backend.names == ["a"]


def test_a_span_that_cannot_be_encoded_is_lost_alone(make: Any, backend: Backend, caplog: Any) -> None:
    """It is counted, the others of its batch arrive, and the next force_flush returns False."""
    exporter = make(backend)
    before_time = span("b", 2)
    before_time._start_time = -1
    assert exporter.export([span("a"), before_time, span("c", 3)]) is SUCCESS
    assert not exporter.force_flush()
    assert exporter.force_flush()
    assert backend.names == ["a", "c"]
    assert exporter.account().lost == {"encode_failed": 1}
    assert len([text for text in log_messages(caplog) if "cannot encode 1 span" in text]) == 1


def test_a_lone_surrogate_is_replaced(make: Any, backend: Backend) -> None:
    """It comes from a file name, and protobuf refuses it. It becomes U+FFFD, as in the core's requests."""
    exporter = make(backend)
    assert exporter.export([span("bad \ud800")]) is SUCCESS
    assert exporter.force_flush()
    assert backend.names == ["bad \ufffd"]


def test_a_large_batch_is_several_records(make: Any, stopped_backend: Backend) -> None:
    """No record is larger than a backend accepts, and little is sent again after a crash."""
    exporter = make(stopped_backend)
    assert exporter.export([span("s", number, text="x" * 50_000) for number in range(1, 101)]) is SUCCESS
    stopped_backend.max_bytes = 1 << 20
    stopped_backend.up()
    assert exporter.force_flush()
    assert len(stopped_backend.count()) == 100


def test_files_are_private(make: Any, stopped_backend: Backend, tmp_path: Path) -> None:
    """0600 in folders of 0700, regardless of the umask."""
    before = os.umask(0)
    try:
        exporter = make(stopped_backend, dir=str(tmp_path / "a" / "b"))
        exporter.export([span("x", 1, **{"otelflow.kind": "flow"})])
        exporter.span_processor().on_start(span("x", 1, **{"otelflow.kind": "flow"}))
        exporter.force_flush(100)
    finally:
        os.umask(before)
    folders = [tmp_path / "a", tmp_path / "a" / "b"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o700}
    assert len(files(folders[1])) >= 4
    assert {stat.S_IMODE(path.stat().st_mode) for path in files(folders[1])} == {0o600}


def test_the_default_folder_has_the_service_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is below the user's state folder. The service's name may have any characters."""
    monkeypatch.delenv("OTELFLOW_EXPORTER_SPOOL_DIR", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("OTEL_SERVICE_NAME", "../shop & co")
    assert folder_of_environment() == str(tmp_path / "otelflow" / "spool" / "..%2Fshop%20%26%20co")
    monkeypatch.delenv("OTEL_SERVICE_NAME")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "a=b,service.name=cart")
    assert folder_of_environment().endswith("/cart")
    monkeypatch.delenv("OTEL_RESOURCE_ATTRIBUTES")
    assert folder_of_environment().endswith("/unknown_service")


# --- limits -------------------------------------------------------------------------------------------------------


def test_the_folder_stays_below_its_maximum_size(make: Any, stopped_backend: Backend, tmp_path: Path) -> None:
    """The oldest spans are dropped and counted, the newest arrive, and the counts add up."""
    exporter = make(stopped_backend, max_bytes="100000")
    for number in range(1, 1001):
        assert exporter.export([span(f"s{number}", number, text="x" * 200)]) is SUCCESS
    assert sum(path.stat().st_size for path in files(tmp_path / "spool", "n")) < 110_000
    account = exporter.account()
    assert account.lost["spool_full"] + account.pending == 1000
    assert account.lost["spool_full"] > 500
    stopped_backend.up()
    exporter.force_flush()
    assert stopped_backend.names == [f"s{number}" for number in range(1001 - account.pending, 1001)]
    assert exporter.account().delivered == account.pending


def test_a_record_larger_than_the_folder_is_counted(make: Any, stopped_backend: Backend) -> None:
    """No other record is lost with it."""
    exporter = make(stopped_backend, max_bytes="5000")
    assert exporter.export([span("small")]) is SUCCESS
    assert exporter.export([span("large", 2, text="x" * 10_000)]) is FAILURE
    assert exporter.account().lost == {"too_large": 1}
    assert exporter.account().pending == 1


def test_old_spans_expire(make: Any, stopped_backend: Backend, monkeypatch: Any) -> None:
    """They are counted once, regardless of the number of tries. Younger spans arrive."""
    exporter = make(stopped_backend, max_age="3600")
    with monkeypatch.context() as patch:
        patch.setattr(record_format, "time", SimpleNamespace(time_ns=lambda: time.time_ns() - 3601 * 10**9))
        exporter.export([span("old"), span("old", 2)])
    exporter.export([span("young", 3)])
    stopped_backend.answers.extend([(503, {}, b"")] * 2)
    stopped_backend.up()
    assert not exporter.force_flush()
    assert stopped_backend.names == ["young"]
    assert exporter.account().lost == {"spool_expired": 2}


@contextlib.contextmanager
def sender_lock(folder: Path, exporter: SpoolSpanExporter) -> Iterator[None]:
    """Hold the sender's lock, as another process that sends would. Otherwise the exporter could read the file before
    the test has changed it."""
    (key,) = exporter._spool.keys
    with lock_at(str(folder / f"sender-{key}.lock")):
        yield


def test_damaged_records_are_counted_and_skipped(make: Any, stopped_backend: Backend, tmp_path: Path) -> None:
    """A bit of a record flips on disk. The other records arrive."""
    exporter = make(stopped_backend)
    with sender_lock(tmp_path / "spool", exporter):
        for number in range(1, 4):
            exporter.export([span(f"s{number}", number)])
        (segment,) = files(tmp_path / "spool", ".open")
        data = bytearray(segment.read_bytes())
        data[data.index(b"s2")] ^= 1
        segment.write_bytes(data)
    stopped_backend.up()
    assert not exporter.force_flush()
    assert stopped_backend.names == ["s1", "s3"]
    assert exporter.account().lost == {"spool_damaged": 1}
    assert exporter.account().delivered == 2


def test_spans_with_a_damaged_header_are_counted(make: Any, stopped_backend: Backend, tmp_path: Path) -> None:
    """The number of spans cannot be read, but the process that wrote the record knows it."""
    exporter = make(stopped_backend)
    with sender_lock(tmp_path / "spool", exporter):
        exporter.export([span("a")])
        exporter.export([span(f"s{number}", number) for number in range(2, 7)])
        exporter.export([span("b", 7)])
        (segment,) = files(tmp_path / "spool", ".open")
        data = bytearray(segment.read_bytes())
        head = data.index(bytes.fromhex(segment.stem[-16:]), data.index(b"shop"))
        data[head + 10] ^= 1
        segment.write_bytes(data)
    stopped_backend.up()
    assert not exporter.force_flush()
    exporter.shutdown()
    account = exporter.account()
    assert (account.delivered, account.pending, account.lost) == (2, 0, {"spool_damaged": 5})


def test_a_signal_handler_may_end_a_span(make: Any, backend: Backend) -> None:
    """Signals interrupt writes, and their handlers write as well. Nothing hangs, and nothing is lost."""
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


def test_threads_export_at_the_same_time(make: Any, backend: Backend) -> None:
    """Eight threads use one exporter. All spans arrive once."""
    exporter = make(backend)

    def work(base: int) -> None:
        for number in range(100):
            exporter.export([span("s", base + number)])

    threads = [threading.Thread(target=work, args=(1 + 1000 * index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert exporter.force_flush()
    assert len(backend.count()) == 800
    assert set(backend.count().values()) == {1}


def test_progress_that_cannot_be_saved_stays_in_memory(make: Any, stopped_backend: Backend, tmp_path: Path) -> None:
    """Delivered spans are not sent again, although the progress file cannot be written, and their file is removed."""
    exporter = make(stopped_backend)
    exporter.export([span("a")])
    (segment,) = Folder(str(tmp_path / "spool")).segments()
    key = _key(stopped_backend)
    (tmp_path / "spool" / f"sent-{key}.json.{os.getpid()}").mkdir()
    stopped_backend.up()
    assert exporter.force_flush()
    exporter.export([span("b", 2)])
    assert exporter.force_flush()
    assert stopped_backend.names == ["a", "b"]
    exporter.shutdown()
    assert not os.path.exists(segment.path)


def _key(backend: Backend) -> str:
    from otelflow_exporters._spool.destination import destinations

    (destination,) = destinations(backend.endpoint)
    return destination.key


def test_invalid_settings_are_ignored(make: Any, backend: Backend, caplog: Any) -> None:
    """Each is logged, and the exporter works."""
    exporter = make(backend, max_bytes="lots", max_age="-1", fsync="perhaps", exit="soon")
    exporter.export([span("a")])
    assert exporter.force_flush()
    assert len(log_messages(caplog)) == 4


@pytest.mark.parametrize("policy", ["never", "flush", "batch"])
def test_fsync_follows_the_setting(make: Any, backend: Backend, monkeypatch: Any, policy: str) -> None:
    """batch: with each export; flush: at force_flush; never: not at all."""
    synced: list[int] = []
    monkeypatch.setattr(segment_writer.os, "fsync", synced.append)
    exporter = make(backend, fsync=policy)
    exporter.export([span("a")])
    synced_by_export = len(synced)
    exporter.force_flush()
    assert (bool(synced_by_export), bool(synced)) == (policy == "batch", policy != "never")


def test_there_is_one_thread_and_shutdown_ends_it(make: Any, backend: Backend) -> None:
    """It starts with the first export."""

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


def test_shutdown_does_not_wait_for_a_backend_that_is_down(
    make: Any, stopped_backend: Backend, monkeypatch: Any
) -> None:
    """A request was tried and refused, and the spans on disk are safe. A wait would make the test hang."""
    exporter = make(stopped_backend, exit="3600")
    exporter.export([span("a")])
    assert not exporter.force_flush(300)
    exporter.shutdown()
    assert stopped_backend.requests == []


def test_shutdown_sends_pending_spans(make: Any, backend: Backend) -> None:
    """If a program ends right after its last span, the backend has this span."""
    exporter = make(backend, exit="10")
    exporter.export([span("a")])
    exporter.shutdown()
    assert backend.names == ["a"]


def test_a_waiting_thread_does_not_spin(make: Any, stopped_backend: Backend, tmp_path: Path) -> None:
    """The thread checks at intervals in each state: the backend is down, another process holds the sender's lock, or a
    record is incomplete."""
    exporter = make(stopped_backend)
    rounds = []
    (thread,) = exporter._spool._delivery_threads
    before_round = thread._callbacks.before_round

    def count_round() -> None:
        rounds.append(1)
        before_round()

    thread._callbacks = thread._callbacks._replace(before_round=count_round)
    exporter.export([span("a")])
    assert not exporter.force_flush(300)
    lock = lock_at(str(tmp_path / "spool" / f"sender-{_key(stopped_backend)}.lock"))
    while True:  # the thread may hold it at this moment
        with contextlib.suppress(Timeout):
            lock.acquire(timeout=0)
            break
    rounds.clear()
    exporter.force_flush(1000)
    lock.release()
    assert 0 < len(rounds) < 30
    stopped_backend.up()
    assert exporter.force_flush()
    (segment,) = files(tmp_path / "spool", ".open")
    with segment.open("ab") as file:
        file.write(b"half a rec")
    rounds.clear()
    exporter.force_flush(1000)
    assert 0 < len(rounds) < 30
    exporter.export([span("b", 2)])
    exporter.force_flush()
    assert stopped_backend.names == ["a", "b"]
