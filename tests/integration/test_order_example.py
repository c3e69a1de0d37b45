"""The order service in examples/testing: its tests pass, and three of them report defects in the service."""

from __future__ import annotations

import os
import re
import shutil
import textwrap
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "testing"
STRICT = ("-W", "error", "-W", "ignore:SelectableGroups dict interface:DeprecationWarning")


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Return a copy of the project, in an environment without settings of OpenTelemetry and pytest."""
    for name in list(os.environ):
        if name.startswith(("OTEL", "PYTEST_", "PY_COLORS", "FORCE_COLOR")) and name != "PYTEST_CURRENT_TEST":
            monkeypatch.delenv(name)
    for path in EXAMPLE.iterdir():
        if path.is_file():
            shutil.copy(path, pytester.path)
    return pytester


def run(project: pytest.Pytester, *arguments: str) -> Any:
    """Run the project's tests in another process."""
    plain = ("-p", "no:cacheprovider", "-p", "no:asyncio", "--color=no")
    return project.runpytest_subprocess(*plain, *arguments, timeout=120)


def report(output: str, test: str) -> str:
    """Return otelflow's part of the report of ``test``: the assertion or the text of the failure, and the tree of runs.

    The rest depends on the versions of Python and pytest.
    """
    section = re.search(rf"^_+ {test} _+\n(.*?)(?=^_+ \w+ _+$|^=+ )", output, re.MULTILINE | re.DOTALL)
    assert section is not None, output
    failure, *trees = re.split(r"^-+ otelflow: what ran -+\n", section[1], flags=re.MULTILINE)
    raised = [line[1:] for line in failure.splitlines() if line.startswith("E ")]
    text = textwrap.dedent("\n".join(raised)) if raised else failure
    lines = "\n--- what ran ---\n".join([text.strip(), *trees]).splitlines()
    return re.sub(r"\d+\.\d ms\b", "… ms", "\n".join(line.rstrip() for line in lines).strip())


def test_the_example_is_short_and_needs_no_setup() -> None:
    """It has at most sixty lines of tests, and no conftest."""
    assert len((EXAMPLE / "test_orders.py").read_text(encoding="utf-8").splitlines()) <= 60
    assert not list(EXAMPLE.rglob("conftest.py"))


@pytest.mark.parametrize(
    "arguments", [("-p", "no:randomly", "-p", "no:xdist"), ("-n", "2")], ids=["in order", "shuffled, in parallel"]
)
def test_the_tests_of_the_example_pass(project: pytest.Pytester, arguments: tuple[str, ...]) -> None:
    """They pass in order, shuffled and in parallel, without a warning."""
    run(project, *STRICT, *arguments).assert_outcomes(passed=3, warnings=0)


# --- defects in the service -------------------------------------------------------------------------------------------

STEP_MISSING = """
AssertionError: What ran is not the expected tree; > marks what differs.

  expected                                                            what ran
  place order  !CardDeclined                                          place order  !CardDeclined
    ...
                                                                        reserve
                                                                          UPDATE stock
                                                                        quote
                                                                          fetch_price
                                                                          fetch_shipping
    charge  !CardDeclined                                               charge  !CardDeclined
>   release
>     UPDATE stock  {db.query.text="UPDATE stock SET free = free …
--- what ran ---
place order  !orders.CardDeclined: expired  (… ms)
  reserve  (… ms)
    UPDATE stock  (… ms)
  quote  (… ms)
    fetch_price  (… ms)
    fetch_shipping  (… ms)
  charge  !orders.CardDeclined: expired  (… ms)
    · INFO charging bob 12.90
    · ERROR Error executing 'charge' task: expired
"""

QUERY_PER_ORDER = """
AssertionError: 'SELECT *' ran 4 times; expected exactly 2. What ran:

pack orders  (… ms)
  · INFO 2 of 3 orders packed
  SELECT orders  (… ms)
  SELECT lines  (… ms)
  SELECT lines  (… ms)
  SELECT lines  (… ms)
  pack  (… ms)
    UPDATE orders  (… ms)
  pack  (… ms)
    UPDATE orders  (… ms)
  pack  !orders.TooHeavy: order 3 has 30.0 kg  (… ms)
    · ERROR Error executing 'pack' task: order 3 has 30.0 kg
"""

SWALLOWED_ERROR = """
task 'send_receipt' failed with TypeError: can only concatenate str (not "int") to str, \
and the test did not check it  [errors]

The test passed (test_orders.py:20), but capflow found problems in what ran. Check them in the test (.error, .status, \
or !Error in assert_tree), or allow them: @pytest.mark.otelflow(allow=[...]) with the name in brackets; for all \
tests, use the setting otelflow_allow.
--- what ran ---
place order  (… ms)
  reserve  (… ms)
    UPDATE stock  (… ms)
    UPDATE stock  (… ms)
  quote  (… ms)
    fetch_price  (… ms)
    fetch_price  (… ms)
    fetch_shipping  (… ms)
  charge  (… ms)
    · INFO charging ada 143.40
  store  (… ms)
    INSERT orders  (… ms)
    INSERT lines  (… ms)
    INSERT lines  (… ms)
  send_receipt  !TypeError: can only concatenate str (not "int") to str  (… ms)
    · ERROR Error executing 'send_receipt' task: can only concatenate str (not "int") to str
"""


def failure_report(project: pytest.Pytester, right: str, wrong: str, test: str) -> str:
    """Replace ``right`` by ``wrong`` in the service. Return the report of ``test``, the only one that fails."""
    source = (project.path / "orders.py").read_text(encoding="utf-8")
    assert source.count(right) == 1
    (project.path / "orders.py").write_text(source.replace(right, wrong), encoding="utf-8")
    result = run(project, "-p", "no:randomly", "-p", "no:xdist")
    result.assert_outcomes(passed=2, failed=1)
    return report(result.stdout.str(), test)


def test_the_report_of_a_missing_step(project: pytest.Pytester) -> None:
    """The two trees are shown side by side, and the missing step is marked."""
    text = failure_report(project, "        release(db, basket)\n", "", "test_a_declined_card")
    assert text == STEP_MISSING.strip()


def test_the_report_of_a_query_for_each_order(project: pytest.Pytester) -> None:
    """It shows the N+1 problem: the number of queries, the expected number, and the place."""
    one_query = 'weights = dict(sql(db, "SELECT lines", statement))  # one query for all orders'
    many_queries = """weights = {}
    for number in numbers:
        weights.update(sql(db, "SELECT lines", f"{statement} HAVING number = ?", number))"""
    assert failure_report(project, one_query, many_queries, "test_packing") == QUERY_PER_ORDER.strip()


def test_the_report_of_a_swallowed_error(project: pytest.Pytester) -> None:
    """Every assertion holds, but the test fails, because a step failed and the test did not check it."""
    text = failure_report(
        project, 'f"Thank you for order {number}."', '"Thank you for order " + number', "test_an_order"
    )
    assert text == SWALLOWED_ERROR.strip()
