"""Telemetry for one program text: with otelflow, with the bare SDK and manual spans, or without telemetry."""

from __future__ import annotations

import functools
import inspect
import os

from opentelemetry import trace

__all__ = [
    "announce_exit",
    "configure",
    "flow",
    "flush",
    "heavy",
    "make",
    "ready",
    "report_span_count",
    "step",
    "task",
    "write_line",
]

COLUMN = os.environ["LIFECYCLE_COLUMN"]

if COLUMN == "otelflow":
    import otelflow
    from otelflow import configure, flush, task

    flow = otelflow.flow(transparent=True)

elif COLUMN == "bare":
    tracer = trace.get_tracer("by hand")

    def configure():
        """Set up the SDK as OpenTelemetry's own documentation does."""
        if os.environ["OTEL_EXPORTER_OTLP_PROTOCOL"] == "grpc":
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        else:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(provider)

    def flush(timeout=10.0):
        trace.get_tracer_provider().force_flush(int(timeout * 1000))

    def task(function):
        name = function.__name__

        @functools.wraps(function)
        def with_span(*args, **kwargs):
            with tracer.start_as_current_span(name):
                return function(*args, **kwargs)

        @functools.wraps(function)
        def generator_with_span(*args, **kwargs):
            with tracer.start_as_current_span(name):
                yield from function(*args, **kwargs)

        return generator_with_span if inspect.isgeneratorfunction(function) else with_span

    flow = task

else:

    def configure():
        pass

    def flush(timeout=10.0):
        pass

    def task(function):
        return function

    flow = task


@task
def step():
    pass


@flow
def work(steps):
    for _ in range(steps):
        step()


def make(spans):
    """Make this many ended spans: a flow and its tasks."""
    work(spans - 1)


@task
def heavy():
    """Make a span of 60 kB."""
    span = trace.get_current_span()
    for number in range(30):
        span.set_attribute(f"part.{number}", "x" * 2000)


def write_line(text):
    """Write a line for the runner: unbuffered, in one write, so that processes do not mix their lines."""
    os.write(1, f"{text}\n".encode())


def report_span_count(spans):
    """Report the total number of spans, if the program's text does not fix it."""
    write_line(f"spans {spans}")


def ready():
    write_line("ready")


def announce_exit():
    """Report that the program has nothing more to do. The runner measures the exit from here."""
    write_line("exiting")
