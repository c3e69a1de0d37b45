"""Serve HTTP on a loopback port and decode OTLP: the base of every receiver in the tests."""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

__all__ = ["Handler", "HttpReceiver", "KeepAliveHandler", "decompress", "spans_in"]

_UNPACK = {"gzip": gzip.decompress, "deflate": zlib.decompress, None: bytes}


def decompress(headers: Mapping[str, str], body: bytes) -> bytes:
    """Return the decompressed body of a request."""
    return _UNPACK[headers.get("Content-Encoding")](body)


def spans_in(request: ExportTraceServiceRequest) -> list[Any]:
    """Return the spans of a request, each with its resource and its scope."""
    return [
        (span, resource_spans.resource, scope.scope)
        for resource_spans in request.resource_spans
        for scope in resource_spans.scope_spans
        for span in scope.spans
    ]


class Handler(BaseHTTPRequestHandler):
    """Reads each POST, and calls the receiver's ``answer`` with itself and the raw body."""

    server: HttpReceiver

    def do_POST(self) -> None:
        self.server.answer(self, self.rfile.read(int(self.headers["Content-Length"])))

    def reply(self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> None:
        """Send a response with only these headers and the length: tests of clocks send their own ``Date``."""
        self.send_response_only(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


class KeepAliveHandler(Handler):
    """Keeps connections open, as every real receiver does."""

    protocol_version = "HTTP/1.1"


class HttpReceiver(ThreadingHTTPServer):
    """An HTTP server on loopback that runs on its own thread until ``close``.

    ``bound`` is a socket to listen on instead of ``port``; ``pair`` is a certificate and its key. A ``quiet`` server
    prints no traceback for a request that breaks off: these tests are about clients that die or use another protocol.
    """

    def __init__(
        self,
        answer: Callable[[Any, bytes], None],
        *,
        port: int = 0,
        bound: socket.socket | None = None,
        pair: tuple[Path, Path] | None = None,
        handler: type[Handler] = Handler,
        quiet: bool = True,
    ) -> None:
        super().__init__(("127.0.0.1", port), handler, bind_and_activate=bound is None)
        if bound is not None:
            self.socket.close()
            self.socket = bound
            self.server_activate()
        if pair is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*pair)
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.answer = answer
        self.port: int = self.socket.getsockname()[1]
        self.endpoint = f"{'http' if pair is None else 'https'}://127.0.0.1:{self.port}"
        self._quiet = quiet
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,))
        self._thread.start()

    def handle_error(self, *request: Any) -> None:
        if not self._quiet:
            super().handle_error(*request)

    def stop(self) -> None:
        """Accept no more connections; open ones stay open."""
        self.shutdown()
        self._thread.join()

    def close(self) -> None:
        self.stop()
        self.server_close()
