"""Tasks of the stress test, in a module that workers can import."""

from __future__ import annotations

import asyncio
from typing import Any

from otelflow import task


@task
def unit(flow: int, index: int, this_flow: Any = None) -> int:
    """Log on the flow which flow the task is for."""
    this_flow.log_info(f"{flow} {index}", flow=flow)
    return index


@task
async def unit_async(flow: int, index: int, this_flow: Any = None) -> int:
    """The same as a coroutine function."""
    await asyncio.sleep(0)
    this_flow.log_info(f"{flow} {index}", flow=flow)
    return index
