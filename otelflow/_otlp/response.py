"""OTLP response: what a receiver's answer to one request means for its spans."""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple, Protocol

__all__ = ["Outcome", "Response", "Sender", "grpc_outcome", "http_outcome"]


class Outcome(Enum):
    """What to do after a request."""

    ACCEPTED = "accepted"
    RETRY = "retry"
    """The receiver is away or busy: the same request may be accepted later."""
    SERVER_ERROR = "server error"
    """An error within the receiver. It may pass, or come from this request: retry a few times only."""
    TOO_LARGE = "too large"
    """Smaller requests may be accepted."""
    MALFORMED = "malformed"
    """Something in the request is wrong: a part of it may be accepted."""
    REFUSED = "refused"
    """The receiver will never accept it. OTLP: "the client MUST NOT retry"."""
    UNSENDABLE = "unsendable"
    """This process cannot send it: an invalid header or URL, or gRPC torn by a fork. Another process may."""


class Response(NamedTuple):
    """What came of one request."""

    outcome: Outcome
    detail: str = ""
    """A status, a code, or the name of an error, for people."""
    rejected: int = 0
    """Spans that an accepted request was accepted without."""
    retry_after: float | None = None
    """Seconds that the receiver asks to wait."""


class Sender(Protocol):
    """Sends requests to one endpoint."""

    endpoint: str

    def send(self, body: bytes) -> Response:
        """Send an ExportTraceServiceRequest. Raises nothing that a receiver or a network can cause."""
        ...

    def close(self) -> None:
        """End the connections, and with them a request that is under way."""
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
"""https://opentelemetry.io/docs/specs/otlp/#failures-1 names the statuses to retry, and says of 400 that the data is
bad. 408 is a fault of the connection; gateways answer 422 where they mean 400."""

_GRPC = {
    **dict.fromkeys(
        ("CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"), Outcome.RETRY
    ),
    "INVALID_ARGUMENT": Outcome.MALFORMED,
    "INTERNAL": Outcome.SERVER_ERROR,
    "UNKNOWN": Outcome.SERVER_ERROR,
}
"""https://opentelemetry.io/docs/specs/otlp/#failures names the codes to retry."""


def http_outcome(status: int, text: str) -> Outcome:
    """Return what an HTTP status means. ``text`` is the body: with 400 it may say that the request is too large."""
    if 200 <= status < 300:
        return Outcome.ACCEPTED
    if status == 400 and _is_about_size(text):
        return Outcome.TOO_LARGE
    return _HTTP.get(status, Outcome.SERVER_ERROR if status >= 500 else Outcome.REFUSED)


def grpc_outcome(code: str, details: str, retry_after: float | None) -> Outcome:
    """Return what a gRPC code means.

    RESOURCE_EXHAUSTED is to be retried only where the receiver says when. Else it is how gRPC says that a message is
    too large, if the details are about a size.
    """
    if code == "RESOURCE_EXHAUSTED":
        if retry_after is not None:
            return Outcome.RETRY
        return Outcome.TOO_LARGE if _is_about_size(details) else Outcome.REFUSED
    return _GRPC.get(code, Outcome.REFUSED)


def _is_about_size(text: str) -> bool:
    return _SIZE_TEXT.search(text[:1000]) is not None
