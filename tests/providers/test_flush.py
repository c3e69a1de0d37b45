"""flush, shutdown and the end of a process: delivery, waiting, and the numbers in the report."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import programs
import pytest
from provider_programs import MEMORY, reported_values


def test_flush_delivers_and_reports() -> None:
    """The report is true if all was accepted; its numbers count from the start of the process."""
    facts = reported_values(
        """
        configure(exporters=[memory])
        work(9).execute()
        report = flush(5)
        say(ok=bool(report), delivered=report.delivered, pending=report.pending, got=len(memory.spans))
        """
    )
    assert facts == {"ok": True, "delivered": 10, "pending": 0, "got": 10, "stderr": ""}


def test_spans_that_an_exporter_refuses_are_reported_as_lost() -> None:
    """Both FAILURE and an exception of the exporter are losses; neither disturbs the program."""
    facts = reported_values(
        """
        class Raises(Memory):
            def export(self, spans): raise RuntimeError("broken exporter")
        configure(exporters=[Memory(SpanExportResult.FAILURE), Raises()])
        work(1).execute()
        report = flush(5)
        say(ok=bool(report), delivered=report.delivered, lost=report.lost, dropped=stats().dropped)
        """
    )
    assert (facts["ok"], facts["delivered"], facts["lost"]) == (False, 0, {"export_failed": 4})
    assert facts["dropped"] == {"export_failed": 4}


def test_a_full_queue_drops_the_oldest_and_counts() -> None:
    """At most the queue's size is in memory, and every span is counted."""
    facts = reported_values(
        """
        configure(exporters=[Memory(wait=0.3)])
        work(2000).execute()
        report = flush(20)
        say(delivered=report.delivered, lost=report.lost, produced=stats().produced)
        """,
        OTELFLOW_QUEUE_SIZE="100",
        OTEL_BSP_MAX_EXPORT_BATCH_SIZE="50",
    )
    assert facts["produced"] == 2001
    assert facts["delivered"] + facts["lost"]["queue_full"] == 2001
    assert facts["lost"]["queue_full"] > 1000


def test_a_burst_is_delivered() -> None:
    """40,000 tasks, as fast as one process can run them: none is lost with the default queue."""
    facts = reported_values(
        "configure(exporters=[memory]); work(40_000).execute(); say(ok=bool(flush(60)), got=len(memory.spans))"
    )
    assert (facts["ok"], facts["got"]) == (True, 40_001)


@pytest.mark.parametrize("end", ["flush", "shutdown"])
def test_an_exporter_that_hangs_takes_no_time_of_the_others(end: str) -> None:
    """All send at once: the second exporter gets its spans, although the first one takes the whole time."""
    facts = reported_values(
        f"""
        configure(exporters=[Memory(wait=30), memory])
        work(2).execute()
        began = time.monotonic(); report = {end}(1)
        say(ok=bool(report), got=len(memory.spans), lost=report.lost, took=time.monotonic() - began)
        sys.stdout.flush(); os._exit(0)
        """
    )
    assert (facts["ok"], facts["got"], facts["lost"]) == (False, 3, {})
    assert facts["took"] < 5


@pytest.mark.parametrize("provider", ["exporters=[memory]", "exporters=[], metrics=True", "foreign"])
def test_a_flush_accepts_an_infinite_timeout(provider: str) -> None:
    """For spans, for metrics, and with a provider that configure() did not create."""
    set_up = f"configure({provider})"
    if provider == "foreign":
        set_up = (
            "from opentelemetry.sdk.trace import TracerProvider as P; otelflow.providers.trace.set_tracer_provider(P())"
        )
    facts = reported_values(
        f"from opentelemetry import trace; {set_up}; work(1).execute()\nsay(unknown=flush(float('inf')).unknown)",
        OTEL_METRICS_EXPORTER="none",
    )
    assert facts["unknown"] is (provider == "foreign")


@pytest.mark.parametrize("provider", ["metrics", "foreign"])
def test_a_flush_that_hangs_is_not_started_again(provider: str) -> None:
    """One thread waits for a backend that hangs, however often the program flushes."""
    facts = reported_values(
        f"""
        import threading
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        class Hangs(TracerProvider):
            def force_flush(self, timeout_millis=0): time.sleep(60)
        if {provider == "foreign"}: trace.set_tracer_provider(Hangs(shutdown_on_exit=False))
        else:
            configure(exporters=[], metrics=True)
            otelflow._providers.meter_provider._own_provider.provider.force_flush = lambda _: time.sleep(60)
        work(1).execute(); flush(0.01); before = threading.active_count()
        reports = [flush(0.01) for _ in range(10)]
        say(more=threading.active_count() - before, ok=any(reports))
        sys.stdout.flush(); os._exit(0)
        """,
        OTEL_METRICS_EXPORTER="none",
    )
    assert (facts["more"], facts["ok"]) == (0, False)


