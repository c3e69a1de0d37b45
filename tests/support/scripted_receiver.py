"""A receiver of OTLP over HTTP that is down, hangs, refuses and comes back according to a script."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from http_receiver import HttpReceiver, KeepAliveHandler, decompress, spans_in
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True)
class Answer:
    """How the receiver answers one request.

    ``rejects``: it rejects so many spans, as OTLP's partial success. ``limit``: it answers 413 to a body of more bytes.
    ``seconds``: the answer takes so long. ``hangs``: it does not answer while it is up.
    """

    status: int = 200
    retry_after: int | None = None
    rejects: int = 0
    limit: int | None = None
    seconds: float = 0
    hangs: bool = False


class ScriptedReceiver:
    """Counts the spans that it accepts, by id. It uses its answers in order, and then repeats the last one."""

    def __init__(self, answers: Sequence[Answer] = (), *, up: bool = True) -> None:
        self.spans: Counter[tuple[bytes, bytes]] = Counter()
        """How often each span was accepted, by trace id and span id."""
        self.requests = 0
        self._answers = list(answers) or [Answer()]
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._server: _Server | None = None
        # Two sockets share the port: this one keeps it while the receiver is down, so that connections are refused.
        self._port = bind_loopback_port(0)
        self.port: int = self._port.getsockname()[1]
        if up:
            self.up()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def up(self, *answers: Answer) -> None:
        """Accept connections; use these answers from now on, if there are any."""
        self._answers = list(answers) or self._answers
        if self._server is None:
            self._server = _Server(self)

    def down(self) -> None:
        """Refuse connections, and break the open ones."""
        if self._server is not None:
            server, self._server = self._server, None
            server.gone.set()
            server.stop()
            self.break_connections()
            server.server_close()

    def break_connections(self) -> None:
        """Break all connections, as a load balancer does with idle ones."""
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.down()
        self._port.close()

    def answer_to(self, body: bytes) -> tuple[Answer, bytes]:
        """Return the next answer of the script and its body, and count the accepted spans."""
        with self._lock:
            self.requests += 1
            answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
            if answer.limit is not None and len(body) > answer.limit:
                answer = Answer(413)
            response = ExportTraceServiceResponse()
            if answer.status == 200 and not answer.hangs:
                self._take(ExportTraceServiceRequest.FromString(body), answer.rejects)
                if answer.rejects:
                    response.partial_success.rejected_spans = answer.rejects
                    response.partial_success.error_message = "some spans are rejected"
        return answer, response.SerializeToString()

    def _take(self, request: ExportTraceServiceRequest, rejects: int) -> None:
        spans = [(span.trace_id, span.span_id) for span, *_ in spans_in(request)]
        self.spans.update(spans[rejects:])

    def track(self, connection: socket.socket, is_open: bool) -> None:
        """Keep track of an open connection, or forget a closed one."""
        with self._lock:
            (self._connections.add if is_open else self._connections.discard)(connection)


def bind_loopback_port(port: int) -> socket.socket:
    """Return a socket that is bound to a port of loopback; several may share the port."""
    bound_socket = socket.socket()
    bound_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound_socket.bind(("127.0.0.1", port))
    return bound_socket


class _Server(HttpReceiver):
    daemon_threads = False  # server_close() waits for running requests
    request_queue_size = 128

    def __init__(self, receiver: ScriptedReceiver) -> None:
        self.receiver = receiver
        self.gone = threading.Event()
        super().__init__(_answer, bound=bind_loopback_port(receiver.port), handler=_Handler)


class _Handler(KeepAliveHandler):
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.receiver.track(self.connection, True)

    def finish(self) -> None:
        self.server.receiver.track(self.connection, False)
        with contextlib.suppress(OSError):
            super().finish()


def _answer(request: _Handler, body: bytes) -> None:
    answer, response = request.server.receiver.answer_to(decompress(request.headers, body))
    if answer.hangs:
        request.server.gone.wait()
        request.close_connection = True
        return
    time.sleep(answer.seconds)
    retry_after = {} if answer.retry_after is None else {"Retry-After": str(answer.retry_after)}
    request.reply(answer.status, {**retry_after, "Content-Type": "application/x-protobuf"}, response)
