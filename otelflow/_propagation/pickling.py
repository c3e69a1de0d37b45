"""Pickle objects between processes, each by itself: one that cannot be pickled does not affect the others.

Ended spans are sent as tuples, because the SDK's spans hold locks and processors. The submitting process makes spans
from the tuples.
"""

from __future__ import annotations

import io
import pickle
import sys
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, _Span
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from otelflow._runtime.drop_counts import VALUES_NOT_RELAYED, counts
from otelflow._runtime.names import error_type
from otelflow._spans.tracer import SCOPE
from otelflow._values.attribute import to_json
from otelflow._values.text import MAX_VALUE_BYTES, safe_str
from otelflow._version import __version__
from otelflow.errors import WorkerError

__all__ = [
    "JOB_OUTCOME",
    "Ids",
    "Packed",
    "ids_of",
    "pack_data",
    "pack_error",
    "pack_value",
    "replay_span",
    "span_context_from",
    "span_to_tuple",
    "unpack",
]

MAX_BYTES = 1 << 20
"""Bytes of the largest pickle of an artifact's data or of an exception. Of larger artifact data, a preview is sent."""

Packed = tuple[str, Any]
"""An object ready for another process, as (how, content).

``value``: the object itself. ``pickle``: its pickle, and a text that replaces it if it cannot be unpickled. ``job``: no
content; the object is the job's own result or exception, which the executor returns in any case.
"""

JOB_OUTCOME: Packed = ("job", None)
_NONE: Packed = ("value", None)


class _BoundedBytesIO(io.BytesIO):
    """A buffer that raises at its limit, so that pickling of a large object stops early."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES} bytes")
        return super().write(data)


def _dumps(value: object, file: io.BytesIO) -> bytes:
    """Pickle ``value`` into ``file``; use cloudpickle if it is loaded, as in workers of Dask and loky.

    cloudpickle also pickles classes and functions that ``__main__`` defines.
    """
    pickler: Any = getattr(sys.modules.get("cloudpickle"), "Pickler", pickle.Pickler)
    pickler(file, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    return file.getvalue()


def _is_plain(value: object) -> bool:
    if value is None or type(value) in (bool, int, float):
        return True
    return isinstance(value, str | bytes) and type(value) in (str, bytes) and len(value) <= MAX_VALUE_BYTES


def pack_value(value: object) -> Packed:
    """Pack a return value: only plain values and short texts; None in place of others.

    A large value may be meant for the worker only, and an event must not copy it.
    """
    return ("value", value) if _is_plain(value) else _NONE


def pack_data(data: object) -> Packed:
    """Pack the data of an artifact: pickled, or else a preview as JSON text."""
    if _is_plain(data):
        return "value", data
    try:
        return "pickle", (_dumps(data, _BoundedBytesIO()), None)
    except Exception:  # the data is too large, or its __reduce__ raises anything
        counts.add(VALUES_NOT_RELAYED)
        return "value", to_json(data).text


def pack_error(error: BaseException | None, *, is_job_error: bool = False) -> Packed:
    """Pack an exception without its traceback; a :class:`WorkerError` in its place if pickling or unpickling fails.

    The size is limited, except for the exception that ended the job (``is_job_error``): an executor without otelflow
    would return that one whole.
    """
    if error is None:
        return _NONE
    text = f"{error_type(error)}: {safe_str(error)}"
    try:
        pickled = _dumps(error, io.BytesIO() if is_job_error else _BoundedBytesIO())
        pickle.loads(pickled)
    except Exception:  # an __init__ with other arguments, or a lock in an attribute
        return "value", WorkerError(text)
    return "pickle", (pickled, text)


def unpack(packed: Packed, job_outcome: Any = None) -> Any:
    """Return the object that was packed. ``job_outcome`` is the job's own result or exception."""
    how, content = packed
    if how == "job":
        return job_outcome
    if how == "value":
        return content
    pickled, text = content
    try:
        return pickle.loads(pickled)
    except Exception as problem:  # this process does not have the class, or it has another __init__
        counts.add(VALUES_NOT_RELAYED)
        return WorkerError(text) if text else f"<cannot be unpickled here: {type(problem).__name__}>"


Ids = tuple[int, int, int, bool, str]
"""A span context as plain values: trace id, span id, flags, is remote, trace state in the form of its W3C header."""


def ids_of(context: SpanContext) -> Ids:
    """Return a span context as plain values."""
    return (
        context.trace_id,
        context.span_id,
        int(context.trace_flags),
        context.is_remote,
        context.trace_state.to_header(),
    )


def span_context_from(ids: Ids) -> SpanContext:
    """Return the span context with the values of ``ids``."""
    trace_id, span_id, flags, is_remote, state = ids
    return SpanContext(
        trace_id, span_id, is_remote, TraceFlags(flags), TraceState.from_header([state] if state else [])
    )


def span_to_tuple(span: ReadableSpan) -> tuple[Any, ...]:
    """Return the fields that an exporter reads from a span, except its resource and scope."""
    status, context = span.status, span.context
    assert context is not None  # every ended span has a context
    return (
        span.name,
        ids_of(context),
        None if span.parent is None else ids_of(span.parent),
        span.kind.value,
        dict(span.attributes or {}),
        [(event.name, dict(event.attributes or {}), event.timestamp) for event in span.events],
        [(ids_of(link.context), dict(link.attributes or {})) for link in span.links],
        (status.status_code.value, status.description),
        (span.start_time, span.end_time),
        (span.dropped_attributes, span.dropped_events, span.dropped_links),
    )


def replay_span(fields: tuple[Any, ...], tracer: Any) -> None:
    """Start and end a span of ``tracer`` with the fields of a span that ran in another process.

    The span has this process's resource and limits. Its processors see a normal span.
    """
    name, ids, parent, kind, attributes, events, links, (code, description), (start, end), dropped = fields
    parent_context = None if parent is None else span_context_from(parent)
    context = Context() if parent_context is None else set_span_in_context(NonRecordingSpan(parent_context), Context())
    span = _Span(
        name=name,
        context=span_context_from(ids),
        parent=parent_context,
        sampler=tracer.sampler,
        resource=tracer.resource,
        attributes=attributes,
        links=[Link(span_context_from(ids), attributes) for ids, attributes in links],
        kind=SpanKind(kind),
        span_processor=tracer.span_processor,
        instrumentation_scope=InstrumentationScope(SCOPE, __version__),
        limits=tracer._span_limits,
    )
    span.start(start, context)
    for event, attributes, timestamp in events:
        span.add_event(event, attributes, timestamp)
    if code:
        span.set_status(Status(StatusCode(code), description))
    for items, number in zip((span._attributes, span._events, span._links), dropped, strict=True):
        items.dropped += number  # type: ignore[union-attr]
    span.end(end)
