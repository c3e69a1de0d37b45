"""Run real services as their users would start them; read their responses and the spans that they send."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any, TypeVar

import programs
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from receiver import Sink, attributes_of

T = TypeVar("T")

EXAMPLES = Path(__file__).parents[2] / "examples"

# Both ways to start a service whose code does not use tracing.
STARTERS = {
    "opentelemetry-instrument": [str(Path(sys.executable).with_name("opentelemetry-instrument"))],
    "otelflow run": [sys.executable, "-m", "otelflow.cli", "run", "--"],
}

UNSET, ERROR = 0, 2  # statuses
INTERNAL, SERVER, CLIENT = 1, 2, 3  # kinds


def script(name: str) -> str:
    """Return the file of a command that is installed next to this Python."""
    return str(Path(sys.executable).with_name(name))


def until(ready: Callable[[], T | None], what: str, seconds: float = 60) -> T:
    """Wait until ``ready`` returns a true value, and return it. Fail with ``what`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not (value := ready()):
        assert time.monotonic() < deadline, f"after {seconds} s there is no {what}"
        time.sleep(0.01)
    return value


# --- spans ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Event:
    """An event of a span."""

    name: str
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Span:
    """A received span, with the service that sent it."""

    name: str
    service: str
    scope: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    status: int
    attributes: dict[str, Any]
    events: list[Event]

    @property
    def is_own(self) -> bool:
        """Whether this is a flow or a task."""
        return "otelflow.kind" in self.attributes

    @property
    def configured_attributes(self) -> dict[str, Any]:
        """The attributes that the configuration requests."""
        return {key: value for key, value in self.attributes.items() if not key.startswith(("otelflow.", "code."))}

    @property
    def exceptions(self) -> list[dict[str, Any]]:
        """The recorded exceptions."""
        return [event.attributes for event in self.events if event.name == "exception"]


def _read(span: Any, resource: Any, scope: Any) -> Span:
    return Span(
        name=span.name,
        service=attributes_of(resource)["service.name"],
        scope=scope.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        kind=span.kind,
        status=span.status.code,
        attributes=attributes_of(span),
        events=[Event(event.name, attributes_of(event)) for event in span.events],
    )


class Spans(Sink):
    """A sink that sorts its spans by trace."""

    def __init__(self) -> None:
        self.arrived: list[Span] = []
        self.raw: list[bytes] = []
        super().__init__()

    def take(self, request: ExportTraceServiceRequest) -> None:
        self.raw.append(request.SerializeToString())
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.arrived.extend(_read(span, resource.resource, scope.scope) for span in scope.spans)

    def find(self, name: str, **attributes: Any) -> list[Span]:
        """Return the spans with that name and these attributes; ``order_id`` means ``order.id``."""
        required = {key.replace("_", "."): value for key, value in attributes.items()}
        return [
            span for span in list(self.arrived) if span.name == name and required.items() <= span.attributes.items()
        ]

    def assert_each_once(self) -> None:
        """Assert that no span arrived twice."""
        assert len({span.span_id for span in self.arrived}) == len(self.arrived)

    def wait_for_span(self, name: str, **attributes: Any) -> Span:
        """Wait for the only such span, and return it."""
        (span,) = until(lambda: self.find(name, **attributes), f"span {name!r} with {attributes}")
        return span

    def of_trace(self, trace_id: str) -> list[Span]:
        """Return the received spans of a trace."""
        return [span for span in list(self.arrived) if span.trace_id == trace_id]

    def trace(self, trace_id: str, *last: str) -> Trace:
        """Wait until a trace has spans of these names, and return it.

        Pass the spans that end last in each thread of each service.
        """
        required = Counter(last)

        def complete_trace() -> list[Span] | None:
            spans = self.of_trace(trace_id)
            return spans if required <= Counter(span.name for span in spans) else None

        return Trace(until(complete_trace, f"trace with {sorted(last)}"))


class Trace:
    """The spans of one trace."""

    def __init__(self, spans: list[Span]) -> None:
        self.spans = spans

    def find(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    def find_one(self, name: str) -> Span:
        (span,) = self.find(name)
        return span

    @property
    def own_spans(self) -> list[Span]:
        """The flows and tasks."""
        return [span for span in self.spans if span.is_own]

    def children(self, parent: Span, scope: str = "") -> list[Span]:
        """Return the spans directly below a span; ``scope`` filters by the end of their scope."""
        return [span for span in self.spans if span.parent_id == parent.span_id and span.scope.endswith(scope)]

    def above(self, span: Span) -> list[Span]:
        """Return the flows and tasks above a span, the nearest first."""
        parents = [parent for parent in self.own_spans if parent.span_id == span.parent_id]
        return parents + [ancestor for parent in parents for ancestor in self.above(parent)]


# --- responses --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """The response of a service, and the trace id of the request."""

    status: int
    body: Any
    trace_id: str


class Service:
    """A running service: its process, its address, and its log."""

    def __init__(self, process: subprocess.Popen[bytes], address: tuple[str, int], log: Path) -> None:
        self.process = process
        self.address = address
        self.url = "http://{}:{}".format(*address)
        self.log = log

    @contextlib.contextmanager
    def open_response(
        self, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> Iterator[HTTPResponse]:
        """Send a GET, or a POST of ``body``, and yield the open response. The connection is closed afterwards.

        A request waits in the socket's backlog while the service starts, but only while the service lives.
        """
        with contextlib.closing(HTTPConnection(*self.address, timeout=30)) as connection:
            method, content = ("GET", None) if body is None else ("POST", json.dumps(body))
            connection.request(method, path, content, {"Content-Type": "application/json", **(headers or {})})
            until(lambda: self.has_ended or select.select([connection.sock], [], [], 0.1)[0], f"answer to {path}", 40)
            assert not self.has_ended, f"{self.process.args!r} has ended"
            with connection.getresponse() as response:
                yield response

    def ask(
        self, path: str, body: object = None, headers: dict[str, str] | None = None, *, sampled: bool = True
    ) -> Answer:
        """Send a request with its own trace, and return the response."""
        trace_id = os.urandom(16).hex()
        traceparent = f"00-{trace_id}-{os.urandom(8).hex()}-0{int(sampled)}"
        with self.open_response(path, body, {**(headers or {}), "traceparent": traceparent}) as response:
            return Answer(response.status, json.load(response), trace_id)

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended."""
        return self.process.poll() is not None


@contextlib.contextmanager
def running(
    command: list[str], example: str, spans: Spans, log: Path, *, stop: signal.Signals, **environment: str
) -> Iterator[Service]:
    """Run a service in the folder of an example, on a socket that is already open.

    ``{fd}`` in the command is the descriptor of the socket. At the end the service gets the signal ``stop``, and must
    exit with status 0.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener, log.open("wb") as log_file:
        process = subprocess.Popen(
            [word.replace("{fd}", str(listener.fileno())) for word in command],
            cwd=EXAMPLES / example,
            env=settings(spans, **environment),
            pass_fds=[listener.fileno()],
            stdout=log_file,
            stderr=log_file,
            start_new_session=True,
        )
        try:
            yield (service := Service(process, listener.getsockname(), log))
            assert service.ask("/health").status == 200  # it may still be starting
            process.send_signal(stop)
            assert process.wait(30) == 0
        except BaseException:
            print(log.read_text())
            raise
        finally:
            with contextlib.suppress(ProcessLookupError):  # the process group is gone
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def settings(spans: Spans, **more: str) -> dict[str, str]:
    """Return the environment of a service that sends spans soon and writes no bytecode into the example."""
    return programs.clean_environment(
        OTEL_EXPORTER_OTLP_ENDPOINT=spans.endpoint,
        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
        OTEL_METRICS_EXPORTER="none",
        OTEL_LOGS_EXPORTER="none",
        OTEL_BSP_SCHEDULE_DELAY="50",  # milliseconds
        PYTHONDONTWRITEBYTECODE="1",
        **more,
    )


@contextlib.contextmanager
def uvicorn(app: str, starter: str, spans: Spans, log: Path, **environment: str) -> Iterator[Service]:
    """Run a service of ``examples/shop``.

    It is stopped as by Ctrl+C: after a SIGTERM, uvicorn skips Python's exit handlers.
    """
    options = ["--fd", "{fd}", "--timeout-graceful-shutdown", "1"]
    command = [*STARTERS[starter], script("uvicorn"), app, *options]
    with running(command, "shop", spans, log, stop=signal.SIGINT, **environment) as service:
        yield service
