"""Gunicorn's settings, by ``-c python:gunicorn_says``: a worker reports when it handles signals."""

from __future__ import annotations

import os

__all__ = ["post_worker_init"]


def post_worker_init(_worker):
    """Report that the worker has its own signal handlers.

    Until here it has those of its parent, which store a SIGTERM where no worker reads it.
    """
    os.write(1, b"booted\n")  # without otelflow, because gunicorn's parent process imports this module, too
