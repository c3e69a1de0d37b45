"""Test ``otelflow doctor`` with TLS: certificates that are missing, not trusted or for another name; and secrets."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import bad_receivers as bad
import pytest
from diagnosis import CLEARED_VARIABLES, ENDPOINT, PROTOCOL, Diagnosis, localhost_url
from programs import command


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a self-signed certificate for localhost, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed; it is needed to create the certificate")
    return bad.certificate(tmp_path_factory.mktemp("certificate"))


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["grpc", "http/protobuf"])
def secure(request: pytest.FixtureRequest, pair: tuple[Path, Path]) -> Iterator[tuple[int, dict[str, str]]]:
    """Run a server with a self-signed certificate; yield its port and the protocol's variable."""
    if request.param == "grpc":
        with bad.grpc_server(pair=pair) as port:
            yield port, {PROTOCOL: "grpc"}
    else:
        with bad.http_server(pair=pair) as server:
            yield server.port, {PROTOCOL: "http/protobuf"}


def test_a_certificate_that_is_not_trusted(secure: tuple[int, dict[str, str]], pair: tuple[Path, Path]) -> None:
    """The doctor reports the reason and the variable to set; with the variable set, the canary arrives."""
    port, protocol = secure
    refused = Diagnosis(**{ENDPOINT: localhost_url(port, "https")}, **protocol)
    trusted = Diagnosis(
        **{ENDPOINT: localhost_url(port, "https")}, **protocol, OTEL_EXPORTER_OTLP_CERTIFICATE=str(pair[0])
    )
    assert (refused.status, trusted.status) == (1, 0)
    assert refused.of("tls").endswith("is self-signed")
    assert refused.next.startswith("Set OTEL_EXPORTER_OTLP_CERTIFICATE")
    assert "certificate valid until" in trusted.of("tls")


def test_plain_text_to_a_port_that_speaks_tls(secure: tuple[int, dict[str, str]]) -> None:
    """The doctor detects TLS and advises https://."""
    port, protocol = secure
    diagnosis = Diagnosis(**{ENDPOINT: localhost_url(port)}, **protocol)
    assert "speaks TLS, and the request was plain text" in diagnosis.of("canary")
    assert diagnosis.next == f"Write https:// instead of http:// for localhost:{port}."


def test_a_certificate_file_that_is_missing(secure: tuple[int, dict[str, str]], tmp_path: Path) -> None:
    """The doctor names the file and its variable."""
    port, protocol = secure
    missing = str(tmp_path / "none.pem")
    diagnosis = Diagnosis(
        **{ENDPOINT: localhost_url(port, "https")}, **protocol, OTEL_EXPORTER_OTLP_CERTIFICATE=missing
    )
    assert diagnosis.status == 1
    assert f"{missing!r}, cannot be read" in diagnosis.of("tls")
    assert diagnosis.next.startswith("Set OTEL_EXPORTER_OTLP_CERTIFICATE")


def test_a_certificate_for_another_name(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """The certificate is trusted, but it is not for this host."""
    other = bad.certificate(tmp_path, "elsewhere", "10.0.0.1")
    with bad.http_server(pair=other) as server:
        diagnosis = Diagnosis(
            **{ENDPOINT: localhost_url(server.port, "https")}, OTEL_EXPORTER_OTLP_CERTIFICATE=str(other[0])
        )
    assert diagnosis.of("tls").endswith("is for another name")
    assert diagnosis.next.startswith("Call the receiver by a name")


def test_the_certificate_overrides_a_bundle(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """``requests`` would read REQUESTS_CA_BUNDLE first; OpenTelemetry's variable has precedence."""
    other = bad.certificate(tmp_path, "elsewhere", "10.0.0.1")
    with bad.http_server(pair=pair) as server:
        diagnosis = Diagnosis(
            **{ENDPOINT: localhost_url(server.port, "https"), "REQUESTS_CA_BUNDLE": str(other[0])},
            OTEL_EXPORTER_OTLP_CERTIFICATE=str(pair[0]),
        )
    assert diagnosis.status == 0


def test_grpc_to_a_tls_port_without_http_2(pair: tuple[Path, Path]) -> None:
    """The handshake succeeds, but ALPN shows that the server does not speak gRPC."""
    with bad.http_server(pair=pair) as server:
        diagnosis = Diagnosis(
            "--protocol",
            "grpc",
            **{ENDPOINT: localhost_url(server.port, "https")},
            OTEL_EXPORTER_OTLP_CERTIFICATE=str(pair[0]),
        )
    assert "does not offer HTTP/2" in diagnosis.of("tls")
    assert f"{PROTOCOL}=http/protobuf" in diagnosis.next


def test_a_grpc_endpoint_without_a_scheme(pair: tuple[Path, Path]) -> None:
    """The Python exporter uses TLS then, and the doctor reports it."""
    with bad.grpc_server() as port:
        diagnosis = Diagnosis("--protocol", "grpc", **{ENDPOINT: f"localhost:{port}"})
    assert "no scheme: the gRPC exporter uses TLS" in diagnosis.of("url")
    assert diagnosis.of("tls").startswith("error: port ")
    assert "does not speak TLS" in diagnosis.of("tls")


# --- secrets ----------------------------------------------------------------------------------------------------------


def test_secrets_are_sent_and_not_shown(pair: tuple[Path, Path]) -> None:
    """The receiver gets the header values. If it sends them back, the doctor does not show them."""
    with bad.http_server(401, echo=True) as server:
        variables = {
            ENDPOINT: f"http://me:pa55-of-mine@localhost:{server.port}?key=query-value-1",
            "OTEL_EXPORTER_OTLP_HEADERS": "api-key=open%20sesame-7,x-tenant=blue-whale-9",
        }
        plain, structured = command("doctor", **CLEARED_VARIABLES, **variables), Diagnosis(**variables)
    headers, _ = server[0]
    assert (headers["api-key"], headers["x-tenant"]) == ("open sesame-7", "blue-whale-9")
    for text in (plain.stdout, structured.output):
        assert "api-key, x-tenant (values hidden)" in text
        for secret in ("sesame-7", "blue-whale-9", "pa55-of-mine", "query-value-1"):
            assert secret not in text
    assert plain.stderr == ""
