"""Deliver a batch of spans: in requests that a receiver accepts, with retries, and with a result for each span."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from otelflow._otlp.partition import Part, Partition
from otelflow._otlp.response import Outcome, Response

__all__ = ["Delivery", "Exporter"]

_FIRST_PAUSE, _MAX_PAUSE = 0.25, 8.0
"""Seconds between two tries of one request. Each pause is twice the one before, plus or minus a fifth."""

_MAX_RETRY_AFTER = 300.0
"""Limit in seconds of a pause that a receiver asks for."""

_MAX_SERVER_ERRORS = 5
"""Limit of tries of a request that causes an error in the receiver: it delays all requests after it."""


class Exporter(Protocol):
    """Exporter that a delivery can use, such as :class:`otelflow._otlp.exporter.OtlpExporter`."""

    def requests(self, spans: Sequence[Any]) -> Iterator[tuple[bytes, Sequence[Any]]]:
        """Yield the spans in requests small enough for a receiver, in order."""
        ...

    def send(self, body: bytes) -> Response:
        """Send one request."""
        ...


_Request = tuple[bytes, Sequence[Any]]


class Delivery:
    """Delivers batches with one exporter, on the calling thread.

    Args:
        exporter: Encodes and sends the requests.
        pause: ``pause(seconds, is_minimum)`` waits before a retry. A flush makes it shorter unless ``is_minimum``.
            Returns False if the time is over.
        on_result: ``on_result(number, reason, detail)`` is called for spans that arrived (reason None) or are lost.
        on_response: ``on_response(seconds, error)`` is called for each response, with the request's duration.
        on_wait: ``on_wait(detail)`` is called before each pause.
    """

    def __init__(
        self,
        exporter: Exporter,
        *,
        pause: Callable[[float, bool], bool],
        on_result: Callable[[int, str | None, str], None],
        on_response: Callable[[float, str | None], None],
        on_wait: Callable[[str], None],
    ) -> None:
        self._exporter = exporter
        self._pause, self._on_response, self._on_wait = pause, on_response, on_wait
        self._partition = Partition(self._send, self._halve, on_result)

    def deliver(self, spans: Sequence[Any]) -> bool:
        """Deliver ``spans``. Return False if the time was over before each had a result."""
        return all(
            self._partition.deliver(Part(request, len(request[1]), True)) for request in self._exporter.requests(spans)
        )

    def _send(self, part: Part) -> Response | None:
        """Send a request until another try would not change the response. Return None if the time is over."""
        pauses, server_errors = _pauses(), 0
        while True:
            response = self._try(part.payload[0])
            server_errors += response.outcome is Outcome.SERVER_ERROR
            if server_errors >= _MAX_SERVER_ERRORS or response.outcome not in (Outcome.RETRY, Outcome.SERVER_ERROR):
                return response
            self._on_wait(response.detail)
            pause = next(pauses)
            if response.retry_after:  # 0, or a time in the past, would mean retries without a pause
                pause = min(max(response.retry_after, _FIRST_PAUSE), _MAX_RETRY_AFTER)
            if not self._pause(pause, bool(response.retry_after)):
                return None

    def _try(self, body: bytes) -> Response:
        start = time.perf_counter()
        response = self._exporter.send(body)
        is_accepted = response.outcome is Outcome.ACCEPTED
        self._on_response(time.perf_counter() - start, None if is_accepted else response.detail)
        return response

    def _halve(self, request: _Request) -> tuple[_Request, _Request] | None:
        spans = request[1]
        halves = [list(self._exporter.requests(part)) for part in (spans[: len(spans) // 2], spans[len(spans) // 2 :])]
        first, second = halves
        return (first[0], second[0]) if len(first) == len(second) == 1 else None


def _pauses() -> Iterator[float]:
    seconds = _FIRST_PAUSE
    while True:
        # SystemRandom: a program that seeds `random` gets the same numbers as without otelflow.
        yield seconds * _random.uniform(0.8, 1.2)
        seconds = min(seconds * 2, _MAX_PAUSE)


_random = random.SystemRandom()
