"""A plain pika client with which tests look at the broker from outside."""

from __future__ import annotations

import contextlib
import re
import secrets
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError, ChannelClosedByBroker

from . import PATIENCE


class Received(NamedTuple):
    """One message as it left the queue."""

    method: Any
    properties: pika.BasicProperties
    body: bytes


class Names:
    """Names that nobody else uses; what was made under them is deleted after the test."""

    def __init__(self, test: str = "rig") -> None:
        self._stem = re.sub(r"\W+", "_", test)[:80]
        self.queues: list[str] = []
        self.exchanges: list[str] = []

    def queue(self) -> str:
        self.queues.append(self.unique("q"))
        return self.queues[-1]

    def exchange(self) -> str:
        self.exchanges.append(self.unique("x"))
        return self.exchanges[-1]

    def unique(self, kind: str = "n") -> str:
        return f"rig.{self._stem}.{kind}.{secrets.token_hex(4)}"


class Amqp:
    """Opens its connection on first use, and again when the broker was away."""

    def __init__(self, url: str, names: Names | None = None) -> None:
        self.url = url
        self.names = names or Names()
        self._connection: pika.BlockingConnection | None = None
        self._channel: BlockingChannel | None = None

    @property
    def connection(self) -> pika.BlockingConnection:
        if self._connection is None or not self._connection.is_open:
            parameters = pika.URLParameters(self.url)
            parameters.heartbeat = 0  # a test may leave us alone for long
            parameters.socket_timeout = parameters.stack_timeout = 5
            parameters.client_properties = {"connection_name": "rig"}
            self._connection = pika.BlockingConnection(parameters)
            self._channel = None
        return self._connection

    @property
    def channel(self) -> BlockingChannel:
        """A channel with confirms; a new one when the broker closed the last."""
        connection = self.connection
        if self._channel is None or not self._channel.is_open:
            self._channel = connection.channel()
            self._channel.confirm_delivery()
        return self._channel

    # -- making -------------------------------------------------------------------------------

    def declare_queue(
        self, name: str | None = None, *, durable: bool = True, **options: Any
    ) -> str:
        name = self.names.queue() if name is None else self._remember(name, self.names.queues)
        self.channel.queue_declare(name, durable=durable, **options)
        return name

    def declare_exchange(
        self, name: str | None = None, kind: str = "direct", **options: Any
    ) -> str:
        known = self.names.exchanges
        name = self.names.exchange() if name is None else self._remember(name, known)
        self.channel.exchange_declare(name, kind, **options)
        return name

    def bind(
        self,
        queue: str,
        exchange: str,
        routing_key: str = "",
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        self.channel.queue_bind(queue, exchange, routing_key, arguments=arguments)

    def delete_queue(self, name: str) -> None:
        self.channel.queue_delete(name)

    def delete_exchange(self, name: str) -> None:
        self.channel.exchange_delete(name)

    def publish(
        self,
        body: bytes,
        routing_key: str,
        exchange: str = "",
        properties: pika.BasicProperties | None = None,
    ) -> None:
        """Confirmed; raises when it is returned or refused."""
        self.channel.basic_publish(exchange, routing_key, body, properties, mandatory=True)

    # -- looking ------------------------------------------------------------------------------

    def depth(self, queue: str) -> int:
        """Messages ready for delivery."""
        return int(self.channel.queue_declare(queue, passive=True).method.message_count)

    def queue_exists(self, name: str) -> bool:
        try:
            self.channel.queue_declare(name, passive=True)
        except ChannelClosedByBroker as error:
            return error.reply_code != 404 and _again(error)
        return True

    def exchange_exists(self, name: str) -> bool:
        try:
            self.channel.exchange_declare(name, passive=True)
        except ChannelClosedByBroker as error:
            return error.reply_code != 404 and _again(error)
        return True

    def wait_for_depth(self, queue: str, expected: int, timeout: float = PATIENCE) -> int:
        """The depth once it has reached `expected`, or what it is when time is up."""
        deadline = time.monotonic() + timeout
        while (depth := self.depth(queue)) < expected and time.monotonic() < deadline:
            time.sleep(0.01)
        return depth

    def drain(self, queue: str, expected: int = 0, timeout: float = PATIENCE) -> list[Received]:
        """Take out all messages; waits until `expected` came, and takes the surplus as well."""
        received: list[Received] = []
        channel, deadline = self.channel, time.monotonic() + timeout
        if expected:
            # Acknowledged by hand: what is under way when the consumer is cancelled must come back.
            tag = channel.basic_consume(
                queue, lambda _, *message: received.append(Received(*message))
            )
            while len(received) < expected and time.monotonic() < deadline:
                self.connection.process_data_events(time_limit=0.1)
            channel.basic_cancel(tag)
            if received:
                channel.basic_ack(received[-1].method.delivery_tag, multiple=True)
        while (message := channel.basic_get(queue, auto_ack=True))[0] is not None:
            received.append(Received(*message))
        return received

    # -- cleaning -----------------------------------------------------------------------------

    def close(self) -> None:
        """Delete what the names were given out for, and hang up."""
        for name in self.names.queues:
            with contextlib.suppress(AMQPError):
                self.channel.queue_delete(name)
        for name in self.names.exchanges:
            with contextlib.suppress(AMQPError):
                self.channel.exchange_delete(name)
        if self._connection is not None and self._connection.is_open:
            with contextlib.suppress(AMQPError):
                self._connection.close()

    @staticmethod
    def _remember(name: str, known: list[str]) -> str:
        if name not in known:
            known.append(name)
        return name


def _again(error: ChannelClosedByBroker) -> bool:
    raise error
