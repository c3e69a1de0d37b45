"""Run Collector, Jaeger and Prometheus as docker-compose.yml does: the same configuration files, real servers."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

from processes import end_process, free_ports, tool, wait_for_port
from receiver import COLLECTOR_VERSION

__all__ = ["Backends", "missing_backend", "missing_loki", "running_backends"]

JAEGER_VERSION = "1.76.0"
LOKI_VERSION = "3.7.8"
PROMETHEUS_VERSION = "3.16.0"
FOLDER = Path(__file__).parents[2] / "dashboards"
BINARIES = {
    "collector": f"otelcol-{COLLECTOR_VERSION}",
    "jaeger": f"jaeger-{JAEGER_VERSION}",
    "loki": f"loki-{LOKI_VERSION}",
    "prometheus": f"prometheus-{PROMETHEUS_VERSION}",
}


DEFAULT_BACKENDS = ("prometheus", "jaeger", "collector")


def missing_backend(*names: str) -> str | None:
    """Return why these servers (default: the usual ones) cannot be started here; None if they can."""
    for name in names or DEFAULT_BACKENDS:
        binary = BINARIES[name]
        if tool(binary) is None:
            return f"{binary} is not built: run .ci/{name} (needs Go)"
    return None


def missing_loki() -> str | None:
    """Return why Loki cannot be started here; None if it can. The other servers do not need it."""
    name = f"loki-{LOKI_VERSION}"
    return None if tool(name) else f"{name} is not built: run .ci/loki (needs Go)"


class Backends:
    """Running servers. A restarted server has the same ports and the same data on disk."""

    def __init__(self, folder: Path, derived: bool) -> None:
        self._folder = folder
        grpc, http, self._traces, jaeger, query_grpc, prometheus, loki, loki_grpc, *health = free_ports(10)
        self.otlp = f"http://127.0.0.1:{http}"
        self.otlp_grpc = f"http://127.0.0.1:{grpc}"
        self.jaeger_otlp_grpc = f"http://127.0.0.1:{self._traces}"
        self.jaeger = f"http://127.0.0.1:{jaeger}"
        self.prometheus = f"http://127.0.0.1:{prometheus}"
        self.loki = f"http://127.0.0.1:{loki}"
        collector = FOLDER / "collector"
        configs = ["collector.yaml", "flows-from-spans.yaml"] if derived else ["collector.yaml"]
        self._commands: dict[str, tuple[list[str], dict[str, str], list[int]]] = {
            "prometheus": (
                [
                    f"--config.file={FOLDER / 'prometheus' / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'prometheus'}",
                    f"--web.listen-address=127.0.0.1:{prometheus}",
                    "--web.enable-otlp-receiver",
                    "--enable-feature=exemplar-storage",
                ],
                {},
                [prometheus],
            ),
            "jaeger": (
                ["--config", str(FOLDER / "jaeger" / "jaeger.yaml")],
                {
                    "HEALTH_ENDPOINT": f"127.0.0.1:{health[0]}",
                    "STORAGE_FOLDER": str(folder / "jaeger"),
                    "PROMETHEUS_ENDPOINT": self.prometheus,
                    "QUERY_GRPC_ENDPOINT": f"127.0.0.1:{query_grpc}",
                    "QUERY_HTTP_ENDPOINT": f"127.0.0.1:{jaeger}",
                    "OTLP_GRPC_ENDPOINT": f"127.0.0.1:{self._traces}",
                },
                [jaeger, self._traces],
            ),
            "loki": (
                [f"-config.file={FOLDER / 'loki' / 'loki.yaml'}", "-config.expand-env=true"],
                {
                    "HTTP_PORT": str(loki),
                    "GRPC_PORT": str(loki_grpc),
                    "LISTEN_ADDRESS": "127.0.0.1",
                    "STORAGE_FOLDER": str(folder / "loki"),
                },
                [loki],
            ),
            "collector": (
                [word for name in configs for word in ("--config", str(collector / name))],
                {
                    "HEALTH_ENDPOINT": f"127.0.0.1:{health[1]}",
                    "QUEUE_FOLDER": str(folder / "queue"),
                    "OTLP_GRPC_ENDPOINT": f"127.0.0.1:{grpc}",
                    "OTLP_HTTP_ENDPOINT": f"127.0.0.1:{http}",
                    "TRACES_ENDPOINT": f"127.0.0.1:{self._traces}",
                    "PROMETHEUS_ENDPOINT": self.prometheus,
                    "LOKI_ENDPOINT": self.loki,
                    "SPAN_METRICS_INTERVAL": "1s",
                    "RETRY_INTERVAL": "200ms",
                },
                [grpc, http],
            ),
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        """Start a server, and wait until it accepts connections."""
        words, environment, ports = self._commands[name]
        with (self._folder / f"{name}.log").open("ab") as log:
            binary = tool(BINARIES[name])
            process = subprocess.Popen([str(binary), *words], stdout=log, stderr=log, env={**os.environ, **environment})
        self._processes[name] = process
        for port in ports:
            wait_for_port(port, process)

    def stop(self, name: str) -> None:
        """Stop a server as the end of its container does."""
        end_process(self._processes.pop(name), 20)

    def stop_all(self) -> None:
        """Stop all servers, the last one first."""
        for name in list(self._processes)[::-1]:
            self.stop(name)

    def log_of(self, name: str) -> str:
        """Return the log of a server."""
        return (self._folder / f"{name}.log").read_text(errors="replace")

    # --- queries ------------------------------------------------------------------------------------------------------

    def traces(self, service: str, **query: Any) -> list[dict[str, Any]]:
        """Search in Jaeger as its page does: ``operation``, ``tags`` (a mapping), ``minDuration``, ``limit``."""
        if "tags" in query:
            query["tags"] = json.dumps(query["tags"])
        traces: list[dict[str, Any]] = get_json(
            f"{self.jaeger}/api/traces", service=service, **{"limit": 2000, **query}
        )["data"]
        return traces

    def trace(self, trace_id: str) -> dict[str, Any] | None:
        """Return one trace of Jaeger; None if it does not have it."""
        try:
            (trace,) = get_json(f"{self.jaeger}/api/traces/{trace_id}")["data"]
        except HTTPError:
            return None
        return dict(trace)

    def rows(self, trace_id: str, number: int) -> list[tuple[str, str, str | None]] | None:
        """Return name, id and parent's id of each span of a trace; None until there are ``number`` spans."""
        spans = (self.trace(trace_id) or {"spans": []})["spans"]
        rows = []
        for span in spans:
            parents = [reference["spanID"] for reference in span["references"] if reference["refType"] == "CHILD_OF"]
            rows.append((span["operationName"], span["spanID"], parents[0] if parents else None))
        return rows if len(rows) >= number else None

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Run an instant query in Prometheus. Return labels and value of each series."""
        result = get_json(f"{self.prometheus}/api/v1/query", query=expression)["data"]["result"]
        return [(series["metric"], float(series["value"][1])) for series in result]


def get_json(url: str, **query: Any) -> Any:
    """Return the JSON response of a server."""
    with urlopen(f"{url}?{urlencode(query)}" if query else url, timeout=60) as response:
        return json.load(response)


@contextmanager
def running_backends(*names: str, derived: bool = False, loki: bool = False) -> Iterator[Backends]:
    """Run these servers, or the usual ones, and remove all their data afterwards.

    ``derived``: the Collector also derives metrics from spans. ``loki``: run Loki as well.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        backends = Backends(Path(folder), derived)
        try:
            for name in names or ("prometheus", "jaeger", *(["loki"] if loki else []), "collector"):
                backends.start(name)
            yield backends
        finally:
            backends.stop_all()
