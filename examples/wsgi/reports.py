"""HTTP service for a library's loans and reports, for a server with worker processes.

Run ``gunicorn --workers 2 reports:app`` in this folder.
"""

from __future__ import annotations

import os
from typing import Any

import library
from flask import Flask, request

app = Flask(__name__)


@app.post("/loans")
def lend() -> tuple[dict[str, str], int]:
    """Lend a book. The JSON body has ``book`` and ``reader``."""
    body = request.get_json()
    match body:
        case {"book": str(book), "reader": str(reader)}:
            return {"book": book, "due": library.loan(book, reader).isoformat()}, 201
    return {"error": "a book and a reader are needed"}, 422


@app.get("/reports/overdue")
def report() -> dict[str, Any]:
    """Return the overdue books."""
    return {"overdue": library.overdue()}


@app.get("/health")
def health() -> dict[str, Any]:
    """Return the status, and the id of the process that answers."""
    return {"status": "ok", "worker": os.getpid()}


@app.errorhandler(library.AlreadyLent)
def already_lent(error: library.AlreadyLent) -> tuple[dict[str, str], int]:
    """Return status 409: another reader has the book."""
    return {"error": str(error)}, 409
