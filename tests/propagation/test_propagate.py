"""Explicit propagation: bind for threads and functions, inject and attached for every engine with headers."""

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
    """Log a message on the task and on the flow. Return the flow."""
    this_task.log_info("from the task")
    this_flow.log_info("from the flow")
    return this_flow


@flow
def sends() -> dict[str, str]:
    """Return its context as headers."""
    return inject()


# --- bind -----------------------------------------------------------------------------------------------------------


def test_a_bound_function_runs_in_the_context_of_its_bind(captured: Capture) -> None:
    """In a thread, its tasks belong to the flow. Afterwards, the thread has its own context again."""
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


def test_a_bound_coroutine_function_stays_a_coroutine_function(captured: Capture) -> None:
    """On another thread's loop, it has the context of its bind from its first step to its last."""

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
        values: list[Any] = []
        thread = threading.Thread(target=lambda: values.append(asyncio.run(bound())))
        thread.start()
        thread.join()
        return values

    assert starts().execute().return_value == ["done"]
    captured.assert_tree("starts\n  waits")


def test_a_bound_function_keeps_its_names_and_can_be_pickled() -> None:
    """Engines name a job by its function. A pickle carries the context as headers."""
    pickles: list[bytes] = []

    @flow
    def starts() -> None:
        bound = bind(pool_work.identity)
        assert bound.__name__ == "identity"
        pickles.append(pickle.dumps(bound))

    run = starts().execute()
    assert pickle.loads(pickles[0])() == ("starts", run.run_id, "running", None, None)


def test_bind_takes_functions_only() -> None:
    """An object that cannot be called is refused at once, not in the thread."""
    with pytest.raises(ArgumentError, match="cannot be called"):
        bind(3)  # type: ignore[arg-type]

    def steps() -> Iterator[int]:
        yield 1

    with pytest.raises(ArgumentError, match="where it is iterated"):
        bind(steps)


def test_an_object_with_an_async_call_is_bound() -> None:
    """An awaitable job has the context of its bind while it runs."""

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
    """It has traceparent and baggage in the form that every OpenTelemetry program reads."""
    sender = sends().execute()
    carrier = sender.return_value
    assert carrier is not None
    version, trace_id, span_id, flags = carrier["traceparent"].split("-")
    assert (version, trace_id, span_id, int(flags) & 1) == ("00", sender.trace_id, sender.span_id, 1)
    assert f"otelflow.flow.run_id={sender.run_id}" in carrier["baggage"]
    assert sorted(carrier) == ["baggage", "traceparent"]
    assert inject() == {}


def test_work_for_a_flow_in_another_process(captured: Capture) -> None:
    """Tasks are children of the sender's span, and belong to its flow. The handle's events go on the current span."""
    sender = sends().execute()
    with attached(sender.return_value) as handle:
        seen_flow = step()
        assert current_flow() is handle is seen_flow
        assert current_task() is None
    captured.assert_tree("sends\n  step  {otelflow.flow.name=sends}")
    span = captured.task("step")
    assert span.attributes["otelflow.flow.run_id"] == sender.run_id
    assert "otelflow.task.orphan" not in span.attributes
    assert span.messages == ["from the task", "from the flow"]
    assert texts(captured.events[2:]) == ["TASK_START", "from the task", "from the flow", "TASK_STOP"]
    assert {event.event_data.flow_run_id for event in captured.events} == {sender.run_id}
    assert current_flow() is None
    assert not get_current_span().get_span_context().is_valid


def test_a_handle_has_name_and_run_id_but_no_data() -> None:
    """It is a Flow, but its data is in another process, and it cannot be executed."""
    sender = sends().execute()
    with attached(sender.return_value) as handle:
        assert isinstance(handle, Flow)
        assert (handle.name, handle.run_id, handle.status) == ("sends", sender.run_id, "running")
        step()
        assert [run.name for run in handle.tasks] == ["step"]
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
    """Listeners here get it, and it is counted: this process cannot write on the sender's span."""
    counts.clear()
    sender = sends().execute()
    with attached(sender.return_value) as handle:
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
def test_an_unreadable_carrier_changes_nothing(carrier: Any) -> None:
    """An empty or broken carrier, or one with values of wrong types, raises nothing and names no flow."""

    @flow
    def local() -> Any:
        with attached(carrier) as handle:
            assert handle is None
            return current_flow()

    run = local().execute()
    assert run.return_value is run


