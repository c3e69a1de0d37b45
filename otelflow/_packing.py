"""Objects on their way from one process to another, each by itself: one that cannot travel does not spoil the rest."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from typing import Any

from otelflow._counts import VALUES_NOT_RELAYED, counts
from otelflow._naming import error_type
from otelflow._values import MAX_VALUE_BYTES, safe_str, to_json
from otelflow.errors import WorkerError

__all__ = ["JOBS_OWN", "Packed", "pack_data", "pack_error", "pack_value", "unpack"]

MOST_BYTES = 1 << 20
"""Largest pickle of one artifact's data that travels; of more, a preview does."""

Packed = tuple[str, Any]
"""How an object travels: as it is (``value``), pickled (``pickle``, with what stands for it if it cannot be read), or
as the job's own result or exception (``job``), which travel anyway."""

JOBS_OWN: Packed = ("job", None)
_NOTHING: Packed = ("value", None)


def _dumps(value: object) -> bytes:
    """cloudpickle where it is loaded, as in workers of Dask and loky: it also takes what ``__main__`` defines."""
    cloudpickle = sys.modules.get("cloudpickle")
    dumps: Callable[[object], bytes] = pickle.dumps if cloudpickle is None else cloudpickle.dumps
    return dumps(value)


def _is_plain(value: object) -> bool:
    if value is None or type(value) in (bool, int, float):
        return True
    return isinstance(value, str | bytes) and type(value) in (str, bytes) and len(value) <= MAX_VALUE_BYTES


def pack_value(value: object) -> Packed:
    """A return value: plain values and short texts travel, nothing else. Large ones may be meant for the worker only,
    and it is not for an event to copy them."""
    return ("value", value) if _is_plain(value) else _NOTHING


def pack_data(data: object) -> Packed:
    """The data of an artifact: pickled, or a preview of it as JSON text."""
    if _is_plain(data):
        return "value", data
    try:
        dumped = _dumps(data)
    except Exception:  # whatever its __reduce__ does
        dumped = None
    if dumped is not None and len(dumped) <= MOST_BYTES:
        return "pickle", (dumped, None)
    counts.add(VALUES_NOT_RELAYED)
    return "value", to_json(data).text


def pack_error(error: BaseException | None) -> Packed:
    """An exception, without its traceback."""
    if error is None:
        return _NOTHING
    told = f"{error_type(error)}: {safe_str(error)}"
    try:
        return "pickle", (_dumps(error), told)
    except Exception:
        return "value", WorkerError(told)


def unpack(packed: Packed, jobs_own: Any = None) -> Any:
    """What was packed. ``jobs_own`` is the job's own result, or its exception."""
    how, what = packed
    if how == "job":
        return jobs_own
    if how == "value":
        return what
    dumped, told = what
    try:
        return pickle.loads(dumped)
    except Exception as problem:  # a class that this process does not have, or with another __init__
        counts.add(VALUES_NOT_RELAYED)
        return WorkerError(told) if told else f"<cannot be unpickled here: {type(problem).__name__}>"
