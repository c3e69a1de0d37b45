"""The pytest plugin: the fixture ``capflow``, what it looks for when a test has passed, and what a report shows.

It is there as soon as otelflow is installed, and touches nothing until a test asks for ``capflow`` or ``capture()``.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from otelflow.testing._capture import Capture

__all__ = ["capflow"]

_CAPTURE = pytest.StashKey["Capture"]()
_KNOWN_CHECKS = ("open_spans", "errors", "secrets", "dropped", "orphans", "context")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The plugin's options and settings."""
    group = parser.getgroup("otelflow")
    group.addoption(
        "--otelflow-show",
        choices=("failed", "all", "none"),
        default="failed",
        help="of which tests with capflow the report shows what ran: failed (default), all, none",
    )
    group.addoption(
        "--otelflow-update",
        action="store_true",
        help="write what ran into the tests' source where assert_tree() finds a difference, instead of failing",
    )
    group.addoption(
        "--otelflow-export",
        action="store_true",
        help="send this session as a flow, its tests as tasks, where OTEL_TRACES_EXPORTER and the like say",
    )
    parser.addini(
        "otelflow_allow",
        f"what capflow does not look for after a test: {', '.join(_KNOWN_CHECKS)}",
        type="args",
        default=[],
    )


def pytest_configure(config: pytest.Config) -> None:
    """The marker, and the parts that an option asks for."""
    config.addinivalue_line(
        "markers", f"otelflow(allow=[...]): what capflow does not look for after this test: {', '.join(_KNOWN_CHECKS)}"
    )
    _checked(config.getini("otelflow_allow"), "otelflow_allow")
    if config.getoption("otelflow_show") == "all" and "P" not in config.option.reportchars:
        config.option.reportchars += "P"  # else pytest shows nothing of tests that passed
    if config.getoption("otelflow_update"):
        if config.getoption("numprocesses", default=None):
            raise pytest.UsageError("--otelflow-update changes files: run it in one process, without -n.")
        config.pluginmanager.register(_Updating(), "otelflow-updating")
    if config.getoption("otelflow_export"):
        from otelflow.testing._session_export import Exporting

        config.pluginmanager.register(Exporting(config), "otelflow-exporting")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A marker that says nothing is an error, before any test runs."""
    for item in items:
        for marker in item.iter_markers("otelflow"):
            where = f"{item.nodeid}: @pytest.mark.otelflow"
            wrong = sorted(set(marker.kwargs) - {"allow", "deterministic"})
            if marker.args or wrong:
                raise pytest.UsageError(
                    f"{where} takes allow=[...] and deterministic=True, not {(*marker.args, *wrong)[0]!r}."
                )
            _checked(marker.kwargs.get("allow", ()), f"{where}(allow=...)")


def _checked(names: Any, where: str) -> set[str]:
    if isinstance(names, str):
        raise pytest.UsageError(f"{where}: {names!r} is a text. Use a list of names.")
    wrong = sorted(set(names) - set(_KNOWN_CHECKS))
    if wrong:
        raise pytest.UsageError(f"{where}: {wrong[0]!r} is none of {', '.join(_KNOWN_CHECKS)}.")
    return set(names)


@pytest.fixture
def capflow(request: pytest.FixtureRequest) -> Iterator[Capture]:
    """What runs in this test: flows, tasks and spans, as trees to ask and to assert on.

    See :class:`otelflow.testing.Capture`. When the test has passed, it is looked at for what should not be left behind
    (``otelflow_allow``, and the marker ``otelflow(allow=[...])``).
    """
    from otelflow.testing._capture import capture

    marker = request.node.get_closest_marker("otelflow")
    with capture(deterministic=bool(marker and marker.kwargs.get("deterministic"))) as made:
        request.node.stash[_CAPTURE] = made
        yield made
    del request.node.stash[_CAPTURE]  # pytest keeps its items to the end of the session


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """When a test with ``capflow`` has passed: look for what it should not leave behind."""
    result = yield
    made = item.stash.get(_CAPTURE, None)
    if made is not None:
        _look_for_leftovers(item, made)
    return result


def _look_for_leftovers(item: pytest.Item, made: Capture) -> None:
    from otelflow.testing._checks import CHECKS

    allowed = _checked(item.config.getini("otelflow_allow"), "otelflow_allow")
    for marker in item.iter_markers("otelflow"):
        allowed |= set(marker.kwargs.get("allow", ()))
    made.look_at_context()
    runs = made.spans
    checks = {name: look for name, look in CHECKS.items() if name not in allowed}
    found = [f"{problem}  [{name}]" for name, look in checks.items() for problem in look(made, runs)]
    if found:
        where = f"{item.location[0]}:{(item.location[1] or 0) + 1}"
        listed = "\n".join(found)
        pytest.fail(
            f"{listed}\n\nThe test passed ({where}), but what ran in it is not in order. Look at it in the test "
            "(.error, .status, or !Error in assert_tree), or say that it is meant: @pytest.mark.otelflow(allow=[...]) "
            "with the name in brackets; for all tests, the setting otelflow_allow.",
            pytrace=False,
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what ran, in the report of a test with ``capflow``."""
    report = yield
    made, show = item.stash.get(_CAPTURE, None), item.config.getoption("otelflow_show")
    wanted = show == "all" or (show == "failed" and report.failed)
    if made is not None and call.when == "call" and wanted and not made.has_told:
        report.sections.append(("otelflow: what ran", made.tree()))
    return report


class _Updating:
    """``--otelflow-update``: collect the differences, and write them when all tests have run."""

    def pytest_sessionstart(self) -> None:
        from otelflow.testing._capture import Capture
        from otelflow.testing._source_update import Updates

        Capture.updates = Updates()

    def pytest_sessionfinish(self) -> None:
        from otelflow.testing._capture import Capture

        updates, Capture.updates = Capture.updates, None
        self._written = [] if updates is None else updates.write()

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        for line in self._written:
            terminalreporter.write_line(f"otelflow: updated {line}")
