"""What arrives at a real Jaeger, and what sending costs: otelflow beside the SDK's own batch processor. Prints JSON.

Needs the servers that ``.ci/collector``, ``.ci/jaeger`` and ``.ci/prometheus`` build. Each program is a process of its
own.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "support"))

from backends import Backends, missing_backend, running_backends
from programs import clean_environment

OURS = """
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
before, began = time.process_time(), time.time()
for _ in range(flows): nightly(tasks).execute()
report = flush(120)
cpu, seconds = time.process_time() - before, time.time() - began
print(json.dumps({"cpu": cpu, "seconds": seconds, "whole": bool(report), "lost": report.lost}))
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
about = {"otelflow.kind": "task", "otelflow.flow.name": "nightly", "otelflow.task.name": "step", "code.function.name":
    "__main__.step", "otelflow.flow.run_id": "flow_85981e9767fbdb71000000000000",
    "otelflow.task.run_id": "task_85981e9767fbdb71000000000003"}

def step(number):
    with tracer.start_as_current_span("step", attributes=about) as span:
        span.set_attribute("otelflow.status", "completed")
        return number + 1

def nightly(tasks):
    with tracer.start_as_current_span("nightly", attributes=about):
        for number in range(tasks): step(number)

nightly(1)
provider.force_flush()
before, began = time.process_time(), time.time()
for _ in range(flows): nightly(tasks)
provider.force_flush(120_000)
print(json.dumps({"cpu": time.process_time() - before, "seconds": time.time() - began}))
"""

FOUND = """
import sys, time
from otelflow import configure, flow
configure("SERVICE")

@flow
def nightly(): pass

print(nightly().execute().trace_id, time.time(), flush=True)
sys.stdin.read()
"""


def ran(program: str, service: str, backends: Backends, *words: str) -> dict[str, float]:
    """What a program says of itself, in JSON."""
    done = subprocess.run(
        [sys.executable, "-c", program.replace("SERVICE", service), *words],
        env=clean_environment(OTEL_EXPORTER_OTLP_ENDPOINT=backends.otlp, OTELFLOW_QUEUE_SIZE=str(2**20)),
        capture_output=True,
        text=True,
        check=True,
    )
    said: dict[str, float] = json.loads(done.stdout)
    return said


def arrived(backends: Backends, service: str, flows: int, tasks: int) -> bool:
    """Whether Jaeger has every span of every flow, and the first one."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        sizes = sorted(len(trace["spans"]) for trace in backends.traces(service, limit=flows + 10))
        if sizes == [2, *[tasks + 1] * flows]:
            return True
        time.sleep(0.2)
    return False


def until_found(backends: Backends, delay: str) -> float:
    """Seconds from the end of a flow until Jaeger's search has it."""
    environment = clean_environment(OTEL_EXPORTER_OTLP_ENDPOINT=backends.otlp, OTEL_BSP_SCHEDULE_DELAY=delay)
    words = [sys.executable, "-c", FOUND.replace("SERVICE", "found")]
    with subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        trace_id, ended = program.stdout.readline().split()
        while not any(trace["traceID"] == trace_id for trace in backends.traces("found")):
            time.sleep(0.005)
        seconds = time.time() - float(ended)
        program.communicate()
    return seconds


def main() -> None:
    quick = "--quick" in sys.argv
    if missing_backend() is not None:
        print(json.dumps({"not measured": missing_backend()}))
        return
    rounds, flows, tasks = (1, 20, 49) if quick else (5, 400, 49)
    spans = flows * (tasks + 1)
    words = str(flows), str(tasks)
    ratios, seconds, costs = [], [], []
    with running_backends() as backends:
        for number in range(rounds):
            ours = ran(OURS, f"ours-{number}", backends, *words)
            by_hand = ran(BY_HAND, f"by-hand-{number}", backends, *words)
            assert ours["whole"], ours
            assert arrived(backends, f"ours-{number}", flows, tasks), "not every span is in Jaeger"
            ratios.append(ours["cpu"] / by_hand["cpu"])
            costs.append(ours["cpu"] / spans * 100_000)
            seconds.append(ours["seconds"])
        found = {
            delay: statistics.median(until_found(backends, delay) for _ in range(rounds)) for delay in ("100", "5000")
        }
    middle = statistics.median(seconds)
    print(
        json.dumps(
            {
                "flows of 50 spans a second, spans a second, lost": f"{flows / middle:,.0f}, {spans / middle:,.0f}, 0",
                "CPU seconds of 100,000 spans, made and sent": f"{statistics.median(costs):.1f}",
                "the same, to spans by hand with the SDK's batch processor": f"{statistics.median(ratios):.2f}",
                "seconds until Jaeger's search has a flow that ended": f"{found['5000']:.2f}",
                "seconds, with OTEL_BSP_SCHEDULE_DELAY=100": f"{found['100']:.2f}",
            }
        )
    )


if __name__ == "__main__":
    main()
