"""Destinations of a spool: the OTLP endpoints that it sends to, each with a key that names its files."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from otelflow._otlp.endpoint import (
    GRPC,
    Endpoint,
    Setting,
    find_endpoint,
    find_protocol,
    otlp_setting,
    protocol_of_port,
    signal_path,
)
from otelflow.errors import ConfigError

__all__ = ["OTELFLOW_EXPORTER_SPOOL_ENDPOINTS", "Destination", "destinations"]

OTELFLOW_EXPORTER_SPOOL_ENDPOINTS = "OTELFLOW_EXPORTER_SPOOL_ENDPOINTS"
"""Environment: several endpoints, separated by commas, instead of ``OTEL_EXPORTER_OTLP_ENDPOINT``. Each gets all spans.
An endpoint that is down does not delay the others. They share headers, certificates, timeout and compression."""

_PATH = signal_path("traces")

_logger = logging.getLogger("otelflow")


class Destination(NamedTuple):
    """An endpoint of a spool."""

    endpoint: Endpoint

    @property
    def key(self) -> str:
        """Name of the endpoint in file names: a hash, because the URL may hold credentials."""
        url = self.endpoint.url
        return hashlib.sha256((url if "://" in url else f"http://{url}").encode()).hexdigest()[:12]

    @property
    def display_url(self) -> str:
        """The URL without credentials and query, for messages."""
        return self.endpoint.bare_url


def destinations(url: str | None = None, headers: Mapping[str, str] | None = None) -> list[Destination]:
    """Return the destinations: ``url``, or else the endpoints of the environment.

    An invalid value of the environment is logged and ignored: the spool keeps the spans meanwhile.

    Args:
        url: The only endpoint, instead of the environment's endpoints.
        headers: Headers of each request, instead of the environment's headers.

    Returns:
        The destinations, at least one.
    """
    return [_destination(setting, is_base, headers) for setting, is_base in _urls(url)]


def _urls(url: str | None) -> Iterator[tuple[Setting, bool]]:
    """Yield each endpoint, and whether it is a base URL that always gets the signal's path."""
    if url:
        yield Setting(url, "configure(endpoint=...)"), False
        return
    endpoints = os.environ.get(OTELFLOW_EXPORTER_SPOOL_ENDPOINTS, "")
    urls = dict.fromkeys(text.strip() for text in endpoints.split(",") if text.strip())
    for text in urls:
        yield Setting(text, OTELFLOW_EXPORTER_SPOOL_ENDPOINTS), True
    if not urls:
        yield otlp_setting("ENDPOINT"), True


def _destination(address: Setting, is_base: bool, headers: Mapping[str, str] | None) -> Destination:
    try:
        protocol = find_protocol(address.text)
    except ConfigError as error:
        protocol = protocol_of_port(address.text)
        _logger.warning("otelflow_spool uses the protocol %s: %s", protocol.text, error)
    url = address if protocol.text == GRPC else address._replace(text=_complete_http_url(address, is_base))
    endpoint = find_endpoint(url=url, is_base=is_base, protocol=protocol, headers=headers, is_checked=False)
    return Destination(_drop_invalid_values(endpoint))


def _complete_http_url(address: Setting, is_base: bool) -> str:
    """Return the URL with a scheme. Remove the signal's path from a base URL that already has it."""
    url = f"http://{address.text}" if address.text and "://" not in address.text else address.text
    if is_base and address.source != "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT":
        url = url.rstrip("/").removesuffix(_PATH)
    return url


def _drop_invalid_values(endpoint: Endpoint) -> Endpoint:
    """Return the endpoint without values that a sender would reject."""
    try:
        endpoint.timeout_seconds()
    except ValueError as error:
        _logger.warning("otelflow_spool uses the default timeout: %s.", error)
        endpoint = endpoint._replace(timeout=Setting())
    try:
        endpoint.compression_name()
    except ValueError as error:
        _logger.warning("otelflow_spool sends without compression: %s.", error)
        endpoint = endpoint._replace(compression=Setting())
    return endpoint
