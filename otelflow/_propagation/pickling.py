"""Pickle what goes from one process to another, each object by itself: one that cannot travel does not spoil the rest.

Ended spans become tuples, and spans again: the SDK's own hold locks and processors.
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
    "JOBS_OWN",
    "Ids",
    "Packed",
    "context_from",
    "ids_of",
    "live_again",
    "pack_data",
    "pack_error",
    "pack_value",
    "parts_of",
    "unpack",
]

MOST_BYTES = 1 << 20
"""Largest pickle of one artifact's data that travels; of more, a preview does."""

Packed = tuple[str, Any]
"""How an object travels: as it is (``value``), pickled (``pickle``, with what stands for it if it cannot be read), or
as the job's own result or exception (``job``), which travel anyway."""

JOBS_OWN: Packed = ("job", None)
_NOTHING: Packed = ("value", None)


class _Bounded(io.BytesIO):
    """Refuses to grow beyond the limit: a pickle that is too large is not made to its end."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES} bytes")
        return super().write(data)


def _dumps(value: object, file: io.BytesIO) -> bytes:
    """With cloudpickle where it is loaded, as in workers of Dask and loky: it also takes what ``__main__`` defines."""
    kind: Any = getattr(sys.modules.get("cloudpickle"), "Pickler", pickle.Pickler)
    kind(file, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    return file.getvalue()


def _is_plain(value: object) -> bool:
    if value is None or type(value) in (bool, int, float):
        return True
    return isinstance(value, str | bytes) and type(value) in (str, bytes) and len(value) <= MAX_VALUE_BYTES


def pack_value(value: object) -> Packed:
    """A return value: plain values and short texts travel, nothing else. Large ones may be meant for the worker only,
    and it is not for an event to copy them."""
    return ("value", value) if _is_plain(value) else _NOTHING


def pack_data(data: object) -> Packed:
    """The data of an artifact: pickled, or a preview of it as JSON text."""
    if _is_plain(data):
        return "value", data
    try:
        return "pickle", (_dumps(data, _Bounded()), None)
    except Exception:  # too large, or whatever its __reduce__ does
        counts.add(VALUES_NOT_RELAYED)
        return "value", to_json(data).text


def pack_error(error: BaseException | None, *, jobs_own: bool = False) -> Packed:
    """An exception, without its traceback; what stands for it, where it does not come out of a pickle again. Bounded,
    but for the one that a job ended with (``jobs_own``): the bare pool would have handed it over whole."""
    if error is None:
        return _NOTHING
    told = f"{error_type(error)}: {safe_str(error)}"
    try:
        dumped = _dumps(error, io.BytesIO() if jobs_own else _Bounded())
        pickle.loads(dumped)
    except Exception:  # an __init__ with other arguments, a lock in it
        return "value", WorkerError(told)
    return "pickle", (dumped, told)


def unpack(packed: Packed, jobs_own: Any = None) -> Any:
    """What was packed. ``jobs_own`` is the job's own result, or its exception."""
    how, what = packed
    if how == "job":
        return jobs_own
    if how == "value":
        return what
    dumped, told = what
    try:
        return pickle.loads(dumped)
    except Exception as problem:  # a class that this process does not have, or with another __init__
        counts.add(VALUES_NOT_RELAYED)
        return WorkerError(told) if told else f"<cannot be unpickled here: {type(problem).__name__}>"


Ids = tuple[int, int, int, bool, str]
"""A span context: trace id, span id, flags, whether it is remote, trace state as in its W3C header."""


def ids_of(context: SpanContext) -> Ids:
    """A span context as plain values."""
    return (
        context.trace_id,
        context.span_id,
        int(context.trace_flags),
        context.is_remote,
        context.trace_state.to_header(),
    )


def context_from(ids: Ids) -> SpanContext:
    """The span context that ``ids`` tell."""
    trace_id, span_id, flags, is_remote, state = ids
    return SpanContext(
        trace_id, span_id, is_remote, TraceFlags(flags), TraceState.from_header([state] if state else [])
    )


def parts_of(span: ReadableSpan) -> tuple[Any, ...]:
    """All that an exporter reads of a span, but for its resource and scope."""
    status, context = span.status, span.context
    assert context is not None  # an ended span has one
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


def live_again(parts: tuple[Any, ...], tracer: Any) -> None:
    """Start and end a span of ``tracer`` with the parts of one that ran elsewhere: a span as any other to its
    processors, in this process's resource, and within its limits."""
    name, ids, parent, kind, attributes, events, links, (code, description), (start, end), dropped = parts
    above = None if parent is None else context_from(parent)
    context = Context() if above is None else set_span_in_context(NonRecordingSpan(above), Context())
    span = _Span(
        name=name,
        context=context_from(ids),
        parent=above,
        sampler=tracer.sampler,
        resource=tracer.resource,
        attributes=attributes,
        links=[Link(context_from(ids), attributes) for ids, attributes in links],
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
