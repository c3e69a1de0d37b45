"""Flows that send jobs to Celery, like examples/celery_tasks.py: with real workers and a broker made of files."""

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
    """The programs of one test and their broker. Jobs and results are files in ``folder``."""

    def __init__(self, folder: Path, sink: Sink) -> None:
        self.folder = folder
        (folder / EXAMPLE.name).symlink_to(EXAMPLE)
        for name in ("jobs", "results", "control"):
            (folder / name).mkdir()
        for name in ("data_in", "data_out"):  # the broker's names, in the working directory of a program
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
        """Run a Python process. Afterwards, all its processes are gone."""
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
        """Run ``sender``. Once it has sent ``jobs`` jobs, run a worker until the sender has its answer.

        Return the sender's output, its process id and the worker's.
        """
        command = ("-m", "celery", "--app", "celery_tasks", "worker", "--pool", pool, "--concurrency", "1")
        with self.running(*sender) as sending:
            self.wait_for_jobs(jobs, sending)
            with self.running(*command, "--without-gossip", "--without-mingle", "--without-heartbeat") as worker:
                output = sending.communicate(timeout=90)[0]
                worker.send_signal(signal.SIGTERM)
                assert (sending.returncode, worker.wait(30)) == (0, 0)
        return output, sending.pid, worker.pid

    def wait_for_jobs(self, number: int, sender: subprocess.Popen[str], seconds: float = 30) -> None:
        """Wait until ``number`` jobs are written. A worker that starts earlier could read half of a job."""
        end = time.monotonic() + seconds
        while sum(job.stat().st_size > 0 for job in (self.folder / "jobs").iterdir()) < number:
            assert sender.poll() is None
            assert time.monotonic() < end
            time.sleep(0.02)


def tasks_below(sink: Sink, name: str) -> list[Any]:
    """Assert that the flow arrived, with only thumbnail tasks below it, each once. Return the tasks."""
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
    """The worker's spans are below the sender's. A worker that is stopped sends its queue."""
    output, sender, worker = Celery(tmp_path, sink).answer(3, pool, EXAMPLE.name)
    assert output == "['small-cat.png', 'small-dog.png', 'small-owl.png']\n"
    messages = [attributes_of(event) for task in tasks_below(sink, "make thumbnails") for event in task.events]
    assert sorted(message["otelflow.message.text"] for message in messages) == [
        "shrinking cat.png",
        "shrinking dog.png",
        "shrinking owl.png",
    ]
    (pid,) = {message["pid"] for message in messages}
    assert (pid == worker) == (pool == "solo")
    assert pid != sender


def test_a_job_that_a_worker_sends_is_also_a_task_of_the_flow(tmp_path: Path, sink: Sink) -> None:
    """The worker sends the second job of a chain when the first has ended."""
    output, _, _ = Celery(tmp_path, sink).answer(1, "solo", "-c", CHAIN)
    assert output == "small-small-cat.png\n"
    assert len(tasks_below(sink, "make twice")) == 2
