"""Damaged files of a spool: reading returns every intact record and never raises."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags, TraceState
from otelflow_exporters._spool.delivery import encode
from otelflow_exporters._spool.delivery_thread import Callbacks, DeliveryThread
from otelflow_exporters._spool.destination import destinations
from otelflow_exporters._spool.folder import Folder
from otelflow_exporters._spool.open_flows import FlowJournal, encode_closed_flows
from otelflow_exporters._spool.record_format import START, Damage, Record, file_header, pack, scan

MARKER = b"\x93marker\x07"
payloads = st.lists(
    st.binary(max_size=60) | st.just(file_header(b"another ") + pack(b"another ", b"inner", 1)), max_size=8
)


def encode_records(parts: list[bytes]) -> bytes:
    return b"".join(pack(MARKER, part, spans=number + 1) for number, part in enumerate(parts))


def intact_payloads(data: bytes) -> list[bytes]:
    return [part.payload for part in scan(data, MARKER) if isinstance(part, Record)]


@settings(deadline=None)
@given(payloads)
def test_written_records_are_read_back(parts: list[bytes]) -> None:
    """In order, with the number of their spans. Each record begins at the end of the previous one."""
    data = encode_records(parts)
    read = list(scan(data, MARKER))
    assert [(part.payload, part.spans) for part in read if isinstance(part, Record)] == [
        (payload, number + 1) for number, payload in enumerate(parts)
    ]
    ends = [START, *(part.end for part in read)]
    assert [part.start for part in read] == ends[:-1]
    assert ends[-1] == START + len(data)


@settings(max_examples=300, deadline=None)
@given(
    payloads.filter(bool),
    st.sampled_from(["flip", "cut", "insert", "truncate"]),
    st.integers(0, 10_000),
    st.binary(min_size=1, max_size=60),
)
def test_damage_affects_only_the_records_it_touches(
    parts: list[bytes], kind: str, place: int, new_bytes: bytes
) -> None:
    """A bit is flipped, or bytes are cut out, inserted, or missing at the end. Reading never raises. It returns all
    untouched records and no record that was not written, and it accounts for every byte."""
    whole = encode_records(parts)
    at = place % len(whole)
    damage_end, replacement = {
        "flip": (at + 1, bytes([whole[at] ^ 1 << len(new_bytes) % 8])),
        "cut": (at + len(new_bytes), b""),
        "insert": (at, new_bytes),
        "truncate": (len(whole), b""),
    }[kind]
    read = list(scan(whole[:at] + replacement + whole[damage_end:], MARKER))
    payloads_read = [part.payload for part in read if isinstance(part, Record)]
    ends = [len(encode_records(parts[: number + 1])) for number in range(len(parts))]
    untouched = [
        part for part, start, end in zip(parts, [0, *ends], ends, strict=False) if end <= at or start >= damage_end
    ]
    assert is_within(untouched, payloads_read)
    assert is_within(payloads_read, parts)
    assert [part.start for part in read] == [START, *(part.end for part in read)][: len(read)]


def is_within(parts: list[bytes], all_parts: list[bytes]) -> bool:
    """Return whether ``parts`` are ``all_parts`` with some left out."""
    rest = iter(all_parts)
    return all(part in rest for part in parts)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_can_be_read(data: bytes) -> None:
    """Bytes that never were a spool give no record and no exception."""
    assert all(isinstance(part, Damage) for part in scan(data, MARKER))


@settings(max_examples=200, deadline=None)
@given(payloads.filter(bool), st.lists(st.tuples(st.integers(0, 2000), st.binary(max_size=40)), max_size=6))
def test_damage_in_many_places(parts: list[bytes], damages: list[tuple[int, bytes]]) -> None:
    """Bytes are overwritten in many places: reading never raises, and never returns a record that was not written."""
    data = bytearray(encode_records(parts))
    for at, new_bytes in damages:
        data[at % len(data) : at % len(data) + len(new_bytes)] = new_bytes
    assert set(intact_payloads(bytes(data))) <= set(parts)


def test_one_flipped_bit_costs_one_record() -> None:
    """Wherever it is, the two other records are read. If the header is intact, the damage has its number of spans."""
    parts = [b"first", b"second", b"third"]
    whole = encode_records(parts)
    first, second = len(pack(MARKER, b"first", 1)), len(encode_records(parts[:2]))
    for at in range(first, second):
        data = bytearray(whole)
        data[at] ^= 4
        read = list(scan(bytes(data), MARKER))
        assert [part.payload for part in read if isinstance(part, Record)] == [b"first", b"third"]
        (damage,) = (part for part in read if isinstance(part, Damage))
        assert (damage.start, damage.end, damage.at_end) == (START + first, START + second, False)
        assert damage.spans == (2 if at >= second - len(b"second") else 1)


def test_reading_damage_takes_linear_time() -> None:
    """In a file with damaged records only, and in one with markers only, each byte is read a few times, not once for
    each record. The test counts copied bytes, not seconds."""

    class CountingBytes(bytes):
        copied = 0

        def __getitem__(self, key: object) -> bytes:  # type: ignore[override]
            result = bytes.__getitem__(self, key)  # type: ignore[index]
            CountingBytes.copied += len(result)
            return result

    record = bytearray(pack(MARKER, b"x" * 1000, 1))
    record[-1] ^= 1
    for data in (bytes(record) * 1000, MARKER * 100_000, bytes(100_000)):
        CountingBytes.copied = 0
        list(scan(CountingBytes(data), MARKER))
        assert CountingBytes.copied < 6 * len(data)


# --- a folder with such files -------------------------------------------------------------------------------------


NAME = "{:020d}-1.0123456789abcdef-" + MARKER.hex() + ".spool"
damages = st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 20), st.binary(max_size=20)), max_size=4)


def apply_damage(data: bytes, places: list[tuple[int, int, bytes]]) -> bytes:
    """Return ``data`` with bytes removed and inserted in some places."""
    for at, length, replacement in places:
        at %= len(data) + 1
        data = data[:at] + replacement + data[at + length :]
    return data


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(payloads, damages), max_size=4))
def test_a_damaged_folder_is_delivered(segments: list[tuple[list[bytes], list[tuple[int, int, bytes]]]]) -> None:
    """All readable records are delivered in order, without an exception. Then each segment is removed."""
    with tempfile.TemporaryDirectory() as path:
        expected = []
        for number, (parts, places) in enumerate(segments):
            data = apply_damage(file_header(MARKER) + encode_records(parts), places)
            Path(path, NAME.format(number)).write_bytes(data)
            expected += intact_payloads(data[START:])
        folder, lost = Folder(path), []
        (destination,) = destinations("http://127.0.0.1:1")
        ignore: Any = lambda *_: None  # noqa: E731 - used for several callbacks
        thread = DeliveryThread(folder, destination, 0, Callbacks(lambda *loss: lost.append(loss), *[ignore] * 4))
        delivered, progress = b"", {}
        for segment in folder.segments():
            for batch in thread._batches(segment, START):
                delivered += batch.payload
                progress[segment.stem] = batch.end
        assert delivered == b"".join(expected)
        folder.save_progress(destination.key, destination.display_url, progress)
        assert folder.pending_segments([destination.key]) == []
        assert all(spans > 0 for _, _, spans in lost)
        folder.remove_delivered([destination.key])
        assert folder.segments() == []


@settings(max_examples=100, deadline=None)
@given(
    st.binary(max_size=200) | st.sampled_from([b"[]", b"{}", b'{"sent": {"a": "b"}}', b'{"sent": 1}', b"null", b"1"])
)
def test_invalid_progress_losses_and_journal_are_ignored(data: bytes) -> None:
    """Files with invalid content count as missing."""
    with tempfile.TemporaryDirectory() as path:
        for name in ("sent-0123456789ab.json", "losses.jsonl", "losses.jsonl.1", "1.0123456789abcdef.flows"):
            Path(path, name).write_bytes(data)
        folder = Folder(path)
        assert folder.progress("0123456789ab") == {}
        assert list(folder.losses()) == []
        assert folder.pending_segments(folder.endpoint_keys()) == []
        assert folder.endpoint_url("0123456789ab") == "0123456789ab"
        assert encode_closed_flows(str(Path(path, "1.0123456789abcdef.flows")), 1) == (b"", 0)


values = st.text() | st.integers(-(2**63), 2**63 - 1) | st.booleans() | st.floats() | st.lists(st.text())


@settings(max_examples=100, deadline=None)
@given(st.text(), st.dictionaries(st.text(min_size=1), values, max_size=5), damages)
def test_a_closed_flow_equals_the_started_flow(
    name: str, attributes: Any, places: list[tuple[int, int, bytes]]
) -> None:
    """Only its end, its status and the attributes of the end differ. A damaged journal gives this flow or nothing."""
    span = ReadableSpan(
        name,
        SpanContext(2**127 + 1, 2**63 + 1, False, TraceFlags(1), TraceState([("vendor", "x=1")])),
        SpanContext(2**127 + 1, 5, True, TraceFlags(1)),
        resource=Resource({"service.name": name, "pid": 1}, "https://schema"),
        attributes={**attributes, "otelflow.kind": "flow"},
        links=[Link(SpanContext(7, 8, True, TraceFlags(1)), {"why": "caller"})],
        kind=SpanKind.SERVER,
        start_time=1_700_000_000_000_000_000,
        instrumentation_scope=InstrumentationScope("otelflow", "1.0", None, {"a": 1}),
    )
    problems: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "journal")
        journal = FlowJournal(lambda: str(path), lambda _, message: problems.append(message))
        journal.on_start(span)
        payload, count = encode_closed_flows(str(path), 1_800_000_000_000_000_000)
        path.write_bytes(apply_damage(path.read_bytes(), places))
        damaged_payload, damaged_count = encode_closed_flows(str(path), 1_800_000_000_000_000_000)
        journal.reset_after_fork()
    assert (problems, count) == ([], 1)
    assert (damaged_payload, damaged_count) in ((payload, 1), (b"", 0))
    closed, started = only_span(payload), only_span(encode([span]))
    assert closed.end_time_unix_nano == 1_800_000_000_000_000_000
    assert [pair.key for pair in closed.attributes if pair not in started.attributes][-2:] == [
        "otelflow.status",
        "error.type",
    ] or "nan" in str(started.attributes)
    for message in (closed, started):
        message.ClearField("status")
        message.ClearField("end_time_unix_nano")
        del message.attributes[:]
    assert closed == started


def only_span(payload: bytes) -> Any:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    (resource,) = ExportTraceServiceRequest.FromString(payload).resource_spans
    ((span,),) = (scope.spans for scope in resource.scope_spans)
    return span
