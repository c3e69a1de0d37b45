"""The context of spans: baggage, the parents of tasks, and other context implementations."""

from __future__ import annotations

import asyncio
from typing import Any

import programs
from opentelemetry import baggage, trace

from otelflow import Task, current_flow, current_task, flow, task
from otelflow.testing import Capture


def test_a_flow_is_in_baggage() -> None:
    """Name and run id of the flow are in baggage while it runs."""

    @flow
    def carrying() -> Any:
        return dict(baggage.get_all())

    run = carrying().execute()
    assert run.return_value == {"otelflow.flow.name": "carrying", "otelflow.flow.run_id": run.run_id}
    assert dict(baggage.get_all()) == {}


def test_everything_reads_the_same_context() -> None:
    """current_flow, current_task, injection and the parent of a new span agree; after the flow they are empty."""
    seen: list[Any] = []

    @task
    def look(this_task: Task | None = None, this_flow: Any = None) -> None:
        context = trace.get_current_span().get_span_context()
        seen.append((current_flow() is this_flow, current_task() is this_task, f"{context.span_id:016x}"))

    @flow
    def looking() -> None:
        assert current_task() is None
        look()

    run = looking().execute()
    assert seen == [(True, True, run.tasks[0].span_id)]
    assert (current_flow(), current_task()) == (None, None)


def test_concurrent_tasks_are_children_of_their_own_flow(captured: Capture) -> None:
    """Flows run concurrently on one loop: each task is a child of its own flow, and in its ``tasks``."""

    @task
    async def sleeps(number: int) -> int:
        await asyncio.sleep(0.001)
        return number

    @flow
    async def gathers(number: int) -> Any:
        return await asyncio.gather(*(sleeps(number) for _ in range(5)))

    async def main() -> list[Any]:
        return await asyncio.gather(*(gathers(number).execute_async() for number in range(5)))

    runs = asyncio.run(main())
    assert [run.return_value for run in runs] == [[number] * 5 for number in range(5)]
    captured.assert_tree("gathers  x5\n  sleeps  x5")
    pairs = {
        (run.span_id, child.attributes["otelflow.flow.run_id"]) for run in captured.flows for child in run.children
    }
    assert pairs == {(run.span_id, run.run_id) for run in runs}
    assert [len(run.tasks) for run in runs] == [5] * 5


def test_a_context_implementation_of_the_users_own() -> None:
    """OTEL_PYTHON_CONTEXT may name another implementation than contextvars: otelflow uses it through the API."""
    result = programs.run(
        """
        from opentelemetry import context
        class Own:
            current, log = context.Context(), []
            def attach(self, new):
                before, self.current = self.current, new
                self.log.append("attach")
                return (before,)
            def get_current(self):
                return self.current
            def detach(self, token):
                (self.current,) = token
                self.log.append("detach")
        context._RUNTIME_CONTEXT = own = Own()
        import json
        from otelflow import current_flow, flow, task
        @task
        def step(this_flow=None):
            return this_flow is current_flow()
        @flow
        def work():
            return step()
        own.log.clear()
        run = work().execute()
        print("FACTS " + json.dumps({"value": run.return_value, "log": own.log, "left": len(own.current)}))
        """,
        head="",
    )
    assert result.facts == {"value": True, "log": ["attach", "attach", "detach", "detach"], "left": 0}, result.stderr