@pytest.mark.parametrize("put", ["time.sleep(60)", "{}[0]"])
def test_a_flush_is_false_while_artifacts_are_not_stored(put: str, tmp_path: Path) -> None:
    """Their events name files, which are missing while the store is slow or if it refuses them."""
    facts = reported_values(
        f"""
        import otelflow._artifacts.store
        configure(exporters=[memory])
        @flow
        def storing(this_flow=None): this_flow.add_artifact(key="whole", data="x" * 100_000)
        class Broken:
            def open(self): pass
            def put(self, path, body): {put}
        otelflow._artifacts.store.storage_for = lambda _: Broken()
        storing().execute(); report = flush(0.5)
        say(ok=bool(report), lost=report.lost, delivered=report.delivered)
        sys.stdout.flush(); os._exit(0)
        """,
        OTELFLOW_ARTIFACT_STORE=f"file://{tmp_path}",
    )
    assert (facts["ok"], facts["delivered"], facts["lost"]) == (False, 1, {"artifact_not_stored": 1})


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "10s"])
def test_an_invalid_otlp_timeout_is_logged(seconds: str) -> None:
    """The message has no traceback, and the spans count as lost."""
    facts = reported_values(
        "configure(); work(1).execute(); say(lost=flush().lost)", OTEL_EXPORTER_OTLP_TIMEOUT=seconds
    )
    assert facts["lost"] == {"export_failed": 2}
    assert "The exporter 'otlp' cannot be created" in facts["stderr"]
    assert "Traceback" not in facts["stderr"]


def test_a_fork_while_another_thread_configures() -> None:
    """The child gets a new lock: the thread that holds the parent's does not exist there."""
    facts = reported_values(
        """
        import signal, threading, otelflow.providers
        locked, finished = threading.Event(), threading.Event()
        def configuring():
            with otelflow.providers._lock:
                locked.set(); finished.wait()
        threading.Thread(target=configuring, daemon=True).start()
        locked.wait()
        child = os.fork()
        if not child:
            signal.alarm(20); configure(exporters=[memory]); os._exit(0)
        say(code=os.waitpid(child, 0)[1]); finished.set()
        """
    )
    assert facts["code"] == 0


def test_shutdown_is_idempotent() -> None:
    """A second call only reports; the exporter is shut down once; spans that end later are counted as lost."""
    facts = reported_values(
        """
        configure(exporters=[memory])
        work(1).execute()
        reports = [shutdown(5), shutdown(5)]
        work(1).execute()
        say(ok=[bool(r) for r in reports], downs=memory.downs, lost=shutdown().lost, got=len(memory.spans))
        """
    )
    assert facts["ok"] == [True, True]
    assert (facts["downs"], facts["lost"], facts["got"]) == (1, {"after_shutdown": 2}, 2)


def test_the_end_of_a_program_delivers_everything() -> None:
    """Without flush or shutdown: at the normal end, at sys.exit, and after an exception."""
    for end in ("", "sys.exit(3)", "raise ValueError('end')"):
        process = programs.run(
            f"""
class Says(Memory):
    def shutdown(self): say(got=len(self.spans))
configure(exporters=[Says()])
work(700).execute()
{end}
""",
            head=programs.HEAD + MEMORY,
        )
        assert process.facts == {"got": 701}
        assert process.returncode == {"": 0, "sys.exit(3)": 3}.get(end, 1)


def test_a_forked_child_has_its_own_queue() -> None:
    """The parent sends the spans that wait in it; the child sends its own."""
    facts = reported_values(
        """
        configure(exporters=[memory])
        work(3).execute()
        child = os.fork()
        if child == 0:
            work(1).execute()
            report = flush(5)
            os._exit(0 if report.delivered == 2 and len(memory.spans) == 2 else 1)
        _, status = os.waitpid(child, 0)
        flush(5)
        ids = {span.context.span_id for span in memory.spans}
        say(child=os.waitstatus_to_exitcode(status), parent=len(memory.spans), once=len(ids))
        """
    )
    assert (facts["child"], facts["parent"], facts["once"]) == (0, 4, 4)


def test_a_flush_without_configure_is_unknown() -> None:
    """Nothing is delivered, and the report is false."""
    facts = reported_values(
        "work(1).execute(); r = flush(1); say(ok=bool(r), unknown=r.unknown, produced=stats().produced)"
    )
    assert facts == {"ok": False, "unknown": True, "produced": 0, "stderr": ""}


POOL = """
import multiprocessing, os, sys
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from otelflow import configure, flow, task

class File(SpanExporter):
    def export(self, spans):
        with open(os.environ["SPANS"], "a") as out:
            out.writelines(f"{os.getpid()} {span.name}\\n" for span in spans)
        return SpanExportResult.SUCCESS
    def shutdown(self):
        pass

@task
def step(x):
    return x

@flow
def in_child():
    for x in range(9):
        step(x)

def work():
    configure(exporters=[File()])
    in_child().execute()

if __name__ == "__main__":
    if sys.argv[1] == "fork":
        configure(exporters=[File()])
        step(0)
    processes = [multiprocessing.get_context(sys.argv[1]).Process(target=work) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    print([process.exitcode for process in processes])
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_multiprocessing_deliver_before_they_end(method: str, tmp_path: Path) -> None:
    """They end without atexit. With each start method, each of their spans arrives once."""
    program, spans = tmp_path / "pool.py", tmp_path / "spans"
    program.write_text(POOL)
    process = subprocess.run(
        [sys.executable, str(program), method],
        env=programs.clean_environment(SPANS=str(spans)),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert process.stdout == "[0, 0, 0]\n", process.stderr
    lines = spans.read_text().splitlines()
    assert len(lines) == 30 + (method == "fork")
    assert sorted(Counter(line.split()[0] for line in lines).values()) == [1] * (method == "fork") + [10] * 3
