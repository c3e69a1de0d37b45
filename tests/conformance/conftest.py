"""The subjects of the conformance suite: otelflow's three decorators, or the one that ``--decorator`` names.

    pytest tests/conformance --decorator conformance.opentelemetry_decorator:traced

runs the same promises against another decorator: ``module:name`` of something that is applied bare to a function and
makes spans with the global tracer provider.
"""

from __future__ import annotations

import importlib

import pytest
from conformance.subjects import Subject, own_subjects

from otelflow.testing import Capture


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
def subject(request: pytest.FixtureRequest, captured: Capture) -> Subject:
    """One of the decorators, with what this test captures: otelflow's spans, and those of the global provider."""
    made: Subject = request.param
    made.captured = captured
    return made
