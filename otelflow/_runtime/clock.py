"""Tell the time. All code reads the clock here, so that a test can replace it by a clock that steps."""

from __future__ import annotations

from time import time_ns as now

__all__ = ["now"]
