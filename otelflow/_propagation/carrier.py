"""What travels between processes in the headers of a message: W3C trace context, and the flow's identity in baggage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any, TypeVar, overload
from urllib.parse import quote_plus

from opentelemetry import baggage
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otelflow import attributes as wire
from otelflow._propagation.remote_flow import RemoteFlow
from otelflow._runs.flow_and_task import Flow
from otelflow._runtime.log_once import log_once
from otelflow._values.text import scrub_and_truncate
from otelflow.context import RUN_KEY, attach, current_run, detach, get_current
from otelflow.errors import ArgumentError

__all__ = ["attached", "context_from", "inject", "inject_context"]

_trace_context, _baggage = TraceContextTextMapPropagator(), W3CBaggagePropagator()


def _users_propagators() -> Any:
    """Those of ``OTEL_PROPAGATORS``; None, and one log line, where it names what is not installed."""
    try:
        from opentelemetry import propagate
    except Exception as error:  # it raises when it is imported
        log_once("propagators", "OTEL_PROPAGATORS cannot be used (%s): W3C headers are.", error)
        return None
    return propagate


_users = _users_propagators()


M = TypeVar("M", bound=MutableMapping[str, str])


@overload
def inject() -> dict[str, str]: ...


@overload
def inject(carrier: M) -> M: ...


def inject(carrier: Any = None) -> Any:
    """The current context as text headers: for a queue's message, an HTTP request, any engine that runs code elsewhere.

    ``carrier`` is a mapping to add to; a new dict where it is left out. Returned is the carrier: ``traceparent`` and
    ``tracestate`` (W3C Trace Context), ``baggage`` (W3C Baggage) with the flow's name and run id, and what the
    propagators of ``OTEL_PROPAGATORS`` add. The other end: :func:`attached`.

    Raises :class:`otelflow.errors.ArgumentError` for a carrier that cannot be written to.
    """
    made = {} if carrier is None else carrier
    if not isinstance(made, MutableMapping):
        raise ArgumentError(f"inject({carrier!r}): a carrier is a mapping of header names to texts. Use a dict.")
    inject_context(made, get_current())
    return made


def inject_context(carrier: MutableMapping[str, str], context: Context) -> None:
    """Write ``context`` into ``carrier``: with the propagators that the user chose, then what is ours and missing."""
    made: dict[str, str] = {}
    try:
        if _users is not None:
            _users.inject(made, context)
    except Exception as error:  # a propagator of the user's
        log_once(f"inject {type(error).__name__}", "A propagator raised %s.", type(error).__name__, exc_info=True)
    if "traceparent" not in made:
        _trace_context.inject(made, context)
    run: Any = context.get(RUN_KEY)
    flow = None if run is None else run._own_flow()
    if flow is not None:
        others = made.get("baggage", carrier.get("baggage", "")).split(",")
        kept = [entry for entry in others if entry and not entry.strip().startswith(_OURS)]
        # Ours come first, as readers stop at 180 entries; the user's own travel as OTEL_PROPAGATORS says.
        made["baggage"] = ",".join((*_identity(flow), *kept))
    carrier.update(made)


_OURS = (f"{wire.FLOW_NAME}=", f"{wire.FLOW_RUN_ID}=")
_MOST_ENTRY = 3000
_MOST_HEADER = 16_384
"""Characters of a header that is looked at: twice what W3C Baggage asks receivers to take."""


def _identity(flow: Any) -> tuple[str, str]:
    """The flow's entries in baggage; the name cut to what readers take of one entry (4,096 bytes)."""
    name = flow._wire[wire.FLOW_NAME]
    while len(quoted := quote_plus(name)) > _MOST_ENTRY:
        name = name[: len(name) * 9 // 10]
    return f"{wire.FLOW_NAME}={quoted}", f"{wire.FLOW_RUN_ID}={quote_plus(flow.run_id)}"


def context_from(carrier: Mapping[str, str] | None) -> Context:
    """The context that ``carrier`` tells, and nothing of the current one. Never raises for what a carrier may hold."""
    headers = _headers_of(carrier)
    context = _extracted(_users, headers, Context())
    if not get_current_span(context).get_span_context().is_valid:
        context = _extracted(_trace_context, headers, context)
    return context if identity_in(context) else _extracted(_baggage, headers, context)


def _headers_of(carrier: Any) -> dict[str, Any]:
    try:
        if not carrier:
            return {}
        if isinstance(carrier, Mapping):
            return {
                str(name).lower(): value
                for name, value in carrier.items()
                if not isinstance(value, str) or len(value) <= _MOST_HEADER
            }
    except Exception as error:  # it may be an object of any kind
        log_once(f"carrier {type(error).__name__}", "A carrier raised %s.", type(error).__name__, exc_info=True)
        return {}
    kind = type(carrier).__name__  # not its repr(), which may be large, or raise
    raise ArgumentError(f"attached(<{kind}>): a carrier is a mapping of header names to texts. Use a dict.")


def _extracted(propagator: Any, headers: dict[str, Any], context: Context) -> Context:
    try:
        return context if propagator is None else propagator.extract(headers, context)
    except Exception as error:  # a header of another type, a propagator of the user's
        log_once(f"extract {type(error).__name__}", "A carrier raised %s.", type(error).__name__, exc_info=True)
        return context


def identity_in(context: Context) -> tuple[str, str] | None:
    """Name and run id of the flow that a context from a carrier belongs to."""
    name, run_id = baggage.get_baggage(wire.FLOW_NAME, context), baggage.get_baggage(wire.FLOW_RUN_ID, context)
    return (scrub_and_truncate(str(name))[0], scrub_and_truncate(str(run_id))[0]) if name and run_id else None


def _handle(name: str, run_id: str) -> Flow[Any]:
    """The flow of that run id: the one that runs here, or a handle; in a job of a worker, one that is recorded."""
    run = current_run()
    flow: Flow[Any] | None = None if run is None else run._own_flow()
    if flow is not None and flow.run_id == run_id:
        return flow
    return RemoteFlow(name, run_id, relay=None if run is None else run._relay, is_submitter=False)


@contextmanager
def attached(carrier: Mapping[str, str] | None) -> Iterator[Flow[Any] | None]:
    """Within this block, work for the flow that :func:`inject` was called in, elsewhere.

    Tasks are children of the sender's span and carry its flow's name and run id. ``current_flow()``, ``this_flow`` and
    the block's ``as`` are a handle of that flow: what it is told goes on the span that is current here, and to this
    process's listeners. ``flow_data`` is not shared and says so when it is used. A carrier that is empty, or that
    cannot be read, changes nothing.

    Raises :class:`otelflow.errors.ArgumentError` for a carrier that is no mapping.
    """
    made = context_from(carrier)
    identity = identity_in(made)
    handle = None if identity is None else _handle(*identity)
    context = Context({**get_current(), **made})
    if handle is not None:
        context = Context({**context, RUN_KEY: handle})
    token = attach(context)
    try:
        yield handle
    finally:
        detach(token)
