"""OTLP endpoint: where a signal is sent and how, each value with the variable or argument that it comes from.

The exporter, its factory, the doctor and the spool read the same object, so they cannot disagree.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from opentelemetry.util.re import parse_env_headers

from otelflow._secrets.urls import redacted_url, url_without_credentials
from otelflow.errors import ConfigError

__all__ = [
    "DEFAULT",
    "GRPC",
    "GRPC_PORT",
    "HTTP",
    "HTTP_PORT",
    "Endpoint",
    "Setting",
    "check_endpoint",
    "find_endpoint",
    "find_protocol",
    "otlp_setting",
    "protocol_of_port",
    "signal_path",
]

GRPC, HTTP = "grpc", "http/protobuf"
GRPC_PORT, HTTP_PORT = 4317, 4318
"""OTLP specification: the default ports of the two transports."""

DEFAULT = "default"
"""Source of a value that nobody set."""

_TIMEOUT_SECONDS = 10.0
_COMPRESSIONS = {GRPC: ("none", "gzip"), HTTP: ("none", "gzip", "deflate")}


class Setting(NamedTuple):
    """A value as it is written, and the variable, option or argument that it comes from."""

    text: str = ""
    source: str = DEFAULT


def otlp_setting(name: str, signal: str = "traces") -> Setting:
    """Read ``OTEL_EXPORTER_OTLP_…``: the signal's own variable, or else the one for all signals.

    Args:
        name: End of the variable's name, such as ``HEADERS``.
        signal: ``traces``, ``metrics`` or ``logs``.
    """
    for variable in (f"OTEL_EXPORTER_OTLP_{signal.upper()}_{name}", f"OTEL_EXPORTER_OTLP_{name}"):
        if text := os.environ.get(variable, "").strip():
            return Setting(text, variable)
    return Setting()


class Endpoint(NamedTuple):
    """Where one signal is sent over OTLP, and how.

    ``url`` is complete, with the signal's path for HTTP. It may hold a password: show :attr:`shown` or
    :attr:`bare_url` instead. The other settings are kept as they are written; a method reads each that can be wrong.
    """

    url: str
    source: str
    """Where the URL comes from."""
    protocol: str
    """:data:`GRPC` or :data:`HTTP`."""
    protocol_source: str
    headers: Setting
    timeout: Setting
    compression: Setting
    certificate: Setting
    client_certificate: Setting
    client_key: Setting
    insecure: Setting
    given_headers: Mapping[str, str] | None = None
    """Headers of ``configure(headers=...)``: sent in the place of the environment's."""

    @property
    def is_grpc(self) -> bool:
        """Whether the protocol is gRPC."""
        return self.protocol == GRPC

    @property
    def shown(self) -> str:
        """The URL with marks in the place of credentials and query values."""
        return redacted_url(self.url)

    @property
    def bare_url(self) -> str:
        """The URL without credentials and query."""
        return url_without_credentials(self.url)

    @property
    def host(self) -> str:
        """Host name or address, without brackets."""
        return _split(self.url).hostname or ""

    @property
    def port(self) -> int:
        """The port that is called. gRPC's own default is 443, with and without TLS."""
        return _split(self.url).port or (443 if self.is_grpc or self.tls else 80)

    @property
    def authority(self) -> str:
        """``host:port`` as the URL has it: what a gRPC channel connects to."""
        return _split(self.url).netloc

    @property
    def place(self) -> str:
        """``host:port`` for people, the port always there."""
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether the host is this machine by its usual names."""
        return self.host in ("localhost", "127.0.0.1", "::1")

    @property
    def tls(self) -> bool:
        """Whether TLS is spoken: as the scheme says. For gRPC, OTEL_EXPORTER_OTLP_INSECURE decides beside ``http://``
        and without a scheme, as in OpenTelemetry's exporter for Python."""
        scheme = _split(self.url).scheme
        if not self.is_grpc or scheme == "https":
            return scheme == "https"
        return self.insecure.text.lower() != "true" if self.insecure.text else scheme != "http"

    def header_values(self) -> dict[str, str]:
        """Return the headers to send, decoded."""
        return dict(self.given_headers or parse_env_headers(self.headers.text, liberal=True))

    def timeout_seconds(self) -> float:
        """Return the time limit of one request, in seconds.

        Raises:
            ValueError: It is not a number above 0.
        """
        seconds = float(self.timeout.text or _TIMEOUT_SECONDS)
        if not 0 < seconds < threading.TIMEOUT_MAX:  # each request would raise
            raise ValueError(f"OTEL_EXPORTER_OTLP_TIMEOUT is {self.timeout.text!r}. Use a number of seconds above 0")
        return seconds

    def compression_name(self) -> str:
        """Return ``none``, ``gzip`` or ``deflate``.

        Raises:
            ValueError: The protocol has no such compression.
        """
        name = self.compression.text.lower() or "none"
        if name not in _COMPRESSIONS[self.protocol]:
            raise ValueError(f"OTEL_EXPORTER_OTLP_COMPRESSION is {name!r}. Use gzip or none")
        return name


