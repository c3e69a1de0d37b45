"""Loans of books, in a SQLite file that all worker processes share."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import date, timedelta
from pathlib import Path

LOAN = timedelta(days=28)

TABLE = "CREATE TABLE IF NOT EXISTS loans (book TEXT PRIMARY KEY, reader TEXT NOT NULL, due TEXT NOT NULL)"
OLD_LOAN = "INSERT OR IGNORE INTO loans VALUES ('Moby-Dick', 'Ishmael', '2020-01-31')"


class AlreadyLent(Exception):
    """Another reader has the book."""


def loan(book: str, reader: str) -> date:
    """Lend a book. Returns the date when it must be returned."""
    due = date.today() + LOAN
    with _transaction() as connection:
        if (holder := find_reader(connection, book)) is not None:
            raise AlreadyLent(f"{holder} has {book}")
        connection.execute("INSERT INTO loans VALUES (?, ?, ?)", (book, reader, due.isoformat()))
    return due


def overdue() -> list[dict[str, str]]:
    """Return the overdue books, the longest overdue first."""
    with _transaction() as connection:
        query = "SELECT book, reader, due FROM loans WHERE due < ? ORDER BY due"
        rows = connection.execute(query, (date.today().isoformat(),)).fetchall()
    return [{"book": book, "reader": reader, "due": due} for book, reader, due in rows]


def find_reader(connection: sqlite3.Connection, book: str) -> str | None:
    """Return the reader who has the book, or None."""
    row = connection.execute("SELECT reader FROM loans WHERE book = ?", (book,)).fetchone()
    return None if row is None else str(row[0])


@contextmanager
def _transaction() -> Iterator[sqlite3.Connection]:
    """Open a new connection for each call: a connection must not survive a fork. ``LIBRARY_DATABASE`` is the file."""
    path = os.environ.get("LIBRARY_DATABASE") or Path(tempfile.gettempdir(), "library-example.db")
    with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with connection:  # commits, or rolls back
            connection.execute(TABLE)
            connection.execute(OLD_LOAN)
            yield connection