def test_a_carrier_that_is_no_mapping_is_refused() -> None:
    """A mistake in the program raises at once."""
    with pytest.raises(ArgumentError, match="mapping"), attached("traceparent"):  # type: ignore[arg-type]
        pass
    with pytest.raises(ArgumentError, match="mapping"):
        inject("traceparent")  # type: ignore[call-overload]


def test_header_names_in_any_case() -> None:
    """HTTP servers may change the case of header names."""
    sender = sends().execute()
    with attached({name.title(): value for name, value in (sender.return_value or {}).items()}) as handle:
        assert handle is not None
        assert handle.run_id == sender.run_id


def test_a_name_with_characters_that_headers_cannot_hold() -> None:
    """Every name arrives unchanged."""
    sender = flow(name='nächtlich, "1=2"; 100 % ✓')(sends.__wrapped__)().execute()
    with attached(sender.return_value) as handle:
        assert handle is not None
        assert (handle.name, handle.run_id) == (sender.name, sender.run_id)


def test_the_users_own_baggage() -> None:
    """OTEL_PROPAGATORS decides whether it is sent. The flow's identity is always sent."""
    token = attach(baggage.set_baggage("tenant", "seven"))
    try:
        sender = sends().execute()
    finally:
        detach(token)
    assert "tenant=seven" in (sender.return_value or {})["baggage"]
    result = run(
        """
        from otelflow.propagate import inject
        from opentelemetry import baggage, context
        context.attach(baggage.set_baggage("tenant", "seven"))
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        trace.set_tracer_provider(TracerProvider())
        sender = flow(inject)().execute()
        say(run_id=sender.run_id, **sender.return_value)
        """,
        OTEL_PROPAGATORS="tracecontext",
    )
    assert result.facts["baggage"] == f"otelflow.flow.name=inject,otelflow.flow.run_id={result.facts['run_id']}"


def test_a_carrier_takes_precedence_over_the_running_flow(captured: Capture) -> None:
    """The running flow is current again after the block."""
    sender = sends().execute()

    @flow
    def local(this_flow: Any = None) -> None:
        with attached(sender.return_value):
            step()
        assert current_flow() is this_flow

    local().execute()
    captured.assert_tree("sends\n  step\nlocal")


def test_two_programs_export_to_one_trace(sink: Sink) -> None:
    """Each program exports its own spans."""
    first = run(
        """
        from otelflow.propagate import inject
        configure()
        sender = flow(inject, )().execute()
        say(carrier=sender.return_value, run_id=sender.run_id)
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
    )
    run(
        f"""
        from otelflow.propagate import attached
        configure()
        with attached({first.facts["carrier"]!r}):
            step()
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
    )
    above, below = (span for span, _, _ in sink.spans)
    assert (below.name, below.trace_id, below.parent_span_id) == ("step", above.trace_id, above.span_id)
    assert first.facts["run_id"] in str(below.attributes)


@pytest.mark.parametrize("kind", ["fork", "spawn"])
def test_a_worker_with_an_exporter_of_its_own_does_not_send_twice(kind: str, sink: Sink) -> None:
    """Only the submitting process exports otelflow's spans. The worker exports its other spans."""
    result = run(
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
                whole().execute()
            say(stats=stats().produced)
        """,
        head=HEAD,
        OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
    )
    assert result.returncode == 0, result.stderr
    names = sorted(span.name for span, _, _ in sink.spans)
    assert names == ["other"] * 4 + ["step"] * 4 + ["whole"]
    spans = {span.span_id: span for span, _, _ in sink.spans}
    assert all(spans[span.parent_span_id].name == "step" for span in spans.values() if span.name == "other")
    assert result.facts["stats"] == 5
