"""Read files of spans that are larger than memory: first an index of all traces, then one trace at a time."""

from __future__ import annotations

import json
import tempfile
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from otelflow_exporters._trace.from_json import from_json, is_span_document
from otelflow_exporters._trace.markers import flow_of, is_marker
from otelflow_exporters._trace.span import Span

__all__ = ["Index", "Source", "Trace", "UnreadableFile"]

_CACHED_LINES = 4
_COPY_BYTES = 1 << 20
_BLANK = b"\0\r\n\t \xef\xbb\xbf"
"""The bytes of a line without content. A file system may leave zeros after a crash."""


class UnreadableFile(Exception):
    """A file cannot be read, or contains no spans."""


class Trace:
    """Index entry of one trace. Times are nanoseconds since the epoch; ``end`` is the latest end of its spans."""

    __slots__ = ("end", "failed", "match_bits", "number", "positions", "root", "start", "status", "trace_id")

    def __init__(self, trace_id: str) -> None:
        self.trace_id = trace_id
        self.root = ""
        """Name of the root span; of the first span if the root is missing."""
        self.status = ""
        self.number = self.failed = 0
        self.start, self.end = 0, 0
        self.match_bits = 0
        """Bits of the filters that a span of this trace matches, combined over all its spans."""
        self.positions = array("Q")
        """Where its lines begin: source number and position in bytes, alternating."""

    @property
    def duration(self) -> float:
        """Duration in seconds."""
        return max(0, self.end - self.start) / 1e9

    def add(self, span: Span, source: int, position: int) -> None:
        """Add a span that was read from this position of the source."""
        end = span.start if span.end is None else span.end
        is_first = not self.positions
        self.start = span.start if is_first else min(self.start, span.start)
        self.end = max(self.end, end)
        self.failed += span.failed
        is_root = span.parent_id is None or span.parent_is_remote
        if is_marker(span.attributes):
            self.root = self.root if self.status else flow_of(span).name
        else:
            self.number += 1
        if not self.root or is_root:
            self.root = span.name
        if is_root:
            self.status = _status(span)
        if self.positions[-2:].tolist() != [source, position]:
            self.positions.extend((source, position))


def _status(root: Span) -> str:
    status = root.attributes.get("otelflow.status")
    return "failed" if root.failed else status if status in ("cancelled", "completed") else "completed"


class Source:
    """One file, or standard input. Standard input is copied to a temporary file, because it is read twice."""

    def __init__(self, name: str, stdin: IO[bytes] | None = None) -> None:
        self.name = "standard input" if name == "-" else name
        self.broken = 0
        """Number of lines that are not JSON of spans: mostly the last line of a process that was killed."""
        self._document: list[Span] | None = None
        self._cache: OrderedDict[int, list[Span]] = OrderedDict()
        self._file = self._copy(stdin) if name == "-" and stdin is not None else self._open(name)

    @staticmethod
    def _copy(stdin: IO[bytes]) -> IO[bytes]:
        copy: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the source
        while block := stdin.read(_COPY_BYTES):
            copy.write(block)
        copy.seek(0)
        return copy

    @staticmethod
    def _open(name: str) -> IO[bytes]:
        try:
            return Path(name).open("rb")
        except OSError as error:
            raise UnreadableFile(f"{name!r} cannot be read: {error.strerror}.") from None

    def close(self) -> None:
        self._file.close()

    def spans(self) -> Iterator[tuple[int, Span]]:
        """Yield every span in brief form, with the position of its line.

        Raises UnreadableFile if the file contains no JSON of spans.
        """
        self._file.seek(0)
        has_json_lines, position = False, 0
        for line in self._file:
            here, position = position, position + len(line)
            if not line.strip(_BLANK):
                continue
            document = _parse(line)
            if not is_span_document(document):
                self.broken += 1
                continue
            has_json_lines = True
            for span in from_json(document, brief=True):
                yield here, span
        if self.broken and not has_json_lines:
            yield from self._document_spans()

    def _document_spans(self) -> Iterator[tuple[int, Span]]:
        """Yield the spans of a file that is one JSON document on many lines."""
        self._file.seek(0)
        document = _parse(self._file.read())
        if not is_span_document(document):
            raise UnreadableFile(f"{self.name} contains no spans: it is neither OTLP JSON nor Jaeger JSON.")
        self.broken = 0
        self._document = list(from_json(document))
        yield from ((0, span) for span in self._document)

    def at(self, position: int) -> list[Span]:
        """Return the spans of the line at ``position``.

        The last lines are cached: traces that are close together in the file share lines.
        """
        if self._document is not None:
            return self._document
        spans = self._cache.get(position)
        if spans is None:
            self._file.seek(position)
            spans = self._cache[position] = list(from_json(_parse(self._file.readline())))
            if len(self._cache) > _CACHED_LINES:
                self._cache.popitem(last=False)
        return spans


def _parse(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


class Index:
    """Index of the traces in some sources. Holds a small entry for each trace, a few lines, and one trace at a time."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self.sources = list(sources)
        self.traces: dict[str, Trace] = {}

    def read(self, match_bits_of: Any = None) -> None:
        """Read all sources once. ``match_bits_of(span)`` returns bits; the index combines them for each trace."""
        for number, source in enumerate(self.sources):
            for position, span in source.spans():
                trace = self.traces.get(span.trace_id)
                if trace is None:
                    trace = self.traces[span.trace_id] = Trace(span.trace_id)
                trace.add(span, number, position)
                if match_bits_of is not None:
                    trace.match_bits |= match_bits_of(span)

    def spans_of(self, trace: Trace) -> list[Span]:
        """Return all spans of one trace, each once: a file may contain a span that was sent twice."""
        spans: dict[str, Span] = {}
        for source, position in zip(trace.positions[::2], trace.positions[1::2], strict=True):
            for span in self.sources[source].at(position):
                if span.trace_id == trace.trace_id:
                    spans.setdefault(span.span_id, span)
        return list(spans.values())
