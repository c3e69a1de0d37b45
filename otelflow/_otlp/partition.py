"""Partition a batch of spans into requests that a receiver accepts.

A request that is too large is halved until its parts fit. Of one that is malformed the bad span is looked for, with at
most 2·log2(n)+1 requests for n spans: where both halves are refused it is not one span that is wrong, but the address
or the format, and all is lost.
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
    """It is the batch itself, not a half of it."""


class Partition:
    """Send batches, each in parts where that is necessary, and report what became of each span.

    Args:
        send: Sends a part, again as often as that makes sense. Returns the final response, None if the time is over.
        halve: Returns a payload as two with half its spans each, the smaller first; None if it cannot.
        settled: Called with a number of spans, the reason of their loss (None: accepted), and details for people.
    """

    def __init__(
        self,
        send: Callable[[Part], Response | None],
        halve: Callable[[Any], tuple[Any, Any] | None],
        settled: Callable[[int, str | None, str], None],
    ) -> None:
        self._send, self._halve, self._settled = send, halve, settled

    def deliver(self, part: Part) -> bool:
        """Send ``part``. Return False if the time is over: what was not reported by then is not settled."""
        response = self._send(part)
        return response is not None and self._handle(part, response)

    def _handle(self, part: Part, response: Response) -> bool:
        outcome = response.outcome
        if outcome is Outcome.ACCEPTED:
            rejected = min(response.rejected, part.spans)
            if rejected < part.spans:
                self._settled(part.spans - rejected, None, "")
            if rejected:
                self._settled(rejected, REJECTED, response.detail)
            return True
        halves = self._halves(part) if outcome in (Outcome.TOO_LARGE, Outcome.MALFORMED) else None
        if halves is None:
            self._settled(part.spans, TOO_LARGE if outcome is Outcome.TOO_LARGE else REFUSED, response.detail)
            return True
        if outcome is Outcome.TOO_LARGE:
            return all(self.deliver(half) for half in halves)
        return self._find_malformed(*halves)

    def _find_malformed(self, first: Part, second: Part) -> bool:
        """Deliver the halves of a malformed part but for the span that is wrong."""
        response = self._send(first)
        if response is None:
            return False
        if response.outcome is Outcome.ACCEPTED:
            self._handle(first, response)
            # What is wrong is in the second half: it need not be sent whole.
            halves = self._halves(second)
            return self.deliver(second) if halves is None else self._find_malformed(*halves)
        if response.outcome is not Outcome.MALFORMED:
            return self._handle(first, response) and self.deliver(second)
        other = self._send(second)
        if other is None:
            return False
        if other.outcome in (Outcome.MALFORMED, Outcome.REFUSED):
            self._settled(first.spans + second.spans, REFUSED, other.detail)
            return True
        return self._handle(second, other) and self._handle(first, response)

    def _halves(self, part: Part) -> tuple[Part, Part] | None:
        if part.spans < 2:
            return None
        halves = self._halve(part.payload)
        if halves is None:
            return None
        few = part.spans // 2
        return Part(halves[0], few), Part(halves[1], part.spans - few)
