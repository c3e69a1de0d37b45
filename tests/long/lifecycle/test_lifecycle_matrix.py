"""Whatever happens to a program: what can be delivered is, the end is short, and the program does not notice."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

import pytest
from lifecycle.cases import CASES
from lifecycle.matrix import NONE, OURS, SPOOL, Case, run
from lifecycle.table import README, lines_of, table

MOST_SECONDS = 15
"""An end that is longer waits for something that does not come; the limit of the goal is 2, on a machine at rest."""


def _names(cases: list[Case]) -> list[str]:
    return [case.name for case in cases]


@pytest.mark.parametrize("case", CASES, ids=_names(CASES))
def test_what_is_delivered(case: Case, tmp_path: Path) -> None:
    """Each span once, within the limit of the exit; exit code and output are those without any telemetry."""
    reason = case.needs()
    if reason:
        pytest.skip(reason)
    outcome = run(case, OURS, tmp_path)
    least, most = case.least_and_most(outcome.made)
    assert least <= outcome.delivered <= most, outcome
    assert outcome.twice == 0, outcome
    assert outcome.code == case.code, outcome
    assert outcome.seconds < MOST_SECONDS, outcome
    if not case.telemetry_decides:
        bare = run(case, NONE, tmp_path)
        assert (bare.code, bare.said) == (outcome.code, outcome.said)


WITH_SPOOL = [case for case in CASES if case.spooled is not None]


@pytest.mark.skipif(
    "otelflow_spool" not in entry_points(group="opentelemetry_traces_exporter").names,
    reason="otelflow-exporters, which has the spool, is not installed",
)
@pytest.mark.parametrize("case", WITH_SPOOL, ids=_names(WITH_SPOOL))
def test_what_the_spool_delivers(case: Case, tmp_path: Path) -> None:
    """What was on disk when the process ended is delivered at the next start, each span at least once."""
    outcome = run(case, SPOOL, tmp_path)
    assert outcome.delivered == case.spooled, outcome
    assert outcome.code == case.code, outcome
    assert outcome.seconds < MOST_SECONDS, outcome


def test_the_readme_has_every_case() -> None:
    """Its table was made of these cases, in their order."""
    text = README.read_text()
    assert table(lines_of(text)) in text
    assert list(lines_of(text)) == _names(CASES)
