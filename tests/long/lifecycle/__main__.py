"""Run the matrix with outages as long as real ones, and write the table into the README: ``python -m lifecycle``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))

from lifecycle.cases import CASES
from lifecycle.matrix import BARE, NONE, OURS, SPOOL, Case, Outcome, run
from lifecycle.table import write

COLUMNS = (NONE, BARE, OURS, SPOOL)


def _run(case: Case, column: str, quick: bool) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        outcome = run(case, column, Path(folder), patient=not quick)
    print(
        f"{case.name} | {column}: {outcome.delivered} of {outcome.spans}, twice {outcome.duplicates}, "
        f"{outcome.seconds:.1f} s, code {outcome.code}",
        flush=True,
    )
    return outcome


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="run only the cases whose name contains this text")
    parser.add_argument(
        "--columns",
        default=",".join(COLUMNS),
        help="run only these; unless all, the README does not change",
    )
    parser.add_argument("--quick", action="store_true", help="use short outages; the README does not change")
    parser.add_argument("--stderr", action="store_true", help="print the standard error of the programs")
    arguments = parser.parse_args()
    columns = arguments.columns.split(",")
    for case in CASES:
        reason = case.needs()
        if reason:
            raise SystemExit(f"{case.name}: {reason}")
        if arguments.only in case.name:
            row = {column: _run(case, column, arguments.quick) for column in columns}
            if arguments.stderr:
                print("\n".join(outcome.stderr for outcome in row.values()))
            if not arguments.quick and set(columns) == set(COLUMNS):
                write({case.name: row})
