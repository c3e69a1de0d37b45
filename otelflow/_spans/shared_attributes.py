"""Attributes of a span as parts that spans of one function and one flow share; merged only when they are read."""

from __future__ import annotations

from typing import Any

from otelflow import attributes as wire

__all__ = ["SharedAttributes", "merged"]

SharedAttributes = tuple[Any, ...]
"""Each part is a dict of scrubbed values that nobody changes any more, or the number of a task run.

The number stands for the task's run id. A later part overrides an earlier one."""


def merged(parts: SharedAttributes) -> dict[str, Any]:
    """Return the attributes of all ``parts`` in a new dict."""
    attributes: dict[str, Any] = {}
    for part in parts:
        if type(part) is int:
            attributes[wire.TASK_RUN_ID] = f"task_{part:028x}"
        else:
            attributes.update(part)
    return attributes
