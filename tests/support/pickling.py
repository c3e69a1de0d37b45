"""An executor that pickles jobs and results, as one over processes does, and a flow that submits one job."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

from otelflow import FlowRunConfig, flow


class PicklingExecutor(Executor):
    """Runs each job as another process would: pickled and unpickled, in an empty context."""

    def __init__(self) -> None:
        self.threads = ThreadPoolExecutor(2)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return self.threads.submit(_run_pickled, pickle.dumps((fn, args, kwargs)))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.threads.shutdown(wait, cancel_futures=cancel_futures)


def _run_pickled(job: bytes) -> Any:
    function, args, kwargs = pickle.loads(job)
    try:
        value = function(*args, **kwargs)
    except BaseException as error:
        raise pickle.loads(pickle.dumps(error)) from None
    return pickle.loads(pickle.dumps(value))


@flow
def one(pool: Executor, job: Callable[..., Any], *args: Any) -> Any:
    """A flow that submits one job."""
    return pool.submit(job, *args).result(20)


quiet = flow(flow_config=FlowRunConfig(raise_flow_error=False))(one.__wrapped__)
