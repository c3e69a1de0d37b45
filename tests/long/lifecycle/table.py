"""The matrix as a table in the README, between two markers."""

from __future__ import annotations

import re
from pathlib import Path

from lifecycle.cases import GROUPS
from lifecycle.matrix import BARE, NONE, OURS, SPOOL, Case, Outcome

README = Path(__file__).parents[3] / "README.md"
BEGIN, END = "<!-- lifecycle:begin -->", "<!-- lifecycle:end -->"

COLUMNS = (BARE, OURS, SPOOL)
HEAD = """\
| what happens | exit code | bare SDK | otelflow | otelflow with the spool |
| --- | --- | --- | --- | --- |
"""

Row = dict[str, Outcome]
"""The outcomes of one case, by column."""


def _cell(outcome: Outcome, own_code: int | None) -> str:
    parts = [f"{outcome.delivered:,} of {outcome.made:,}", f"{outcome.seconds:.1f} s"]
    if outcome.twice:
        parts.append(f"{outcome.twice} twice")
    if outcome.code is None:
        parts.append("did not end")
    elif outcome.code != own_code:
        parts.append(f"exit code {outcome.code}")
    return ", ".join(parts)


def line(case: Case, row: Row) -> str:
    """A row of the table: spans delivered of those made, seconds that the end took, and what is not as it should be."""
    own_code = case.code if case.telemetry_decides else row[NONE].code
    cells = [case.name, str(own_code), *(_cell(row[column], own_code) for column in COLUMNS)]
    return f"| {' | '.join(cells)} |"


def lines_of(text: str) -> dict[str, str]:
    """The rows that a README's table has, by the names of their cases."""
    part = text.partition(BEGIN)[2].partition(END)[0]
    rows = [found for found in part.splitlines() if re.match(r"\| (?!\*\*|---|what happens)", found)]
    return {found.split(" | ")[0].removeprefix("| "): found for found in rows}


def table(lines: dict[str, str]) -> str:
    """The table of these rows, in the order of the cases, below the names of their groups."""
    made = HEAD
    for group, cases in GROUPS.items():
        made += f"| **{group}** | | | | |\n"
        made += "".join(f"{lines[case.name]}\n" for case in cases if case.name in lines)
    return made


def write(rows: dict[str, Row]) -> None:
    """Put these rows into the README's table; the others stay."""
    text = README.read_text()
    cases = {case.name: case for group in GROUPS.values() for case in group}
    lines = {**lines_of(text), **{name: line(cases[name], row) for name, row in rows.items()}}
    before, _, rest = text.partition(BEGIN)
    README.write_text(f"{before}{BEGIN}\n{table(lines)}{END}{rest.partition(END)[2]}")
