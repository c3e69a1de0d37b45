"""Flows that send jobs to Celery, as examples/celery_tasks.py does: real workers, and a broker made of files."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import programs
import pytest
from receiver import Sink, attributes_of

EXAMPLE = Path(__file__).parents[2] / "examples" / "celery_tasks.py"

CHAIN = """
from celery import chain
from celery_tasks import flow, thumbnail

@flow(name="make twice", transparent=True)
def make_twice():
    return chain(thumbnail.s("cat.png"), thumbnail.s())().get(timeout=60)

print(make_twice())
"""


class Celery:
    """The programs of one test, around one broker: jobs and results are files in ``folder``."""

    def __init__(self, folder: Path, sink: Sink) -> None:
        self.folder = folder
        (folder / EXAMPLE.name).symlink_to(EXAMPLE)
        for name in ("jobs", "results", "control"):
            (folder / name).mkdir()
        for name in ("data_in", "data_out"):  # what the broker calls them, in the folder where a program runs
            (folder / name).symlink_to("jobs")
        self.environment = programs.clean_environment(
            CELERY_BROKER_URL="filesystem://",
            CELERY_RESULT_BACKEND=f"file://{folder / 'results'}",
            OTEL_TRACES_EXPORTER="otlp",
            OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
            OTEL_BSP_SCHEDULE_DELAY="600000",  # milliseconds: nothing is sent before its process ends
            OTELFLOW_EXIT_SECONDS="20",
            TMPDIR=str(folder),
        )

    @contextlib.contextmanager
    def running(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """A Python process, and nothing of it afterwards."""
        with (self.folder / "log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=self.folder,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        try:
            yield process
        except BaseException:
            print((self.folder / "log").read_text())
            raise
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    def answer(self, jobs: int, pool: str, *sender: str) -> tuple[str, int, int]:
        """Run ``sender``, and once it has sent so many ``jobs``, a worker until it has its answer and ends. What it
        printed, its process and the worker's."""
        command = ("-m", "celery", "--app", "celery_tasks", "worker", "--pool", pool, "--concurrency", "1")
        with self.running(*sender) as asking:
            self.wait_for_jobs(jobs, asking)
            with self.running(*command, "--without-gossip", "--without-mingle", "--without-heartbeat") as worker:
                said = asking.communicate(timeout=90)[0]
                worker.send_signal(signal.SIGTERM)
                assert (asking.returncode, worker.wait(30)) == (0, 0)
        return said, asking.pid, worker.pid

    def wait_for_jobs(self, number: int, sender: subprocess.Popen[str], seconds: float = 30) -> None:
        """Until that many wait. Only then may a worker begin: it would read a job that is half written."""
        end = time.monotonic() + seconds
        while sum(job.stat().st_size > 0 for job in (self.folder / "jobs").iterdir()) < number:
            assert sender.poll() is None
            assert time.monotonic() < end
            time.sleep(0.02)


def tasks_below(sink: Sink, name: str) -> list[Any]:
    """The flow of that name has arrived, and below it thumbnails only, each once, which know its run; these."""
    (root,) = [span for span, _, _ in sink.spans if span.name == name]
    run_id = attributes_of(root)["otelflow.flow.run_id"]
    tasks = [span for span, _, _ in sink.spans if span is not root]
    assert len({span.span_id for span in tasks}) == len(tasks)
    for task in tasks:
        attributes = attributes_of(task)
        assert (task.name, task.trace_id, task.parent_span_id) == ("thumbnail", root.trace_id, root.span_id)
        assert (attributes["otelflow.flow.name"], attributes["otelflow.flow.run_id"]) == (name, run_id)
        assert "otelflow.task.orphan" not in attributes
    return tasks


@pytest.mark.parametrize("pool", ["solo", "prefork"])
def test_jobs_are_tasks_of_the_flow_that_sent_them(pool: str, tmp_path: Path, sink: Sink) -> None:
    """The worker's spans are below the sender's; a worker that is told to end sends what still waits in it."""
    said, sender, worker = Celery(tmp_path, sink).answer(3, pool, EXAMPLE.name)
    assert said == "['small-cat.png', 'small-dog.png', 'small-owl.png']\n"
    messages = [attributes_of(event) for task in tasks_below(sink, "make thumbnails") for event in task.events]
    assert sorted(message["otelflow.message.text"] for message in messages) == [
        "shrinking cat.png",
        "shrinking dog.png",
        "shrinking owl.png",
    ]
    (pid,) = {message["pid"] for message in messages}
    assert (pid == worker) == (pool == "solo")
    assert pid != sender


def test_a_job_that_a_worker_sends_is_a_task_of_the_flow_too(tmp_path: Path, sink: Sink) -> None:
    """The second of a chain is sent by the worker, when the first has ended there."""
    said, _, _ = Celery(tmp_path, sink).answer(1, "solo", "-c", CHAIN)
    assert said == "small-small-cat.png\n"
    assert len(tasks_below(sink, "make twice")) == 2
