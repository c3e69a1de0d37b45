"""Test expected trees: their format, what they match, and how a difference is shown."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace

from otelflow import flow, task
from otelflow.errors import ArgumentError
from otelflow.testing import Capture, capture
from otelflow.testing._render import expected_form

Tree = tuple[str, bool, tuple[Any, ...]]


@pytest.fixture
def captured() -> None:
    """Override the fixture: these tests create their own captures."""


def capture_of(*trees: Tree) -> Capture:
    """Return a capture of spans with these names, failures and children."""
    tracer = trace.get_tracer("test")

    def run(tree: Tree) -> None:
        name, fails, children = tree
        with tracer.start_as_current_span(name) as span:
            for child in children:
                run(child)
            if fails:
                span.set_attribute("error.type", "shop.errors.NoStock")
                span.set_status(trace.StatusCode.ERROR, "shop.errors.NoStock: none left")
            span.set_attribute("size", len(children))
            span.set_attribute("label", f"a {name}")

    with capture() as captured:
        for tree in trees:
            run(tree)
    return captured


def leaf(name: str, fails: bool = False) -> Tree:
    """Return a span without children."""
    return (name, fails, ())


ORDER = capture_of(
    ("order", False, (leaf("check"), ("pay", True, (leaf("bank", True),)), *[leaf("row")] * 3, leaf("mail")))
)

FITS = [
    "order\n  check\n  pay  !NoStock\n    bank  !NoStock\n  row  x3\n  mail",
    "order\n  check\n  pay  !shop.errors.NoStock\n    bank  !*\n  row\n  row  x2\n  mail",
    "*\n  ch?ck\n  p*  !No*\n    ...\n  row  x3\n  m*l",
    "order\n  ...",
    "order\n  ...\n  row\n  ...",
    "order\n  check\n  ...\n  mail",
    "order\n  ...\n  pay  !*\n    ...\n  ...\n  mail",
    "...\norder\n  ...\n...",
    "...",
    "order\n  ~ mail\n  ~ row  x3\n  ~ check\n  ~ pay  !NoStock\n    bank  !NoStock",
    "order\n  ~ row  x2\n  ~ mail\n  ~ ...",
    "order\n  check\n  ~ mail\n  ~ row  x3\n  ~ pay  !*\n    ...",
    "order  {size=6}\n  ...",
    'order  {size=6, label="a order"}\n  ...',
    "order  {label=a order}\n  ...",
    "order  {label=a *, size=?}\n  ...",
    '"order"\n  ...',
]

DOES_NOT_FIT = [
    "",
    "order",
    "order\n  check",
    "order\n  check\n  pay\n    bank  !NoStock\n  row  x3\n  mail",
    "order\n  check\n  pay  !ValueError\n    bank  !NoStock\n  row  x3\n  mail",
    "order\n  check\n  pay  !NoStock\n  row  x3\n  mail",
    "order\n  check\n  pay  !NoStock\n    bank  !NoStock\n  row  x2\n  mail",
    "order\n  check\n  pay  !NoStock\n    bank  !NoStock\n  row  x4\n  mail",
    "order\n  mail\n  ...",
    "order\n  ...\n  check",
    "order\n  ~ row  x2\n  ~ mail\n  ~ check\n  ~ pay  !*\n    ...",
    "order\n  ~ row  x4\n  ~ ...",
    "order  !*\n  ...",
    "order  {size=5}\n  ...",
    'order  {size="6"}\n  ...',
    "order  {other=6}\n  ...",
    'order  {label="a *"}\n  ...',
    '"o*"\n  ...',
    "order\n  ...\norder",
    "check\n  ...",
]


@pytest.mark.parametrize("expected", FITS)
def test_a_tree_that_fits(expected: str) -> None:
    """Trees can be exact or partial, with wildcards, repeats, any order, errors and attributes."""
    ORDER.assert_tree(expected)


@pytest.mark.parametrize("expected", DOES_NOT_FIT)
def test_a_tree_that_does_not_fit(expected: str) -> None:
    """A missing or additional run, an error that is not expected, another number or another order is a difference."""
    with pytest.raises(AssertionError, match="What ran is not the expected tree"):
        ORDER.assert_tree(expected)


def test_below_a_run() -> None:
    """The tree of a run begins with the run itself."""
    pay = ORDER.span("pay")
    pay.assert_tree("pay  !*\n  bank  !NoStock")


def test_an_indented_tree() -> None:
    """A common indent, empty lines, tabs and wider indents do not matter."""
    ORDER.assert_tree("""

        order
            check

            pay  !NoStock
               bank  !NoStock
            row  x3
            mail
    """)


@pytest.mark.parametrize(
    ("line", "problem"),
    [('"order', "quotes"), ("  !ValueError", "has no name"), ("order  {size}", "name=value"), ("~", "has no name")],
)
def test_a_line_that_cannot_be_read(line: str, problem: str) -> None:
    """The test is wrong, so the error is an ArgumentError that shows the line."""
    with pytest.raises(ArgumentError, match=problem):
        ORDER.assert_tree(f"order\n  {line}" if not line.startswith("order") else line)


def test_the_difference() -> None:
    """The error shows the two trees side by side, and marks only the lines that differ."""
    with pytest.raises(AssertionError) as failure:
        ORDER.assert_tree("""
            order
              check  {size=0, label=x}
              pay
                bank  !NoStock
              refund
              row  x2
              ...
        """)
    assert str(failure.value) == textwrap.dedent(
        """\
        What ran is not the expected tree; > marks what differs.

          expected                      what ran
          order                         order
        >   check  {size=0, label=x}      check  {size=0, label=a check}
        >   pay                           pay  !NoStock
              bank  !NoStock                bank  !NoStock
        >   refund
        >   row  x2                       row  x3
            ...
                                          mail
        """
    )


def test_a_large_tree_in_bounded_time() -> None:
    """Ten thousand siblings in order, and 300 in any order, are compared in bounded time."""
    many = capture_of(("root", False, tuple(leaf("row") for _ in range(10_000))))
    many.assert_tree("root\n  row  x10000")
    many.assert_tree("root\n  ...")
    with pytest.raises(AssertionError, match=r">   row  x9999 +row  x10000"):
        many.assert_tree("root\n  row  x9999")
    distinct = capture_of(("root", False, tuple(leaf(f"row {number}") for number in range(300))))
    distinct.assert_tree("root\n" + "\n".join(f"  ~ row {number}" for number in reversed(range(300))))


names = st.text(min_size=1, max_size=8).filter(lambda name: name.isprintable() or "\n" in name) | st.sampled_from(
    [
        "...",
        "~",
        "~ x",
        "a  x3",
        "b !c",
        "x  {a=b}",
        '"q"',
        "a*",
        "what?",
        " lead",
        "trail ",
        "[x]",
        "é ✓",
        "x2",
        "!",
        "",
    ]
)
trees = st.recursive(
    st.tuples(names, st.booleans(), st.just(())),
    lambda inner: st.tuples(names, st.booleans(), st.lists(inner, max_size=4).map(tuple)),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(trees, min_size=1, max_size=3))
def test_a_tree_fits_its_own_text(spans: list[Tree]) -> None:
    """The text of a capture matches that capture, for any names; without one of its lines, it does not match."""
    captured = capture_of(*spans)
    lines = expected_form(captured.roots)
    captured.assert_tree("\n".join(lines))
    for omitted in range(len(lines)):
        fewer = [line for number, line in enumerate(lines) if number != omitted]
        with pytest.raises(AssertionError):
            captured.assert_tree("\n".join(fewer))


def test_a_tree_of_flows_and_tasks() -> None:
    """The example of the issue works."""

    @task
    def extract() -> None: ...

    @task
    def load() -> None:
        raise ValueError("disk full")

    @flow
    def nightly() -> None:
        extract()
        load()

    with capture() as captured, pytest.raises(ValueError, match="disk full"):
        nightly().execute()
    captured.assert_tree("""
        nightly  !ValueError
          extract
          load  !ValueError
    """)
