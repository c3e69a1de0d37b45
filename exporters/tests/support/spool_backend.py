"""An OTLP backend for tests of the spool: it can go down and come back on the same port, and its answers can be set."""

from __future__ import annotations

import socket
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any

from http_receiver import Handler, HttpReceiver, decompress, spans_in
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


def partial_success_body(spans: int) -> bytes:
    """Return the body of a partial success that rejected that number of spans."""
    response = ExportTraceServiceResponse()
    response.partial_success.rejected_spans = spans
    return response.SerializeToString()


class Backend:
    """A receiver of OTLP over HTTP on a port of loopback, which it keeps while it is down."""

    def __init__(self, *, is_up: bool = True, pair: tuple[Path, Path] | None = None) -> None:
        self.spans: list[Any] = []
        self.requests: list[dict[str, str]] = []
        self.answers: deque[tuple[int, dict[str, str], bytes]] = deque()
        """Answers for the next requests. After them all requests are accepted."""
        self.max_bytes = 1 << 40
        """A larger request gets a 413."""
        self.refused_name = ""
        """A request with a span of this name gets a 400."""
        self._certificate_pair = pair
        self._server: HttpReceiver | None = None
        self._bind(0)
        self.endpoint = f"{'http' if pair is None else 'https'}://127.0.0.1:{self.port}"
        if is_up:
            self.up()

    def _bind(self, port: int) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", port))  # bound but not listening: connections are refused
        self.port = self._socket.getsockname()[1]

    def up(self) -> None:
        self._server = HttpReceiver(self._answer, bound=self._socket, pair=self._certificate_pair)

    def _answer(self, request: Handler, body: bytes) -> None:
        request.reply(*self.take(dict(request.headers), body))

    def down(self) -> None:
        self.close()
        self._bind(self.port)

    def close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
        self._socket.close()

    def take(self, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        self.requests.append(headers)
        if len(body) > self.max_bytes:
            return 413, {}, b""
        spans = spans_in(ExportTraceServiceRequest.FromString(decompress(headers, body)))
        if any(span.name == self.refused_name for span, _, _ in spans):
            return 400, {}, b""
        answer = self.answers.popleft() if self.answers else (200, {}, b"")
        if answer[0] == 200:
            self.spans.extend(spans)
        return answer

    @property
    def names(self) -> list[str]:
        """The names of the spans, in the order of arrival."""
        return [span.name for span, _, _ in self.spans]

    def count(self) -> Counter[bytes]:
        """Count how often each span arrived, by its id."""
        return Counter(span.span_id for span, _, _ in list(self.spans))

    def wait_for(self, number: int, seconds: float = 20) -> None:
        """Wait until that many different spans have arrived. Raise AssertionError at a timeout."""
        deadline = time.monotonic() + seconds
        while len(self.count()) < number:
            if time.monotonic() > deadline:
                raise AssertionError(f"{len(self.count())} of {number} spans arrived")
            time.sleep(0.02)
