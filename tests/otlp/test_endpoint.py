"""Endpoint: what the environment and the arguments say, and where each value comes from."""

from __future__ import annotations

import os
from typing import Any

import pytest

from otelflow._otlp.endpoint import Setting, find_endpoint, otlp_setting
from otelflow._otlp.grpc_sender import _retry_delay
from otelflow.errors import ConfigError

OWN, GENERAL = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that says nothing."""
    for name in [name for name in os.environ if name.startswith("OTEL")]:
        monkeypatch.delenv(name)


def test_the_signals_variable_goes_before_the_general_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that holds white space only is not set."""
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
        ({GENERAL: "http://a", OWN: "http://b/here"}, "http://b/here", OWN, "http/protobuf"),
        ({GENERAL: "http://a:4317"}, "http://a:4317", GENERAL, "grpc"),
        ({GENERAL: "a:4317"}, "a:4317", GENERAL, "grpc"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "GRPC"}, "http://localhost:4317", "default", "grpc"),
    ],
)
def test_the_environment_says_where(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], url: str, source: str, protocol: str
) -> None:
    """As OTLP's specification has it: a path is appended to the general variable only."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    endpoint = find_endpoint()
    assert (endpoint.url, endpoint.source, endpoint.protocol) == (url, source, protocol)


@pytest.mark.parametrize(
    ("given", "is_base", "url"),
    [
        ("http://a:1", False, "http://a:1/v1/traces"),
        ("http://a:1/", False, "http://a:1/v1/traces"),
        ("http://a:1/own", False, "http://a:1/own"),
        ("http://a:1/own/", False, "http://a:1/own/"),
        ("http://a:1/own/", True, "http://a:1/own/v1/traces"),
    ],
)
def test_what_is_given_goes_before_all_variables(
    monkeypatch: pytest.MonkeyPatch, given: str, is_base: bool, url: str
) -> None:
    """It gets the path where it has none, or always where it is a base."""
    monkeypatch.setenv(OWN, "http://b/here")
    endpoint = find_endpoint(url=Setting(given, "an argument"), is_base=is_base, headers={"c": "d"})
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
def test_what_a_url_says_over_grpc(
    monkeypatch: pytest.MonkeyPatch, url: str, insecure: str, facts: tuple[Any, ...]
) -> None:
    """Whether TLS is spoken, host, port, and both as people write them."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_INSECURE", insecure)
    endpoint = find_endpoint(url=Setting(url, "test"), protocol=Setting("grpc", "test"))
    assert (endpoint.tls, endpoint.host, endpoint.port, endpoint.place) == facts


def test_a_url_is_shown_without_its_secrets() -> None:
    """With marks, or without any trace of them."""
    endpoint = find_endpoint(url=Setting("http://me:hunter2@a:1/x?key=hunter2#f", "test"))
    assert endpoint.shown == "http://[redacted]@a:1/x?key=[redacted]"
    assert endpoint.bare_url == "http://a:1/x"


@pytest.mark.parametrize("url", ["a:4318", "http://", "ftp://a", "http://a:b", "http://[::1", "http://a:0"])
def test_a_url_that_cannot_be_called_is_an_error(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """It is named, unless somebody wants it as it is."""
    monkeypatch.setenv(GENERAL, url)
    with pytest.raises(ConfigError, match="is no URL that can be called"):
        find_endpoint()
    assert find_endpoint(is_checked=False).source == GENERAL


def test_grpc_says_when_to_come_again() -> None:
    """RetryInfo, in the status's details as the standard has it, or by itself."""
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
