"""dramatiq with confirms: a connection and channel for each thread; it encodes its messages."""

from __future__ import annotations

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from .base import Peer as Base
from .base import Publish


class Peer(Base):
    def __init__(self, url: str, queue: str) -> None:
        # It declares its queues itself, with arguments of its own.
        super().__init__(url, f"{queue}.dramatiq")
        self._broker = RabbitmqBroker(url=url, confirm_delivery=True, middleware=[])
        self._broker.declare_queue(self.queue, ensure=True)
        overhead = len(self._message("").encode())
        self._padding = " " * (len(self.body) - overhead)

    def publisher(self) -> Publish:
        return lambda _: self._broker.enqueue(self._message(self._padding))

    def _message(self, padding: str) -> dramatiq.Message[None]:
        return dramatiq.Message(
            queue_name=self.queue, actor_name="benchmark", args=(padding,), kwargs={}, options={}
        )
