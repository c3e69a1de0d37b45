"""Write the matrix as a table into the README, between two markers."""

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
    parts = [f"{outcome.delivered:,} of {outcome.spans:,}", f"{outcome.seconds:.1f} s"]
    if outcome.duplicates:
        parts.append(f"{outcome.duplicates} twice")
    if outcome.code is None:
        parts.append("did not end")
    elif outcome.code != own_code:
        parts.append(f"exit code {outcome.code}")
    return ", ".join(parts)


def line(case: Case, row: Row) -> str:
    """Return a row of the table: delivered spans of all spans, seconds of the exit, and deviations."""
    own_code = case.code if case.telemetry_decides else row[NONE].code
    cells = [case.name, str(own_code), *(_cell(row[column], own_code) for column in COLUMNS)]
    return f"| {' | '.join(cells)} |"


def lines_of(text: str) -> dict[str, str]:
    """Return the rows of a README's table, by the names of their cases."""
    part = text.partition(BEGIN)[2].partition(END)[0]
    rows = [row for row in part.splitlines() if re.match(r"\| (?!\*\*|---|what happens)", row)]
    return {row.split(" | ")[0].removeprefix("| "): row for row in rows}


def table(lines: dict[str, str]) -> str:
    """Return the table of these rows, in the order of the cases, below the names of their groups."""
    text = HEAD
    for group, cases in GROUPS.items():
        text += f"| **{group}** | | | | |\n"
        text += "".join(f"{lines[case.name]}\n" for case in cases if case.name in lines)
    return text


def write(rows: dict[str, Row]) -> None:
    """Write these rows into the README's table. The others stay."""
    text = README.read_text()
    cases = {case.name: case for group in GROUPS.values() for case in group}
    lines = {**lines_of(text), **{name: line(cases[name], row) for name, row in rows.items()}}
    before, _, rest = text.partition(BEGIN)
    README.write_text(f"{before}{BEGIN}\n{table(lines)}{END}{rest.partition(END)[2]}")
