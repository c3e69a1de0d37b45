"""Test the pytest plugin's updates of expected trees, and its export of sessions."""

from __future__ import annotations

from typing import Any

import pytest
from receiver import Sink, attributes_of


def test_deterministic_by_marker(session: Any) -> None:
    """With the marker, ids and times are the same each time."""
    session(
        """
@pytest.mark.otelflow(deterministic=True)
@pytest.mark.parametrize("again", range(2))
def test_it(capflow, again):
    run = good().execute()
    assert (run.run_id, run.span_id, run.duration) == (f"flow_{1:028x}", f"{1:016x}", 0.004)
"""
    ).assert_outcomes(passed=2)


def test_update(session: Any, pytester: pytest.Pytester) -> None:
    """--otelflow-update replaces the expected tree by what ran, and changes nothing else."""
    source = '''
def test_it(capflow):
    nightly().execute()
    good().execute()  # ü, before the call
    capflow.assert_tree("""
        nightly
          old
    """)
    capflow.flow("good").assert_tree("good")
    capflow.flow("nightly").assert_tree("nightly\\n  ...")
'''
    updated = session(source, "--otelflow-update", "--otelflow-show=none")
    updated.assert_outcomes(passed=1)
    updated.stdout.fnmatch_lines(["otelflow: updated *test_it.py: 2"])
    text = (pytester.path / "test_it.py").read_text(encoding="utf-8")
    assert (
        text
        == "from shop import *\n"
        + '''
def test_it(capflow):
    nightly().execute()
    good().execute()  # ü, before the call
    capflow.assert_tree("""
        nightly
          extract
          load  !ValueError
        good
          extract
        """)
    capflow.flow("good").assert_tree("""
        good
          extract
        """)
    capflow.flow("nightly").assert_tree("nightly\\n  ...")'''
    )
    pytester.runpytest_subprocess("-p", "no:randomly", "-p", "no:xdist").assert_outcomes(passed=1)


def test_update_refuses_what_it_cannot_change(session: Any) -> None:
    """It cannot change a tree that is not a literal. Several processes would overwrite each other's changes."""
    result = session(
        "def test_it(capflow):\n    expected = 'other'\n    good().execute()\n    capflow.assert_tree(expected)",
        "--otelflow-update",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["E * It cannot be updated here: the expected tree is not a literal in this call of assert_tree."]
    )
    refused = session("def test_it(): pass", "--otelflow-update", "-n2", xdist=True)
    refused.stderr.fnmatch_lines(["*--otelflow-update changes files: run it in one process, without -n."])


def test_update_keeps_lines_that_match(session: Any, pytester: pytest.Pytester) -> None:
    """Wildcards, attributes, any order and ``...`` stay as written; only lines that differ change."""
    session(
        '''
@flow
def shop():
    for name in ("check", "price", "ship", "row", "row", "mail"):
        task(name=name, attributes={"size": 3})(lambda: None)()

def test_it(capflow):
    shop().execute()
    capflow.assert_tree("""
        sh*
          gone
            below it
          ch*  {size=3}
          ~ ship  !ValueError
          ~ price  {size=4}
          row  x3
          ...
        """)
''',
        "--otelflow-update",
    ).assert_outcomes(passed=1)
    text = (pytester.path / "test_it.py").read_text(encoding="utf-8")
    assert (
        text.partition("assert_tree(")[2]
        == '''"""
        sh*
          ch*  {size=3}
          ~ ship
          ~ price  {size=3}
          row  x2
          ...
        """)'''
    )
    pytester.runpytest_subprocess("-p", "no:randomly", "-p", "no:xdist").assert_outcomes(passed=1)


@pytest.mark.parametrize("workers", [0, 2])
def test_export(session: Any, sink: Sink, monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    """--otelflow-export sends the session as a flow with its tests below it, and not what the tests run."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.endpoint)
    result = session(
        """
from opentelemetry import trace
tracer = trace.get_tracer("shop")

def test_good(capflow):
    with tracer.start_as_current_span("not for the backend"):
        good().execute()
    capflow.assert_tree("not for the backend\\n  good\\n    extract")

def test_bad():
    with tracer.start_as_current_span("not for the backend"):
        assert 1 == 2

@pytest.mark.skip
def test_skipped(): pass
""",
        "--otelflow-export",
        f"-n{workers}",
        xdist=True,
    )
    result.assert_outcomes(passed=1, failed=1, skipped=1)
    result.stdout.fnmatch_lines(["otelflow: spans of this session: 4 delivered"])
    spans = {span.name: span for span, _, _ in sink.wait_for(4)}
    assert sorted(spans) == ["pytest", *(f"test_it.py::test_{name}" for name in ("bad", "good", "skipped"))]
    root, bad = spans.pop("pytest"), spans["test_it.py::test_bad"]
    assert all(span.parent_span_id == root.span_id for span in spans.values())
    assert (bad.status.code, attributes_of(bad)["error.type"]) == (2, "AssertionError")
    assert [event.name for event in bad.events][:3] == ["otelflow.message"] * 3
    assert attributes_of(bad.events[0])["otelflow.message.text"].startswith("setup passed in ")
