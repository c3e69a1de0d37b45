"""The order service in examples/testing: its tests pass, and what three of them print when something is broken."""

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
    """A copy of the project, and an environment that says nothing to OpenTelemetry and to pytest."""
    for name in list(os.environ):
        if name.startswith(("OTEL", "PYTEST_", "PY_COLORS", "FORCE_COLOR")) and name != "PYTEST_CURRENT_TEST":
            monkeypatch.delenv(name)
    for path in EXAMPLE.iterdir():
        if path.is_file():
            shutil.copy(path, pytester.path)
    return pytester


def run(project: pytest.Pytester, *arguments: str) -> Any:
    """The project's tests, in a process of their own."""
    plain = ("-p", "no:cacheprovider", "-p", "no:asyncio", "--color=no")
    return project.runpytest_subprocess(*plain, *arguments, timeout=120)


def report(output: str, test: str) -> str:
    """What the report of ``test`` says on our account, whatever Python and pytest print around it: the assertion or,
    where a failure is none, its text; and what ran."""
    found = re.search(rf"^_+ {test} _+\n(.*?)(?=^_+ \w+ _+$|^=+ )", output, re.MULTILINE | re.DOTALL)
    assert found is not None, output
    said, *ran = re.split(r"^-+ otelflow: what ran -+\n", found[1], flags=re.MULTILINE)
    raised = [line[1:] for line in said.splitlines() if line.startswith("E ")]
    text = textwrap.dedent("\n".join(raised)) if raised else said
    lines = "\n--- what ran ---\n".join([text.strip(), *ran]).splitlines()
    return re.sub(r"\d+\.\d ms\b", "… ms", "\n".join(line.rstrip() for line in lines).strip())


def test_it_is_short_and_needs_no_set_up() -> None:
    """At most sixty lines of tests, and no conftest."""
    assert len((EXAMPLE / "test_orders.py").read_text(encoding="utf-8").splitlines()) <= 60
    assert not list(EXAMPLE.rglob("conftest.py"))


@pytest.mark.parametrize(
    "arguments", [("-p", "no:randomly", "-p", "no:xdist"), ("-n", "2")], ids=["in order", "shuffled, in parallel"]
)
def test_its_tests_pass(project: pytest.Pytester, arguments: tuple[str, ...]) -> None:
    """In order, in any order and in parallel; without a warning."""
    run(project, *STRICT, *arguments).assert_outcomes(passed=3, warnings=0)


# --- broken on purpose ----------------------------------------------------------------------------------------------

A_STEP_IS_FORGOTTEN = """
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

A_QUERY_FOR_EACH_ORDER = """
AssertionError: 'SELECT *' ran 4 times; expected were exactly 2. What ran:

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

AN_ERROR_IS_SWALLOWED = """
task 'send_receipt' failed with TypeError: can only concatenate str (not "int") to str, \
and the test did not look at it  [errors]

The test passed (test_orders.py:20), but what ran in it is not in order. Look at it in the test (.error, .status, or \
!Error in assert_tree), or say that it is meant: @pytest.mark.otelflow(allow=[...]) with the name in brackets; for all \
tests, the setting otelflow_allow.
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


def broken(project: pytest.Pytester, right: str, wrong: str, test: str) -> str:
    """What is printed of ``test``, the only one that fails with ``wrong`` in the service instead of ``right``."""
    source = (project.path / "orders.py").read_text(encoding="utf-8")
    assert source.count(right) == 1
    (project.path / "orders.py").write_text(source.replace(right, wrong), encoding="utf-8")
    result = run(project, "-p", "no:randomly", "-p", "no:xdist")
    result.assert_outcomes(passed=2, failed=1)
    return report(result.stdout.str(), test)


def test_a_step_that_is_forgotten(project: pytest.Pytester) -> None:
    """The two trees side by side: what is missing is marked."""
    printed = broken(project, "        release(db, basket)\n", "", "test_a_declined_card")
    assert printed == A_STEP_IS_FORGOTTEN.strip()


def test_a_query_for_each_order(project: pytest.Pytester) -> None:
    """The N+1 problem: how many there were instead of how many, and where."""
    one = 'weights = dict(sql(db, "SELECT lines", statement))  # of all at once'
    many = """weights = {}
    for number in numbers:
        weights.update(sql(db, "SELECT lines", f"{statement} HAVING number = ?", number))"""
    assert broken(project, one, many, "test_packing") == A_QUERY_FOR_EACH_ORDER.strip()


def test_an_error_that_is_swallowed(project: pytest.Pytester) -> None:
    """Every assertion of the test holds, and it fails all the same: a step did, and nobody looked."""
    printed = broken(project, 'f"Thank you for order {number}."', '"Thank you for order " + number', "test_an_order")
    assert printed == AN_ERROR_IS_SWALLOWED.strip()
