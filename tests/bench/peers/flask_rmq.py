"""Flask-RMQ: a connection and channel for each thread, confirmed one by one."""

from __future__ import annotations

import flask_rmq
import pika
from flask import Flask

from .base import Peer as Base
from .base import Publish


class Peer(Base):
    def __init__(self, url: str, queue: str) -> None:
        super().__init__(url, queue)
        told = pika.URLParameters(url)
        self._app = Flask("benchmark")
        self._app.config["RABBITMQ_CONNECTIONS"] = {
            "default": {
                "HOST": told.host,
                "PORT": told.port,
                "VIRTUAL_HOST": told.virtual_host,
                "USER": told.credentials.username,
                "PASSWORD": told.credentials.password,
            }
        }
        flask_rmq.FlaskRMQ(self._app)
        self._producer = flask_rmq.Producer(queue=queue)

    def publisher(self) -> Publish:
        return self._producer.publish
