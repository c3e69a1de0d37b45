"""Measure the example shop under load: bare, with spans by hand, and with otelflow by configuration. Prints JSON.

The servers run at the same time, each with its own database. They get rounds of orders one after another, in a random
sequence. Spans go to a receiver on loopback. Throughput is compared within each round.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
EXAMPLE = HERE.parents[1] / "examples" / "shop"
CLIENTS = 8
UVICORN = ["-m", "uvicorn", "--log-level", "warning", "--no-access-log", "--port"]
VARIANTS: dict[str, list[str]] = {
    "bare": [*UVICORN, "PORT", "shop.app:app"],
    "by hand": [str(HERE / "shop_by_hand.py"), "PORT"],
    "otelflow": [
        "-m",
        "otelflow.cli",
        "run",
        "--config",
        "CONFIG",
        "--",
        sys.executable,
        *UVICORN,
        "PORT",
        "shop.app:app",
    ],
    "with available": ["-m", "otelflow.cli", "run", "--", sys.executable, *UVICORN, "PORT", "shop.app:app"],
}


def same_spans(folder: Path) -> str:
    """Write the example's configuration without the task that rarely has a span: the variant by hand has none for it.

    Return the path of the file.
    """
    tables = (EXAMPLE / "otelflow.toml").read_text().split("[[")
    path = folder / "same.toml"
    path.write_text("[[".join(table for table in tables if "shop.stock:available" not in table))
    return str(path)


_used_ports: set[int] = set()


def free_port() -> int:
    """Return a port that this function has not returned before: the server of an earlier one may not listen yet."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = int(server.getsockname()[1])
        if port not in _used_ports:
            _used_ports.add(port)
            return port


async def accept_requests(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accept every request, and discard its body."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
            await reader.readexactly(int(length.partition(b":")[2]))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


class Server:
    """One variant of the shop, in a separate process."""

    def __init__(self, name: str, folder: Path, prices: int, receiver: int) -> None:
        self.port = free_port()
        self._orders = 0
        self._name = name
        settings = {
            "SHOP_DATABASE": str(folder / f"{name}.db"),
            "SHOP_PRICES_URL": f"http://127.0.0.1:{prices}",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{receiver}",
            "OTEL_SERVICE_NAME": "shop",
        }
        values = {"PORT": str(self.port), "CONFIG": same_spans(folder)}
        arguments = [values.get(word, word) for word in VARIANTS[name]]
        self.process = subprocess.Popen([sys.executable, *arguments], cwd=EXAMPLE, env={**environment(), **settings})

    async def round(self, number: int) -> tuple[float, list[float]]:
        """Send orders; return orders a second, and the seconds of each order."""
        orders = iter(range(number))
        durations: list[float] = []
        start = time.perf_counter()
        await asyncio.gather(*(self._client(orders, durations) for _ in range(CLIENTS)))
        return number / (time.perf_counter() - start), durations

    async def _client(self, orders: Any, durations: list[float]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        for _ in orders:
            self._orders += 1
            customer = {"name": "Ada", "tier": "gold"}
            order = {
                "id": self._name.replace(" ", "-") + f"-{self._orders}",
                "customer": customer,
                "items": [{"sku": "mug", "quantity": 1}],
            }
            body = json.dumps(order).encode()
            head = (
                f"POST /orders HTTP/1.1\r\nHost: shop\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
            )
            start = time.perf_counter()
            writer.write(head.encode() + b"\r\n\r\n" + body)
            response = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in response.lower().split(b"\r\n") if line.startswith(b"content-length"))
            await reader.readexactly(int(length.partition(b":")[2]))
            durations.append(time.perf_counter() - start)
            if not response.startswith(b"HTTP/1.1 201"):
                raise RuntimeError(f"{self._name} answered {response[:60]!r}")
        writer.close()


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("OTEL")}


async def wait_until_ready(port: int) -> None:
    """Wait until something listens."""
    for _ in range(300):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.1)
        else:
            writer.close()
            return
    raise RuntimeError(f"nothing listens on port {port}")


async def measure(folder: Path, rounds: int, number: int) -> dict[str, Any]:
    receiver = await asyncio.start_server(accept_requests, "127.0.0.1", 0)
    prices = free_port()
    processes = [
        subprocess.Popen([sys.executable, *UVICORN, str(prices), "prices.app:app"], cwd=EXAMPLE, env=environment())
    ]
    try:
        servers = {name: Server(name, folder, prices, receiver.sockets[0].getsockname()[1]) for name in VARIANTS}
        processes += [server.process for server in servers.values()]
        for port in (prices, *(server.port for server in servers.values())):
            await wait_until_ready(port)
        rates: dict[str, list[float]] = {name: [] for name in VARIANTS}
        durations: dict[str, list[float]] = {name: [] for name in VARIANTS}
        for turn in range(-1, rounds):  # the first round is for warming up
            for name in random.sample(list(VARIANTS), len(VARIANTS)):
                rate, seconds = await servers[name].round(number)
                if turn >= 0:
                    rates[name].append(rate)
                    durations[name] += seconds
    finally:
        for process in processes:
            process.send_signal(signal.SIGINT)
        for process in processes:
            await asyncio.to_thread(process.wait, 30)
        receiver.close()
    return report(rates, durations)


def report(rates: dict[str, list[float]], durations: dict[str, list[float]]) -> dict[str, Any]:
    def against(variant: str, base: str) -> str:
        ratios = [rate / base_rate for rate, base_rate in zip(rates[variant], rates[base], strict=True)]
        low, _, high = statistics.quantiles(ratios, n=4)
        return f"{statistics.median(ratios):.2f} ±{(high - low) / 2:.2f}"

    def p99(name: str) -> float:
        return statistics.quantiles(durations[name], n=100)[-1]

    return {
        "throughput: otelflow by configuration, to spans by hand (goal: >= 0.97)": against("otelflow", "by hand"),
        "throughput: otelflow by configuration, to no tracing at all": against("otelflow", "bare"),
        "throughput: spans by hand, to no tracing at all": against("by hand", "bare"),
        "throughput: the same, and a task with `min_duration` that nearly always leaves no span": against(
            "with available", "by hand"
        ),
        "p99 of a request: otelflow, to spans by hand": f"{p99('otelflow') / p99('by hand'):.2f}",
        "p99 of a request: otelflow, to no tracing at all": f"{p99('otelflow') / p99('bare'):.2f}",
    }


def main() -> None:
    rounds, number = (3, 40) if "--quick" in sys.argv else (15, 80)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(asyncio.run(measure(Path(folder), rounds, number))))


if __name__ == "__main__":
    main()
