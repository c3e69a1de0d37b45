"""The bytes of a spool's files: whatever happens to them, what is intact is read, and nothing raises."""

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
from otelflow_exporters._spool.delivery_thread import DeliveryThread, Reports
from otelflow_exporters._spool.destination import destinations
from otelflow_exporters._spool.folder import Folder
from otelflow_exporters._spool.open_flows import FlowJournal, closed_flows
from otelflow_exporters._spool.record_format import START, Damage, Record, file_head, pack, scan

MARKER = b"\x93marker\x07"
payloads = st.lists(
    st.binary(max_size=60) | st.just(file_head(b"another ") + pack(b"another ", b"inner", 1)), max_size=8
)


def written(parts: list[bytes]) -> bytes:
    return b"".join(pack(MARKER, part, spans=number + 1) for number, part in enumerate(parts))


def intact(data: bytes) -> list[bytes]:
    return [part.payload for part in scan(data, MARKER) if isinstance(part, Record)]


@settings(deadline=None)
@given(payloads)
def test_what_is_written_is_read(parts: list[bytes]) -> None:
    """Records come back in order, with their spans, each where the one before ends."""
    data = written(parts)
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
def test_damage_costs_what_it_hits(parts: list[bytes], harm: str, place: int, more: bytes) -> None:
    """A bit flipped, bytes cut out, put in, or gone at the end: reading never raises, all records that were not touched
    are read, none that was not written is, and every byte is accounted for."""
    whole = written(parts)
    at = place % len(whole)
    upto, put = {
        "flip": (at + 1, bytes([whole[at] ^ 1 << len(more) % 8])),
        "cut": (at + len(more), b""),
        "insert": (at, more),
        "truncate": (len(whole), b""),
    }[harm]
    read = list(scan(whole[:at] + put + whole[upto:], MARKER))
    found = [part.payload for part in read if isinstance(part, Record)]
    ends = [len(written(parts[: number + 1])) for number in range(len(parts))]
    untouched = [part for part, start, end in zip(parts, [0, *ends], ends, strict=False) if end <= at or start >= upto]
    assert is_within(untouched, found)
    assert is_within(found, parts)
    assert [part.start for part in read] == [START, *(part.end for part in read)][: len(read)]


def is_within(some: list[bytes], all_of_them: list[bytes]) -> bool:
    """Whether the one is the other with parts left out."""
    rest = iter(all_of_them)
    return all(one in rest for one in some)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_can_be_read(data: bytes) -> None:
    """What never was a spool gives no record and no exception."""
    assert all(isinstance(part, Damage) for part in scan(data, MARKER))


@settings(max_examples=200, deadline=None)
@given(payloads.filter(bool), st.lists(st.tuples(st.integers(0, 2000), st.binary(max_size=40)), max_size=6))
def test_many_damages_at_once(parts: list[bytes], harms: list[tuple[int, bytes]]) -> None:
    """Bytes overwritten in many places: never an exception, never a record that was not written."""
    data = bytearray(written(parts))
    for at, what in harms:
        data[at % len(data) : at % len(data) + len(what)] = what
    assert set(intact(bytes(data))) <= set(parts)


def test_one_flipped_bit_costs_one_record() -> None:
    """Wherever it is: the two others are read, and the damage says how many spans it was, where the head is intact."""
    parts = [b"first", b"second", b"third"]
    whole = written(parts)
    first, second = len(pack(MARKER, b"first", 1)), len(written(parts[:2]))
    for at in range(first, second):
        harmed = bytearray(whole)
        harmed[at] ^= 4
        read = list(scan(bytes(harmed), MARKER))
        assert [part.payload for part in read if isinstance(part, Record)] == [b"first", b"third"]
        (damage,) = (part for part in read if isinstance(part, Damage))
        assert (damage.start, damage.end, damage.at_end) == (START + first, START + second, False)
        assert damage.spans == (2 if at >= second - len(b"second") else 1)


def test_reading_damage_takes_time_in_proportion() -> None:
    """A file in which every record is damaged, and one of nothing but markers: each byte is looked at a few times, not
    once for each record. Counted in bytes that are copied, not in seconds."""

    class Counting(bytes):
        copied = 0

        def __getitem__(self, key: object) -> bytes:  # type: ignore[override]
            piece = bytes.__getitem__(self, key)  # type: ignore[index]
            Counting.copied += len(piece)
            return piece

    one = bytearray(pack(MARKER, b"x" * 1000, 1))
    one[-1] ^= 1
    for data in (bytes(one) * 1000, MARKER * 100_000, bytes(100_000)):
        Counting.copied = 0
        list(scan(Counting(data), MARKER))
        assert Counting.copied < 6 * len(data)


