"""The attributes of a span in parts that spans of one function and one flow share: merged when somebody reads them."""

from __future__ import annotations

from typing import Any

from otelflow import attributes as wire

__all__ = ["SharedAttributes", "merged"]

SharedAttributes = tuple[Any, ...]
"""Each part is a dict of clean values that nobody changes any more, or the number of a task run, which stands for its
run id. A later part wins over an earlier one."""


def merged(parts: SharedAttributes) -> dict[str, Any]:
    """The attributes that ``parts`` stand for, in a dict of their own."""
    made: dict[str, Any] = {}
    for part in parts:
        if type(part) is int:
            made[wire.TASK_RUN_ID] = f"task_{part:028x}"
        else:
            made.update(part)
    return made
