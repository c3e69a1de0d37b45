"""A library's loans and reports over HTTP, for a server with worker processes.

Run as ``gunicorn --workers 2 reports:app`` in this folder.
"""

from __future__ import annotations

import os
from typing import Any

import library
from flask import Flask, request

app = Flask(__name__)


@app.post("/loans")
def lend() -> tuple[dict[str, str], int]:
    """Lend the ``book`` to the ``reader`` that the JSON body names."""
    body = request.get_json()
    match body:
        case {"book": str(book), "reader": str(reader)}:
            return {"book": book, "due": library.loan(book, reader).isoformat()}, 201
    return {"error": "a book and a reader are needed"}, 422


@app.get("/reports/overdue")
def report() -> dict[str, Any]:
    """What should be back by now."""
    return {"overdue": library.overdue()}


@app.get("/health")
def health() -> dict[str, Any]:
    """Whether the service is there, and which of its processes answers."""
    return {"status": "ok", "worker": os.getpid()}


@app.errorhandler(library.AlreadyLent)
def already_lent(error: library.AlreadyLent) -> tuple[dict[str, str], int]:
    """Somebody else was quicker."""
    return {"error": str(error)}, 409
