"""Destinations of the spool: its endpoints according to the environment and ``configure()``."""

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
    """An environment without OpenTelemetry's variables."""
    for name in [name for name in os.environ if name.startswith("OTEL")]:
        monkeypatch.delenv(name)


def test_the_port_decides_the_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    """If no variable sets it."""
    endpoints = "http://a:4317,b:4317,http://a:4318,https://c/v1/traces"
    monkeypatch.setenv("OTELFLOW_EXPORTER_SPOOL_ENDPOINTS", endpoints)
    assert [(endpoint.url, endpoint.is_grpc) for (endpoint,) in destinations()] == [
        ("http://a:4317", True),
        ("b:4317", True),
        ("http://a:4318/v1/traces", False),
        ("https://c/v1/traces", False),
    ]


def test_a_key_is_the_hash_of_the_url_with_its_scheme() -> None:
    """Files in folders of earlier versions have it in their names."""
    expected = hashlib.sha256(b"http://b:4317").hexdigest()[:12]
    assert [target.key for url in ("b:4317", "http://b:4317") for target in destinations(url)] == [expected] * 2


def test_endpoints_follow_the_specification(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable for traces is used unchanged. The variable for all signals gets the path."""
    assert [endpoint.url for (endpoint,) in destinations()] == ["http://localhost:4318/v1/traces"]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://gateway:4318/otlp/")
    assert [endpoint.url for (endpoint,) in destinations()] == ["http://gateway:4318/otlp/v1/traces"]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://user:secret@traces/here?key=1")
    (destination,) = destinations()
    assert destination.endpoint.url == "http://user:secret@traces/here?key=1"
    assert destination.display_url == "http://traces/here"
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
def test_an_endpoint_passed_as_an_argument(
    monkeypatch: pytest.MonkeyPatch, endpoint: str, url: str, is_grpc: bool
) -> None:
    """It has priority over all variables, and gets the signal's path if it has no path.
    Passed headers replace those of the environment."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://no:1/")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "a=b")
    monkeypatch.setenv("OTELFLOW_EXPORTER_SPOOL_ENDPOINTS", "http://one:1,http://two:2")
    ((result,),) = destinations(endpoint, {"c": "d"})
    assert (result.url, result.is_grpc, result.header_values()) == (url, is_grpc, {"c": "d"})
    ((result,),) = destinations(endpoint)
    assert result.header_values() == {"a": "b"}


@pytest.mark.parametrize(
    ("name", "text"), [("PROTOCOL", "http/json"), ("TIMEOUT", "soon"), ("TIMEOUT", "-1"), ("COMPRESSION", "brotli")]
)
def test_an_invalid_value_is_logged_and_ignored(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, text: str
) -> None:
    """The spool keeps the spans, and the program does not fail at its start because of it."""
    monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{name}", text)
    with caplog.at_level(logging.WARNING, "otelflow"):
        ((endpoint,),) = destinations("http://a:4318")
    assert (endpoint.protocol, endpoint.timeout_seconds(), endpoint.compression_name()) == ("http/protobuf", 10, "none")
    assert [record.getMessage().startswith("otelflow_spool ") for record in caplog.records] == [True]


def test_the_signals_path_is_appended_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many people put it into the variable for all signals by mistake. The variable for traces is used unchanged."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4318/v1/traces")
    assert [endpoint.url for (endpoint,) in destinations()] == ["http://a:4318/v1/traces"]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://a:4318/v1/traces/")
    assert [endpoint.url for (endpoint,) in destinations()] == ["http://a:4318/v1/traces/"]


def test_without_otelflow_the_error_says_what_to_install() -> None:
    """otelflow may be missing, because the other exporters do not need it."""
    program = "import sys; sys.modules['otelflow'] = None; import otelflow_exporters.spool"
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert process.returncode == 1
    assert process.stderr.endswith("ImportError: the spool needs otelflow: pip install 'otelflow-exporters[spool]'\n")
