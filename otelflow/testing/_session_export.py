"""Export a test session as a flow with its tests as flows below it, for ``--otelflow-export``."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Generator
from typing import Any

import pytest

from otelflow._propagation.carrier import attached, inject
from otelflow._spans.tracer import use_provider
from otelflow.config import FlowRunConfig
from otelflow.decorators import flow
from otelflow.providers import configure_apart, flush

__all__ = ["SessionExporter"]

_CARRIER = "otelflow_carrier"
_CONFIG = FlowRunConfig(raise_flow_error=False, capture_output=False)


class _OpenFlow:
    """A flow that lasts from one hook to another.

    Between the hooks its context is not current, so that a test runs as it would without this option.
    """

    def __init__(self, provider: Any, name: str, attributes: dict[str, Any]) -> None:
        @flow(name=name, flow_config=_CONFIG, attributes=attributes)
        def open_flow() -> Generator[None, Callable[[], None] | None, None]:
            while (call := (yield)) is not None:
                call()

        self.run = open_flow()
        self._steps: Any = iter(self.run)
        with use_provider(provider):
            next(self._steps)

    def call(self, function: Callable[[], Any]) -> Any:
        """Call ``function`` with this flow as the current one, and return its result."""
        results: list[Any] = []
        self._steps.send(lambda: results.append(function()))
        return results[0]

    def end(self, error: BaseException | None = None) -> None:
        """End the flow, with ``error`` if it failed."""
        try:
            if error is None:
                self._steps.send(None)
            else:
                self._steps.throw(error)
        except StopIteration:
            pass


class SessionExporter:
    """The pytest hooks. In a worker of pytest-xdist, tests belong to the session of the process that started it."""

    def __init__(self, config: pytest.Config) -> None:
        self._carrier = getattr(config, "workerinput", {}).get(_CARRIER)
        self._worker_output: dict[str, Any] | None = getattr(config, "workeroutput", None)
        self._sums: Counter[str] = Counter()
        self._provider: Any = None
        """The provider of the session. Not the global one, so that no span of the tests is sent."""
        self._session: _OpenFlow | None = None
        self._reports: list[pytest.TestReport] = []
        self._error: BaseException | None = None

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        self._provider = configure_apart(None if "OTEL_SERVICE_NAME" in os.environ else "pytest")
        if self._carrier is None:
            self._session = _OpenFlow(
                self._provider, "pytest", {"pytest.args": " ".join(session.config.invocation_params.args)}
            )

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Hook of pytest-xdist: pass the session's context to a worker before it starts."""
        if self._session is not None:
            node.workerinput[_CARRIER] = self._session.call(inject)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self._reports, self._error = [], None
        test = self._begin(item)
        try:
            return (yield)
        finally:
            for report in self._reports:
                test.run.log_info(f"{report.when} {report.outcome} in {report.duration:.3f} s")
            test.end(self._error)

    def _begin(self, item: pytest.Item) -> _OpenFlow:
        attributes = {"pytest.nodeid": item.nodeid, "code.file.path": str(item.path)}
        name = item.nodeid.split("[")[0]  # one name for all parameters of a test, so that there are fewer names
        if self._session is not None:
            return self._session.call(lambda: _OpenFlow(self._provider, name, attributes))  # type: ignore[no-any-return]
        with attached(self._carrier):
            return _OpenFlow(self._provider, name, attributes)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        self._reports.append(report)
        if report.failed and call.excinfo is not None and self._error is None:
            self._error = call.excinfo.value
        return report

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if self._session is not None:
            self._session.run.log_info(f"exit status {int(exitstatus)}")
            self._session.end()
        report = flush(10)
        self._sums.update({"delivered": report.delivered, "pending": report.pending, **report.lost})
        if self._worker_output is not None:
            self._worker_output[_CARRIER] = dict(self._sums)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Hook of pytest-xdist: add the numbers of a worker that has ended."""
        self._sums.update(getattr(node, "workeroutput", {}).get(_CARRIER, {}))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        counts = ", ".join(f"{number} {kind}" for kind, number in self._sums.items() if number or kind == "delivered")
        terminalreporter.write_line(f"otelflow: spans of this session: {counts}")
