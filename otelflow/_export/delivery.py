"""Getting a batch of spans to a receiver: in requests that it can take, again while it is away, and with an account."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from otelflow._otlp.response import Answer, Verdict
from otelflow._runtime.drop_counts import REFUSED, REJECTED, TOO_LARGE

__all__ = ["Delivery", "Exporter"]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 8.0
"""Seconds between two tries of one request; each pause is twice the one before, give or take a fifth."""

_LONGEST_WISH = 300.0
"""Seconds that a receiver is left alone at most, whatever it asks for."""

_DOUBTFUL_TRIES = 5
"""How often a request is tried that the receiver answers with an error of its own. It holds up all that wait behind."""


class Exporter(Protocol):
    """What a delivery needs: :class:`otelflow._otlp.exporter.OtlpExporter` is one."""

    def requests(self, spans: Sequence[Any]) -> Iterator[tuple[bytes, Sequence[Any]]]:
        """The spans in requests that a receiver can take, in order."""
        ...

    def send(self, body: bytes) -> Answer:
        """Send one of them."""
        ...


class Delivery:
    """Delivers batches by one exporter, on the thread that calls.

    ``pause(seconds, firmly)`` waits, less where somebody hurries unless ``firmly``; it returns False where there is no
    more time. ``settled(number, reason)`` is told of spans that arrived (reason None) or are lost. ``answered(seconds,
    error)`` is told of each answer.
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
        self._pause, self._settled, self._answered, self._waiting = pause, settled, answered, waiting

    def deliver(self, spans: Sequence[Any]) -> bool:
        """Deliver ``spans``. False where the time was over before all were settled."""
        return all(self._request(body, part) for body, part in self._exporter.requests(spans))

    def _request(self, body: bytes, spans: Sequence[Any]) -> bool:
        pauses, doubtful = _pauses(), 0
        while True:
            answer = self._send(body)
            verdict = answer.verdict
            doubtful += verdict is Verdict.DOUBTFUL
            if verdict is Verdict.ACCEPTED:
                return self._accepted(answer, len(spans))
            if verdict is Verdict.TOO_LARGE and len(spans) > 1:
                return self._in_halves(spans)
            if verdict in (Verdict.TOO_LARGE, Verdict.REFUSED) or doubtful >= _DOUBTFUL_TRIES:
                self._settled(len(spans), TOO_LARGE if verdict is Verdict.TOO_LARGE else REFUSED, answer.what)
                return True
            self._waiting(answer.what)
            pause = next(pauses)
            if answer.after:  # 0, or a time that is over, would be asked again and again without a rest
                pause = min(max(answer.after, _FIRST_PAUSE), _LONGEST_WISH)
            if not self._pause(pause, bool(answer.after)):
                return False

    def _send(self, body: bytes) -> Answer:
        began = time.perf_counter()
        answer = self._exporter.send(body)
        self._answered(time.perf_counter() - began, None if answer.verdict is Verdict.ACCEPTED else answer.what)
        return answer

    def _accepted(self, answer: Answer, number: int) -> bool:
        rejected = min(max(0, answer.rejected), number)
        self._settled(number - rejected, None, "")
        if rejected:
            self._settled(rejected, REJECTED, answer.what)
        return True

    def _in_halves(self, spans: Sequence[Any]) -> bool:
        middle = len(spans) // 2
        return self.deliver(spans[:middle]) and self.deliver(spans[middle:])


def _pauses() -> Iterator[float]:
    seconds = _FIRST_PAUSE
    while True:
        # SystemRandom: a program that seeds `random` sees the numbers that it would see without us.
        yield seconds * _random.uniform(0.8, 1.2)
        seconds = min(seconds * 2, _LONGEST_PAUSE)


_random = random.SystemRandom()
