"""One program text, run with otelflow, with the bare SDK and spans by hand, and without any telemetry."""

from __future__ import annotations

import functools
import inspect
import os

from opentelemetry import trace

__all__ = ["configure", "ending", "flow", "flush", "heavy", "made", "make", "ready", "say", "step", "task"]

COLUMN = os.environ["LIFECYCLE_COLUMN"]

if COLUMN == "otelflow":
    import otelflow
    from otelflow import configure, flush, task

    flow = otelflow.flow(transparent=True)

elif COLUMN == "bare":
    tracer = trace.get_tracer("by hand")

    def configure():
        """The set-up of OpenTelemetry's own documentation."""
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
        def by_hand(*args, **kwargs):
            with tracer.start_as_current_span(name):
                return function(*args, **kwargs)

        @functools.wraps(function)
        def stepped_by_hand(*args, **kwargs):
            with tracer.start_as_current_span(name):
                yield from function(*args, **kwargs)

        return stepped_by_hand if inspect.isgeneratorfunction(function) else by_hand

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
    """This many ended spans: a flow and its tasks."""
    work(spans - 1)


@task
def heavy():
    """A span of 60 kB."""
    span = trace.get_current_span()
    for number in range(30):
        span.set_attribute(f"part.{number}", "x" * 2000)


def say(text):
    """A line that the runner hears at once; one write, so that processes do not mix theirs."""
    os.write(1, f"{text}\n".encode())


def made(spans):
    """How many spans were made in all, where the program's text does not say it."""
    say(f"made {spans}")


def ready():
    say("ready")


def ending():
    """The program has nothing more to do: what its end takes is counted from here."""
    say("ending")
