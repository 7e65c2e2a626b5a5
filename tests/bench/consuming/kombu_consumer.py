"""kombu's Consumer over amqp."""

from __future__ import annotations

from typing import Any

import kombu

from .rounds import PREFETCH, Clock


class Peer:
    def __init__(self, told: dict[str, Any]) -> None:
        self.told = told

    def consume(self, messages: int) -> dict[str, Any]:
        clock = Clock(messages)
        queue = kombu.Queue(self.told["queue"], no_declare=True)

        def handle(message: kombu.Message) -> None:
            message.ack()
            clock.tick()

        with kombu.Connection(self.told["url"]) as connection:
            consumer = kombu.Consumer(
                connection.channel(), [queue], on_message=handle, prefetch_count=PREFETCH
            )
            with consumer:
                while clock.count < messages:
                    connection.drain_events()
        return clock.measured
