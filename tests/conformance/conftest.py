"""Subjects of the conformance suite: otelflow's three decorators, or the decorator of ``--decorator``.

    pytest tests/conformance --decorator conformance.opentelemetry_decorator:traced

runs the same tests with another decorator: ``module:name`` of a decorator without arguments that creates spans with the
global tracer provider.
"""

from __future__ import annotations

import importlib

import pytest
from conformance.subjects import Subject, own_subjects

from otelflow.testing import Capture


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--decorator", default=None, help="module:name of another decorator to test")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "subject" not in metafunc.fixturenames:
        return
    path = metafunc.config.getoption("--decorator", default=None)
    subjects = own_subjects()
    if path:
        module, _, name = path.partition(":")
        subjects = [Subject(path, getattr(importlib.import_module(module), name))]
    metafunc.parametrize("subject", subjects, ids=lambda subject: subject.name, indirect=True)


@pytest.fixture
def subject(request: pytest.FixtureRequest, captured: Capture) -> Subject:
    """Return a decorator with the capture of this test: otelflow's spans, and those of the global provider."""
    subject: Subject = request.param
    subject.captured = captured
    return subject
