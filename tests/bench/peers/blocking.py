"""pika's own blocking connection as Flask-RMQ's documentation describes its producer."""

from __future__ import annotations

import pika

from .base import Peer as Base
from .base import Publish


class Peer(Base):
    def publisher(self) -> Publish:
        channel = pika.BlockingConnection(pika.URLParameters(self.url)).channel()
        channel.confirm_delivery()
        channel.queue_declare(self.queue, passive=True)

        def publish(body: bytes) -> None:
            properties = pika.BasicProperties(content_type="application/json", delivery_mode=2)
            channel.basic_publish("", self.queue, body, properties, mandatory=True)

        return publish
