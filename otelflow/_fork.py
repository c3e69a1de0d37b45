"""What a forked child makes new: its parent's threads are not there to finish what they began."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

__all__ = ["after_fork_in_child"]


def after_fork_in_child(call: Callable[[], Any]) -> None:
    """Have ``call`` made in each child of :func:`os.fork`, before anything else runs there. It stays registered as long
    as this process lives."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=call)
