"""The spool with many failures at once: killed processes, forks, and a backend that goes down and up."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from random import Random

from programs import clean_environment, command
from spool_backend import Backend

PROGRAM = """
import os, random, sys, time
from opentelemetry.sdk.trace import TracerProvider
from otelflow_exporters.spool import SpoolSpanExporter

exporter = SpoolSpanExporter()
tracer = TracerProvider(shutdown_on_exit=False).get_tracer("any")
acknowledged = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)

def export(number):
    spans = [tracer.start_span("s", attributes={"x": "y" * random.randint(0, 3000)}) for _ in range(number)]
    for span in spans:
        span.end()
    if exporter.export(spans).name == "SUCCESS":
        os.write(acknowledged, b"".join(b"%016x\\n" % span.context.span_id for span in spans))

end = time.monotonic() + 30
while time.monotonic() < end:
    export(random.randint(1, 20))
    if random.random() < 0.02 and not os.fork():
        export(1)
        os._exit(0)
    time.sleep(random.random() / 100)
"""


def wait_for_more(acknowledged_file: Path) -> None:
    """Wait until some program records an acknowledged span."""
    size, end = acknowledged_file.stat().st_size, time.monotonic() + 30
    while acknowledged_file.stat().st_size == size and time.monotonic() < end:
        time.sleep(0.02)
    assert acknowledged_file.stat().st_size > size


def test_acknowledged_spans_arrive(tmp_path: Path) -> None:
    """After twelve kills among three processes, two outages and some responses of 503, the backend has every span whose
    export returned SUCCESS."""
    rng, acknowledged_file, running = Random(), tmp_path / "acknowledged", []
    acknowledged_file.write_text("")
    backend = Backend()
    settings = {"OTELFLOW_EXPORTER_SPOOL_DIR": str(tmp_path / "spool"), "OTEL_EXPORTER_OTLP_ENDPOINT": backend.endpoint}
    try:
        for turn in range(12):
            while len(running) < 3:
                program = [sys.executable, "-c", PROGRAM, str(acknowledged_file)]
                running.append(subprocess.Popen(program, env=clean_environment(**settings), stderr=subprocess.DEVNULL))
            wait_for_more(acknowledged_file)
            time.sleep(rng.uniform(0, 0.3))
            victim = running.pop(0)
            victim.kill()
            victim.wait()
            if turn in (2, 6):
                backend.down()
            if turn in (4, 8):
                backend.up()
            backend.answers.extend([(503, {}, b"")] * rng.randrange(3))
    finally:
        for program in running:
            program.kill()
            program.wait()
    backend.answers.clear()
    flushed = command("spool", "flush", "--timeout", "50", **settings)
    backend.close()
    assert ", 0 wait" in flushed.stdout
    acknowledged, arrived = set(acknowledged_file.read_text().split()), backend.count()
    assert acknowledged - {identity.hex() for identity in arrived} == set()
    print(f"{len(acknowledged)} spans, {sum(arrived.values()) - len(arrived)} duplicates")
