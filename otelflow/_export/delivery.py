"""Deliver a batch of spans: in requests that a receiver accepts, again while it is away, each span accounted for."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from otelflow._otlp.partition import Part, Partition
from otelflow._otlp.response import Outcome, Response

__all__ = ["Delivery", "Exporter"]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 8.0
"""Seconds between two tries of one request; each pause is twice the one before, give or take a fifth."""

_LONGEST_WISH = 300.0
"""Seconds that a receiver is left alone at most, whatever it asks for."""

_MAX_SERVER_ERRORS = 5
"""How often a request is tried that the receiver answers with an error of its own. It holds up all that wait behind."""


class Exporter(Protocol):
    """What a delivery needs: :class:`otelflow._otlp.exporter.OtlpExporter` is one."""

    def requests(self, spans: Sequence[Any]) -> Iterator[tuple[bytes, Sequence[Any]]]:
        """Yield the spans in requests that a receiver can take, in order."""
        ...

    def send(self, body: bytes) -> Response:
        """Send one of them."""
        ...


_Request = tuple[bytes, Sequence[Any]]


class Delivery:
    """Deliver batches by one exporter, on the thread that calls.

    ``pause(seconds, firmly)`` waits, less where somebody hurries unless ``firmly``; it returns False where there is no
    more time. ``settled(number, reason, detail)`` is told of spans that arrived (reason None) or are lost.
    ``answered(seconds, error)`` is told of each response.
    """

    def __init__(
        self,
        exporter: Exporter,
        *,
        pause: Callable[[float, bool], bool],
        settled: Callable[[int, str | None, str], None],
        answered: Callable[[float, str | None], None],
        waiting: Callable[[str], None],
    ) -> None:
        self._exporter = exporter
        self._pause, self._answered, self._waiting = pause, answered, waiting
        self._partition = Partition(self._send, self._halve, settled)

    def deliver(self, spans: Sequence[Any]) -> bool:
        """Deliver ``spans``. Return False where the time was over before all were settled."""
        return all(
            self._partition.deliver(Part(request, len(request[1]), True)) for request in self._exporter.requests(spans)
        )

    def _send(self, part: Part) -> Response | None:
        """Send a request until there is an answer that another try would not change; None if the time is over."""
        pauses, server_errors = _pauses(), 0
        while True:
            response = self._try(part.payload[0])
            server_errors += response.outcome is Outcome.SERVER_ERROR
            if server_errors >= _MAX_SERVER_ERRORS or response.outcome not in (Outcome.RETRY, Outcome.SERVER_ERROR):
                return response
            self._waiting(response.detail)
            pause = next(pauses)
            if response.retry_after:  # 0, or a time that is over, would be asked again and again without a rest
                pause = min(max(response.retry_after, _FIRST_PAUSE), _LONGEST_WISH)
            if not self._pause(pause, bool(response.retry_after)):
                return None

    def _try(self, body: bytes) -> Response:
        began = time.perf_counter()
        response = self._exporter.send(body)
        is_accepted = response.outcome is Outcome.ACCEPTED
        self._answered(time.perf_counter() - began, None if is_accepted else response.detail)
        return response

    def _halve(self, request: _Request) -> tuple[_Request, _Request] | None:
        spans = request[1]
        halves = [list(self._exporter.requests(part)) for part in (spans[: len(spans) // 2], spans[len(spans) // 2 :])]
        first, second = halves
        return (first[0], second[0]) if len(first) == len(second) == 1 else None


def _pauses() -> Iterator[float]:
    seconds = _FIRST_PAUSE
    while True:
        # SystemRandom: a program that seeds `random` sees the numbers that it would see without us.
        yield seconds * _random.uniform(0.8, 1.2)
        seconds = min(seconds * 2, _LONGEST_PAUSE)


_random = random.SystemRandom()
