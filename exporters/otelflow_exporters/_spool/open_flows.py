"""Record which flows are open in a process, and close them if the process died."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from otelflow_exporters._spool.delivery import encode
from otelflow_exporters._spool.record_format import Damage, file_header, pack, scan
from otelflow_exporters._spool.segment_writer import write_all, write_lock

__all__ = ["FlowJournal", "encode_closed_flows"]

_KIND, _FLOW = "otelflow.kind", "flow"

_MAX_OPEN_FLOWS = 10_000
"""Maximum number of open flows in the journal. Flows above it are not closed if the process dies."""

_MAX_JOURNAL_BYTES = 256 * 1024
"""Size above which the journal is rewritten with the open flows only."""


class FlowJournal(SpanProcessor):
    """A span processor that records the start and end of flows in a file that survives the process.

    For other spans it only reads an attribute. ``get_path()`` registers the process as alive, and returns the journal's
    path; it may raise OSError.
    """

    def __init__(self, get_path: Callable[[], str], warn: Callable[[str, str], None]) -> None:
        self._get_path, self._warn = get_path, warn
        self.reset()

    def reset(self) -> None:
        """Start without flows. Also called in a forked child: the open flows belong to the parent."""
        self._open_flows: dict[int, bytes] = {}
        self._open_flows_bytes = 0
        self._file: int | None = None
        self._marker = b""
        self._size = 0

    def reset_after_fork(self) -> None:
        """Close the file that a forked child has inherited, and start without flows."""
        if self._file is not None:
            os.close(self._file)
        self.reset()

    @property
    def is_empty(self) -> bool:
        """True if no flow is open."""
        return not self._open_flows

    def on_start(self, span: Any, parent_context: Context | None = None) -> None:
        """Record a flow that starts. Never raises."""
        try:
            if (span.attributes or {}).get(_KIND) == _FLOW and span.context.trace_flags.sampled:
                self._note_start(span)
        except Exception as error:
            self._warn("journal", f"cannot record which flows are open: {error!r}")

    def on_end(self, span: ReadableSpan) -> None:
        """Record a flow that ends. Never raises."""
        try:
            context = span.context
            if context is not None and context.span_id in self._open_flows:
                self._note_end(context.span_id)
        except Exception as error:
            self._warn("journal", f"cannot record which flows are open: {error!r}")

    def _note_start(self, span: ReadableSpan) -> None:
        payload = _encode_start(span)
        with write_lock:
            if len(self._open_flows) < _MAX_OPEN_FLOWS and span.context is not None:
                self._open_flows[span.context.span_id] = payload
                self._open_flows_bytes += len(payload)
                self._append(payload, 1)

    def _note_end(self, span_id: int) -> None:
        with write_lock:
            self._open_flows_bytes -= len(self._open_flows.pop(span_id, b""))
            self._append(span_id.to_bytes(8, "big"), 0)

    def _append(self, payload: bytes, spans: int) -> None:
        if self._file is None or self._size > _MAX_JOURNAL_BYTES + 2 * self._open_flows_bytes:
            self._rewrite()
            return
        record = pack(self._marker, payload, spans)
        write_all(self._file, record)
        self._size += len(record)

    def _rewrite(self) -> None:
        """Begin a new file with the open flows."""
        path = self._get_path()
        if self._file is not None:
            os.close(self._file)
            self._file = None
        marker = os.urandom(8)
        data = file_header(marker) + b"".join(pack(marker, payload, 1) for payload in self._open_flows.values())
        file = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o600)
        try:
            write_all(file, data)
            os.replace(f"{path}.new", path)
        except OSError:
            os.close(file)
            raise
        self._file, self._marker, self._size = file, marker, len(data)

    def rewrite(self) -> None:
        """Write the file again after it was removed."""
        with write_lock:
            if self._file is not None:
                self._rewrite()

    def close(self) -> None:
        """Close the file at a normal end of the process. Keep it if flows are open: the next process closes them."""
        with write_lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None
                if not self._open_flows:
                    with contextlib.suppress(OSError):
                        os.unlink(self._get_path())


# --- a started flow as JSON: encoding the span would cost twice as much, at the start of each flow ------------------


_to_json = json.JSONEncoder(default=str, ensure_ascii=False).encode

_origins: dict[tuple[int, int], tuple[object, object, str]] = {}
"""Resource and scope as JSON, which many spans share. The keys are their ids; the values hold a reference to them, so
that no other object gets the same id."""


def _origin_json(span: ReadableSpan) -> str:
    resource, scope = span.resource, span.instrumentation_scope
    entry = _origins.get((id(resource), id(scope)))
    if entry is None:
        fields: dict[str, Any] = {"resource": [dict(resource.attributes), resource.schema_url]}
        if scope is not None:
            fields["scope"] = [scope.name, scope.version, scope.schema_url, dict(scope.attributes or {})]
        if len(_origins) > 100:
            _origins.clear()
        entry = _origins[id(resource), id(scope)] = resource, scope, _to_json(fields)
    return entry[2]


def _context_to_fields(context: SpanContext | None) -> list[Any] | None:
    if context is None:
        return None
    return [context.trace_id, context.span_id, context.is_remote, context.trace_flags, context.trace_state.to_header()]


def _encode_start(span: ReadableSpan) -> bytes:
    fields = {
        "name": span.name,
        "kind": span.kind.name,
        "start": span.start_time,
        "context": _context_to_fields(span.context),
        "parent": _context_to_fields(span.parent),
        "attributes": dict(span.attributes or {}),
        "links": [[_context_to_fields(link.context), dict(link.attributes or {})] for link in span.links],
    }
    return f"[{_origin_json(span)},{_to_json(fields)}]".encode("utf-8", "replace")


def _context_from_fields(fields: Any) -> SpanContext | None:
    if fields is None:
        return None
    trace_id, span_id, is_remote, flags, state = fields
    return SpanContext(trace_id, span_id, is_remote, TraceFlags(flags), TraceState.from_header([state]))


def _failed_flow(payload: bytes, end_time: int) -> ReadableSpan:
    """Return the flow of a journal record as a span that failed at ``end_time``. May raise any exception."""
    origin, fields = json.loads(payload)
    (attributes, schema_url), scope = origin["resource"], origin.get("scope")
    end_attributes = {"otelflow.status": "failed", "error.type": "process_died"}
    links = [(_context_from_fields(context), attributes) for context, attributes in fields["links"]]
    return ReadableSpan(
        fields["name"],
        _context_from_fields(fields["context"]),
        _context_from_fields(fields["parent"]),
        Resource(attributes, schema_url),
        {**fields["attributes"], **end_attributes},
        links=[Link(context, attributes) for context, attributes in links if context is not None],
        kind=SpanKind[fields["kind"]],
        status=Status(StatusCode.ERROR, "process died"),
        start_time=fields["start"],
        end_time=max(end_time, fields["start"] or 0),
        instrumentation_scope=None if scope is None else InstrumentationScope(*scope),
    )


def encode_closed_flows(path: str, end_time: int) -> tuple[bytes, int]:
    """Encode the flows that are open in a journal as spans that failed because their process died.

    ``end_time`` is their end in nanoseconds since the epoch. Return a request and the number of spans in it. Raises
    OSError.
    """
    with open(path, "rb") as file:
        data = file.read()
    marker_at = len(file_header(b""))
    flows: dict[bytes, ReadableSpan] = {}
    for part in scan(data[marker_at + 8 :], data[marker_at : marker_at + 8]) if len(data) > marker_at + 8 else ():
        if isinstance(part, Damage):
            continue
        if not part.spans:
            flows.pop(part.payload, None)
            continue
        with contextlib.suppress(Exception):  # a damaged record is not a flow to close
            flow = _failed_flow(part.payload, end_time)
            encode([flow])
            if flow.context is not None:
                flows[flow.context.span_id.to_bytes(8, "big")] = flow
    return encode(list(flows.values())), len(flows)
