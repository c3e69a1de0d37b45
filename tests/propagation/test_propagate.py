"""Context handed on by hand: bind for threads and functions, inject and attached for everything that takes headers."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import pool_work
import pytest
from conftest import texts
from opentelemetry import baggage
from opentelemetry.context import attach, detach
from opentelemetry.trace import get_current_span
from pool_programs import HEAD
from programs import run
from receiver import Sink

from otelflow import Flow, current_flow, current_task, flow, stats, task
from otelflow._runtime.drop_counts import counts
from otelflow.context import get_current
from otelflow.errors import ArgumentError, NotShared, OtelflowError
from otelflow.propagate import attached, bind, inject
from otelflow.testing import Capture


@task
def step(this_task: Any = None, this_flow: Any = None) -> Any:
    """Tells what it finds."""
    this_task.log_info("from the task")
    this_flow.log_info("from the flow")
    return this_flow


@flow
def sends() -> dict[str, str]:
    """Writes its context down."""
    return inject()


# --- bind -----------------------------------------------------------------------------------------------------------


def test_a_bound_function_runs_in_the_context_of_here(captured: Capture) -> None:
    """In a thread, its tasks belong to the flow; the thread's context is as before."""
    after: list[Any] = []

    @flow
    def starts(this_flow: Any = None) -> None:
        def target() -> None:
            bound(1)
            after.append((current_flow(), dict(get_current())))

        bound = bind(pool_work.step)
        thread = threading.Thread(target=target)
        thread.start()
        thread.join()

    run = starts().execute()
    assert after == [(None, {})]
    captured.assert_tree("starts\n  step")
    assert run.messages == ["step 1", "flow hears of 1"]


def test_a_bound_coroutine_function_is_one(captured: Capture) -> None:
    """Run on another thread's loop, it is in the context of here from its first step to its last."""

    @task
    async def waits() -> str:
        await asyncio.sleep(0)
        return "done"

    async def job() -> str:
        return await waits()

    @flow
    def starts() -> Any:
        bound = bind(job)
        assert asyncio.iscoroutinefunction(bound)
        assert bound.__name__ == "job"
        made: list[Any] = []
        thread = threading.Thread(target=lambda: made.append(asyncio.run(bound())))
        thread.start()
        thread.join()
        return made

    assert starts().execute().return_value == ["done"]
    captured.assert_tree("starts\n  waits")


def test_a_bound_function_has_its_names_and_can_be_pickled() -> None:
    """Engines call a job by the names of its function. Pickled, it carries the context as headers."""
    kept: list[bytes] = []

    @flow
    def starts() -> None:
        bound = bind(pool_work.identity)
        assert bound.__name__ == "identity"
        kept.append(pickle.dumps(bound))

    run = starts().execute()
    assert pickle.loads(kept[0])() == ("starts", run.run_id, "running", None, None)


def test_bind_takes_functions_only() -> None:
    """What cannot be called is refused at once, not in the thread."""
    with pytest.raises(ArgumentError, match="use a function"):
        bind(3)  # type: ignore[arg-type]

    def steps() -> Iterator[int]:
        yield 1

    with pytest.raises(ArgumentError, match="where it is iterated"):
        bind(steps)


def test_an_object_with_an_async_call_is_bound() -> None:
    """Whatever is awaited is in the context of here while it runs."""

    class Job:
        async def __call__(self) -> Any:
            await asyncio.sleep(0)
            return current_flow()

    @flow
    def starts() -> Any:
        return bind(Job())

    run: Any = starts().execute()
    assert asyncio.run(run.return_value()) is run


# --- inject and attached --------------------------------------------------------------------------------------------


def test_the_carrier_is_w3c() -> None:
    """traceparent and baggage, as any OpenTelemetry program reads them."""
    made = sends().execute()
    carrier = made.return_value
    assert carrier is not None
    version, trace_id, span_id, flags = carrier["traceparent"].split("-")
    assert (version, trace_id, span_id, int(flags) & 1) == ("00", made.trace_id, made.span_id, 1)
    assert f"otelflow.flow.run_id={made.run_id}" in carrier["baggage"]
    assert sorted(carrier) == ["baggage", "traceparent"]
    assert inject() == {}


def test_work_for_a_flow_elsewhere(captured: Capture) -> None:
    """Tasks are below the sender's span, of its flow, and no orphans; the handle's events are on the current span."""
    made = sends().execute()
    with attached(made.return_value) as handle:
        found = step()
        assert current_flow() is handle is found
        assert current_task() is None
    captured.assert_tree("sends\n  step  {otelflow.flow.name=sends}")
    span = captured.task("step")
    assert span.attributes["otelflow.flow.run_id"] == made.run_id
    assert "otelflow.task.orphan" not in span.attributes
    assert span.messages == ["from the task", "from the flow"]
    assert texts(captured.events[2:]) == ["TASK_START", "from the task", "from the flow", "TASK_STOP"]
    assert {event.event_data.flow_run_id for event in captured.events} == {made.run_id}
    assert current_flow() is None
    assert not get_current_span().get_span_context().is_valid


