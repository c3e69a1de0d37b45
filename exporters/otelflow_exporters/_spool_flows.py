"""The journal of the flows that are open in a process, and their end where the process did not live to see it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.context import Context
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from otelflow_exporters._spool_records import Damage, file_head, pack, scan
from otelflow_exporters._spool_writer import writing

__all__ = ["FlowJournal", "closed_flows"]

_KIND, _FLOW = "otelflow.kind", "flow"

_MOST_OPEN = 10_000
"""Flows that are held at once: one beyond it is not closed if the process dies."""

_MOST_BYTES = 256 * 1024
"""Size beyond which the journal is written anew, with what is open only."""

Encode = Callable[[Sequence[ReadableSpan]], bytes]


class FlowJournal(SpanProcessor):
    """Notes which flows begin and end, in a file that outlives the process. Other spans cost a look at an attribute.

    ``path()`` makes sure that the process counts as alive, and says where the journal is; it may raise OSError.
    """

    def __init__(self, path: Callable[[], str], encode: Encode, complain: Callable[[str, str], None]) -> None:
        self._path, self._encode, self._complain = path, encode, complain
        self.begin()

    def begin(self) -> None:
        """Start empty; also in a forked child: the flows that were open are the parent's to end."""
        self._open: dict[bytes, bytes] = {}
        self._file: int | None = None
        self._marker = b""
        self._size = 0

    def abandon(self) -> None:
        """Close what a forked child has inherited, and start empty."""
        if self._file is not None:
            os.close(self._file)
        self.begin()

    @property
    def is_empty(self) -> bool:
        """Whether no flow is open."""
        return not self._open

    def on_start(self, span: Any, parent_context: Context | None = None) -> None:
        """Called by the provider; never raises."""
        try:
            if (span.attributes or {}).get(_KIND) == _FLOW and span.context.trace_flags.sampled:
                self._note_start(span)
        except Exception as error:
            self._complain("journal", f"cannot note which flows are open: {error!r}")

    def on_end(self, span: ReadableSpan) -> None:
        """Called by the provider; never raises."""
        if not self._open or span.context is None:
            return
        try:
            identity = _identity(span)
            with writing:
                if self._open.pop(identity, None) is not None:
                    self._append(identity, 0)
        except Exception as error:
            self._complain("journal", f"cannot note which flows are open: {error!r}")

    def _note_start(self, span: ReadableSpan) -> None:
        payload = self._encode([span])
        with writing:
            if len(self._open) < _MOST_OPEN:
                self._open[_identity(span)] = payload
                self._append(payload, 1)

    def _append(self, payload: bytes, spans: int) -> None:
        if self._file is None or self._size > _MOST_BYTES + 2 * sum(map(len, self._open.values())):
            self._rewrite()
            return
        record = pack(self._marker, payload, spans)
        os.write(self._file, record)
        self._size += len(record)

    def _rewrite(self) -> None:
        """Begin the file, with what is open."""
        path = self._path()
        if self._file is not None:
            os.close(self._file)
            self._file = None
        marker = os.urandom(8)
        data = file_head(marker) + b"".join(pack(marker, payload, 1) for payload in self._open.values())
        file = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o600)
        try:
            os.write(file, data)
            os.replace(f"{path}.new", path)
        except OSError:
            os.close(file)
            raise
        self._file, self._marker, self._size = file, marker, len(data)

    def close(self) -> None:
        """The process ends in order. What is still open stays noted: nobody else will end it."""
        with writing:
            if self._file is not None:
                os.close(self._file)
                self._file = None
                if not self._open:
                    with contextlib.suppress(OSError):
                        os.unlink(self._path())


def _identity(span: ReadableSpan) -> bytes:
    context = span.context
    return b"" if context is None else context.trace_id.to_bytes(16, "big") + context.span_id.to_bytes(8, "big")


def closed_flows(path: str, ended: int) -> tuple[bytes, int]:
    """The flows that a journal has as open, ended at ``ended`` (nanoseconds) because their process died: a request and
    the number of spans in it. Raises OSError."""
    with open(path, "rb") as file:
        data = file.read()
    start = len(file_head(b""))
    flows: dict[bytes, ExportTraceServiceRequest] = {}
    for part in scan(data[start + 8 :], data[start : start + 8]) if len(data) > start + 8 else ():
        if isinstance(part, Damage):
            continue
        if not part.spans:
            flows.pop(part.payload, None)
            continue
        with contextlib.suppress(Exception):  # what cannot be read is no flow to close
            request = ExportTraceServiceRequest.FromString(part.payload)
            (span,) = (span for each in request.resource_spans for scope in each.scope_spans for span in scope.spans)
            _close(span, ended)
            flows[span.trace_id + span.span_id] = request
    whole = ExportTraceServiceRequest()
    for request in flows.values():
        whole.MergeFrom(request)
    return whole.SerializeToString(), len(flows)


def _close(span: Span, ended: int) -> None:
    said = {"otelflow.status": "failed", "error.type": "process_died"}
    kept = [pair for pair in span.attributes if pair.key not in said]
    more = [KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in said.items()]
    del span.attributes[:]
    span.attributes.extend([*kept, *more])
    span.status.CopyFrom(Status(code=Status.STATUS_CODE_ERROR, message="process died"))
    span.end_time_unix_nano = max(ended, span.start_time_unix_nano)
