"""Flows across threads, processes and machines: who belongs to which run, wherever it is executed.

bind(function)          a function for a thread or a timer, with the context of here
propagating(executor)   any concurrent.futures.Executor, its jobs part of the flow that submits them
inject(), attached()    the context as text headers, for every other engine: a queue, HTTP, Celery
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
from otelflow._runs.wrapper import teach_cloudpickle
from otelflow._runtime.drop_counts import WORKER_LOST, counts
from otelflow._runtime.log_once import log_once
from otelflow.errors import ArgumentError

__all__ = ["attached", "bind", "inject", "propagating"]

T = TypeVar("T")


def propagating(executor: Executor) -> Executor:
    """``executor``, its jobs part of the flow that submits them.

    For threads: ``ThreadPoolExecutor``. For processes: ``ProcessPoolExecutor`` (fork, forkserver, spawn), ``loky``,
    Dask (``Client(...).get_executor()``), and every other executor that pickles its jobs. A job's tasks are children of
    the span that is current at ``submit``. In another process, ``this_flow`` is a handle of the flow: messages,
    artifacts and results come back to the flow itself; ``flow_data`` is not shared, and says so when it is used.

    What a worker process does comes back with the job's result, before that can be read: spans go to the exporters of
    this process, events to its listeners, on the thread that receives the result; the worker exports and calls none of
    its own. A listener must not wait there for another job of the same pool: it would wait for the thread it is on. Of
    objects, an artifact's data travels up to 1 MiB, exceptions, and return values that are plain; else a preview or
    None. The flow's ``dependencies`` stay where they are. If a worker dies, what its job did is lost, which
    ``otelflow.stats()`` counts as ``worker_lost``.

    The futures are ``concurrent.futures`` futures; ``shutdown`` and ``with`` are the executor's own.

    Raises :class:`otelflow.errors.ArgumentError` for what has no ``submit``.
    """
    if isinstance(executor, _Propagating):
        return executor
    if not callable(getattr(executor, "submit", None)):
        raise ArgumentError(f"propagating({executor!r}): use an executor, an object with submit() that gives futures.")
    teach_cloudpickle()
    return _Propagating(executor)


def _stays_here(executor: Executor) -> bool:
    """Whether jobs run in threads of this interpreter, so that there is nothing to bring back."""
    interpreters: Any = getattr(concurrent.futures, "InterpreterPoolExecutor", ())
    return isinstance(executor, ThreadPoolExecutor) and not isinstance(executor, interpreters)


class _Propagating(Executor):
    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._stays_here = _stays_here(executor)

    def __getattr__(self, name: str) -> Any:
        if name == "_executor":
            raise AttributeError(name)
        return getattr(self._executor, name)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        if self._stays_here:
            return self._executor.submit(BoundFunction(fn), *args, **kwargs)
        job = Job(fn)
        return _Landing(self._executor.submit(job, *args, **kwargs), job)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        **more: Any,
    ) -> Iterator[T]:
        if chunksize <= 1 or self._stays_here:
            return super().map(fn, *iterables, timeout=timeout, **more)
        chunks = super().map(partial(_chunk, fn), _in_chunks(zip(*iterables), chunksize), timeout=timeout, **more)  # noqa: B905  # as map does
        return (value for chunk in chunks for value in chunk)

    def shutdown(self, wait: bool = True, **more: Any) -> None:
        self._executor.shutdown(wait, **more)

    def __enter__(self) -> _Propagating:
        self._executor.__enter__()
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self._executor.__exit__(*error)


def _in_chunks(rows: Iterable[tuple[Any, ...]], size: int) -> Iterator[list[tuple[Any, ...]]]:
    rows = iter(rows)
    while chunk := list(islice(rows, size)):
        yield chunk


def _chunk(fn: Callable[..., T], rows: list[tuple[Any, ...]]) -> list[T]:
    return [fn(*row) for row in rows]


class _Landing(Future[Any]):
    """The future of a job in another process: done once what the job did has been handed on here."""

    def __init__(self, inner: Future[Any], job: Job) -> None:
        super().__init__()
        self._inner: Future[Any] | None = inner
        self._job: Job | None = job
        inner.add_done_callback(self._landed)

    def cancel(self) -> bool:
        inner = self._inner
        return super().cancel() if inner is None else inner.cancel()

    def running(self) -> bool:
        inner = self._inner
        return super().running() or (inner is not None and inner.running())

    def _landed(self, inner: Future[Any]) -> None:
        """Called on the thread that receives the result. Whatever goes wrong here, who waits must not wait for ever."""
        if inner.cancelled():
            super().cancel()
        job, self._job, self._inner = self._job, None, None  # else the two futures would keep each other in memory
        if not self.set_running_or_notify_cancel():  # from here on it cannot be cancelled
            return
        error, value = inner.exception(), None
        outcome = error.outcome if isinstance(error, JobFailed) else None if error else inner.result()
        if isinstance(outcome, JobResult):
            error, value = _received(job, outcome)
        elif error is None:
            value = outcome
        elif job is not None and not job.ran_here:
            counts.add(WORKER_LOST)
        if error is None:
            self.set_result(value)
        else:
            self.set_exception(error)


def _received(job: Any, outcome: JobResult) -> tuple[BaseException | None, Any]:
    """The exception and the value that came back, after all else has been handed on."""
    try:
        return job.on_result(outcome), outcome.value
    except BaseException as problem:  # of ours, on a thread of the executor's
        log_once(f"replay {type(problem).__name__}", "Could not replay a job.", exc_info=True)
        return outcome.raised(0), outcome.value
