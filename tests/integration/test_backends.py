"""Test the table of README, "Any OTLP backend".

With the variables of a row, a program must send to the path, and with the headers, that the row means.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import urlopen

import pytest
from http_receiver import Handler, HttpReceiver
from processes import free_ports, tool, wait_for_port
from programs import clean_environment, run
from services import until

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
SECTION = README.partition("## Any OTLP backend\n")[2].partition("\n## ")[0]
ROWS = re.findall(r"^\| \[([^\]]+)\]\((https://[^)]+)\) \| ((?:`[^`]+` ?)+) \|", SECTION, re.MULTILINE)
BACKENDS = {
    name: dict(variable.split("=", 1) for variable in re.findall(r"`([^`]+)`", variables))
    for name, _, variables in ROWS
}


@pytest.fixture(scope="module")
def receiver() -> Iterator[Any]:
    """Return a server that records the path and the headers of each request."""

    def answer(request: Handler, _: bytes) -> None:
        server.requests.append((request.path, {name.lower(): value for name, value in request.headers.items()}))  # type: ignore[attr-defined]
        request.reply(200)

    with contextlib.closing(HttpReceiver(answer, quiet=False)) as server:
        server.requests = []  # type: ignore[attr-defined]
        yield server


def test_the_table_has_every_backend() -> None:
    """Each has a link to its own documentation."""
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
def test_the_variables_of_a_row_set_path_and_headers(name: str, receiver: Any) -> None:
    """The host is replaced by this machine. Path, headers and protocol are those of the row."""
    receiver.requests.clear()
    host, port = receiver.server_address
    variables = dict(BACKENDS[name])
    (endpoint,) = (key for key in variables if key.endswith("ENDPOINT"))
    address = urlsplit(variables[endpoint])
    assert address.hostname == "localhost" or address.scheme == "https"
    variables[endpoint] = f"http://{host}:{port}{address.path}"
    result = run("configure('backends'); work(1).execute(); say(whole=bool(flush()))", **variables)
    assert result.facts == {"whole": True}, result.stderr
    assert result.stderr == ""
    ((path, headers),) = receiver.requests
    assert path == (address.path if "TRACES" in endpoint else f"{address.path}/v1/traces")
    assert headers["content-type"] == "application/x-protobuf"
    for key, value in variables.items():
        if key.endswith("HEADERS"):
            header, _, text = value.partition("=")
            assert headers[header.lower()] == unquote(text)


@contextlib.contextmanager
def running_server(command: list[str], folder: Path, port: int, **environment: str) -> Iterator[None]:
    """Run a server from its first accepted connection. Afterwards, all its processes are gone."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env=clean_environment(**environment), stdout=log, stderr=log, start_new_session=True
        )
        try:
            wait_for_port(port, process, 120)
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


def send_flow(name: str, address: str) -> str:
    """Run a flow with the variables of a row, at another address. Return its trace id."""
    row = BACKENDS[name].items()
    variables = {key: re.sub(r"http://localhost:\d+", address, value).replace("EXPERIMENT", "0") for key, value in row}
    program = "configure('shop'); run = work(3); run.execute(); say(whole=bool(flush()), id=run.trace_id)"
    result = run(program, **variables)
    assert result.facts["whole"], result.stderr
    return str(result.facts["id"])


PHOENIX = tool("phoenix-20.26")
MLFLOW = tool("mlflow-3.6")


@pytest.mark.skipif(PHOENIX is None, reason="Arize Phoenix is not installed: run .ci/phoenix")
def test_phoenix_has_the_whole_trace(tmp_path: Path) -> None:
    """Its API returns names, parents, attributes and messages."""
    port, grpc = free_ports(2)
    address = f"http://127.0.0.1:{port}"
    settings = {"HOST": "127.0.0.1", "PORT": str(port), "GRPC_PORT": str(grpc), "WORKING_DIR": str(tmp_path)}
    environment = {f"PHOENIX_{key}": value for key, value in {**settings, "TELEMETRY_ENABLED": "false"}.items()}
    with running_server([f"{PHOENIX}/bin/phoenix", "serve"], tmp_path, port, **environment):
        trace_id = send_flow("Arize Phoenix", address)

        def spans() -> Any:
            with urlopen(f"{address}/v1/projects/default/spans?limit=100", timeout=10) as answer:
                page = json.load(answer)["data"]
            return page if len(page) == 4 else None

        stored = until(spans, "four spans", 60)
    assert {span["context"]["trace_id"] for span in stored} == {trace_id}
    (root,) = (span for span in stored if span["parent_id"] is None)
    assert (root["name"], root["attributes"]["otelflow.status"]) == ("work", "completed")
    steps = [span for span in stored if span is not root]
    assert {(span["name"], span["parent_id"]) for span in steps} == {("step", root["context"]["span_id"])}
    texts = [event["attributes"]["otelflow.message.text"] for span in steps for event in span["events"]]
    assert texts == ["working"] * 3


ASK_MLFLOW = """
import json, sys
import mlflow
mlflow.set_tracking_uri(sys.argv[1])
spans = [span for trace in mlflow.search_traces(locations=["0"], return_type="list") for span in trace.data.spans]
print(json.dumps([
    {"trace": span.trace_id, "name": span.name, "id": span.span_id, "parent": span.parent_id,
     "status": span.attributes["otelflow.status"],
     "messages": [event.attributes["otelflow.message.text"] for event in span.events]}
    for span in spans
]))
"""


@pytest.mark.skipif(MLFLOW is None, reason="MLflow is not installed: run .ci/mlflow")
def test_mlflow_has_the_whole_trace(tmp_path: Path) -> None:
    """Its client returns names, parents, attributes and messages."""
    (port,) = free_ports(1)
    address = f"http://127.0.0.1:{port}"
    options = ["--host", "127.0.0.1", "--port", str(port), "--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db"]
    with running_server([f"{MLFLOW}/bin/mlflow", "server", *options, "--workers", "1"], tmp_path, port):
        trace_id = send_flow("MLflow", address)
        command = [f"{MLFLOW}/bin/python", "-c", ASK_MLFLOW, address]
        result = subprocess.run(
            command, env=clean_environment(), capture_output=True, text=True, check=True, timeout=120
        )
    spans = json.loads(result.stdout.splitlines()[-1])
    assert {span["trace"].removeprefix("tr-") for span in spans} == {trace_id}
    (root,) = (span for span in spans if span["parent"] is None)
    steps = [span for span in spans if span is not root]
    assert (root["name"], root["status"], root["messages"]) == ("work", "completed", [])
    facts = [(span["name"], span["parent"], span["messages"]) for span in steps]
    assert facts == [("step", root["id"], ["working"])] * 3
