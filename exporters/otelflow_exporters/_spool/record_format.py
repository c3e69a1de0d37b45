"""The bytes of a spool's files: records with a checksum each, and a reader that gets over damage.

A file begins with ``HEAD`` and a marker of 8 random bytes, which its name has as well. Each record is::

    marker · length of the payload, spans in it (4 bytes each) · time, ns since the epoch (8) ·
    CRC-32 of the payload · CRC-32 of all before it · payload

What is written by other people (span names, messages) cannot look like a record, for they do not know the marker; so
behind damage the next record is found by one search, and reading takes time in proportion to the size, whatever the
bytes are. CRC-32 finds torn writes and flipped bits, at the speed of reading; against forgery stand the permissions.
"""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["START", "Damage", "Record", "file_head", "pack", "scan"]

_MAGIC = b"OTELFLOW-SPOOL1\n"
START = len(_MAGIC) + 8
"""Where the first record begins."""

_RECORD = struct.Struct(">8sIIQI")
_CHECK = struct.Struct(">I")
_HEAD_BYTES = _RECORD.size + _CHECK.size


class Record(NamedTuple):
    """An intact record, and where in the file it begins and ends."""

    start: int
    end: int
    spans: int
    time: int
    """When it was written, nanoseconds since the epoch."""
    payload: bytes


class Damage(NamedTuple):
    """Bytes that are no record."""

    start: int
    end: int
    spans: int
    """Spans that are lost with them: as the heads say that can be read; 1 where none can."""
    at_end: bool
    """Nothing intact follows: it may be a record that is being written, or that its writer did not finish."""


def file_head(marker: bytes) -> bytes:
    """What a file begins with."""
    return _MAGIC + marker


def pack(marker: bytes, payload: bytes, spans: int) -> bytes:
    """A record."""
    head = _RECORD.pack(marker, len(payload), spans, time.time_ns(), zlib.crc32(payload))
    return b"".join((head, _CHECK.pack(zlib.crc32(head)), payload))


def scan(data: bytes, marker: bytes, begin: int = START) -> Iterator[Record | Damage]:
    """The records in ``data``, which stand at ``begin`` in their file; between them, what is damaged. Never raises."""
    end = at = spans = 0
    while (found := data.find(marker, at)) >= 0:
        head = _head(data, found)
        if head is None:
            at = found + 1
            continue
        length, count, when, check = head
        payload = data[found + _HEAD_BYTES : found + _HEAD_BYTES + length]
        at = found + _HEAD_BYTES
        if len(payload) < length or zlib.crc32(payload) != check:
            spans += count
            continue
        if found > end:
            yield Damage(begin + end, begin + found, spans or 1, False)
        end = at = at + length
        spans = 0
        yield Record(begin + found, begin + end, count, when, payload)
    if end < len(data):
        yield Damage(begin + end, begin + len(data), spans or 1, True)


def _head(data: bytes, at: int) -> tuple[int, int, int, int] | None:
    """Length, spans, time and checksum of the record there; None where no intact head is."""
    head = data[at : at + _RECORD.size]
    check = data[at + _RECORD.size : at + _HEAD_BYTES]
    if len(check) < _CHECK.size or _CHECK.unpack(check)[0] != zlib.crc32(head):
        return None
    _, length, spans, when, payload_check = _RECORD.unpack(head)
    return length, spans, when, payload_check
