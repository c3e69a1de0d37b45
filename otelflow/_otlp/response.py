"""What a receiver made of one request: accepted, again later, in smaller parts, or never."""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

from otelflow._runtime.drop_counts import REFUSED, TOO_LARGE

__all__ = ["Answer", "Verdict", "http_verdict"]


class Verdict(Enum):
    """What is to become of a request."""

    ACCEPTED = "accepted"
    AGAIN = "again"
    """The receiver is away or busy: the same request may be accepted later."""
    DOUBTFUL = "doubtful"
    """An error within the receiver. It may pass, or come from this request: tried again a few times only."""
    TOO_LARGE = TOO_LARGE
    REFUSED = REFUSED


class Answer(NamedTuple):
    """``what`` is told for people: a status, a code, or the name of an error. ``rejected`` are spans that an accepted
    request was accepted without. ``after`` are the seconds that the receiver asks to wait."""

    verdict: Verdict
    what: str = ""
    rejected: int = 0
    after: float | None = None


_TOO_LARGE_TEXT = re.compile(r"(?i)too large|larger than|exceeds|max(imum)? .{0,20}size")


def is_about_size(text: str) -> bool:
    """Whether a receiver's words say that the request was too large: the Collector does so with HTTP 400, and gRPC has
    no code for it."""
    return _TOO_LARGE_TEXT.search(text[:1000]) is not None


def http_verdict(status: int, text: str) -> Verdict:
    """What an HTTP status means. https://opentelemetry.io/docs/specs/otlp/#failures-1 names those that may be tried
    again; 408 and 500 are, too, by OpenTelemetry's exporters for Python."""
    if 200 <= status < 300:
        return Verdict.ACCEPTED
    if status in (408, 429, 502, 503, 504):
        return Verdict.AGAIN
    if status == 413 or (status == 400 and is_about_size(text)):
        return Verdict.TOO_LARGE
    return Verdict.DOUBTFUL if status >= 500 else Verdict.REFUSED
