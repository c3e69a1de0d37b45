"""The tasks of the stress test, importable in workers."""

from __future__ import annotations

import asyncio
from typing import Any

from otelflow import task


@task
def unit(flow: int, index: int, this_flow: Any = None) -> int:
    """Says on its flow which flow it is for."""
    this_flow.log_info(f"{flow} {index}", flow=flow)
    return index


@task
async def unit_async(flow: int, index: int, this_flow: Any = None) -> int:
    """The same on a loop."""
    await asyncio.sleep(0)
    this_flow.log_info(f"{flow} {index}", flow=flow)
    return index
