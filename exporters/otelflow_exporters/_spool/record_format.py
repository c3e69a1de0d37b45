"""The file format of a spool: records with a checksum each, and a reader that skips damaged bytes.

A file begins with a magic text and a marker: 8 random bytes, which are in the file's name as well. Each record is::

    marker · length of the payload, spans in it (4 bytes each) · time, ns since the epoch (8) ·
    CRC-32 of the payload · CRC-32 of all before it · payload

Data from other people (span names, messages) cannot imitate a record, because they do not know the marker. So one
search finds the next record after damage, and reading takes linear time for any bytes. CRC-32 finds torn writes and
flipped bits, at the speed of reading. The file permissions protect against forgery.
"""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["START", "Damage", "Record", "file_header", "pack", "scan"]

_MAGIC = b"OTELFLOW-SPOOL1\n"
START = len(_MAGIC) + 8
"""Offset of the first record."""

_HEADER = struct.Struct(">8sIIQI")
_CHECKSUM = struct.Struct(">I")
_HEADER_BYTES = _HEADER.size + _CHECKSUM.size


class Record(NamedTuple):
    """An intact record, with its start and end offsets in the file."""

    start: int
    end: int
    spans: int
    time: int
    """When it was written, in nanoseconds since the epoch."""
    payload: bytes


class Damage(NamedTuple):
    """Bytes that are not a record."""

    start: int
    end: int
    spans: int
    """Number of spans lost in these bytes, according to the headers that can be read; 1 if none can."""
    at_end: bool
    """True if no intact record follows: a process may be writing it, or did not finish it."""


def file_header(marker: bytes) -> bytes:
    """Return the bytes that a file begins with."""
    return _MAGIC + marker


def pack(marker: bytes, payload: bytes, spans: int) -> bytes:
    """Encode a record with the current time."""
    header = _HEADER.pack(marker, len(payload), spans, time.time_ns(), zlib.crc32(payload))
    return b"".join((header, _CHECKSUM.pack(zlib.crc32(header)), payload))


def scan(data: bytes, marker: bytes, begin: int = START) -> Iterator[Record | Damage]:
    """Yield the records and the damaged parts of ``data``, whose offset in the file is ``begin``. Never raises."""
    end = search_from = spans = 0
    while (position := data.find(marker, search_from)) >= 0:
        header = _read_header(data, position)
        if header is None:
            search_from = position + 1
            continue
        length, span_count, record_time, checksum = header
        payload = data[position + _HEADER_BYTES : position + _HEADER_BYTES + length]
        search_from = position + _HEADER_BYTES
        if len(payload) < length or zlib.crc32(payload) != checksum:
            spans += span_count
            continue
        if position > end:
            yield Damage(begin + end, begin + position, spans or 1, False)
        end = search_from = search_from + length
        spans = 0
        yield Record(begin + position, begin + end, span_count, record_time, payload)
    if end < len(data):
        yield Damage(begin + end, begin + len(data), spans or 1, True)


def _read_header(data: bytes, position: int) -> tuple[int, int, int, int] | None:
    """Return payload length, spans, time and payload checksum of the record at ``position``. None if the header is not
    intact."""
    header = data[position : position + _HEADER.size]
    checksum = data[position + _HEADER.size : position + _HEADER_BYTES]
    if len(checksum) < _CHECKSUM.size or _CHECKSUM.unpack(checksum)[0] != zlib.crc32(header):
        return None
    _, length, spans, record_time, payload_checksum = _HEADER.unpack(header)
    return length, spans, record_time, payload_checksum
