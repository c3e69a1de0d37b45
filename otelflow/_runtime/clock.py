"""What time it is: asked through this module, so that a test can have a clock that steps."""

from __future__ import annotations

from time import time_ns as now

__all__ = ["now"]
