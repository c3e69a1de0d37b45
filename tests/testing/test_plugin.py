"""Test the pytest plugin in separate sessions: its checks, its reports, and that it changes nothing else."""

from __future__ import annotations

import sys
from typing import Any

import pytest


def lines_without_times(result: pytest.RunResult) -> list[str]:
    """Return the lines of a report, without the times."""
    import re

    return [re.sub(r"\(\d+\.\d ms\)", "(… ms)", line) for line in result.outlines]


def test_a_failing_test_shows_what_ran(session: Any) -> None:
    """The assertion shows the two trees side by side, the report the whole run. A test that passes shows nothing."""
    result = session(
        """
def test_bad(capflow):
    nightly().execute()
    capflow.assert_tree('''
        nightly
          extract
          load
    ''')

def test_query(capflow):
    good().execute()
    capflow.flow("nightly")

def test_good(capflow):
    assert good().execute().return_value == [1, 2]
    assert capflow.task("extract").messages == ["2 rows"]
"""
    )
    result.assert_outcomes(passed=1, failed=2)
    lines = lines_without_times(result)
    start = lines.index("E       AssertionError: What ran is not the expected tree; > marks what differs.")
    assert lines[start + 1 : start + 6] == [
        "E       ",
        "E         expected     what ran",
        "E         nightly      nightly",
        "E           extract      extract",
        "E       >   load         load  !ValueError",
    ]
    section = lines.index(next(line for line in lines if "otelflow: what ran" in line))
    assert lines[section + 1 : section + 6] == [
        "nightly  (… ms)",
        "  extract  (… ms)",
        "    · INFO 2 rows",
        "  load  !ValueError: disk full  (… ms)",
        "    · ERROR Error executing 'load' task: disk full",
    ]
    assert sum("otelflow: what ran" in line for line in lines) == 1  # the assertion of the other test shows it already
    assert "E       AssertionError: There is no flow 'nightly'. What ran:" in lines
    assert not any("otelflow/testing" in line for line in lines)


@pytest.mark.parametrize(("show", "sections"), [("all", 2), ("none", 0)])
def test_the_option_show(session: Any, show: str, sections: int) -> None:
    """--otelflow-show sets for which tests the report shows what ran."""
    result = session(
        """
def test_good(capflow):
    good().execute()

def test_bad(capflow):
    good().execute()
    assert False
""",
        f"--otelflow-show={show}",
    )
    result.assert_outcomes(passed=1, failed=1)
    assert sum("otelflow: what ran" in line for line in result.outlines) == sections


PROBLEMS = """
import threading
from opentelemetry import context, trace

left = []

def test_open_spans(capflow):
    @task
    def steps():
        yield 1
    left.append(steps())
    next(left[-1])

def test_errors(capflow):
    nightly().execute()

def test_secrets(capflow):
    @task
    def connect():
        span = trace.get_current_span()
        span.set_attribute("db.password", "hunter2")
        span.add_event("connecting", {"to": "postgres://me:hunter2@db/shop"})
    connect()

def test_dropped(capflow):
    @task
    def talks(this_task=None):
        for number in range(200):
            this_task.log_info(str(number))
    talks()

def test_orphans(capflow):
    @flow
    def starts():
        thread = threading.Thread(target=extract)
        thread.start()
        thread.join()
    starts().execute()

def test_context(capflow):
    context.attach(context.set_value("left", "here"))
"""


def test_the_checks_after_a_test(session: Any) -> None:
    """Each check fails a test that passed otherwise, and shows the check's name."""
    result = session(PROBLEMS)
    result.assert_outcomes(failed=6)
    for line in (
        "task 'steps' is still open  [open_spans]",
        "task 'load' failed with ValueError: disk full, and the test did not check it  [errors]",
        "task 'connect' seems to have a secret in clear text in 'db.password'  [secrets]",
        "task 'connect' seems to have a secret in clear text in 'to'  [secrets]",
        "task 'talks' lost 73 events; 128 are on its span  [dropped]",
        "task 'extract' ran outside any flow: did a thread or pool lose its context? If it is the test's set-up, "
        "call capflow.clear() after it  [orphans]",
        "the test left a context attached: it did not detach a token  [context]",
    ):
        assert line in result.outlines
    assert sum(line.endswith("]") and "  [" in line and "%" not in line for line in result.outlines) == 7


