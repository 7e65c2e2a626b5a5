"""pika's BlockingConnection."""

from __future__ import annotations

from typing import Any

import pika

from .rounds import PREFETCH, Clock


class Peer:
    def __init__(self, told: dict[str, Any]) -> None:
        self.told = told

    def consume(self, messages: int) -> dict[str, Any]:
        clock = Clock(messages)
        connection = pika.BlockingConnection(pika.URLParameters(self.told["url"]))
        channel = connection.channel()
        channel.basic_qos(prefetch_count=PREFETCH)

        def handle(channel: Any, method: Any, _properties: Any, _body: bytes) -> None:
            channel.basic_ack(method.delivery_tag)
            if clock.tick():
                channel.stop_consuming()

        channel.basic_consume(self.told["queue"], handle)
        channel.start_consuming()
        connection.close()
        return clock.measured
