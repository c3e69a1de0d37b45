"""The spool when everything goes wrong at once: processes killed at random, forks, a backend that comes and goes."""

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


def wait_for_more(told: Path) -> None:
    """Wait until some program says that something is safe."""
    size, end = told.stat().st_size, time.monotonic() + 30
    while told.stat().st_size == size and time.monotonic() < end:
        time.sleep(0.02)
    assert told.stat().st_size > size


def test_what_was_acknowledged_arrives(tmp_path: Path) -> None:
    """Twelve kills among three processes, two outages, some answers of 503: every span that an export said is safe is
    at the backend in the end."""
    luck, told, running = Random(), tmp_path / "told", []
    told.write_text("")
    backend = Backend()
    settings = {"OTELFLOW_EXPORTER_SPOOL_DIR": str(tmp_path / "spool"), "OTEL_EXPORTER_OTLP_ENDPOINT": backend.endpoint}
    try:
        for turn in range(12):
            while len(running) < 3:
                program = [sys.executable, "-c", PROGRAM, str(told)]
                running.append(subprocess.Popen(program, env=clean_environment(**settings), stderr=subprocess.DEVNULL))
            wait_for_more(told)
            time.sleep(luck.uniform(0, 0.3))
            victim = running.pop(0)
            victim.kill()
            victim.wait()
            if turn in (2, 6):
                backend.down()
            if turn in (4, 8):
                backend.up()
            backend.answers.extend([(503, {}, b"")] * luck.randrange(3))
    finally:
        for program in running:
            program.kill()
            program.wait()
    backend.answers.clear()
    flushed = command("spool", "flush", "--timeout", "50", **settings)
    backend.close()
    assert ", 0 wait" in flushed.stdout
    safe, came = set(told.read_text().split()), backend.count()
    assert safe - {identity.hex() for identity in came} == set()
    print(f"{len(safe)} spans, {sum(came.values()) - len(came)} came again")
