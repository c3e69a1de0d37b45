"""The journal of the flows that are open in a process, and their end where the process did not live to see it."""

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
from otelflow_exporters._spool.record_format import Damage, file_head, pack, scan
from otelflow_exporters._spool.segment_writer import write_all, writing

__all__ = ["FlowJournal", "closed_flows"]

_KIND, _FLOW = "otelflow.kind", "flow"

_MOST_OPEN = 10_000
"""Flows that are held at once: one beyond it is not closed if the process dies."""

_MOST_BYTES = 256 * 1024
"""Size beyond which the journal is written anew, with what is open only."""


class FlowJournal(SpanProcessor):
    """Notes which flows begin and end, in a file that outlives the process. Other spans cost a look at an attribute.

    ``path()`` makes sure that the process counts as alive, and says where the journal is; it may raise OSError.
    """

    def __init__(self, path: Callable[[], str], complain: Callable[[str, str], None]) -> None:
        self._path, self._complain = path, complain
        self.begin()

    def begin(self) -> None:
        """Start empty; also in a forked child: the flows that were open are the parent's to end."""
        self._open: dict[int, bytes] = {}
        self._open_bytes = 0
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
        try:
            context = span.context
            if context is not None and context.span_id in self._open:
                self._note_end(context.span_id)
        except Exception as error:
            self._complain("journal", f"cannot note which flows are open: {error!r}")

    def _note_start(self, span: ReadableSpan) -> None:
        payload = _begun(span)
        with writing:
            if len(self._open) < _MOST_OPEN and span.context is not None:
                self._open[span.context.span_id] = payload
                self._open_bytes += len(payload)
                self._append(payload, 1)

    def _note_end(self, span_id: int) -> None:
        with writing:
            self._open_bytes -= len(self._open.pop(span_id, b""))
            self._append(span_id.to_bytes(8, "big"), 0)

    def _append(self, payload: bytes, spans: int) -> None:
        if self._file is None or self._size > _MOST_BYTES + 2 * self._open_bytes:
            self._rewrite()
            return
        record = pack(self._marker, payload, spans)
        write_all(self._file, record)
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
            write_all(file, data)
            os.replace(f"{path}.new", path)
        except OSError:
            os.close(file)
            raise
        self._file, self._marker, self._size = file, marker, len(data)

    def renew(self) -> None:
        """Write the file again: it was taken away."""
        with writing:
            if self._file is not None:
                self._rewrite()

    def close(self) -> None:
        """The process ends in order. What is still open stays noted: nobody else will end it."""
        with writing:
            if self._file is not None:
                os.close(self._file)
                self._file = None
                if not self._open:
                    with contextlib.suppress(OSError):
                        os.unlink(self._path())


# --- a flow that has begun, in JSON: to encode the span costs twice what all this does, on the path of each flow ----


_to_json = json.JSONEncoder(default=str, ensure_ascii=False).encode

_abouts: dict[tuple[int, int], tuple[object, object, str]] = {}
"""Resource and scope, which many spans share, as JSON; by their ids, and with themselves so that these stay theirs."""


def _about(span: ReadableSpan) -> str:
    resource, scope = span.resource, span.instrumentation_scope
    known = _abouts.get((id(resource), id(scope)))
    if known is None:
        facts: dict[str, Any] = {"resource": [dict(resource.attributes), resource.schema_url]}
        if scope is not None:
            facts["scope"] = [scope.name, scope.version, scope.schema_url, dict(scope.attributes or {})]
        if len(_abouts) > 100:
            _abouts.clear()
        known = _abouts[id(resource), id(scope)] = resource, scope, _to_json(facts)
    return known[2]


def _context(context: SpanContext | None) -> list[Any] | None:
    if context is None:
        return None
    return [context.trace_id, context.span_id, context.is_remote, context.trace_flags, context.trace_state.to_header()]


def _begun(span: ReadableSpan) -> bytes:
    facts = {
        "name": span.name,
        "kind": span.kind.name,
        "start": span.start_time,
        "context": _context(span.context),
        "parent": _context(span.parent),
        "attributes": dict(span.attributes or {}),
        "links": [[_context(link.context), dict(link.attributes or {})] for link in span.links],
    }
    return f"[{_about(span)},{_to_json(facts)}]".encode("utf-8", "replace")


def _read_context(facts: Any) -> SpanContext | None:
    if facts is None:
        return None
    trace_id, span_id, is_remote, flags, state = facts
    return SpanContext(trace_id, span_id, is_remote, TraceFlags(flags), TraceState.from_header([state]))


def _ended(payload: bytes, ended: int) -> ReadableSpan:
    """The flow of a journal's record, as it is to be closed. Raises what a damaged one makes it raise."""
    about, facts = json.loads(payload)
    (attributes, schema_url), scope = about["resource"], about.get("scope")
    died = {"otelflow.status": "failed", "error.type": "process_died"}
    links = [(_read_context(context), attributes) for context, attributes in facts["links"]]
    return ReadableSpan(
        facts["name"],
        _read_context(facts["context"]),
        _read_context(facts["parent"]),
        Resource(attributes, schema_url),
        {**facts["attributes"], **died},
        links=[Link(context, attributes) for context, attributes in links if context is not None],
        kind=SpanKind[facts["kind"]],
        status=Status(StatusCode.ERROR, "process died"),
        start_time=facts["start"],
        end_time=max(ended, facts["start"] or 0),
        instrumentation_scope=None if scope is None else InstrumentationScope(*scope),
    )


def closed_flows(path: str, ended: int) -> tuple[bytes, int]:
    """The flows that a journal has as open, ended at ``ended`` (nanoseconds) because their process died: a request and
    the number of spans in it. Raises OSError."""
    with open(path, "rb") as file:
        data = file.read()
    at = len(file_head(b""))
    flows: dict[bytes, ReadableSpan] = {}
    for part in scan(data[at + 8 :], data[at : at + 8]) if len(data) > at + 8 else ():
        if isinstance(part, Damage):
            continue
        if not part.spans:
            flows.pop(part.payload, None)
            continue
        with contextlib.suppress(Exception):  # what cannot be read is no flow to close
            flow = _ended(part.payload, ended)
            encode([flow])
            if flow.context is not None:
                flows[flow.context.span_id.to_bytes(8, "big")] = flow
    return encode(list(flows.values())), len(flows)
