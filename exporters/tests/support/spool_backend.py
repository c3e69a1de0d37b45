"""A backend for tests of the spool: it goes down and comes back on its port, and answers as it is told."""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
import time
import zlib
from collections import Counter, deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

_UNPACK = {"gzip": gzip.decompress, "deflate": zlib.decompress, None: bytes}


def rejecting(spans: int) -> bytes:
    """The body of an answer that says that so many were left out."""
    response = ExportTraceServiceResponse()
    response.partial_success.rejected_spans = spans
    return response.SerializeToString()


class Backend:
    """Takes OTLP over HTTP on a port of loopback that stays its own."""

    def __init__(self, *, is_up: bool = True, pair: tuple[Path, Path] | None = None) -> None:
        self.spans: list[Any] = []
        self.requests: list[dict[str, str]] = []
        self.answers: deque[tuple[int, dict[str, str], bytes]] = deque()
        """For the next requests; after them, all are taken."""
        self.most_bytes = 1 << 40
        """A request above it is answered by 413."""
        self.poison = ""
        """A request with a span of this name is answered by 400."""
        self._pair = pair
        self._server: ThreadingHTTPServer | None = None
        self._bind(0)
        self.endpoint = f"{'http' if pair is None else 'https'}://127.0.0.1:{self.port}"
        if is_up:
            self.up()

    def _bind(self, port: int) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", port))  # bound, and listening to nobody: connections are refused
        self.port = self._socket.getsockname()[1]

    def up(self) -> None:
        backend = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                status, headers, body = backend.take(dict(self.headers), self.rfile.read(self.length()))
                self.send_response_only(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def length(self) -> int:
                return int(self.headers["Content-Length"])

            def log_message(self, *_: Any) -> None:
                pass

        self._server = _Quiet(("127.0.0.1", self.port), Handler, bind_and_activate=False)
        self._server.socket.close()
        self._server.socket = self._socket
        self._server.server_activate()
        if self._pair is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self._pair)
            self._server.socket = context.wrap_socket(self._socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def down(self) -> None:
        self.close()
        self._bind(self.port)

    def close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            self._thread.join()
            server.server_close()
        self._socket.close()

    def take(self, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        self.requests.append(headers)
        if len(body) > self.most_bytes:
            return 413, {}, b""
        request = ExportTraceServiceRequest.FromString(_UNPACK[headers.get("Content-Encoding")](body))
        spans = [
            (span, each.resource, scope.scope)
            for each in request.resource_spans
            for scope in each.scope_spans
            for span in scope.spans
        ]
        if any(span.name == self.poison for span, _, _ in spans):
            return 400, {}, b""
        answer = self.answers.popleft() if self.answers else (200, {}, b"")
        if answer[0] == 200:
            self.spans.extend(spans)
        return answer

    @property
    def names(self) -> list[str]:
        """The spans' names, as they came."""
        return [span.name for span, _, _ in self.spans]

    def count(self) -> Counter[bytes]:
        """How often each span came, by its id."""
        return Counter(span.span_id for span, _, _ in list(self.spans))

    def wait_for(self, number: int, seconds: float = 20) -> None:
        """Wait until that many different spans are here; raises where they do not come."""
        end = time.monotonic() + seconds
        while len(self.count()) < number:
            if time.monotonic() > end:
                raise AssertionError(f"{len(self.count())} of {number} spans came")
            time.sleep(0.02)


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        pass  # a client that was killed
