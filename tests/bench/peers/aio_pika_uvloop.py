"""aio-pika on uvloop."""

from __future__ import annotations

import asyncio

import uvloop

from .aio_pika import Peer as Base


class Peer(Base):
    def new_loop(self) -> asyncio.AbstractEventLoop:
        return uvloop.new_event_loop()
