"""OTLP over gRPC: one request, one answer."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import grpc  # type: ignore[import-untyped,unused-ignore]  # its stubs are a package of their own
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otelflow._otlp.grpc_fork import within_grpc
from otelflow._otlp.response import Answer, Verdict, is_about_size
from otelflow._version import __version__

__all__ = ["GrpcSender"]

_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

_AGAIN = {"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"}
"""https://opentelemetry.io/docs/specs/otlp/#failures"""


_AWAY = {"UNAVAILABLE", "DEADLINE_EXCEEDED"}
"""Where there may be no connection any more, or one that nobody is at the other end of."""


class GrpcSender:
    """Sends to one target (``host:port``) over a channel that stays open; after an outage over a new one, for a channel
    connects again by a clock of its own, up to two minutes later. The certificates are bytes, in PEM."""

    component_type = "otlp_grpc_span_exporter"

    def __init__(
        self,
        target: str,
        headers: Mapping[str, str],
        *,
        timeout: float,
        compression: str,
        secure: bool,
        certificate: bytes | None = None,
        client_key: bytes | None = None,
        client_certificate: bytes | None = None,
    ) -> None:
        self.endpoint = target
        self._metadata = tuple((name.lower(), value) for name, value in headers.items())
        self._timeout = timeout
        self._compression = grpc.Compression.Gzip if compression == "gzip" else grpc.Compression.NoCompression
        self._credentials = (
            grpc.ssl_channel_credentials(certificate, client_key, client_certificate) if secure else None
        )
        self._process = self._closed_in = 0
        self._channel: Any = None
        self._export: Any = None

    def _connect(self) -> None:
        """A channel cannot be used on the other side of a fork; so each process opens its own, when it first sends."""
        options = (
            ("grpc.primary_user_agent", f"otelflow/{__version__}"),
            ("grpc.use_local_subchannel_pool", 1),  # else a new one may get the last one's connection and clock
        )
        if self._credentials is None:
            self._channel = grpc.insecure_channel(self.endpoint, options, self._compression)
        else:
            self._channel = grpc.secure_channel(self.endpoint, self._credentials, options, self._compression)
        self._export = self._channel.unary_unary(
            _METHOD, request_serializer=None, response_deserializer=ExportTraceServiceResponse.FromString
        )
        self._process = os.getpid()

    def send(self, body: bytes) -> Answer:
        """Send one request. Raises nothing that a receiver or a network can cause."""
        if within_grpc.is_torn:
            return Answer(Verdict.REFUSED, "forked in the middle of a request, gRPC cannot be used here")
        try:
            partial = self.call(body, self._timeout).partial_success
        except grpc.RpcError as error:
            if error.code().name in _AWAY:
                self._disconnect()
            return _failed(error)
        except ValueError:  # the channel was closed: the process is ending
            return Answer(Verdict.AGAIN, "closed")
        return Answer(Verdict.ACCEPTED, partial.error_message, partial.rejected_spans)

    def call(self, body: bytes, timeout: float) -> Any:
        """Send one request, and hand the response on as it is. Raises :class:`grpc.RpcError` for any other status."""
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


def _failed(error: Any) -> Answer:
    code = error.code().name
    after = _retry_delay(error)
    if code == "RESOURCE_EXHAUSTED" and after is None:
        return Answer(Verdict.TOO_LARGE if is_about_size(error.details() or "") else Verdict.REFUSED, code)
    if code in _AGAIN or code == "RESOURCE_EXHAUSTED":
        return Answer(Verdict.AGAIN, code, after=after)
    return Answer(Verdict.DOUBTFUL if code in ("INTERNAL", "UNKNOWN") else Verdict.REFUSED, code)


def _retry_delay(error: Any) -> float | None:
    """The seconds of a RetryInfo among the details of a status, where there is one."""
    details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
    if details is None:
        return None
    from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped,unused-ignore]
    from google.rpc.status_pb2 import Status  # type: ignore[import-untyped,unused-ignore]

    info = RetryInfo()
    try:
        told = next((item for item in Status.FromString(details).details if item.Unpack(info)), None)
    except Exception:  # bytes of another kind
        return None
    return None if told is None else info.retry_delay.seconds + info.retry_delay.nanos / 1e9
