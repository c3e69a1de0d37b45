"""OTLP over gRPC, by grpc's own calls: the bytes go as they are."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import grpc  # type: ignore[import-untyped,unused-ignore]  # its stubs are a package of their own
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped,unused-ignore]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped,unused-ignore]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otelflow_exporters._spool.grpc_fork import within_grpc
from otelflow_exporters._spool.target import Answer, Kind, Target

__all__ = ["GrpcSender"]

_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

_LATER = ("CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS")
"""OTLP's retryable codes: https://opentelemetry.io/docs/specs/otlp/#failures. RESOURCE_EXHAUSTED is one only where the
server says when to come again; else it is how grpc says that a message is too large."""

_KINDS = {
    "RESOURCE_EXHAUSTED": Kind.TOO_LARGE,
    "INVALID_ARGUMENT": Kind.MALFORMED,
    "INTERNAL": Kind.DOUBTFUL,
    "UNKNOWN": Kind.DOUBTFUL,
}


_AWAY = ("UNAVAILABLE", "DEADLINE_EXCEEDED")
"""Where there may be no connection any more, or one that nobody is at the other end of."""


class GrpcSender:
    """Sends to one endpoint. The channel is made anew after it was not available: else grpc waits by its own clock."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._metadata = tuple((name.lower(), value) for name, value in target.headers.items())
        self._channel: Any = None

    def send(self, payload: bytes) -> Answer:
        if within_grpc.is_torn:
            return Answer(Kind.LATER, "forked in the middle of a request, gRPC cannot be used here")
        try:
            with within_grpc:
                response = self._call()(payload, timeout=self._target.timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            return self._failed(error)
        except (OSError, ValueError) as error:  # a certificate that is not there; a header that gRPC does not allow
            return Answer(Kind.LATER, f"{type(error).__name__}: {error}")
        partial = response.partial_success
        return Answer(Kind.ACCEPTED, partial.error_message, rejected=max(0, partial.rejected_spans))

    def _call(self) -> Any:
        if self._channel is None:
            where = urlsplit(self._target.url).netloc
            options = {
                "compression": grpc.Compression.Gzip if self._target.compression == "gzip" else None,
                "options": (
                    ("grpc.max_send_message_length", -1),
                    ("grpc.primary_user_agent", "otelflow-exporters"),
                    ("grpc.use_local_subchannel_pool", 1),  # else a new one may get the last one's connection and clock
                ),
            }
            if self._target.insecure:
                self._channel = grpc.insecure_channel(where, **options)
            else:
                self._channel = grpc.secure_channel(where, self._credentials(), **options)
        return self._channel.unary_unary(
            _METHOD, request_serializer=None, response_deserializer=ExportTraceServiceResponse.FromString
        )

    def _credentials(self) -> Any:
        files = self._target.certificate, self._target.client_key, self._target.client_certificate
        return grpc.ssl_channel_credentials(*(None if path is None else _read(path) for path in files))

    def _failed(self, error: Any) -> Answer:
        code, wait = error.code().name, _retry_delay(error.trailing_metadata())
        if code in _AWAY:
            self.close()
        if code in _LATER or (code == "RESOURCE_EXHAUSTED" and wait is not None):
            return Answer(Kind.LATER, code, wait)
        return Answer(_KINDS.get(code, Kind.REFUSED), code)

    def close(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _retry_delay(metadata: Any) -> float | None:
    """The seconds of a RetryInfo, in the status's details or by itself."""
    said = {name: value for name, value in metadata or () if isinstance(value, bytes)}
    info = RetryInfo()
    try:
        if "google.rpc.retryinfo-bin" in said:
            info.ParseFromString(said["google.rpc.retryinfo-bin"])
            return float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)
        for detail in Status.FromString(said.get("grpc-status-details-bin", b"")).details:
            if detail.Unpack(info):
                return float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)
    except Exception:  # what a server sends is not ours to break on
        return None
    return None