# --- a folder with such files -------------------------------------------------------------------------------------


NAME = "{:020d}-1.0123456789abcdef-" + MARKER.hex() + ".spool"
harms = st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 20), st.binary(max_size=20)), max_size=4)


def harmed(data: bytes, places: list[tuple[int, int, bytes]]) -> bytes:
    """With bytes taken out and put in at some places."""
    for at, out, put in places:
        at %= len(data) + 1
        data = data[:at] + put + data[at + out :]
    return data


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(payloads, harms), max_size=4))
def test_a_damaged_folder_is_delivered(segments: list[tuple[list[bytes], list[tuple[int, int, bytes]]]]) -> None:
    """Whatever was done to its segments: all that can be read is delivered, in order, with no exception; then every
    segment is done with to its end, so that it is removed."""
    with tempfile.TemporaryDirectory() as path:
        expected = []
        for number, (parts, places) in enumerate(segments):
            data = harmed(file_head(MARKER) + written(parts), places)
            Path(path, NAME.format(number)).write_bytes(data)
            expected += intact(data[START:])
        folder, lost = Folder(path), []
        (destination,) = destinations("http://127.0.0.1:1")
        nothing: Any = lambda *_: None  # noqa: E731 - it stands for several
        courier = DeliveryThread(folder, destination, 0, Reports(lambda *loss: lost.append(loss), *[nothing] * 4))
        delivered, progress = b"", {}
        for segment in folder.segments():
            for batch in courier._batches(segment, START):
                delivered += batch.payload
                progress[segment.stem] = batch.end
        assert delivered == b"".join(expected)
        folder.save_progress(destination.key, destination.shown, progress)
        assert folder.waiting([destination.key]) == []
        assert all(spans > 0 for _, _, spans in lost)
        folder.sweep([destination.key])
        assert folder.segments() == []


@settings(max_examples=100, deadline=None)
@given(
    st.binary(max_size=200) | st.sampled_from([b"[]", b"{}", b'{"sent": {"a": "b"}}', b'{"sent": 1}', b"null", b"1"])
)
def test_any_bytes_in_the_other_files(data: bytes) -> None:
    """Progress, losses and journal that are none: as if they were not there."""
    with tempfile.TemporaryDirectory() as path:
        for name in ("sent-0123456789ab.json", "losses.jsonl", "losses.jsonl.1", "1.0123456789abcdef.flows"):
            Path(path, name).write_bytes(data)
        folder = Folder(path)
        assert folder.progress("0123456789ab") == {}
        assert list(folder.losses()) == []
        assert folder.waiting(folder.keys()) == []
        assert folder.endpoint_of("0123456789ab") == "0123456789ab"
        assert closed_flows(str(Path(path, "1.0123456789abcdef.flows")), 1) == (b"", 0)


values = st.text() | st.integers(-(2**63), 2**63 - 1) | st.booleans() | st.floats() | st.lists(st.text())


@settings(max_examples=100, deadline=None)
@given(st.text(), st.dictionaries(st.text(min_size=1), values, max_size=5), harms)
def test_a_journal_gives_back_what_it_was_told(
    name: str, attributes: Any, places: list[tuple[int, int, bytes]]
) -> None:
    """The closed flow is the one that began, and the same to the bit but for how it ended; a damaged journal gives it
    or nothing."""
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
        journal = FlowJournal(lambda: str(path), lambda _, why: problems.append(why))
        journal.on_start(span)
        payload, number = closed_flows(str(path), 1_800_000_000_000_000_000)
        path.write_bytes(harmed(path.read_bytes(), places))
        again, fewer = closed_flows(str(path), 1_800_000_000_000_000_000)
        journal.abandon()
    assert (problems, number) == ([], 1)
    assert (again, fewer) in ((payload, 1), (b"", 0))
    closed, begun = only_span(payload), only_span(encode([span]))
    assert closed.end_time_unix_nano == 1_800_000_000_000_000_000
    assert [pair.key for pair in closed.attributes if pair not in begun.attributes][-2:] == [
        "otelflow.status",
        "error.type",
    ] or "nan" in str(begun.attributes)
    for one in (closed, begun):
        one.ClearField("status")
        one.ClearField("end_time_unix_nano")
        del one.attributes[:]
    assert closed == begun


def only_span(payload: bytes) -> Any:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    (resource,) = ExportTraceServiceRequest.FromString(payload).resource_spans
    ((span,),) = (scope.spans for scope in resource.scope_spans)
    return span
