"""Destinations of the spool: what the environment and ``configure()`` say of its endpoints."""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys

import pytest
from otelflow_exporters._spool.destination import destinations


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that says nothing."""
    for name in [name for name in os.environ if name.startswith("OTEL")]:
        monkeypatch.delenv(name)


def test_the_port_says_the_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no variable does."""
    several = "http://a:4317,b:4317,http://a:4318,https://c/v1/traces"
    monkeypatch.setenv("OTELFLOW_EXPORTER_SPOOL_ENDPOINTS", several)
    assert [(endpoint.url, endpoint.is_grpc) for (endpoint,) in destinations()] == [
        ("http://a:4317", True),
        ("b:4317", True),
        ("http://a:4318/v1/traces", False),
        ("https://c/v1/traces", False),
    ]


def test_a_key_is_that_of_the_url_with_its_scheme() -> None:
    """Folders of earlier versions name their files by it."""
    expected = hashlib.sha256(b"http://b:4317").hexdigest()[:12]
    assert [each.key for url in ("b:4317", "http://b:4317") for each in destinations(url)] == [expected] * 2


def test_endpoints_as_the_specification_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable for traces is used as it is, the one for all signals gets the path."""
    assert [endpoint.url for (endpoint,) in destinations()] == ["http://localhost:4318/v1/traces"]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://gateway:4318/otlp/")
    assert [endpoint.url for (endpoint,) in destinations()] == ["http://gateway:4318/otlp/v1/traces"]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://user:secret@traces/here?key=1")
    (destination,) = destinations()
    assert destination.endpoint.url == "http://user:secret@traces/here?key=1"
    assert destination.shown == "http://traces/here"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "gateway:4317")
    assert [(endpoint.is_grpc, endpoint.tls) for (endpoint,) in destinations()] == [(True, True)]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_INSECURE", "true")
    assert [(endpoint.is_grpc, endpoint.tls) for (endpoint,) in destinations()] == [(True, False)]


@pytest.mark.parametrize(
    ("endpoint", "url", "is_grpc"),
    [
        ("http://a:4318", "http://a:4318/v1/traces", False),
        ("http://a:4318/", "http://a:4318/v1/traces", False),
        ("http://a/own/path", "http://a/own/path", False),
        ("a:4318", "http://a:4318/v1/traces", False),
        ("http://a:4317", "http://a:4317", True),
    ],
)
def test_an_endpoint_that_is_given(monkeypatch: pytest.MonkeyPatch, endpoint: str, url: str, is_grpc: bool) -> None:
    """It goes before all variables, and gets the signal's path where it has none; headers are those alone."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://no:1/")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "a=b")
    monkeypatch.setenv("OTELFLOW_EXPORTER_SPOOL_ENDPOINTS", "http://one:1,http://two:2")
    ((found,),) = destinations(endpoint, {"c": "d"})
    assert (found.url, found.is_grpc, found.header_values()) == (url, is_grpc, {"c": "d"})
    ((found,),) = destinations(endpoint)
    assert found.header_values() == {"a": "b"}


@pytest.mark.parametrize(
    ("name", "text"), [("PROTOCOL", "http/json"), ("TIMEOUT", "soon"), ("TIMEOUT", "-1"), ("COMPRESSION", "brotli")]
)
def test_a_value_that_cannot_be_used_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, text: str
) -> None:
    """With a line: the spool keeps the spans, and a program does not fail at its start for it."""
    monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{name}", text)
    with caplog.at_level(logging.WARNING, "otelflow"):
        ((endpoint,),) = destinations("http://a:4318")
    assert (endpoint.protocol, endpoint.timeout_seconds(), endpoint.compression_name()) == ("http/protobuf", 10, "none")
    assert [record.getMessage().startswith("otelflow_spool ") for record in caplog.records] == [True]


def test_the_signals_path_is_there_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the variable for all signals it is a mistake that many make; the one for traces is used as it is."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4318/v1/traces")
    assert [endpoint.url for (endpoint,) in destinations()] == ["http://a:4318/v1/traces"]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://a:4318/v1/traces/")
    assert [endpoint.url for (endpoint,) in destinations()] == ["http://a:4318/v1/traces/"]


def test_without_otelflow_the_error_says_what_to_install() -> None:
    """The exporters of files and trees need none, so it may be missing."""
    program = "import sys; sys.modules['otelflow'] = None; import otelflow_exporters.spool"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.endswith("ImportError: the spool needs otelflow: pip install 'otelflow-exporters[spool]'\n")
