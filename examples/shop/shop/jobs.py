"""Background jobs, in their own threads."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from shop.database import Database, OrderRow, ReceiptRow

log = logging.getLogger(__name__)


class Jobs:
    """Pool of threads for background jobs."""

    def __init__(self, threads: int = 2) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="jobs")

    def add(self, job: Callable[..., None], *arguments: object) -> None:
        """Run a job in a thread. A failure is logged."""
        self._pool.submit(job, *arguments).add_done_callback(_report)

    def close(self) -> None:
        """Finish all jobs, then stop the threads."""
        self._pool.shutdown()


def send_receipt(database: Database, order_id: str, recipient: str) -> None:
    """Write the receipt of an order. A real shop would send an e-mail here."""
    with database.writing() as session:
        order = session.get_one(OrderRow, order_id)
        session.add(ReceiptRow(order_id=order_id, text=f"Dear {recipient}: {order.total / 100:.2f} for {order_id}"))
        order.status = "receipt sent"


def _report(job: Future[None]) -> None:
    if error := job.exception():
        log.error("a job failed", exc_info=error)
