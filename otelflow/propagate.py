"""Propagate flows across threads, processes and machines, so that work belongs to its run wherever it executes.

bind(function)          binds a function to the current context, for a thread or a timer
propagating(executor)   wraps any concurrent.futures.Executor; its jobs belong to the flow that submits them
inject(), attached()    write and read the context as text headers, for every other engine: a queue, HTTP, Celery
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from otelflow._propagation.carrier import attached, inject
from otelflow._propagation.job import BoundFunction, Job, bind
from otelflow._propagation.worker import JobFailed, JobResult
from otelflow._runs.wrapper import extend_cloudpickle
from otelflow._runtime.drop_counts import WORKER_LOST, counts
from otelflow._runtime.log_once import log_once
from otelflow.errors import ArgumentError

__all__ = ["attached", "bind", "inject", "propagating"]

T = TypeVar("T")


def propagating(executor: Executor) -> Executor:
    """Wrap ``executor`` so that its jobs belong to the flow that submits them.

    For threads: ``ThreadPoolExecutor``. For processes: ``ProcessPoolExecutor`` (fork, forkserver, spawn), ``loky``,
    Dask (``Client(...).get_executor()``), and every other executor that pickles its jobs. A job's tasks are children of
    the span that is current at ``submit``. In another process, ``this_flow`` is a handle of the flow: its messages,
    artifacts and results come back to the flow itself. ``flow_data`` is not shared: using it there raises
    :class:`otelflow.errors.NotShared`.

    A worker process records its spans and events and returns them with the job's result. They arrive before the result
    can be read. The thread that receives the result sends the spans to this process's exporters and the events to its
    listeners. In the worker, otelflow calls no exporter and no listener. A listener must not wait for another job of
    the same pool: it would wait for its own thread.

    These objects come back from a worker: the data of artifacts up to 1 MiB (of larger data, a preview), exceptions,
    and plain return values of tasks (for others, None). The flow's ``dependencies`` are not sent to the worker. If a
    worker dies, the record of its job is lost, and ``otelflow.stats()`` counts the job as ``worker_lost``.

    Args:
        executor: The executor that runs the jobs.

    Returns:
        An executor. Its futures are ``concurrent.futures`` futures. ``shutdown``, ``with`` and all other attributes are
        those of ``executor``. An executor that is wrapped already is returned unchanged.

    Raises:
        otelflow.errors.ArgumentError: ``executor`` has no ``submit`` method.
    """
    if isinstance(executor, _Propagating):
        return executor
    if not callable(getattr(executor, "submit", None)):
        raise ArgumentError(
            f"propagating({executor!r}): this has no submit() method. Use an executor, such as ThreadPoolExecutor."
        )
    extend_cloudpickle()
    return _Propagating(executor)


def _runs_in_threads(executor: Executor) -> bool:
    """Return whether jobs run in threads of this interpreter, so that nothing must be sent back."""
    interpreters: Any = getattr(concurrent.futures, "InterpreterPoolExecutor", ())
    return isinstance(executor, ThreadPoolExecutor) and not isinstance(executor, interpreters)


class _Propagating(Executor):
    """An executor that binds each job to its submitting flow."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._runs_in_threads = _runs_in_threads(executor)

    def __getattr__(self, name: str) -> Any:
        if name == "_executor":
            raise AttributeError(name)
        return getattr(self._executor, name)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        if self._runs_in_threads:
            return self._executor.submit(BoundFunction(fn), *args, **kwargs)
        job = Job(fn)
        return _JobFuture(self._executor.submit(job, *args, **kwargs), job)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        **options: Any,
    ) -> Iterator[T]:
        if chunksize <= 1 or self._runs_in_threads:
            return super().map(fn, *iterables, timeout=timeout, **options)
        rows = zip(*iterables)  # noqa: B905  # like map, this stops at the shortest
        chunks = super().map(partial(_run_chunk, fn), _in_chunks(rows, chunksize), timeout=timeout, **options)
        return (value for chunk in chunks for value in chunk)

    def shutdown(self, wait: bool = True, **options: Any) -> None:
        self._executor.shutdown(wait, **options)

    def __enter__(self) -> _Propagating:
        self._executor.__enter__()
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self._executor.__exit__(*error)


def _in_chunks(rows: Iterable[tuple[Any, ...]], size: int) -> Iterator[list[tuple[Any, ...]]]:
    rows = iter(rows)
    while chunk := list(islice(rows, size)):
        yield chunk


def _run_chunk(fn: Callable[..., T], rows: list[tuple[Any, ...]]) -> list[T]:
    return [fn(*row) for row in rows]


class _JobFuture(Future[Any]):
    """The future of a job in another process. It is done once the job's events and spans have been replayed here."""

    def __init__(self, inner: Future[Any], job: Job) -> None:
        super().__init__()
        self._inner: Future[Any] | None = inner
        self._job: Job | None = job
        inner.add_done_callback(self._on_done)

    def cancel(self) -> bool:
        inner = self._inner
        return super().cancel() if inner is None else inner.cancel()

    def running(self) -> bool:
        inner = self._inner
        return super().running() or (inner is not None and inner.running())

    def _on_done(self, inner: Future[Any]) -> None:
        """Replay the job, then set this future's result. Called on the thread that receives the result.

        This must set a result or an exception whatever fails here: otherwise the caller waits forever.
        """
        if inner.cancelled():
            super().cancel()
        job, self._job, self._inner = self._job, None, None  # otherwise the two futures keep each other in memory
        if not self.set_running_or_notify_cancel():  # from here on, cancel() has no effect
            return
        error, value = inner.exception(), None
        result = error.result if isinstance(error, JobFailed) else None if error else inner.result()
        if isinstance(result, JobResult):
            error, value = _replay_job(job, result)
        elif error is None:
            value = result
        elif job is not None and not job.ran_here:
            counts.add(WORKER_LOST)
        if error is None:
            self.set_result(value)
        else:
            self.set_exception(error)


def _replay_job(job: Any, result: JobResult) -> tuple[BaseException | None, Any]:
    """Replay what the job did, then return its exception and its value."""
    try:
        return job.on_result(result), result.value
    except BaseException as problem:  # a defect of otelflow, on a thread of the executor
        log_once(
            f"replay {type(problem).__name__}",
            "Could not replay the events of a job. Its result is unchanged.",
            exc_info=True,
        )
        return result.exception(0), result.value
