"""OTLP response: the outcome of one request, from the HTTP status or the gRPC code."""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple, Protocol

__all__ = ["Outcome", "Response", "Sender", "grpc_outcome", "http_outcome"]


class Outcome(Enum):
    """Outcome of a request: whether its spans were accepted, and whether to send them again."""

    ACCEPTED = "accepted"
    RETRY = "retry"
    """The receiver is down or busy: the same request may be accepted later."""
    SERVER_ERROR = "server error"
    """An error in the receiver. It may be temporary, or caused by this request: retry a few times only."""
    TOO_LARGE = "too large"
    """Smaller requests may be accepted."""
    MALFORMED = "malformed"
    """The request is invalid: a part of it may be accepted."""
    REFUSED = "refused"
    """The receiver will never accept it. OTLP: "the client MUST NOT retry"."""
    UNSENDABLE = "unsendable"
    """This process cannot send it: an invalid header or URL, or a fork during a gRPC call. Another process may."""


class Response(NamedTuple):
    """Response to one request."""

    outcome: Outcome
    detail: str = ""
    """A status, a code, or the name of an error: for messages to users."""
    rejected: int = 0
    """Number of spans that the receiver left out of an accepted request (partial success)."""
    retry_after: float | None = None
    """Seconds to wait, as requested by the receiver."""


class Sender(Protocol):
    """Sends requests to one endpoint."""

    endpoint: str

    def send(self, body: bytes) -> Response:
        """Send an ExportTraceServiceRequest. Failures of the receiver or the network are returned, not raised."""
        ...

    def close(self) -> None:
        """Close the connections; this aborts a request in progress."""
        ...


_SIZE_TEXT = re.compile(r"(?i)too large|larger than|exceeds|max(imum)? .{0,20}size")

_HTTP = {
    400: Outcome.MALFORMED,
    408: Outcome.RETRY,
    413: Outcome.TOO_LARGE,
    422: Outcome.MALFORMED,
    429: Outcome.RETRY,
    502: Outcome.RETRY,
    503: Outcome.RETRY,
    504: Outcome.RETRY,
}
"""Outcomes of statuses. https://opentelemetry.io/docs/specs/otlp/#failures-1 lists the statuses to retry; 400 means
invalid data. 408 is a fault of the connection. Gateways send 422 in the sense of 400."""

_GRPC = {
    **dict.fromkeys(
        ("CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"), Outcome.RETRY
    ),
    "INVALID_ARGUMENT": Outcome.MALFORMED,
    "INTERNAL": Outcome.SERVER_ERROR,
    "UNKNOWN": Outcome.SERVER_ERROR,
}
"""Outcomes of codes. https://opentelemetry.io/docs/specs/otlp/#failures lists the codes to retry."""


def http_outcome(status: int, text: str) -> Outcome:
    """Return the outcome of an HTTP status. ``text`` is the body: with 400 it may say that the request is too large."""
    if 200 <= status < 300:
        return Outcome.ACCEPTED
    if status == 400 and _mentions_size(text):
        return Outcome.TOO_LARGE
    return _HTTP.get(status, Outcome.SERVER_ERROR if status >= 500 else Outcome.REFUSED)


def grpc_outcome(code: str, details: str, retry_after: float | None) -> Outcome:
    """Return the outcome of a gRPC code.

    RESOURCE_EXHAUSTED is retried only if the receiver says when. Otherwise it means that a message is too large, if the
    details mention a size.
    """
    if code == "RESOURCE_EXHAUSTED":
        if retry_after is not None:
            return Outcome.RETRY
        return Outcome.TOO_LARGE if _mentions_size(details) else Outcome.REFUSED
    return _GRPC.get(code, Outcome.REFUSED)


def _mentions_size(text: str) -> bool:
    return _SIZE_TEXT.search(text[:1000]) is not None
