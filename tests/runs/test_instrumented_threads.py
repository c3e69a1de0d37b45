"""Test many runs at once while other libraries instrument or replace threads: OpenTelemetry and gevent."""

from __future__ import annotations

import programs
import pytest

JUDGE = """
import functools, threading
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from otelflow import propagate

memory = InMemorySpanExporter()
provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(SimpleSpanProcessor(memory))
trace.set_tracer_provider(provider)

@task
def piece(label, pause, number):
    print(label, end="")
    pause()
    print("." + str(number))

def judged(at_once, meet, pause, spread):
    memory.clear()
    @flow
    def outer(label):
        meet()
        spread(functools.partial(piece, label, pause))
        pause()
    runs = [outer(label) for label in range(20)]
    at_once([run.execute for run in runs])
    ids = {run.run_id: int(run.span_id, 16) for run in runs}
    spans = [span for span in memory.get_finished_spans() if span.name == "piece"]
    own = [
        span for span in spans if span.parent and span.parent.span_id == ids[span.attributes["otelflow.flow.run_id"]]
    ]
    lines = [sorted(run.messages) == [f"{label}.{number}" for number in range(3)] for label, run in enumerate(runs)]
    return len(spans), len(own), sum(lines)
"""
"""The head of a program. ``judged()`` runs 20 flows at once, with 3 tasks each. It returns the number of task spans,
the number of those below their own flow, and the number of flows that have exactly their own printed lines."""


ALL, NONE = [60, 60, 20], [60, 0, 0]


def test_together_with_opentelemetrys_threading_instrumentation() -> None:
    """It propagates the context to plain threads, timers and pools. Bound functions and propagating pools also work
    with it, and run once."""
    pytest.importorskip("opentelemetry.instrumentation.threading")
    program = programs.run(
        """
        from concurrent.futures import ThreadPoolExecutor
        from opentelemetry.instrumentation.threading import ThreadingInstrumentor

        def in_threads(targets, make=threading.Thread):
            threads = [make(target=target) for target in targets]
            for thread in threads: thread.start()
            for thread in threads: thread.join()

        bare, pool = ThreadPoolExecutor(5), propagate.propagating(ThreadPoolExecutor(5))
        timer = lambda target: threading.Timer(0, target)
        ways = {
            "thread": lambda do: in_threads(functools.partial(do, number) for number in range(3)),
            "timer": lambda do: in_threads((functools.partial(do, number) for number in range(3)), make=timer),
            "pool": lambda do: list(bare.map(do, range(3))),
            "bound thread": lambda do: ways["thread"](propagate.bind(do)),
            "bound in a pool": lambda do: ways["pool"](propagate.bind(do)),
            "propagating pool": lambda do: list(pool.map(do, range(3))),
        }
        def judge_all():
            meet = threading.Barrier(20, timeout=20).wait
            return {name: judged(in_threads, meet, lambda: time.sleep(0), way) for name, way in ways.items()}
        before = judge_all()
        ThreadingInstrumentor().instrument()
        say(before=before, instrumented=judge_all())
        bare.shutdown(); pool.shutdown()
        """,
        head=programs.HEAD + JUDGE,
    )
    plain, ours = ("thread", "timer", "pool"), ("bound thread", "bound in a pool", "propagating pool")
    assert program.facts["before"] == {**dict.fromkeys(plain, NONE), **dict.fromkeys(ours, ALL)}, program.stderr
    assert program.facts["instrumented"] == dict.fromkeys([*plain, *ours], ALL), program.stderr
    assert program.stderr == ""


@pytest.mark.parametrize("first", ["", "from gevent import monkey; monkey.patch_all()\n"], ids=["plain", "patched"])
def test_greenlets(first: str) -> None:
    """gevent: flows in greenlets do not mix, nor do their printed lines. A greenlet that a flow spawns runs orphan
    tasks, unless its function is bound."""
    pytest.importorskip("gevent")
    program = programs.run(
        """
        import gevent, gevent.pool
        bind = propagate.bind
        def at_once(targets):
            gevent.joinall([gevent.spawn(target) for target in targets], raise_error=True)
        def spawned(do):
            at_once([functools.partial(do, number) for number in range(3)])
        def mapped(do):
            gevent.pool.Pool(2).map(do, range(3))
        def threads(do):
            gevent.get_hub().threadpool.map(do, range(3))
        ways = {
            "called": lambda do: [do(number) for number in range(3)],
            "spawn": spawned, "map": mapped, "threads": threads,
            "bound spawn": lambda do: spawned(bind(do)),
            "bound map": lambda do: mapped(bind(do)),
            "bound threads": lambda do: threads(bind(do)),
        }
        pause = lambda: gevent.sleep(0)
        say(**{name: judged(at_once, pause, pause, way) for name, way in ways.items()})
        """,
        head=first + programs.HEAD + JUDGE,
    )
    bound = ("called", "bound spawn", "bound map", "bound threads")
    expected = {**dict.fromkeys(bound, ALL), **dict.fromkeys(("spawn", "map", "threads"), NONE)}
    assert program.facts == expected, program.stderr
    assert program.stderr == ""
