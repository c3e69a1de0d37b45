"""Partition a batch of spans into requests that a receiver accepts.

A request that is too large is halved until its parts fit. In a malformed request, a search finds the invalid span with
at most 2·log2(n)+1 requests for n spans. If both halves are refused, the address or the format is wrong and not a
single span: then all spans are lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from otelflow._otlp.response import Outcome, Response
from otelflow._runtime.drop_counts import REFUSED, REJECTED, TOO_LARGE

__all__ = ["Part", "Partition"]


class Part(NamedTuple):
    """A request and the number of its spans."""

    payload: Any
    spans: int
    is_whole: bool = False
    """True if it is the batch itself, not a part of it."""


class Partition:
    """Sends batches, each in parts if necessary, and reports the result of each span.

    Args:
        send: Sends a part, with retries. Returns the final response, or None if the time is over.
        halve: Splits a payload into two with half its spans each, the smaller first. Returns None if it cannot.
        on_result: Called with a number of spans, the reason of their loss (None: accepted), and a detail for messages.
    """

    def __init__(
        self,
        send: Callable[[Part], Response | None],
        halve: Callable[[Any], tuple[Any, Any] | None],
        on_result: Callable[[int, str | None, str], None],
    ) -> None:
        self._send, self._halve, self._on_result = send, halve, on_result

    def deliver(self, part: Part) -> bool:
        """Send ``part``. Return False if the time is over; the remaining spans then have no result."""
        response = self._send(part)
        return response is not None and self._handle(part, response)

    def _handle(self, part: Part, response: Response) -> bool:
        outcome = response.outcome
        if outcome is Outcome.ACCEPTED:
            rejected = min(response.rejected, part.spans)
            if rejected < part.spans:
                self._on_result(part.spans - rejected, None, "")
            if rejected:
                self._on_result(rejected, REJECTED, response.detail)
            return True
        halves = self._halves(part) if outcome in (Outcome.TOO_LARGE, Outcome.MALFORMED) else None
        if halves is None:
            self._on_result(part.spans, TOO_LARGE if outcome is Outcome.TOO_LARGE else REFUSED, response.detail)
            return True
        if outcome is Outcome.TOO_LARGE:
            return all(self.deliver(half) for half in halves)
        return self._find_malformed(*halves)

    def _find_malformed(self, first: Part, second: Part) -> bool:
        """Deliver the halves of a malformed part, except for the invalid span."""
        response = self._send(first)
        if response is None:
            return False
        if response.outcome is Outcome.ACCEPTED:
            self._handle(first, response)
            # The invalid span is in the second half: sending that as a whole would fail.
            halves = self._halves(second)
            return self.deliver(second) if halves is None else self._find_malformed(*halves)
        if response.outcome is not Outcome.MALFORMED:
            return self._handle(first, response) and self.deliver(second)
        second_response = self._send(second)
        if second_response is None:
            return False
        if second_response.outcome in (Outcome.MALFORMED, Outcome.REFUSED):
            self._on_result(first.spans + second.spans, REFUSED, second_response.detail)
            return True
        return self._handle(second, second_response) and self._handle(first, response)

    def _halves(self, part: Part) -> tuple[Part, Part] | None:
        if part.spans < 2:
            return None
        halves = self._halve(part.payload)
        if halves is None:
            return None
        smaller = part.spans // 2
        return Part(halves[0], smaller), Part(halves[1], part.spans - smaller)
