"""Write the context into message headers and read it back: W3C trace context, and the flow's identity in baggage."""

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


def _load_user_propagators() -> Any:
    """Return the propagators of ``OTEL_PROPAGATORS``. If one is not installed, log it once and return None."""
    try:
        from opentelemetry import propagate
    except Exception as error:  # the import raises if a propagator is not installed
        log_once("propagators", "OTEL_PROPAGATORS cannot be used (%s). Using W3C headers.", error)
        return None
    return propagate


_user_propagators = _load_user_propagators()


M = TypeVar("M", bound=MutableMapping[str, str])


@overload
def inject() -> dict[str, str]: ...


@overload
def inject(carrier: M) -> M: ...


def inject(carrier: Any = None) -> Any:
    """Write the current context into text headers: for a queue's message, an HTTP request, or any other engine.

    The headers are ``traceparent`` and ``tracestate`` (W3C Trace Context), and ``baggage`` (W3C Baggage) with the
    flow's name and run id. The propagators of ``OTEL_PROPAGATORS`` may add more. The receiver reads the headers with
    :func:`attached`.

    Args:
        carrier: The mapping to write the headers into. The default is a new dict.

    Returns:
        The carrier.

    Raises:
        otelflow.errors.ArgumentError: ``carrier`` is not a mutable mapping.
    """
    headers = {} if carrier is None else carrier
    if not isinstance(headers, MutableMapping):
        raise ArgumentError(f"inject({carrier!r}): a carrier is a mapping of header names to texts. Use a dict.")
    inject_context(headers, get_current())
    return headers


def inject_context(carrier: MutableMapping[str, str], context: Context) -> None:
    """Write ``context`` into ``carrier``: first with the user's propagators, then the missing headers of otelflow."""
    headers: dict[str, str] = {}
    try:
        if _user_propagators is not None:
            _user_propagators.inject(headers, context)
    except Exception as error:  # from a propagator that the user installed
        message = "A propagator of OTEL_PROPAGATORS raised %s in inject(). Its headers may be missing."
        log_once(f"inject {type(error).__name__}", message, type(error).__name__, exc_info=True)
    if "traceparent" not in headers:
        _trace_context.inject(headers, context)
    run: Any = context.get(RUN_KEY)
    flow = None if run is None else run._own_flow()
    if flow is not None:
        entries = headers.get("baggage", carrier.get("baggage", "")).split(",")
        user_entries = [entry for entry in entries if entry and not entry.strip().startswith(_IDENTITY_PREFIXES)]
        # The flow's entries come first, because readers stop at 180 entries. OTEL_PROPAGATORS decides about the others.
        headers["baggage"] = ",".join((*_identity_entries(flow), *user_entries))
    carrier.update(headers)


_IDENTITY_PREFIXES = (f"{wire.FLOW_NAME}=", f"{wire.FLOW_RUN_ID}=")
_MAX_ENTRY = 3000
"""Characters of the flow's name in baggage, after URL quoting. Readers take 4,096 bytes of one entry."""
_MAX_HEADER = 16_384
"""Characters of the longest header that is read: twice the size that W3C Baggage asks receivers to accept."""


def _identity_entries(flow: Any) -> tuple[str, str]:
    """Return the flow's two baggage entries. The name is truncated to the size that readers accept."""
    name = flow._wire[wire.FLOW_NAME]
    while len(quoted := quote_plus(name)) > _MAX_ENTRY:
        name = name[: len(name) * 9 // 10]
    return f"{wire.FLOW_NAME}={quoted}", f"{wire.FLOW_RUN_ID}={quote_plus(flow.run_id)}"


def context_from(carrier: Mapping[str, str] | None) -> Context:
    """Read a context from ``carrier``, without anything of the current context. Headers of any content never raise."""
    headers = _read_headers(carrier)
    context = _extract(_user_propagators, headers, Context())
    if not get_current_span(context).get_span_context().is_valid:
        context = _extract(_trace_context, headers, context)
    return context if identity_in(context) else _extract(_baggage, headers, context)


def _read_headers(carrier: Any) -> dict[str, Any]:
    try:
        if not carrier:
            return {}
        if isinstance(carrier, Mapping):
            return {
                str(name).lower(): value
                for name, value in carrier.items()
                if not isinstance(value, str) or len(value) <= _MAX_HEADER
            }
    except Exception as error:  # the carrier may be an object of any type
        message = "Could not read a carrier: it raised %s. Ignoring its headers."
        log_once(f"carrier {type(error).__name__}", message, type(error).__name__, exc_info=True)
        return {}
    type_name = type(carrier).__name__  # its repr() may be large, or raise
    raise ArgumentError(f"attached(<{type_name}>): a carrier is a mapping of header names to texts. Use a dict.")


def _extract(propagator: Any, headers: dict[str, Any], context: Context) -> Context:
    try:
        return context if propagator is None else propagator.extract(headers, context)
    except Exception as error:  # a header that is not a text, or a propagator that the user installed
        message = "A propagator raised %s when it read a carrier. Ignoring this propagator."
        log_once(f"extract {type(error).__name__}", message, type(error).__name__, exc_info=True)
        return context


def identity_in(context: Context) -> tuple[str, str] | None:
    """Return the name and run id of the flow that a context from a carrier belongs to; None if it names no flow."""
    name, run_id = baggage.get_baggage(wire.FLOW_NAME, context), baggage.get_baggage(wire.FLOW_RUN_ID, context)
    return (scrub_and_truncate(str(name))[0], scrub_and_truncate(str(run_id))[0]) if name and run_id else None


def _flow_or_handle(name: str, run_id: str) -> Flow[Any]:
    """Return the flow with this run id if it runs here, else a handle. In a worker's job, the handle is recorded."""
    run = current_run()
    flow: Flow[Any] | None = None if run is None else run._own_flow()
    if flow is not None and flow.run_id == run_id:
        return flow
    return RemoteFlow(name, run_id, recorder=None if run is None else run._recorder, is_submitter=False)


@contextmanager
def attached(carrier: Mapping[str, str] | None) -> Iterator[Flow[Any] | None]:
    """Work for the flow that called :func:`inject`, within this block.

    Tasks are children of the sender's span and carry its flow's name and run id. ``current_flow()``, ``this_flow`` and
    the target of ``as`` are a handle of that flow. The handle's messages, artifacts and results go on the span that is
    current here, and to this process's listeners. ``flow_data`` is not shared: using it raises
    :class:`otelflow.errors.NotShared`. A carrier that is empty or cannot be read changes nothing.

    Args:
        carrier: The headers that :func:`inject` wrote. Their names may be in any case. None is an empty carrier.

    Returns:
        A context manager. It yields the handle of the flow; None if the carrier names no flow.

    Raises:
        otelflow.errors.ArgumentError: ``carrier`` is not a mapping.
    """
    remote_context = context_from(carrier)
    identity = identity_in(remote_context)
    handle = None if identity is None else _flow_or_handle(*identity)
    context = Context({**get_current(), **remote_context})
    if handle is not None:
        context = Context({**context, RUN_KEY: handle})
    token = attach(context)
    try:
        yield handle
    finally:
        detach(token)
