"""OTLP over gRPC: send one request, read one response."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped,unused-ignore]  # its stubs are a package of their own
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otelflow._otlp.endpoint import Endpoint, Setting
from otelflow._otlp.grpc_fork import within_grpc
from otelflow._otlp.response import Outcome, Response, grpc_outcome
from otelflow._version import __version__

__all__ = ["GrpcSender", "read_certificates"]

_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

_AWAY = {"UNAVAILABLE", "DEADLINE_EXCEEDED"}
"""There may be no connection any more, or one that nobody is at the other end of."""


class GrpcSender:
    """Send to one endpoint over a channel that stays open.

    After an outage it opens a new one: a channel connects again by a clock of its own, up to two minutes later. Each
    new channel reads the certificates again.

    Raises:
        ValueError: The endpoint's timeout or compression cannot be used.
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
        """Open the channel of this process, when it first sends: a channel cannot be used after a fork."""
        options = (
            ("grpc.primary_user_agent", f"otelflow/{__version__}"),
            ("grpc.use_local_subchannel_pool", 1),  # else a new one may get the last one's connection and clock
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
        """Send one request. Raises nothing that a receiver or a network can cause."""
        if within_grpc.is_torn:
            return Response(Outcome.UNSENDABLE, "forked in the middle of a request, gRPC cannot be used here")
        try:
            partial = self.call(body, self._timeout).partial_success
        except grpc.RpcError as error:
            if error.code().name in _AWAY:
                self._disconnect()
            return _failed(error)
        except ValueError as error:  # the channel was closed: the process is ending; or gRPC does not allow a header
            is_closed = self._closed_in == os.getpid()
            return Response(Outcome.RETRY, "closed") if is_closed else Response(Outcome.UNSENDABLE, str(error))
        except OSError as error:  # a certificate that is not there
            return Response(Outcome.RETRY, type(error).__name__)
        return Response(Outcome.ACCEPTED, partial.error_message, max(0, partial.rejected_spans))

    def call(self, body: bytes, timeout: float) -> Any:
        """Send one request and return the response as it is. Raises :class:`grpc.RpcError` for any other status."""
        with within_grpc:
            if self._process != os.getpid():
                if self._closed_in == os.getpid():
                    raise ValueError("closed")
                self._connect()
            return self._export(body, timeout=timeout, metadata=self._metadata)

    def close(self) -> None:
        """End the channel, and with it a request that is under way."""
        self._closed_in = os.getpid()
        self._disconnect()

    def _disconnect(self) -> None:
        channel, process = self._channel, self._process
        self._process = 0
        if channel is not None and process == os.getpid():
            channel.close()


def read_certificates(endpoint: Endpoint) -> tuple[bytes | None, bytes | None, bytes | None]:
    """Return the certificates to trust, the client's key and its certificate, in PEM.

    Raises:
        OSError: One of the files cannot be read.
    """
    return _content(endpoint.certificate), _content(endpoint.client_key), _content(endpoint.client_certificate)


def _content(path: Setting) -> bytes | None:
    return Path(path.text).read_bytes() if path.text else None


def _failed(error: Any) -> Response:
    code, retry_after = error.code().name, _retry_delay(error.trailing_metadata())
    return Response(grpc_outcome(code, error.details() or "", retry_after), code, retry_after=retry_after)


def _retry_delay(metadata: Any) -> float | None:
    """Return the seconds of a RetryInfo: among the details of a status, or by itself."""
    values = {name: value for name, value in metadata or () if isinstance(value, bytes)}
    by_itself, details = values.get("google.rpc.retryinfo-bin"), values.get("grpc-status-details-bin")
    if by_itself is None and details is None:
        return None
    from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped,unused-ignore]
    from google.rpc.status_pb2 import Status  # type: ignore[import-untyped,unused-ignore]

    info = RetryInfo()
    try:
        if by_itself is not None:
            info.ParseFromString(by_itself)
        elif not any(item.Unpack(info) for item in Status.FromString(details or b"").details):
            return None
    except Exception:  # bytes of another kind
        return None
    return float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)
