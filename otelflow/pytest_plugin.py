"""Pytest plugin: the fixture ``capflow``, its checks after a test that passed, and a section in reports.

It is active as soon as otelflow is installed, but changes nothing until a test uses ``capflow`` or ``capture()``.
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
    """Add the plugin's options and settings.

    Args:
        parser: pytest's parser.
    """
    group = parser.getgroup("otelflow")
    group.addoption(
        "--otelflow-show",
        choices=("failed", "all", "none"),
        default="failed",
        help="show what ran in the report of these tests with capflow: failed (default), all, none",
    )
    group.addoption(
        "--otelflow-update",
        action="store_true",
        help="if assert_tree() finds a difference, write what ran into the test's source instead of failing",
    )
    group.addoption(
        "--otelflow-export",
        action="store_true",
        help="send this session as a flow, with its tests as flows below it; OTEL_* variables set the destination",
    )
    parser.addini(
        "otelflow_allow",
        f"checks that capflow skips after a test: {', '.join(_KNOWN_CHECKS)}",
        type="args",
        default=[],
    )


def pytest_configure(config: pytest.Config) -> None:
    """Add the marker, and the hooks that an option turns on.

    Args:
        config: pytest's configuration.

    Raises:
        pytest.UsageError: For an unknown check in ``otelflow_allow``, or ``--otelflow-update`` with several processes.
    """
    config.addinivalue_line(
        "markers", f"otelflow(allow=[...]): checks that capflow skips after this test: {', '.join(_KNOWN_CHECKS)}"
    )
    _validated_names(config.getini("otelflow_allow"), "otelflow_allow")
    if config.getoption("otelflow_show") == "all" and "P" not in config.option.reportchars:
        config.option.reportchars += "P"  # otherwise pytest shows no sections of tests that passed
    if config.getoption("otelflow_update"):
        if config.getoption("numprocesses", default=None):
            raise pytest.UsageError("--otelflow-update changes files: run it in one process, without -n.")
        config.pluginmanager.register(_UpdateHooks(), "otelflow-updating")
    if config.getoption("otelflow_export"):
        from otelflow.testing._session_export import SessionExporter

        config.pluginmanager.register(SessionExporter(config), "otelflow-exporting")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Check the arguments of all markers before any test runs.

    Args:
        items: The collected tests.

    Raises:
        pytest.UsageError: For an unknown argument or check.
    """
    for item in items:
        for marker in item.iter_markers("otelflow"):
            where = f"{item.nodeid}: @pytest.mark.otelflow"
            unknown = sorted(set(marker.kwargs) - {"allow", "deterministic"})
            if marker.args or unknown:
                raise pytest.UsageError(
                    f"{where} takes allow=[...] and deterministic=True, not {(*marker.args, *unknown)[0]!r}."
                )
            _validated_names(marker.kwargs.get("allow", ()), f"{where}(allow=...)")


def _validated_names(names: Any, where: str) -> set[str]:
    if isinstance(names, str):
        raise pytest.UsageError(f"{where}: {names!r} is a string. Use a list of names.")
    unknown = sorted(set(names) - set(_KNOWN_CHECKS))
    if unknown:
        raise pytest.UsageError(f"{where}: {unknown[0]!r} must be one of {', '.join(_KNOWN_CHECKS)}.")
    return set(names)


@pytest.fixture
def capflow(request: pytest.FixtureRequest) -> Iterator[Capture]:
    """Capture what runs in this test: flows, tasks and spans, as trees to query and to assert on.

    When the test has passed, checks follow: for open spans, errors that the test did not check, and others. The setting
    ``otelflow_allow`` and the marker ``otelflow(allow=[...])`` skip checks.

    Args:
        request: pytest's request.

    Yields:
        The active capture; see :class:`otelflow.testing.Capture`.
    """
    from otelflow.testing._capture import capture

    marker = request.node.get_closest_marker("otelflow")
    with capture(deterministic=bool(marker and marker.kwargs.get("deterministic"))) as active:
        request.node.stash[_CAPTURE] = active
        yield active
    del request.node.stash[_CAPTURE]  # pytest keeps all items until the session ends


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Run the checks after a test with ``capflow`` that passed.

    Args:
        item: The test.

    Returns:
        The result of the other hooks.
    """
    result = yield
    capture = item.stash.get(_CAPTURE, None)
    if capture is not None:
        _fail_on_problems(item, capture)
    return result


def _fail_on_problems(item: pytest.Item, capture: Capture) -> None:
    from otelflow.testing._checks import CHECKS

    allowed = _validated_names(item.config.getini("otelflow_allow"), "otelflow_allow")
    for marker in item.iter_markers("otelflow"):
        allowed |= set(marker.kwargs.get("allow", ()))
    capture.look_at_context()
    runs = capture.spans
    checks = {name: check for name, check in CHECKS.items() if name not in allowed}
    problems = [f"{problem}  [{name}]" for name, check in checks.items() for problem in check(capture, runs)]
    if problems:
        where = f"{item.location[0]}:{(item.location[1] or 0) + 1}"
        lines = "\n".join(problems)
        pytest.fail(
            f"{lines}\n\nThe test passed ({where}), but capflow found problems in what ran. Check them in the test "
            "(.error, .status, or !Error in assert_tree), or allow them: @pytest.mark.otelflow(allow=[...]) with the "
            "name in brackets; for all tests, use the setting otelflow_allow.",
            pytrace=False,
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add what ran to the report of a test with ``capflow``.

    Args:
        item: The test.
        call: The phase of the test.

    Returns:
        The report of the other hooks, with a section added to it.
    """
    report = yield
    capture, show = item.stash.get(_CAPTURE, None), item.config.getoption("otelflow_show")
    is_shown = show == "all" or (show == "failed" and report.failed)
    if capture is not None and call.when == "call" and is_shown and not capture.has_told:
        report.sections.append(("otelflow: what ran", capture.tree()))
    return report


class _UpdateHooks:
    """Hooks of ``--otelflow-update``: collect the differences, and write them when all tests have run."""

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