def test_the_handle() -> None:
    """It is a Flow by name and run id; its data is elsewhere, and it cannot be executed."""
    made = sends().execute()
    with attached(made.return_value) as handle:
        assert isinstance(handle, Flow)
        assert (handle.name, handle.run_id, handle.status) == ("sends", made.run_id, "running")
        step()
        assert [one.name for one in handle.tasks] == ["step"]
        for use in (
            lambda: handle.data["x"],
            lambda: handle.data.update(x=1),
            lambda: "x" in handle.data,
            lambda: dict(handle.data),
            lambda: bool(handle.data),
            lambda: handle.data.get("x"),
        ):
            with pytest.raises(NotShared, match=r"'sends' is in another process.*argument"):
                use()
        assert "another process" in repr(handle.data)
        with pytest.raises(OtelflowError, match="cannot be executed"):
            handle.execute()


def test_a_message_where_no_span_can_carry_it(captured: Capture) -> None:
    """Heard by listeners here, and counted: the sender's span cannot be written on from here."""
    counts.clear()
    made = sends().execute()
    with attached(made.return_value) as handle:
        assert handle is not None
        handle.log_info("for nobody's span")
    assert "for nobody's span" in texts(captured.events)
    assert stats().dropped == {"no_local_span": 1}


@pytest.mark.parametrize(
    "carrier",
    [
        None,
        {},
        {"traceparent": "nonsense", "baggage": "=;,=%%"},
        {"traceparent": b"\xff", "baggage": 3},
        {3: 4},
        {"baggage": "otelflow.flow.name=only"},
    ],
)
def test_a_carrier_that_says_nothing_changes_nothing(carrier: Any) -> None:
    """Empty, broken or of wrong types: no exception, and no flow."""

    @flow
    def local() -> Any:
        with attached(carrier) as handle:
            assert handle is None
            return current_flow()

    run = local().execute()
    assert run.return_value is run


def test_what_is_no_carrier_is_refused() -> None:
    """A mistake in the program is said at once."""
    with pytest.raises(ArgumentError, match="mapping"), attached("traceparent"):  # type: ignore[arg-type]
        pass
    with pytest.raises(ArgumentError, match="mapping"):
        inject("traceparent")  # type: ignore[call-overload]


def test_header_names_in_any_case() -> None:
    """HTTP servers write them as they like."""
    made = sends().execute()
    with attached({name.title(): value for name, value in (made.return_value or {}).items()}) as handle:
        assert handle is not None
        assert handle.run_id == made.run_id


def test_a_name_that_headers_cannot_hold() -> None:
    """Any name arrives as it was."""
    made = flow(name='nächtlich, "1=2"; 100 % ✓')(sends.__wrapped__)().execute()
    with attached(made.return_value) as handle:
        assert handle is not None
        assert (handle.name, handle.run_id) == (made.name, made.run_id)


def test_the_users_own_baggage() -> None:
    """It travels as OTEL_PROPAGATORS says; the flow's identity does in any case."""
    token = attach(baggage.set_baggage("tenant", "seven"))
    try:
        made = sends().execute()
    finally:
        detach(token)
    assert "tenant=seven" in (made.return_value or {})["baggage"]
    done = run(
        """
        from otelflow.propagate import inject
        from opentelemetry import baggage, context
        context.attach(baggage.set_baggage("tenant", "seven"))
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        trace.set_tracer_provider(TracerProvider())
        made = flow(inject)().execute()
        say(run_id=made.run_id, **made.return_value)
        """,
        OTEL_PROPAGATORS="tracecontext",
    )
    assert done.said["baggage"] == f"otelflow.flow.name=inject,otelflow.flow.run_id={done.said['run_id']}"


def test_in_a_flow_of_this_process(captured: Capture) -> None:
    """A carrier wins over the flow that is running, and that is back after the block."""
    made = sends().execute()

    @flow
    def local(this_flow: Any = None) -> None:
        with attached(made.return_value):
            step()
        assert current_flow() is this_flow

    local().execute()
    captured.assert_tree("sends\n  step\nlocal")


def test_two_programs(sink: Sink) -> None:
    """Each exports its own spans, to one trace."""
    first = run(
        """
        from otelflow.propagate import inject
        configure()
        made = flow(inject, )().execute()
        say(carrier=made.return_value, run_id=made.run_id)
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
    )
    run(
        f"""
        from otelflow.propagate import attached
        configure()
        with attached({first.said["carrier"]!r}):
            step()
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
    )
    above, below = (span for span, _, _ in sink.spans)
    assert (below.name, below.trace_id, below.parent_span_id) == ("step", above.trace_id, above.span_id)
    assert first.said["run_id"] in str(below.attributes)


@pytest.mark.parametrize("kind", ["fork", "spawn"])
def test_a_worker_with_an_exporter_of_its_own_does_not_send_twice(kind: str, sink: Sink) -> None:
    """Only the submitting process exports otelflow's spans; other spans of the worker are the worker's to send."""
    done = run(
        f"""
        if __name__ == "__main__":
            import multiprocessing
            from concurrent.futures import ProcessPoolExecutor
            from own_exporter import other_spans, set_up
            set_up()
            context = multiprocessing.get_context({kind!r})
            with propagating(ProcessPoolExecutor(2, mp_context=context, initializer=set_up)) as pool:
                @flow
                def whole():
                    return [pool.submit(other_spans, number).result() for number in range(4)]
                made = whole().execute()
            say(stats=stats().produced)
        """,
        head=HEAD,
        OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
    )
    assert done.returncode == 0, done.stderr
    names = sorted(span.name for span, _, _ in sink.spans)
    assert names == ["other"] * 4 + ["step"] * 4 + ["whole"]
    spans = {span.span_id: span for span, _, _ in sink.spans}
    assert all(spans[span.parent_span_id].name == "step" for span in spans.values() if span.name == "other")
    assert done.said["stats"] == 5
