"""A receiver of OTLP over HTTP that can be down, hang, refuse and come back, as a script says."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from http_receiver import HttpReceiver, KeepAliveHandler, spans_in, unpacked
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True)
class Answer:
    """What becomes of one request.

    ``rejects``: so many of its spans are not taken, said as OTLP's partial success. ``limit``: a body of more bytes is
    answered 413. ``seconds``: the answer takes as long. ``hangs``: there is none as long as the receiver is up.
    """

    status: int = 200
    retry_after: int | None = None
    rejects: int = 0
    limit: int | None = None
    seconds: float = 0
    hangs: bool = False


class Scripted:
    """Counts the spans that it accepts, by their ids. The answers go one by one, and the last holds on."""

    def __init__(self, answers: Sequence[Answer] = (), *, up: bool = True) -> None:
        self.spans: Counter[tuple[bytes, bytes]] = Counter()
        """How often each span was accepted, by trace id and span id."""
        self.requests = 0
        self._answers = list(answers) or [Answer()]
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._server: _Server | None = None
        # Two sockets on one port: this one keeps the port while the receiver is down, and whoever connects is refused.
        self._port = bound(0)
        self.port: int = self._port.getsockname()[1]
        if up:
            self.up()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def up(self, *answers: Answer) -> None:
        """Take connections; answer so from now on, where answers are given."""
        self._answers = list(answers) or self._answers
        if self._server is None:
            self._server = _Server(self)

    def down(self) -> None:
        """Refuse, and break what is connected."""
        if self._server is not None:
            server, self._server = self._server, None
            server.gone.set()
            server.stop()
            self.break_connections()
            server.server_close()

    def break_connections(self) -> None:
        """As a load balancer does with connections that are idle."""
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.down()
        self._port.close()

    def answer_to(self, body: bytes) -> tuple[Answer, bytes]:
        """What the script says now, with the body of the answer; accepted spans are counted."""
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
                    response.partial_success.error_message = "these are not wanted"
        return answer, response.SerializeToString()

    def _take(self, request: ExportTraceServiceRequest, rejects: int) -> None:
        spans = [(span.trace_id, span.span_id) for span, *_ in spans_in(request)]
        self.spans.update(spans[rejects:])

    def hold(self, connection: socket.socket, held: bool) -> None:
        with self._lock:
            (self._connections.add if held else self._connections.discard)(connection)


def bound(port: int) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("127.0.0.1", port))
    return made


class _Server(HttpReceiver):
    daemon_threads = False  # server_close() waits for what is being answered
    request_queue_size = 128

    def __init__(self, receiver: Scripted) -> None:
        self.receiver = receiver
        self.gone = threading.Event()
        super().__init__(_answer, bound=bound(receiver.port), handler=_Handler)


class _Handler(KeepAliveHandler):
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.receiver.hold(self.connection, True)

    def finish(self) -> None:
        self.server.receiver.hold(self.connection, False)
        with contextlib.suppress(OSError):
            super().finish()


def _answer(request: _Handler, body: bytes) -> None:
    answer, said = request.server.receiver.answer_to(unpacked(request.headers, body))
    if answer.hangs:
        request.server.gone.wait()
        request.close_connection = True
        return
    time.sleep(answer.seconds)
    retry_after = {} if answer.retry_after is None else {"Retry-After": str(answer.retry_after)}
    request.reply(answer.status, {**retry_after, "Content-Type": "application/x-protobuf"}, said)
