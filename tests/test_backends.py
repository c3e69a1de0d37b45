"""README, "Any OTLP backend": with the variables of each row, a program asks for the path and sends the headers that
the row means."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from programs import run

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
SECTION = README.partition("## Any OTLP backend\n")[2].partition("\n## ")[0]
ROWS = re.findall(r"^\| \[([^\]]+)\]\((https://[^)]+)\) \| ((?:`[^`]+` ?)+) \|", SECTION, re.MULTILINE)
BACKENDS = {name: dict(one.split("=", 1) for one in re.findall(r"`([^`]+)`", variables)) for name, _, variables in ROWS}


@pytest.fixture(scope="module")
def receiver() -> Iterator[Any]:
    """A server that keeps the path and the headers of each request."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            server.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))  # type: ignore[attr-defined]
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_all_that_are_promised_are_there() -> None:
    """Each with a page of its own documentation."""
    assert set(BACKENDS) == {
        *(
            "Jaeger",
            "Grafana Tempo",
            "Grafana Cloud",
            "Honeycomb",
            "Datadog",
            "New Relic",
            "Elastic",
            "SigNoz",
            "Uptrace",
        ),
        *("Arize Phoenix", "Langfuse", "MLflow", "Logfire"),
    }
    assert "X-Ray" in SECTION
    assert "Google Cloud Trace" in SECTION


@pytest.mark.parametrize("name", BACKENDS)
def test_the_variables_of_a_row_ask_for_what_they_mean(name: str, receiver: Any) -> None:
    """The host is this machine's; path, headers and protocol are the row's."""
    receiver.asked.clear()
    host, port = receiver.server_address
    variables = dict(BACKENDS[name])
    (endpoint,) = (key for key in variables if key.endswith("ENDPOINT"))
    address = urlsplit(variables[endpoint])
    assert address.hostname == "localhost" or address.scheme == "https"
    variables[endpoint] = f"http://{host}:{port}{address.path}"
    done = run("configure('backends'); work(1).execute(); say(whole=bool(flush()))", **variables)
    assert done.said == {"whole": True}, done.stderr
    assert done.stderr == ""
    ((path, headers),) = receiver.asked
    assert path == (address.path if "TRACES" in endpoint else f"{address.path}/v1/traces")
    assert headers["content-type"] == "application/x-protobuf"
    for key, value in variables.items():
        if key.endswith("HEADERS"):
            wanted, _, text = value.partition("=")
            assert headers[wanted.lower()] == unquote(text)
