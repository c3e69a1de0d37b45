"""Gunicorn's settings, by ``-c python:gunicorn_says``: a worker says when it hears signals."""

from __future__ import annotations

import os

__all__ = ["post_worker_init"]


def post_worker_init(_worker):
    """Until here, a worker has the handlers of its parent, which put a SIGTERM where no worker looks for it."""
    os.write(1, b"booted\n")  # nothing of otelflow is imported here: it would be in gunicorn's parent process, too
