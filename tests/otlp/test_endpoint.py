"""Endpoint: the values from the environment and the arguments, and the source of each."""

from __future__ import annotations

import os
from typing import Any

import pytest

from otelflow._otlp.endpoint import Setting, find_endpoint, otlp_setting
from otelflow._otlp.grpc_sender import _retry_delay
from otelflow.errors import ConfigError

TRACES, GENERAL = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove OpenTelemetry's variables from the environment."""
    for name in [name for name in os.environ if name.startswith("OTEL")]:
        monkeypatch.delenv(name)


def test_the_signals_variable_overrides_the_general_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable with only white space counts as not set."""
    assert otlp_setting("TIMEOUT") == Setting("", "default")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", " 3 ")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", " ")
    assert otlp_setting("TIMEOUT") == Setting("3", "OTEL_EXPORTER_OTLP_TIMEOUT")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "4")
    assert otlp_setting("TIMEOUT") == Setting("4", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT")
    assert otlp_setting("TIMEOUT", "logs") == Setting("3", "OTEL_EXPORTER_OTLP_TIMEOUT")


@pytest.mark.parametrize(
    ("variables", "url", "source", "protocol"),
    [
        ({}, "http://localhost:4318/v1/traces", "default", "http/protobuf"),
        ({GENERAL: "http://a:4318/"}, "http://a:4318/v1/traces", GENERAL, "http/protobuf"),
        ({GENERAL: "http://a/base"}, "http://a/base/v1/traces", GENERAL, "http/protobuf"),
        ({GENERAL: "http://a", TRACES: "http://b/here"}, "http://b/here", TRACES, "http/protobuf"),
        ({GENERAL: "http://a:4317"}, "http://a:4317", GENERAL, "grpc"),
        ({GENERAL: "a:4317"}, "a:4317", GENERAL, "grpc"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "GRPC"}, "http://localhost:4317", "default", "grpc"),
    ],
)
def test_the_environment_sets_the_endpoint(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], url: str, source: str, protocol: str
) -> None:
    """According to the OTLP specification, a path is appended only to the general variable."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    endpoint = find_endpoint()
    assert (endpoint.url, endpoint.source, endpoint.protocol) == (url, source, protocol)


@pytest.mark.parametrize(
    ("argument", "is_base", "url"),
    [
        ("http://a:1", False, "http://a:1/v1/traces"),
        ("http://a:1/", False, "http://a:1/v1/traces"),
        ("http://a:1/own", False, "http://a:1/own"),
        ("http://a:1/own/", False, "http://a:1/own/"),
        ("http://a:1/own/", True, "http://a:1/own/v1/traces"),
    ],
)
def test_an_argument_overrides_all_variables(
    monkeypatch: pytest.MonkeyPatch, argument: str, is_base: bool, url: str
) -> None:
    """The path is appended if it has none, and always if it is a base."""
    monkeypatch.setenv(TRACES, "http://b/here")
    endpoint = find_endpoint(url=Setting(argument, "an argument"), is_base=is_base, headers={"c": "d"})
    assert (endpoint.url, endpoint.source, endpoint.header_values()) == (url, "an argument", {"c": "d"})


@pytest.mark.parametrize(
    ("url", "insecure", "facts"),
    [
        ("http://a:1", "", (False, "a", 1, "a:1")),
        ("https://a", "", (True, "a", 443, "a:443")),
        ("a:1", "", (True, "a", 1, "a:1")),
        ("a:1", "true", (False, "a", 1, "a:1")),
        ("http://a:1", "false", (True, "a", 1, "a:1")),
        ("https://a:1", "true", (True, "a", 1, "a:1")),
        ("http://u:p@[::1]:4317/x", "", (False, "::1", 4317, "[::1]:4317")),
    ],
)
def test_a_grpc_url_has_tls_host_and_port(
    monkeypatch: pytest.MonkeyPatch, url: str, insecure: str, facts: tuple[Any, ...]
) -> None:
    """Also the host and the port as one text."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_INSECURE", insecure)
    endpoint = find_endpoint(url=Setting(url, "test"), protocol=Setting("grpc", "test"))
    assert (endpoint.tls, endpoint.host, endpoint.port, endpoint.host_and_port) == facts


def test_a_url_is_shown_without_its_secrets() -> None:
    """They are redacted or removed."""
    endpoint = find_endpoint(url=Setting("http://me:hunter2@a:1/x?key=hunter2#f", "test"))
    assert endpoint.display_url == "http://[redacted]@a:1/x?key=[redacted]"
    assert endpoint.bare_url == "http://a:1/x"


@pytest.mark.parametrize("url", ["a:4318", "http://", "ftp://a", "http://a:b", "http://[::1", "http://a:0"])
def test_an_invalid_url_is_an_error(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Unless is_checked is False."""
    monkeypatch.setenv(GENERAL, url)
    with pytest.raises(ConfigError, match="is not a valid URL"):
        find_endpoint()
    assert find_endpoint(is_checked=False).source == GENERAL


def test_retry_delay_reads_retry_info() -> None:
    """From the details of the status, as in the standard, or from metadata of its own."""
    from google.protobuf.any_pb2 import Any as AnyMessage
    from google.rpc.error_details_pb2 import RetryInfo
    from google.rpc.status_pb2 import Status

    info, packed = RetryInfo(), AnyMessage()
    info.retry_delay.FromMilliseconds(2500)
    packed.Pack(info)
    assert _retry_delay([("grpc-status-details-bin", Status(details=[packed]).SerializeToString())]) == 2.5
    assert _retry_delay([("google.rpc.retryinfo-bin", info.SerializeToString())]) == 2.5
    assert _retry_delay([("grpc-status-details-bin", b"\xff")]) is None
    assert _retry_delay(None) is None
