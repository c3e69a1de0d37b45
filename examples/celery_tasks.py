"""A flow that hands its work to Celery workers, and has what they do in its own trace.

Run as ``python examples/celery_tasks.py`` the jobs run at once, in the same process. With a broker, start a worker
beside it; both send their spans to the same place, where they meet::

    export CELERY_BROKER_URL=redis://localhost CELERY_RESULT_BACKEND=redis://localhost
    export OTEL_TRACES_EXPORTER=otlp OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318
    celery --workdir examples --app celery_tasks worker
    python examples/celery_tasks.py
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery, signals  # type: ignore[import-untyped]

import otelflow
from otelflow import Task, flow, propagate, task

os.environ.setdefault("OTEL_TRACES_EXPORTER", "otelflow_tree")
otelflow.configure("celery-tasks")  # before the worker forks; each of its processes sends what it made

app: Any = Celery("celery_tasks")  # takes its URLs from the environment
app.conf.task_always_eager = "CELERY_BROKER_URL" not in os.environ

# --- The way of the context ---------------------------------------------------------------------------------------
# By signals, as these also reach what a job sends in its turn: retries, callbacks, the rest of a chain.


def _send_context(headers: dict[str, Any], **_: Any) -> None:
    headers["otelflow"] = propagate.inject()


def _attach_context(sender: Any, **_: Any) -> None:
    request = sender.request  # of this one run of the job
    request.attached = propagate.attached(request.get("otelflow"))
    request.attached.__enter__()


def _detach_context(sender: Any, **_: Any) -> None:
    sender.request.attached.__exit__(None, None, None)


signals.before_task_publish.connect(_send_context)
signals.task_prerun.connect(_attach_context)
signals.task_postrun.connect(_detach_context)

# --- The work -----------------------------------------------------------------------------------------------------


@app.task  # type: ignore[untyped-decorator]
@task
def thumbnail(name: str, this_task: Task | None = None) -> str:
    """A job, and a task of the flow that sent it."""
    if this_task is not None:
        this_task.log_info(f"shrinking {name}", pid=os.getpid())
    return f"small-{name}"


@flow(name="make thumbnails")
def make_thumbnails(names: list[str]) -> list[str]:
    """Send a job for each of ``names``, and wait for all."""
    jobs = [thumbnail.delay(name) for name in names]  # pyright: ignore[reportFunctionMemberAccess]
    return [job.get(timeout=60) for job in jobs]


if __name__ == "__main__":
    run = make_thumbnails(["cat.png", "dog.png", "owl.png"]).execute()
    otelflow.shutdown()
    print(run.return_value)
