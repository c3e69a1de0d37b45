"""The bytes of a spool: whatever happens to them, what is intact is read."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from otelflow_exporters._spool_records import START, Damage, Record, file_head, pack, scan

MARKER = b"\x93marker\x07"
payloads = st.lists(
    st.binary(max_size=60) | st.just(file_head(b"another ") + pack(b"another ", b"inner", 1)), max_size=8
)


def written(parts: list[bytes]) -> bytes:
    return b"".join(pack(MARKER, part, spans=number + 1) for number, part in enumerate(parts))


def intact(data: bytes) -> list[bytes]:
    return [part.payload for part in scan(data, MARKER) if isinstance(part, Record)]


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


@settings(max_examples=300)
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


@given(st.binary(max_size=300))
def test_any_bytes_can_be_read(data: bytes) -> None:
    """What never was a spool gives no record and no exception."""
    assert all(isinstance(part, Damage) for part in scan(data, MARKER))


@settings(max_examples=200)
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
