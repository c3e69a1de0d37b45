"""The subjects of the conformance suite: otelflow's three decorators, or the one that ``--decorator`` names.

    pytest tests/conformance --decorator conformance.opentelemetry_decorator:traced

runs the same promises against another decorator: ``module:name`` of something that is applied bare to a function and
makes spans with the global tracer provider.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import pytest
from conformance.subjects import Subject, own_subjects
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otelflow._telemetry import use_provider


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--decorator", default=None, help="module:name of another decorator to run the promises against")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "subject" not in metafunc.fixturenames:
        return
    named = metafunc.config.getoption("--decorator", default=None)
    subjects = own_subjects()
    if named:
        module, _, name = named.partition(":")
        subjects = [Subject(named, getattr(importlib.import_module(module), name))]
    metafunc.parametrize("subject", subjects, ids=lambda subject: subject.name, indirect=True)


@pytest.fixture
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """One of the decorators, with an exporter of this test's own."""
    made: Subject = request.param
    made.exporter = InMemorySpanExporter()
    if request.config.getoption("--decorator", default=None):
        provider: Any = trace.get_tracer_provider()
        if not isinstance(provider, TracerProvider):
            provider = TracerProvider(shutdown_on_exit=False)
            trace.set_tracer_provider(provider)
        provider._active_span_processor._span_processors = (SimpleSpanProcessor(made.exporter),)
        yield made
        return
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(made.exporter))
    with use_provider(provider):
        yield made
    provider.shutdown()
