"""OTLP endpoint: the URL and the settings of one signal, each with the variable or argument that it comes from.

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
"""Default ports of the two protocols, from the OTLP specification."""

DEFAULT = "default"
"""Source of a value that is not set."""

_TIMEOUT_SECONDS = 10.0
_COMPRESSIONS = {GRPC: ("none", "gzip"), HTTP: ("none", "gzip", "deflate")}


class Setting(NamedTuple):
    """A value as text, and the variable, option or argument that it comes from."""

    text: str = ""
    source: str = DEFAULT


def otlp_setting(name: str, signal: str = "traces") -> Setting:
    """Read ``OTEL_EXPORTER_OTLP_…``: the signal's own variable; if that is not set, the one for all signals.

    Args:
        name: End of the variable's name, such as ``HEADERS``.
        signal: ``traces``, ``metrics`` or ``logs``.
    """
    for variable in (f"OTEL_EXPORTER_OTLP_{signal.upper()}_{name}", f"OTEL_EXPORTER_OTLP_{name}"):
        if text := os.environ.get(variable, "").strip():
            return Setting(text, variable)
    return Setting()


class Endpoint(NamedTuple):
    """Endpoint of one signal: the URL, the protocol and the settings.

    ``url`` is complete, with the signal's path for HTTP. It may contain a password: print :attr:`display_url` or
    :attr:`bare_url` instead. The other settings are stored as text; methods parse those that can be invalid.
    """

    url: str
    source: str
    """The variable or argument that the URL comes from."""
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
    custom_headers: Mapping[str, str] | None = None
    """Headers of ``configure(headers=...)``; they replace those of the environment."""

    @property
    def is_grpc(self) -> bool:
        """True if the protocol is gRPC."""
        return self.protocol == GRPC

    @property
    def display_url(self) -> str:
        """The URL with credentials and query values redacted."""
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
        """The port to connect to. gRPC's own default is 443, with and without TLS."""
        return _split(self.url).port or (443 if self.is_grpc or self.tls else 80)

    @property
    def authority(self) -> str:
        """``host:port`` as in the URL: the target of a gRPC channel."""
        return _split(self.url).netloc

    @property
    def host_and_port(self) -> str:
        """``host:port`` for messages, always with a port."""
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @property
    def tls(self) -> bool:
        """True if TLS is used: the scheme decides.

        For gRPC with ``http://`` or no scheme, OTEL_EXPORTER_OTLP_INSECURE decides, as in OpenTelemetry's exporter for
        Python.
        """
        scheme = _split(self.url).scheme
        if not self.is_grpc or scheme == "https":
            return scheme == "https"
        return self.insecure.text.lower() != "true" if self.insecure.text else scheme != "http"

    def header_values(self) -> dict[str, str]:
        """Return the headers to send, decoded."""
        return dict(self.custom_headers or parse_env_headers(self.headers.text, liberal=True))

    def timeout_seconds(self) -> float:
        """Return the time limit of one request, in seconds.

        Raises:
            ValueError: It is not a number above 0.
        """
        seconds = float(self.timeout.text or _TIMEOUT_SECONDS)
        if not 0 < seconds < threading.TIMEOUT_MAX:  # otherwise each request would raise
            raise ValueError(f"OTEL_EXPORTER_OTLP_TIMEOUT is {self.timeout.text!r}. Use a number of seconds above 0")
        return seconds

    def compression_name(self) -> str:
        """Return ``none``, ``gzip`` or ``deflate``.

        Raises:
            ValueError: The protocol does not support this compression.
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
        url: Replaces the environment's. With HTTP, the signal's path is appended if the URL has no path.
        is_base: Append the signal's path to ``url`` even if it has a path, as with OTEL_EXPORTER_OTLP_ENDPOINT.
        protocol: :data:`GRPC` or :data:`HTTP`; replaces the environment's.
        headers: Replace the environment's.
        is_checked: Raise an error if the URL is invalid.

    Raises:
        ConfigError: The URL or the environment's protocol is invalid.
    """
    address = url if url and url.text else otlp_setting("ENDPOINT", signal)
    used_protocol = protocol or find_protocol(address.text, signal)
    if address.text and is_checked:
        check_endpoint(address.text, used_protocol.text == HTTP)
    return Endpoint(
        _complete_url(address, used_protocol.text, signal, is_base or address is not url),
        address.source,
        used_protocol.text,
        used_protocol.source,
        headers=otlp_setting("HEADERS", signal),
        timeout=otlp_setting("TIMEOUT", signal),
        compression=otlp_setting("COMPRESSION", signal),
        certificate=otlp_setting("CERTIFICATE", signal),
        client_certificate=otlp_setting("CLIENT_CERTIFICATE", signal),
        client_key=otlp_setting("CLIENT_KEY", signal),
        insecure=otlp_setting("INSECURE", signal),
        custom_headers=headers,
    )


def _complete_url(address: Setting, protocol: str, signal: str, is_base: bool) -> str:
    if protocol == GRPC:
        return address.text or f"http://localhost:{GRPC_PORT}"
    if address.source == f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT":
        return address.text  # OTLP exporter specification: use the signal's own variable unchanged
    base = (address.text or f"http://localhost:{HTTP_PORT}").rstrip("/")
    has_path = _split(base).path.strip("/")
    return address.text if has_path and not is_base else base + signal_path(signal)


def find_protocol(url: str, signal: str = "traces") -> Setting:
    """Return the protocol of OTEL_EXPORTER_OTLP_PROTOCOL; if unset, gRPC for a URL with port 4317, else HTTP.

    Raises:
        ConfigError: The variable names a protocol for which Python has no exporter.
    """
    protocol, source = otlp_setting("PROTOCOL", signal)
    protocol = protocol.lower()
    if protocol in (GRPC, HTTP):
        return Setting(protocol, source)
    if protocol:
        hint = " Python has no exporter for JSON." if "json" in protocol else ""
        raise ConfigError(f"{source} is {protocol!r}.{hint} Set {source} to {HTTP} or {GRPC}.", setting=source)
    return protocol_of_port(url)


def protocol_of_port(url: str) -> Setting:
    """Return gRPC for a URL with port 4317, else HTTP."""
    try:
        port = urlsplit(url if "//" in url else f"//{url}").port
    except ValueError:
        port = None
    return Setting(GRPC, f"default for port {GRPC_PORT}") if port == GRPC_PORT else Setting(HTTP)


def check_endpoint(url: str, is_http: bool) -> None:
    """Raise an error unless ``url`` is a valid endpoint.

    Raises:
        ConfigError: It is not a URL with a scheme (for HTTP), a host and a valid port.
    """
    try:
        parts = urlsplit(url if "://" in url or is_http else f"http://{url}")
        is_valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is not a number, or an unclosed bracket
        is_valid = False
    if not is_valid:
        example = f"http://localhost:{HTTP_PORT if is_http else GRPC_PORT}"
        raise ConfigError(
            f"The OTLP endpoint {url!r} is not a valid URL. Use one like {example} "
            "(OTEL_EXPORTER_OTLP_ENDPOINT, or configure(endpoint=...)).",
            setting="OTEL_EXPORTER_OTLP_ENDPOINT",
        )


def signal_path(signal: str) -> str:
    """Return the default path of a signal (OTLP specification, OTLP/HTTP request)."""
    return f"/v1/{signal}"


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url if "://" in url else f"//{url}")
    except ValueError:  # only with is_checked=False: requests to this URL will fail
        return SplitResult("", url, "", "", "")
