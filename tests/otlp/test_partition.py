"""Partition: the requests that a batch is split into, and the reported results of its spans."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelflow._otlp.partition import Part, Partition
from otelflow._otlp.response import Outcome, Response, grpc_outcome, http_outcome

Batch = list[int]


class Receiving:
    """A receiver of batches of numbers; counts the reported results."""

    def __init__(self, answer: Callable[[Batch], Outcome | None]) -> None:
        self.requests: list[Batch] = []
        self.accepted: Batch = []
        self.reported: Counter[str | None] = Counter()
        self._answer = answer

    def deliver(self, number: int) -> bool:
        partition = Partition(self._send, self._halve, self._record_result)
        return partition.deliver(Part(list(range(number)), number, True))

    def _send(self, part: Part) -> Response | None:
        self.requests.append(part.payload)
        assert part.is_whole == (len(self.requests) == 1)
        assert part.spans == len(part.payload)
        outcome = self._answer(part.payload)
        if outcome is Outcome.ACCEPTED:
            self.accepted += part.payload
        return None if outcome is None else Response(outcome, "why")

    def _halve(self, batch: Batch) -> tuple[Batch, Batch]:
        return batch[: len(batch) // 2], batch[len(batch) // 2 :]

    def _record_result(self, number: int, reason: str | None, _: str) -> None:
        self.reported[reason] += number


@given(st.data())
def test_one_malformed_span_is_found_in_few_requests(data: st.DataObject) -> None:
    """At most 2 · log2(n) + 1. Every other span is accepted, each once."""
    number = data.draw(st.integers(1, 5000))
    bad = data.draw(st.integers(0, number - 1))
    receiving = Receiving(lambda batch: Outcome.MALFORMED if bad in batch else Outcome.ACCEPTED)
    assert receiving.deliver(number)
    assert sorted(receiving.accepted) == [span for span in range(number) if span != bad]
    assert +receiving.reported == +Counter({None: number - 1, "refused": 1})
    assert len(receiving.requests) <= 2 * math.log2(number) + 1


@given(st.integers(2, 5000), st.sampled_from([Outcome.MALFORMED, Outcome.REFUSED]))
def test_if_both_halves_are_refused_all_spans_are_lost(number: int, second: Outcome) -> None:
    """The address or the format is wrong. Three requests are sent, for a batch of any size."""
    receiving = Receiving(lambda _: second if len(receiving.requests) == 3 else Outcome.MALFORMED)
    assert receiving.deliver(number)
    assert receiving.reported == {"refused": number}
    assert len(receiving.requests) == 3


@given(st.integers(1, 300), st.sets(st.integers(0, 299), max_size=8), st.integers(1, 300))
def test_every_span_is_reported_once(number: int, bad: set[int], limit: int) -> None:
    """If any of them are malformed, too large, or both."""

    def answer(batch: Batch) -> Outcome:
        if len(batch) > limit:
            return Outcome.TOO_LARGE
        return Outcome.MALFORMED if bad.intersection(batch) else Outcome.ACCEPTED

    receiving = Receiving(answer)
    assert receiving.deliver(number)
    assert receiving.reported.total() == number
    assert receiving.reported[None] == len(receiving.accepted) == len(set(receiving.accepted))


@given(st.integers(2, 300), st.integers(1, 20))
def test_spans_without_a_response_in_time_are_not_reported(number: int, requests: int) -> None:
    """Spans that were accepted before are reported, each once."""

    def answer(batch: Batch) -> Outcome | None:
        if len(receiving.requests) > requests:
            return None
        return Outcome.TOO_LARGE if len(batch) > 3 else Outcome.ACCEPTED

    receiving = Receiving(answer)
    is_over = not receiving.deliver(number)
    assert receiving.reported.total() == len(receiving.accepted)
    assert is_over == (len(receiving.accepted) < number)


@pytest.mark.parametrize(
    ("status", "text", "outcome"),
    [
        (200, "", Outcome.ACCEPTED),
        (204, "", Outcome.ACCEPTED),
        (302, "", Outcome.REFUSED),
        (400, "", Outcome.MALFORMED),
        (400, "request body too large", Outcome.TOO_LARGE),
        (401, "", Outcome.REFUSED),
        (408, "", Outcome.RETRY),
        (413, "", Outcome.TOO_LARGE),
        (422, "", Outcome.MALFORMED),
        (429, "", Outcome.RETRY),
        (500, "", Outcome.SERVER_ERROR),
        (501, "", Outcome.SERVER_ERROR),
        (503, "", Outcome.RETRY),
    ],
)
def test_an_http_status_has_an_outcome(status: int, text: str, outcome: Outcome) -> None:
    """According to the OTLP specification. The core and the spool use the same table."""
    assert http_outcome(status, text) is outcome


@pytest.mark.parametrize(
    ("code", "details", "retry_after", "outcome"),
    [
        ("UNAVAILABLE", "", None, Outcome.RETRY),
        ("RESOURCE_EXHAUSTED", "quota", None, Outcome.REFUSED),
        ("RESOURCE_EXHAUSTED", "quota", 1.0, Outcome.RETRY),
        ("RESOURCE_EXHAUSTED", "message larger than max", None, Outcome.TOO_LARGE),
        ("INVALID_ARGUMENT", "", None, Outcome.MALFORMED),
        ("INTERNAL", "", None, Outcome.SERVER_ERROR),
        ("UNAUTHENTICATED", "", None, Outcome.REFUSED),
    ],
)
def test_a_grpc_code_has_an_outcome(code: str, details: str, retry_after: float | None, outcome: Outcome) -> None:
    """According to the OTLP specification."""
    assert grpc_outcome(code, details, retry_after) is outcome
