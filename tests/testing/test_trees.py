"""Expected trees: how they are written, what they match, and how a difference is shown."""

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
    """These tests make their own captures."""


def ran(*trees: Tree) -> Capture:
    """A capture of spans with these names, failures and children."""
    tracer = trace.get_tracer("test")

    def make(tree: Tree) -> None:
        name, fails, children = tree
        with tracer.start_as_current_span(name) as span:
            for child in children:
                make(child)
            if fails:
                span.set_attribute("error.type", "shop.errors.NoStock")
                span.set_status(trace.StatusCode.ERROR, "shop.errors.NoStock: none left")
            span.set_attribute("size", len(children))
            span.set_attribute("label", f"a {name}")

    with capture() as made:
        for tree in trees:
            make(tree)
    return made


def leaf(name: str, fails: bool = False) -> Tree:
    """A span without children."""
    return (name, fails, ())


ORDER = ran(("order", False, (leaf("check"), ("pay", True, (leaf("bank", True),)), *[leaf("row")] * 3, leaf("mail"))))

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
def test_what_fits(expected: str) -> None:
    """Exact, partial, wildcards, repeats, any order, errors, attributes."""
    ORDER.assert_tree(expected)


@pytest.mark.parametrize("expected", DOES_NOT_FIT)
def test_what_does_not(expected: str) -> None:
    """A missing or extra run, an error that is not written, another number, another order."""
    with pytest.raises(AssertionError, match="What ran is not the expected tree"):
        ORDER.assert_tree(expected)


def test_below_a_run() -> None:
    """A run's own tree begins with it."""
    pay = ORDER.span("pay")
    pay.assert_tree("pay  !*\n  bank  !NoStock")


def test_indented_as_it_stands_in_a_test() -> None:
    """The indent of the whole, empty lines, tabs and deeper steps do not matter."""
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
def test_a_line_that_says_nothing(line: str, problem: str) -> None:
    """It is the test that is wrong: said as such, with the line."""
    with pytest.raises(ArgumentError, match=problem):
        ORDER.assert_tree(f"order\n  {line}" if not line.startswith("order") else line)


def test_the_difference() -> None:
    """The two trees side by side, what differs marked; nothing that agrees is."""
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
    """Ten thousand siblings, in order and in any order, and a difference among them."""
    many = ran(("root", False, tuple(leaf("row") for _ in range(10_000))))
    many.assert_tree("root\n  row  x10000")
    many.assert_tree("root\n  ...")
    with pytest.raises(AssertionError, match=r">   row  x9999 +row  x10000"):
        many.assert_tree("root\n  row  x9999")
    distinct = ran(("root", False, tuple(leaf(f"row {number}") for number in range(300))))
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
def test_a_tree_fits_its_own_text(some: list[Tree]) -> None:
    """What the kit writes down of a run, it reads as that run: whatever the names; and with any line left out, not."""
    made = ran(*some)
    lines = expected_form(made.roots)
    made.assert_tree("\n".join(lines))
    for left_out in range(len(lines)):
        fewer = [line for number, line in enumerate(lines) if number != left_out]
        with pytest.raises(AssertionError):
            made.assert_tree("\n".join(fewer))


def test_flows_and_tasks_as_they_are_written() -> None:
    """The issue's own example."""

    @task
    def extract() -> None: ...

    @task
    def load() -> None:
        raise ValueError("disk full")

    @flow
    def nightly() -> None:
        extract()
        load()

    with capture() as made, pytest.raises(ValueError, match="disk full"):
        nightly().execute()
    made.assert_tree("""
        nightly  !ValueError
          extract
          load  !ValueError
    """)