def test_each_check_can_be_skipped(session: Any, pytester: pytest.Pytester) -> None:
    """The setting skips checks for all tests, the marker for one; the error for an unknown name lists the checks."""
    names = "open_spans errors secrets dropped orphans context"
    session(PROBLEMS, "-o", f"otelflow_allow={names}").assert_outcomes(passed=6)
    marked = PROBLEMS.replace("def test_errors", "@pytest.mark.otelflow(allow=['errors'])\ndef test_errors")
    session(marked, "--strict-markers").assert_outcomes(passed=1, failed=5)
    for marker, problem in (
        ("allow=['error']", "*(allow=...): 'error' must be one of open_spans, errors, *"),
        ("allow='errors'", "*(allow=...): 'errors' is a string. Use a list of names."),
        ("'errors'", "*takes allow=*deterministic=True, not 'errors'."),
        ("deterministc=True", "*takes allow=*deterministic=True, not 'deterministc'."),
    ):
        wrong = session(f"@pytest.mark.otelflow({marker})\ndef test_one(): pass")
        assert wrong.ret == pytest.ExitCode.USAGE_ERROR
        wrong.stderr.fnmatch_lines([problem])
    wrong = session("def test_one(): pass", "-o", "otelflow_allow=error")
    assert wrong.ret == pytest.ExitCode.USAGE_ERROR
    wrong.stderr.fnmatch_lines(["*otelflow_allow: 'error' must be one of open_spans, errors, *"])


def test_which_errors_count_as_checked(session: Any) -> None:
    """An error counts if it reached the test, or if the test read its status, error, attributes or tree."""
    result = session(
        """
from otelflow import FlowRunConfig

@flow
def fails():
    load.__wrapped__([])

@flow(flow_config=FlowRunConfig(raise_flow_error=False))
def quiet():
    load.__wrapped__([])

@flow
def catches():
    try:
        fails().execute()
    except ValueError:
        pass

def test_raises(capflow):
    with pytest.raises(ValueError):
        fails().execute()

def test_status(capflow):
    nightly().execute()
    assert capflow.task("load").status == "failed"

def test_attributes(capflow):
    quiet().execute()
    assert capflow.flow("quiet").attributes["error.type"] == "ValueError"

def test_tree(capflow):
    nightly().execute()
    capflow.assert_tree("nightly\\n  ...\\n  load  !*")

def test_to_dict(capflow):
    nightly().execute()
    assert capflow.to_dict()[0]["children"][1]["error"] == "ValueError: disk full"

def test_quiet_is_not_checked(capflow):
    quiet().execute()

def test_caught_is_not_checked(capflow):
    catches().execute()

def test_a_failing_test_gets_no_checks(capflow):
    nightly().execute()
    assert 0, "by itself"
"""
    )
    result.assert_outcomes(passed=5, failed=3)
    assert sum(line.endswith("[errors]") for line in result.outlines) == 2


def test_the_plugin_changes_nothing_without_capflow(session: Any) -> None:
    """A test that does not use ``capflow`` has no provider, listener or context of the plugin."""
    session(
        """
def test_nothing():
    import sys
    from opentelemetry import trace, context
    from otelflow import flow_events
    assert trace._TRACER_PROVIDER is None
    assert flow_events.event_listeners == []
    assert not any(name.startswith("otelflow.testing") for name in sys.modules)
    assert context.get_current() == {}
"""
    ).assert_outcomes(passed=1)


def test_under_xdist_and_in_plain_text(session: Any) -> None:
    """A worker's report is the same, also without colours."""
    result = session(
        """
@pytest.mark.parametrize("number", range(6))
def test_it(capflow, number):
    nightly().execute()
    assert len(capflow.tasks) == 2
    assert number != 3
    assert capflow.task("load").error
""",
        "-n2",
        "--color=no",
        xdist=True,
    )
    result.assert_outcomes(passed=5, failed=1)
    assert "  load  !ValueError: disk full  (… ms)" in lines_without_times(result)


def test_with_anyio_and_fixtures(session: Any) -> None:
    """Async tests of anyio's plugin work; a fixture's flows are captured only if capflow is set up before it."""
    session(
        """
@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.anyio
@pytest.mark.parametrize("number", range(3))
async def test_async(capflow, number):
    await both()
    capflow.assert_tree("both\\n  waits  x2")

@pytest.fixture
def prepared(capflow):
    return good().execute()

def test_prepared(prepared, capflow):
    capflow.assert_tree("good\\n  extract")
"""
    ).assert_outcomes(passed=4)


def test_with_pytest_asyncio(session: Any) -> None:
    """It also works if all tests share one loop, whose context was copied in another test."""
    session(
        """
@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("number", range(3))
async def test_on_one_loop(capflow, number):
    await both()
    capflow.assert_tree("both\\n  waits  x2")

@pytest.mark.asyncio
@pytest.mark.parametrize("number", range(2))
async def test_on_a_loop_each(capflow, number):
    await asyncio.create_task(both().execute_async())
    capflow.assert_tree("both\\n  waits  x2")
""",
        "-o",
        "asyncio_default_fixture_loop_scope=function",
    ).assert_outcomes(passed=5)


def test_the_plugin_is_an_entry_point() -> None:
    """pytest loads it without configuration."""
    from importlib.metadata import entry_points

    assert [point.value for point in entry_points(group="pytest11") if point.name == "otelflow"] == [
        "otelflow.pytest_plugin"
    ]
    assert sys.modules["otelflow.pytest_plugin"]
