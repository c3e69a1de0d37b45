"""Destinations of a spool: the OTLP endpoints that it sends to, each with its name in the folder's files."""

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
"""Environment: several endpoints, separated by commas, instead of ``OTEL_EXPORTER_OTLP_ENDPOINT``. Each gets all spans;
one that is down holds up none of the others. They share headers, certificates, timeout and compression."""

_PATH = signal_path("traces")

_logger = logging.getLogger("otelflow")


class Destination(NamedTuple):
    """An endpoint of a spool."""

    endpoint: Endpoint

    @property
    def key(self) -> str:
        """Its name in files: an endpoint may hold credentials."""
        url = self.endpoint.url
        return hashlib.sha256((url if "://" in url else f"http://{url}").encode()).hexdigest()[:12]

    @property
    def shown(self) -> str:
        """Its URL without credentials and query."""
        return self.endpoint.bare_url


def destinations(url: str | None = None, headers: Mapping[str, str] | None = None) -> list[Destination]:
    """Return where to send: to ``url``, or else where the environment says.

    A value of the environment that cannot be used is logged and passed over: the spool keeps the spans meanwhile.

    Args:
        url: The only endpoint, in the place of the environment's.
        headers: Sent in the place of the environment's.
    """
    return [_destination(setting, is_base, headers) for setting, is_base in _urls(url)]


def _urls(url: str | None) -> Iterator[tuple[Setting, bool]]:
    """Each endpoint, and whether it always gets the signal's path."""
    if url:
        yield Setting(url, "configure(endpoint=...)"), False
        return
    several = os.environ.get(OTELFLOW_EXPORTER_SPOOL_ENDPOINTS, "")
    urls = dict.fromkeys(text.strip() for text in several.split(",") if text.strip())
    for text in urls:
        yield Setting(text, OTELFLOW_EXPORTER_SPOOL_ENDPOINTS), True
    if not urls:
        yield otlp_setting("ENDPOINT"), True


def _destination(address: Setting, is_base: bool, headers: Mapping[str, str] | None) -> Destination:
    try:
        protocol = find_protocol(address.text)
    except ConfigError as error:
        protocol = protocol_of_port(address.text)
        _logger.warning("otelflow_spool uses %s: %s", protocol.text, error)
    url = address if protocol.text == GRPC else address._replace(text=_http_url(address, is_base))
    endpoint = find_endpoint(url=url, is_base=is_base, protocol=protocol, headers=headers, is_checked=False)
    return Destination(_usable(endpoint))


def _http_url(address: Setting, is_base: bool) -> str:
    """The URL with a scheme; a base that has the signal's path already, without it."""
    url = f"http://{address.text}" if address.text and "://" not in address.text else address.text
    if is_base and address.source != "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT":
        url = url.rstrip("/").removesuffix(_PATH)
    return url


def _usable(endpoint: Endpoint) -> Endpoint:
    """The endpoint without values that a sender would refuse."""
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
