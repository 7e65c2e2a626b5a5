"""rmq_publisher by its public names."""

from __future__ import annotations

import asyncio
import statistics
import time
from functools import partial
from typing import Any

from tests.bench.spans import Spans

from .base import Measured, Publish, configure_django
from .base import Peer as Base

WINDOW = 64  # RMQ_MAX_IN_FLIGHT's default


class Peer(Base):
    def __init__(self, url: str, queue: str, way: str = "now", window: int = WINDOW) -> None:
        super().__init__(url, queue)
        configure_django(["rmq_publisher"], RMQ_URL=url, RMQ_MAX_IN_FLIGHT=window)
        import rmq_publisher  # noqa: PLC0415 (after the settings, and from where the worker says)

        self._library = rmq_publisher
        self._way = way

    def publisher(self) -> Publish:
        if self._way == "producer":
            return self._library.Producer(queue=self.queue).publish
        if self._way == "on_commit":  # outside a transaction: it leaves at once
            return partial(self._library.publish, queue=self.queue)
        return partial(self._library.publish, queue=self.queue, delivery="now")

    def commit_publisher(self) -> Publish:
        return partial(self._library.publish, queue=self.queue)

    def publish_all(self, bodies: list[bytes]) -> None:
        self._library.publish_many(bodies, queue=self.queue, delivery="now")

    def many_awaited(self, messages: int, tasks: int) -> Measured:
        """`apublish` by so many tasks on one event loop."""
        started, cpu = time.perf_counter(), time.process_time()
        asyncio.run(self._await(iter(range(messages)), tasks))
        seconds, used = time.perf_counter() - started, time.process_time() - cpu
        return {"messages": messages, "seconds": seconds, "cpu": used}

    async def _await(self, numbers: object, tasks: int) -> None:
        async def work() -> None:
            for _ in numbers:  # type: ignore[attr-defined]
                await self._library.apublish(self.body, queue=self.queue)

        await asyncio.gather(*(work() for _ in range(tasks)))

    def profile(self, task: dict[str, Any]) -> Measured:
        """Do a task with the steps of the library timed."""
        with Spans() as spent:
            measured = getattr(self, task.pop("do"))(**task)
        return {**measured, "spent": dict(spent)}

    def call(self, messages: int, transactions: int) -> Measured:
        """What `publish()` itself takes before the commit, beside one confirmed publish."""
        from django.db import connection, transaction  # noqa: PLC0415

        self._make_table()
        commit, now = self.commit_publisher(), self._publish()
        calls, confirmed = [], []
        clock = time.perf_counter
        for _ in range(transactions):
            with transaction.atomic():
                connection.cursor().execute("INSERT INTO orders (note) VALUES ('benchmark')")
                for _ in range(messages):
                    before = clock()
                    commit(self.body)
                    calls.append(clock() - before)
            for _ in range(messages):
                before = clock()
                now(self.body)
                confirmed.append(clock() - before)
        return {
            "messages": len(calls) + len(confirmed),
            "call": statistics.median(calls) * 1e6,
            "call_mean": statistics.mean(calls) * 1e6,
            "confirmed": statistics.median(confirmed) * 1e6,
        }
