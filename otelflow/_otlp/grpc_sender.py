"""OTLP over gRPC: send one request, read one response."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped,unused-ignore]  # its stubs are a package of their own
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otelflow._otlp.endpoint import Endpoint, Setting
from otelflow._otlp.grpc_fork import grpc_calls
from otelflow._otlp.response import Outcome, Response, grpc_outcome
from otelflow._version import __version__

__all__ = ["GrpcSender", "read_certificates"]

_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

_CONNECTION_CODES = {"UNAVAILABLE", "DEADLINE_EXCEEDED"}
"""Codes after which the channel is closed: the connection, or its other end, may be gone."""


class GrpcSender:
    """Sends requests to one endpoint over a channel that stays open.

    After an outage it opens a new channel: a channel reconnects after delays of its own, up to two minutes. Each new
    channel reads the certificates again.

    Raises:
        ValueError: The endpoint's timeout or compression is invalid.
    """

    component_type = "otlp_grpc_span_exporter"

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint.authority
        self._settings = endpoint
        self._metadata = tuple((name.lower(), value) for name, value in endpoint.header_values().items())
        self._timeout = endpoint.timeout_seconds()
        is_gzip = endpoint.compression_name() == "gzip"
        self._compression = grpc.Compression.Gzip if is_gzip else grpc.Compression.NoCompression
        self._process = self._closed_in = 0
        self._channel: Any = None
        self._export: Any = None

    def _connect(self) -> None:
        """Open a channel, with the first request of a process: a channel cannot be used after a fork."""
        options = (
            ("grpc.primary_user_agent", f"otelflow/{__version__}"),
            ("grpc.use_local_subchannel_pool", 1),  # else a new channel may reuse the last connection and its delay
        )
        if self._settings.tls:
            credentials = grpc.ssl_channel_credentials(*read_certificates(self._settings))
            self._channel = grpc.secure_channel(self.endpoint, credentials, options, self._compression)
        else:
            self._channel = grpc.insecure_channel(self.endpoint, options, self._compression)
        self._export = self._channel.unary_unary(
            _METHOD, request_serializer=None, response_deserializer=ExportTraceServiceResponse.FromString
        )
        self._process = os.getpid()

    def send(self, body: bytes) -> Response:
        """Send one request. Failures of the receiver or the network are returned, not raised."""
        if grpc_calls.is_interrupted:
            return Response(Outcome.UNSENDABLE, "this process was forked during a gRPC request and cannot use gRPC")
        try:
            partial = self.call(body, self._timeout).partial_success
        except grpc.RpcError as error:
            if error.code().name in _CONNECTION_CODES:
                self._disconnect()
            return _failure(error)
        except ValueError as error:  # the channel is closed, as the process ends; or gRPC refuses a header
            is_closed = self._closed_in == os.getpid()
            return Response(Outcome.RETRY, "closed") if is_closed else Response(Outcome.UNSENDABLE, str(error))
        except OSError as error:  # a certificate file is missing
            return Response(Outcome.RETRY, type(error).__name__)
        return Response(Outcome.ACCEPTED, partial.error_message, max(0, partial.rejected_spans))

    def call(self, body: bytes, timeout: float) -> Any:
        """Send one request and return the response message; raise :class:`grpc.RpcError` for any status but OK."""
        with grpc_calls:
            if self._process != os.getpid():
                if self._closed_in == os.getpid():
                    raise ValueError("closed")
                self._connect()
            return self._export(body, timeout=timeout, metadata=self._metadata)

    def close(self) -> None:
        """Close the channel; this aborts a request in progress."""
        self._closed_in = os.getpid()
        self._disconnect()

    def _disconnect(self) -> None:
        channel, process = self._channel, self._process
        self._process = 0
        if channel is not None and process == os.getpid():
            channel.close()


def read_certificates(endpoint: Endpoint) -> tuple[bytes | None, bytes | None, bytes | None]:
    """Return the trusted certificates, the client's key and the client's certificate, in PEM.

    Raises:
        OSError: A file cannot be read.
    """
    return _read(endpoint.certificate), _read(endpoint.client_key), _read(endpoint.client_certificate)


def _read(path: Setting) -> bytes | None:
    return Path(path.text).read_bytes() if path.text else None


def _failure(error: Any) -> Response:
    code, retry_after = error.code().name, _retry_delay(error.trailing_metadata())
    return Response(grpc_outcome(code, error.details() or "", retry_after), code, retry_after=retry_after)


def _retry_delay(metadata: Any) -> float | None:
    """Return the seconds of a RetryInfo, which is in the details of a status or in metadata of its own."""
    values = {name: value for name, value in metadata or () if isinstance(value, bytes)}
    retry_info, details = values.get("google.rpc.retryinfo-bin"), values.get("grpc-status-details-bin")
    if retry_info is None and details is None:
        return None
    from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped,unused-ignore]
    from google.rpc.status_pb2 import Status  # type: ignore[import-untyped,unused-ignore]

    info = RetryInfo()
    try:
        if retry_info is not None:
            info.ParseFromString(retry_info)
        elif not any(item.Unpack(info) for item in Status.FromString(details or b"").details):
            return None
    except Exception:  # the bytes are another message
        return None
    return float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)
