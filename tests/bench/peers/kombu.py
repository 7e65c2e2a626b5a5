"""kombu with confirms; one connection a thread, which is its fastest way without pools."""

from __future__ import annotations

from functools import partial

import kombu

from .base import Peer as Base
from .base import Publish


class Peer(Base):
    def publisher(self) -> Publish:
        connection = kombu.Connection(self.url, transport_options={"confirm_publish": True})
        producer = kombu.Producer(connection.channel())
        return partial(
            producer.publish,
            routing_key=self.queue,
            content_type="application/json",
            content_encoding="utf-8",
            delivery_mode=2,
            mandatory=True,
        )
