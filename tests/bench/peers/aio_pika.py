"""aio-pika: one connection and channel, many tasks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import aio_pika

from .base import Measured, summary
from .base import Peer as Base


class Peer(Base):
    def __init__(self, url: str, queue: str) -> None:
        super().__init__(url, queue)
        self._loop = self.new_loop()
        self._exchange: Any = None

    def new_loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.new_event_loop()

    def each(self, threads: int, seconds: float) -> Measured:
        """Tasks in the place of threads: this client has one."""
        return self._loop.run_until_complete(self._each(threads, seconds))

    def many(self, messages: int, tasks: int = 1) -> Measured:
        return self._loop.run_until_complete(self._many(messages, tasks))

    async def _each(self, tasks: int, seconds: float) -> Measured:
        await self._connected()
        latencies: list[float] = []
        clock = time.perf_counter
        started, cpu = clock(), time.process_time()

        async def work() -> None:
            now = clock()
            while now < started + seconds:
                await self._publish_one()
                before, now = now, clock()
                latencies.append(now - before)

        await asyncio.gather(*(work() for _ in range(tasks)))
        return summary(latencies, clock() - started, time.process_time() - cpu)

    async def _many(self, messages: int, tasks: int) -> Measured:
        await self._connected()
        numbers = iter(range(messages))

        async def work(numbers: Iterator[int]) -> None:
            for _ in numbers:
                await self._publish_one()

        started, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(work(numbers) for _ in range(tasks)))
        seconds, used = time.perf_counter() - started, time.process_time() - cpu
        return {"messages": messages, "seconds": seconds, "cpu": used}

    async def _connected(self) -> None:
        if self._exchange is None:
            connection = await aio_pika.connect(self.url)
            channel = await connection.channel(publisher_confirms=True)
            self._exchange = channel.default_exchange

    async def _publish_one(self) -> None:
        message = aio_pika.Message(
            self.body,
            content_type="application/json",
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        await self._exchange.publish(message, routing_key=self.queue, mandatory=True)
