"""Files of spans too large to hold: read once for a short account of each trace, and then a trace at a time."""

from __future__ import annotations

import json
import tempfile
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from otelflow_exporters._trace.from_json import from_json, is_known
from otelflow_exporters._trace.markers import flow_of, is_marker
from otelflow_exporters._trace.span import Span

__all__ = ["Index", "Source", "Trace", "UnreadableFile"]

_CACHED_LINES = 4
_COPY = 1 << 20
_BLANK = b"\0\r\n\t \xef\xbb\xbf"
"""What a line of nothing is made of: a file system may leave zeros after a crash."""


class UnreadableFile(Exception):
    """A file that cannot be read, or that holds nothing that looks like spans."""


class Trace:
    """What the index knows of one trace. Times are nanoseconds since the epoch; ``end`` is the last that is known."""

    __slots__ = ("end", "facts", "failed", "number", "places", "root", "start", "status", "trace_id")

    def __init__(self, trace_id: str) -> None:
        self.trace_id = trace_id
        self.root = ""
        """Name of the root span; of the first span, where the root is not there."""
        self.status = ""
        self.number = self.failed = 0
        self.start, self.end = 0, 0
        self.facts = 0
        """Bits for whoever looks through all spans: what has been seen in this trace."""
        self.places = array("Q")
        """Where its lines begin: the number of the source, and the position there, by turns."""

    @property
    def duration(self) -> float:
        """Seconds."""
        return max(0, self.end - self.start) / 1e9

    def add(self, span: Span, source: int, position: int) -> None:
        """Count a span that was read from there."""
        end = span.start if span.end is None else span.end
        is_first = not self.places
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
        if self.places[-2:].tolist() != [source, position]:
            self.places.extend((source, position))


def _status(root: Span) -> str:
    said = root.attributes.get("otelflow.status")
    return "failed" if root.failed else said if said in ("cancelled", "completed") else "completed"


class Source:
    """One file, or standard input, which is copied to a temporary file as it is read twice."""

    def __init__(self, name: str, stdin: IO[bytes] | None = None) -> None:
        self.name = "standard input" if name == "-" else name
        self.broken = 0
        """Lines that are no JSON: the last of a process that was killed, mostly."""
        self._document: list[Span] | None = None
        self._cache: OrderedDict[int, list[Span]] = OrderedDict()
        self._file = self._copied(stdin) if name == "-" and stdin is not None else self._opened(name)

    @staticmethod
    def _copied(stdin: IO[bytes]) -> IO[bytes]:
        copy: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the source
        while block := stdin.read(_COPY):
            copy.write(block)
        copy.seek(0)
        return copy

    @staticmethod
    def _opened(name: str) -> IO[bytes]:
        try:
            return Path(name).open("rb")
        except OSError as error:
            raise UnreadableFile(f"{name!r} cannot be read: {error.strerror}.") from None

    def close(self) -> None:
        self._file.close()

    def spans(self) -> Iterator[tuple[int, Span]]:
        """Every span in brief, with the position of its line. Raises UnreadableFile for a file without any JSON of
        spans."""
        self._file.seek(0)
        is_of_lines, position = False, 0
        for line in self._file:
            here, position = position, position + len(line)
            if not line.strip(_BLANK):
                continue
            document = _parsed(line)
            if not is_known(document):
                self.broken += 1
                continue
            is_of_lines = True
            for span in from_json(document, brief=True):
                yield here, span
        if self.broken and not is_of_lines:
            yield from self._whole()

    def _whole(self) -> Iterator[tuple[int, Span]]:
        """A file that is one document, over many lines."""
        self._file.seek(0)
        document = _parsed(self._file.read())
        if not is_known(document):
            raise UnreadableFile(f"{self.name} holds no spans: no OTLP JSON, no JSON of Jaeger's.")
        self.broken = 0
        self._document = list(from_json(document))
        yield from ((0, span) for span in self._document)

    def at(self, position: int) -> list[Span]:
        """The spans of one line. Traces that lie near one another share lines: the last ones are kept."""
        if self._document is not None:
            return self._document
        found = self._cache.get(position)
        if found is None:
            self._file.seek(position)
            found = self._cache[position] = list(from_json(_parsed(self._file.readline())))
            if len(self._cache) > _CACHED_LINES:
                self._cache.popitem(last=False)
        return found


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


class Index:
    """The traces of some sources. Memory: a short account of each, a few lines, and one trace at a time."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self.sources = list(sources)
        self.traces: dict[str, Trace] = {}

    def read(self, facts_of: Any = None) -> None:
        """Read all sources once. ``facts_of(span)`` gives bits that are put together a trace."""
        for number, source in enumerate(self.sources):
            for position, span in source.spans():
                trace = self.traces.get(span.trace_id)
                if trace is None:
                    trace = self.traces[span.trace_id] = Trace(span.trace_id)
                trace.add(span, number, position)
                if facts_of is not None:
                    trace.facts |= facts_of(span)

    def spans_of(self, trace: Trace) -> list[Span]:
        """All spans of one trace, each once: a file may hold what was sent twice."""
        found: dict[str, Span] = {}
        for source, position in zip(trace.places[::2], trace.places[1::2], strict=True):
            for span in self.sources[source].at(position):
                if span.trace_id == trace.trace_id:
                    found.setdefault(span.span_id, span)
        return list(found.values())
