"""What travels between processes in the headers of a message: W3C trace context, and the flow's identity in baggage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any, TypeVar, overload

from opentelemetry import baggage, propagate
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otelflow import attributes as wire
from otelflow._counts import log_once
from otelflow._remote import RemoteFlow
from otelflow.context import RUN_KEY, attach, get_current, give_back
from otelflow.errors import ArgumentError

__all__ = ["attached", "context_from", "identity_in", "inject", "inject_context"]

_trace_context, _baggage = TraceContextTextMapPropagator(), W3CBaggagePropagator()


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
    try:
        propagate.inject(carrier, context)
    except Exception as error:  # a propagator of the user's
        log_once(f"inject {type(error).__name__}", "A propagator raised %s.", type(error).__name__, exc_info=True)
    if "traceparent" not in carrier:
        _trace_context.inject(carrier, context)
    run: Any = context.get(RUN_KEY)
    flow = None if run is None else run._own_flow()
    if flow is None or f"{wire.FLOW_RUN_ID}={flow.run_id}" in carrier.get("baggage", ""):
        return
    # The user's propagators leave baggage out, or someone took ours away: these two travel, the user's own do not.
    own = Context()
    for name, value in flow._wire.items():
        own = baggage.set_baggage(name, value, own)
    ours: dict[str, str] = {}
    _baggage.inject(ours, own)
    carrier["baggage"] = ",".join(filter(None, (carrier.get("baggage", ""), ours["baggage"])))


def context_from(carrier: Mapping[str, str] | None) -> Context:
    """The context that ``carrier`` tells, and nothing of the current one. Never raises for what a carrier may hold."""
    if not carrier:
        return Context()
    if not isinstance(carrier, Mapping):
        raise ArgumentError(f"attached({carrier!r}): a carrier is a mapping of header names to texts. Use a dict.")
    headers = {str(name).lower(): value for name, value in carrier.items()}
    context = Context()
    for propagator in (_trace_context, _baggage, propagate.get_global_textmap()):
        try:
            context = propagator.extract(headers, context)
        except Exception as error:  # a header of another type, a propagator of the user's
            log_once(f"extract {type(error).__name__}", "A carrier raised %s.", type(error).__name__, exc_info=True)
    return context


def identity_in(context: Context) -> tuple[str, str] | None:
    """Name and run id of the flow that a context from a carrier belongs to."""
    name, run_id = baggage.get_baggage(wire.FLOW_NAME, context), baggage.get_baggage(wire.FLOW_RUN_ID, context)
    return (str(name), str(run_id)) if name and run_id else None


@contextmanager
def attached(carrier: Mapping[str, str] | None) -> Iterator[RemoteFlow | None]:
    """Within this block, work for the flow that :func:`inject` was called in, elsewhere.

    Tasks are children of the sender's span and carry its flow's name and run id. ``current_flow()``, ``this_flow`` and
    the block's ``as`` are a handle of that flow: what it is told goes on the span that is current here, and to this
    process's listeners. ``flow_data`` is not shared and says so when it is used. A carrier that is empty, or that
    cannot be read, changes nothing.

    Raises :class:`otelflow.errors.ArgumentError` for a carrier that is no mapping.
    """
    made = context_from(carrier)
    identity = identity_in(made)
    handle = None if identity is None else RemoteFlow(*identity)
    context = Context({**get_current(), **made})
    if handle is not None:
        context = Context({**context, RUN_KEY: handle})
    token = attach(context)
    try:
        yield handle
    finally:
        give_back(token)