def find_endpoint(
    signal: str = "traces",
    *,
    url: Setting | None = None,
    is_base: bool = False,
    protocol: Setting | None = None,
    headers: Mapping[str, str] | None = None,
    is_checked: bool = True,
) -> Endpoint:
    """Return the endpoint that the environment and the arguments describe.

    Args:
        signal: ``traces``, ``metrics`` or ``logs``.
        url: Used in the place of the environment's. Over HTTP it gets the signal's path if it has no path.
        is_base: ``url`` always gets the signal's path, as OTEL_EXPORTER_OTLP_ENDPOINT does.
        protocol: :data:`GRPC` or :data:`HTTP`, in the place of the environment's.
        headers: Sent in the place of the environment's.
        is_checked: Raise where the URL cannot be called.

    Raises:
        ConfigError: The URL cannot be called, or the environment asks for an unknown protocol.
    """
    address = url if url and url.text else otlp_setting("ENDPOINT", signal)
    chosen = protocol or find_protocol(address.text, signal)
    if address.text and is_checked:
        check_endpoint(address.text, chosen.text == HTTP)
    return Endpoint(
        _whole_url(address, chosen.text, signal, is_base or address is not url),
        address.source,
        chosen.text,
        chosen.source,
        headers=otlp_setting("HEADERS", signal),
        timeout=otlp_setting("TIMEOUT", signal),
        compression=otlp_setting("COMPRESSION", signal),
        certificate=otlp_setting("CERTIFICATE", signal),
        client_certificate=otlp_setting("CLIENT_CERTIFICATE", signal),
        client_key=otlp_setting("CLIENT_KEY", signal),
        insecure=otlp_setting("INSECURE", signal),
        given_headers=headers,
    )


def _whole_url(address: Setting, protocol: str, signal: str, is_base: bool) -> str:
    if protocol == GRPC:
        return address.text or f"http://localhost:{GRPC_PORT}"
    if address.source == f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT":
        return address.text  # OTLP exporter specification: the signal's own variable is used as it is
    base = (address.text or f"http://localhost:{HTTP_PORT}").rstrip("/")
    has_path = _split(base).path.strip("/")
    return address.text if has_path and not is_base else base + signal_path(signal)


def find_protocol(url: str, signal: str = "traces") -> Setting:
    """Return the protocol of OTEL_EXPORTER_OTLP_PROTOCOL; if unset, gRPC for a URL with port 4317, else HTTP.

    Raises:
        ConfigError: The variable asks for a protocol that Python has no exporter for.
    """
    protocol, source = otlp_setting("PROTOCOL", signal)
    protocol = protocol.lower()
    if protocol in (GRPC, HTTP):
        return Setting(protocol, source)
    if protocol:
        near = " Python has no exporter for JSON." if "json" in protocol else ""
        raise ConfigError(f"{source} is {protocol!r}.{near} Set {source} to {HTTP} or {GRPC}.", setting=source)
    return protocol_of_port(url)


def protocol_of_port(url: str) -> Setting:
    """Return gRPC for a URL with port 4317, else HTTP."""
    try:
        port = urlsplit(url if "//" in url else f"//{url}").port
    except ValueError:
        port = None
    return Setting(GRPC, f"default for port {GRPC_PORT}") if port == GRPC_PORT else Setting(HTTP)


def check_endpoint(url: str, is_http: bool) -> None:
    """Raise unless an exporter can call ``url``.

    Raises:
        ConfigError: It is not a URL with scheme (over HTTP), host and a valid port.
    """
    try:
        parts = urlsplit(url if "://" in url or is_http else f"http://{url}")
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is not a number, brackets that do not close
        usable = False
    if not usable:
        example = f"http://localhost:{HTTP_PORT if is_http else GRPC_PORT}"
        raise ConfigError(
            f"The OTLP endpoint {url!r} is no URL that can be called. Use one like {example} "
            "(OTEL_EXPORTER_OTLP_ENDPOINT, or configure(endpoint=...)).",
            setting="OTEL_EXPORTER_OTLP_ENDPOINT",
        )


def signal_path(signal: str) -> str:
    """Return the default path of a signal (OTLP specification, OTLP/HTTP request)."""
    return f"/v1/{signal}"


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url if "://" in url else f"//{url}")
    except ValueError:  # only where nobody checked it: no receiver will be found there
        return SplitResult("", url, "", "", "")
