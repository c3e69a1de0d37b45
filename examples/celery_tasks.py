"""Flow that sends jobs to Celery workers. The spans of the jobs are in the flow's trace.

With ``python examples/celery_tasks.py`` the jobs run immediately, in the same process. With a broker, start a worker
too. Both send their spans to the same backend, which joins them into one trace::

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
otelflow.configure("celery-tasks")  # before the worker forks; each of its processes sends its own spans

app: Any = Celery("celery_tasks")  # takes its URLs from the environment
app.conf.task_always_eager = "CELERY_BROKER_URL" not in os.environ

# --- Context propagation ------------------------------------------------------------------------------------------
# By signals: these are also sent for jobs of jobs, such as retries, callbacks and the rest of a chain.


def _send_context(headers: dict[str, Any], **_: Any) -> None:
    headers["otelflow"] = propagate.inject()


def _attach_context(sender: Any, **_: Any) -> None:
    request = sender.request  # belongs to this execution of the job only
    request.attached = propagate.attached(request.get("otelflow"))
    request.attached.__enter__()


def _detach_context(sender: Any, **_: Any) -> None:
    sender.request.attached.__exit__(None, None, None)


signals.before_task_publish.connect(_send_context)
signals.task_prerun.connect(_attach_context)
signals.task_postrun.connect(_detach_context)

# --- Flow and task ------------------------------------------------------------------------------------------------


@app.task  # type: ignore[untyped-decorator]
@task
def thumbnail(name: str, this_task: Task | None = None) -> str:
    """Celery job that is also a task of the flow that sent it."""
    if this_task is not None:
        this_task.log_info(f"shrinking {name}", pid=os.getpid())
    return f"small-{name}"


@flow(name="make thumbnails")
def make_thumbnails(names: list[str]) -> list[str]:
    """Send a job for each name, and wait for all jobs."""
    jobs = [thumbnail.delay(name) for name in names]  # pyright: ignore[reportFunctionMemberAccess]
    return [job.get(timeout=60) for job in jobs]


if __name__ == "__main__":
    run = make_thumbnails(["cat.png", "dog.png", "owl.png"]).execute()
    otelflow.shutdown()
    print(run.return_value)
