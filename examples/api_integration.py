"""API integration as a flow: async calls, a tolerated error, an artifact and log messages.

``python examples/api_integration.py`` starts a small JSON service on localhost and reads from it.
"""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import otelflow
from otelflow import Flow, FlowRunConfig, Task, flow, task

STOCK = {"apples": 12, "pears": 3}


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=5) as response:
        return json.load(response)


@task(attributes={"peer.service": "stock"})
async def fetch(base: str, item: str, this_task: Task | None = None) -> int:
    """Return how many of ``item`` are in stock."""
    response = await asyncio.to_thread(_get, f"{base}/stock/{item}")
    if this_task is not None:
        this_task.log_info(f"{item}: {response['count']}", item=item)
    return int(response["count"])


@task(raise_on_error=False)
async def fetch_if_known(base: str, item: str) -> int:
    """Do the same for an item that may be unknown: the span has an error, and the flow continues."""
    return await fetch(base, item)


@flow(name="check stock", flow_config=FlowRunConfig(raise_flow_error=False))
async def check_stock(base: str, items: list[str], this_flow: Flow[Any] | None = None) -> dict[str, int]:
    """Ask for all ``items`` at the same time. Returns the counts of the known items."""
    counts = await asyncio.gather(*(fetch_if_known(base, item) for item in items))
    stock = {item: count for item, count in zip(items, counts, strict=True) if count is not None}
    if this_flow is not None:
        this_flow.add_flow_artifact("Stock of today", "stock", stock, "json")
        this_flow.add_flow_result("low", ", ".join(item for item, count in stock.items() if count < 5) or "nothing")
    return stock


class _Service(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        item = self.path.rsplit("/", 1)[-1]
        self.send_response(200 if item in STOCK else 404)
        self.end_headers()
        self.wfile.write(json.dumps({"count": STOCK.get(item)}).encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class uses this name
        pass


def main() -> Flow[dict[str, int]]:
    """Start the service, run the flow against it, stop the service."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Service)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        return check_stock(f"http://127.0.0.1:{server.server_port}", ["apples", "pears", "plums"]).execute()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


if __name__ == "__main__":
    otelflow.configure("api-integration", exporters=["otelflow_tree"])
    run = main()
    otelflow.shutdown()
    print(run.return_value, run.messages)
