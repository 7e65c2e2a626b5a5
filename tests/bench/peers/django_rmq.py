"""django-rmq: a connection and channel for each thread, confirmed one by one."""

from __future__ import annotations

import logging

import pika
from django_rmq.producer import Producer

from .base import Peer as Base
from .base import Publish, configure_django


class Peer(Base):
    def __init__(self, url: str, queue: str) -> None:
        super().__init__(url, queue)
        told = pika.URLParameters(url)
        connection = {
            "HOST": told.host,
            "PORT": told.port,
            "VIRTUAL_HOST": told.virtual_host,
            "USER": told.credentials.username,
            "PASSWORD": told.credentials.password,
            "HEARTBEAT": 600,
            "BLOCKED_CONNECTION_TIMEOUT": 300,
            "RECONNECT_INITIAL_BACKOFF": 1,
            "RECONNECT_MAX_BACKOFF": 30,
        }
        configure_django(["django_rmq"], RABBITMQ_CONNECTIONS={"default": connection})
        logging.getLogger("rabbitmq").setLevel(logging.WARNING)
        self._producer = Producer(queue=queue)

    def publisher(self) -> Publish:
        return self._producer.publish
