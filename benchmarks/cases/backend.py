"""Compare otelflow with the SDK's own batch processor: the cost of sending, and arrival at a real Jaeger. Prints JSON.

It needs the servers that ``.ci/collector``, ``.ci/jaeger`` and ``.ci/prometheus`` build. Each program runs in a
separate process.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "support"))

from backends import Backends, missing_backend, running_backends
from programs import clean_environment

OTELFLOW = """
import json, resource, sys, time
from otelflow import configure, flow, flush, task

@task
def step(number): return number + 1

@flow
def nightly(tasks):
    for number in range(tasks): step(number)

flows, tasks = int(sys.argv[1]), int(sys.argv[2])
configure("SERVICE")
nightly(1).execute()
flush()
cpu_start, start = time.process_time(), time.time()
for _ in range(flows): nightly(tasks).execute()
report = flush(120)
cpu, seconds = time.process_time() - cpu_start, time.time() - start
print(json.dumps({"cpu": cpu, "seconds": seconds, "complete": bool(report), "lost": report.lost}))
"""

BY_HAND = """
import json, sys, time
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

flows, tasks = int(sys.argv[1]), int(sys.argv[2])
provider = TracerProvider(resource=Resource.create({"service.name": "SERVICE"}))
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(), max_queue_size=2**20))
tracer = provider.get_tracer("by.hand")
attributes = {"otelflow.kind": "task", "otelflow.flow.name": "nightly", "otelflow.task.name": "step",
    "code.function.name": "__main__.step", "otelflow.flow.run_id": "flow_85981e9767fbdb71000000000000",
    "otelflow.task.run_id": "task_85981e9767fbdb71000000000003"}

def step(number):
    with tracer.start_as_current_span("step", attributes=attributes) as span:
        span.set_attribute("otelflow.status", "completed")
        return number + 1

def nightly(tasks):
    with tracer.start_as_current_span("nightly", attributes=attributes):
        for number in range(tasks): step(number)

nightly(1)
provider.force_flush()
cpu_start, start = time.process_time(), time.time()
for _ in range(flows): nightly(tasks)
provider.force_flush(120_000)
print(json.dumps({"cpu": time.process_time() - cpu_start, "seconds": time.time() - start}))
"""

ONE_FLOW = """
import sys, time
from otelflow import configure, flow
configure("SERVICE")

@flow
def nightly(): pass

print(nightly().execute().trace_id, time.time(), flush=True)
sys.stdin.read()
"""


def run_program(program: str, service: str, backends: Backends, *arguments: str) -> dict[str, float]:
    """Run a program; return the JSON that it prints."""
    process = subprocess.run(
        [sys.executable, "-c", program.replace("SERVICE", service), *arguments],
        env=clean_environment(OTEL_EXPORTER_OTLP_ENDPOINT=backends.otlp, OTELFLOW_QUEUE_SIZE=str(2**20)),
        capture_output=True,
        text=True,
        check=True,
    )
    figures: dict[str, float] = json.loads(process.stdout)
    return figures


def wait_for_spans(backends: Backends, service: str, flows: int, tasks: int) -> bool:
    """Return whether Jaeger gets every span of every flow, and of the warm-up flow, within 120 seconds."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        sizes = sorted(len(trace["spans"]) for trace in backends.traces(service, limit=flows + 10))
        if sizes == [2, *[tasks + 1] * flows]:
            return True
        time.sleep(0.2)
    return False


def search_delay(backends: Backends, delay: str) -> float:
    """Return the seconds from the end of a flow until Jaeger's search finds it."""
    environment = clean_environment(OTEL_EXPORTER_OTLP_ENDPOINT=backends.otlp, OTEL_BSP_SCHEDULE_DELAY=delay)
    command = [sys.executable, "-c", ONE_FLOW.replace("SERVICE", "found")]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as program:
        assert program.stdout is not None
        trace_id, end = program.stdout.readline().split()
        while not any(trace["traceID"] == trace_id for trace in backends.traces("found")):
            time.sleep(0.005)
        seconds = time.time() - float(end)
        program.communicate()
    return seconds


def main() -> None:
    quick = "--quick" in sys.argv
    if missing_backend() is not None:
        print(json.dumps({"not measured": missing_backend()}))
        return
    rounds, flows, tasks = (1, 20, 49) if quick else (5, 400, 49)
    spans = flows * (tasks + 1)
    arguments = str(flows), str(tasks)
    ratios, seconds, costs = [], [], []
    with running_backends() as backends:
        for number in range(rounds):
            otelflow = run_program(OTELFLOW, f"otelflow-{number}", backends, *arguments)
            by_hand = run_program(BY_HAND, f"by-hand-{number}", backends, *arguments)
            assert otelflow["complete"], otelflow
            assert wait_for_spans(backends, f"otelflow-{number}", flows, tasks), "not every span is in Jaeger"
            ratios.append(otelflow["cpu"] / by_hand["cpu"])
            costs.append(otelflow["cpu"] / spans * 100_000)
            seconds.append(otelflow["seconds"])
        delays = {
            delay: statistics.median(search_delay(backends, delay) for _ in range(rounds)) for delay in ("100", "5000")
        }
    median = statistics.median(seconds)
    print(
        json.dumps(
            {
                "flows of 50 spans a second, spans a second, lost": f"{flows / median:,.0f}, {spans / median:,.0f}, 0",
                "CPU seconds of 100,000 spans, made and sent": f"{statistics.median(costs):.1f}",
                "the same, to spans by hand with the SDK's batch processor": f"{statistics.median(ratios):.2f}",
                "seconds until Jaeger's search has a flow that ended": f"{delays['5000']:.2f}",
                "seconds, with OTEL_BSP_SCHEDULE_DELAY=100": f"{delays['100']:.2f}",
            }
        )
    )


if __name__ == "__main__":
    main()
