"""Threads that send tasks one after the other, and transactions that send many."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from tests.bench.stored.work import configure_django

Measured = dict[str, Any]
Send = Callable[[str], object]
TASK = "bench.empty"
TEXT = "x" * 930  # of which the body becomes 1 KB


class Base:
    """A process that sends tasks.

    Args:
        told: ``url``, ``queue``, ``database``, and the ``settings``.
    """

    def __init__(self, told: dict[str, Any]) -> None:
        self.told = told
        self.queue: str = told["queue"]
        configure_django(told, "rmq_publisher", RMQ_URL=told["url"], **told.get("settings", {}))
        from django.db import connection  # noqa: PLC0415 (after the settings)

        self._pools: dict[int, ThreadPoolExecutor] = {}
        with connection.cursor() as cursor:
            cursor.execute(
                "CREATE TABLE IF NOT EXISTS orders (id bigserial PRIMARY KEY, note text)"
            )

    def send(self) -> Send:
        """Return what sends a task at once."""
        raise NotImplementedError

    def send_after_commit(self) -> Send:
        """Return what is called in a transaction to have a task sent once it has committed."""
        from django.db import transaction  # noqa: PLC0415

        send = self.send()
        return lambda text: transaction.on_commit(partial(send, text))

    def empty(self) -> Measured:
        from django.db import connection  # noqa: PLC0415

        with connection.cursor() as cursor:
            cursor.execute("TRUNCATE rmq_publisher_outboxmessage, orders")
        return {}

    def each(self, threads: int, seconds: float) -> Measured:
        """Send one task after the other in so many threads."""
        pool = self._pools.setdefault(threads, ThreadPoolExecutor(threads))
        gate = threading.Barrier(threads + 1)
        jobs = [pool.submit(self._send_for, gate, seconds) for _ in range(threads)]
        gate.wait()
        started, cpu = time.perf_counter(), time.process_time()
        messages = sum(job.result() for job in jobs)
        used, taken = time.process_time() - cpu, time.perf_counter() - started
        return {"messages": messages, "seconds": taken, "cpu": used}

    def _send_for(self, gate: threading.Barrier, seconds: float) -> int:
        send, sent = self.send(), 0
        gate.wait()
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            send(TEXT)
            sent += 1
        return sent

    def transaction(self, messages: int) -> Measured:
        """Send so many tasks in a transaction that writes a row, until the last is sent."""
        from django.db import connection, transaction  # noqa: PLC0415

        send = self.send_after_commit()
        started, cpu = time.perf_counter(), time.process_time()
        with transaction.atomic():
            connection.cursor().execute("INSERT INTO orders (note) VALUES ('benchmark')")
            for _ in range(messages):
                send(TEXT)
        used, taken = time.process_time() - cpu, time.perf_counter() - started
        return {"messages": messages, "seconds": taken, "cpu": used}
