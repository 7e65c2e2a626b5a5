"""The memory broker and RabbitMQ behind one interface, for tests that compare them."""

import time
from typing import Any, Protocol

from pika import BasicProperties

from rmq_publisher import (
    ExchangeConfig,
    Nacked,
    QueueConfig,
    Rejected,
    connections,
    publish,
)
from rmq_publisher.amqp.entities import Entity
from rmq_publisher.transport.memory.broker import MemoryBroker
from rmq_publisher.transport.memory.received import Received
from rmq_publisher.transport.memory.routing import to_queue
from tests.support.rig import PATIENCE
from tests.support.rig.amqp import Amqp, Names
from tests.support.rig.ladder import Broker

SOON = PATIENCE  # seconds within which the broker must have done something
WHILE = 0.3  # seconds within which the broker must not do something


class Taken(Protocol):
    """A message as a consumer has it."""

    exchange: str
    routing_key: str
    redelivered: bool
    properties: BasicProperties
    body: bytes

    def ack(self) -> None: ...
    def reject(self, *, requeue: bool = False) -> None: ...


class FromMemory:
    """A message of the memory broker, its header read by pika as every consumer's is."""

    def __init__(self, message: Received) -> None:
        self.exchange = message.exchange
        self.routing_key = message.routing_key
        self.redelivered = message.redelivered
        self.properties = BasicProperties()
        self.properties.decode(message.header)
        self.body = message.body
        self.ack, self.reject = message.ack, message.reject


class FromRabbit:
    """A message of the real broker."""

    def __init__(
        self, channel: Any, method: Any, properties: BasicProperties, body: bytes
    ) -> None:
        self.exchange = method.exchange
        self.routing_key = method.routing_key
        self.redelivered = method.redelivered
        self.properties = properties
        self.body = body
        self._channel, self._tag = channel, method.delivery_tag

    def ack(self) -> None:
        self._channel.basic_ack(self._tag)

    def reject(self, *, requeue: bool = False) -> None:
        self._channel.basic_reject(self._tag, requeue=requeue)


class Memory:
    """The memory broker from outside."""

    url = "memory://"
    version: tuple[int, ...] = (4, 3)  # the one that it follows

    def __init__(self, broker: MemoryBroker, names: Names) -> None:
        self.broker, self.names = broker, names

    def get(self, queue: str) -> Taken | None:
        message = self.broker.get(queue)
        return FromMemory(message) if message is not None else None

    def depth(self, queue: str) -> int:
        return self.broker.depth(queue)

    def delete_queue(self, name: str) -> None:
        self.broker.delete_queue(name)

    def delete_exchange(self, name: str) -> None:
        self.broker.delete_exchange(name)

    def unbind(self, queue: str, exchange: str, _key: str) -> None:
        catalogue = self.broker._core.catalogue
        found = catalogue.exchange(exchange)
        if found.unbind_all(to_queue(queue)) and found.auto_delete:
            catalogue.delete_exchange(exchange)

    def wait(self, seconds: float) -> None:
        self.broker.advance(seconds)


class Rabbit:
    """The real broker from outside."""

    def __init__(self, broker: Broker, amqp: Amqp, names: Names) -> None:
        self.amqp, self.names, self.url = amqp, names, amqp.url
        self.version = broker.version

    def get(self, queue: str) -> Taken | None:
        channel = self.amqp.channel
        method, properties, body = channel.basic_get(queue)
        return None if method is None else FromRabbit(channel, method, properties, body)

    def depth(self, queue: str) -> int:
        return self.amqp.depth(queue)

    def delete_queue(self, name: str) -> None:
        self.amqp.delete_queue(name)

    def delete_exchange(self, name: str) -> None:
        self.amqp.delete_exchange(name)

    def unbind(self, queue: str, exchange: str, key: str) -> None:
        self.amqp.channel.queue_unbind(queue, exchange, key)

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)


class Side:
    """One of the two brokers, as a test uses it."""

    def __init__(self, outside: Memory | Rabbit) -> None:
        self._outside = outside
        self.delete_queue, self.delete_exchange = outside.delete_queue, outside.delete_exchange
        self.get, self.depth, self.wait = outside.get, outside.depth, outside.wait
        self.unbind = outside.unbind
        self.version = outside.version
        self.is_memory = isinstance(outside, Memory)
        self._names = outside.names

    def queue(self, **options: Any) -> QueueConfig:
        """Declare a queue for this test."""
        queue = QueueConfig(self._names.queue(), **options)
        self.declare(queue)
        return queue

    def exchange(self, kind: str = "direct", **options: Any) -> ExchangeConfig:
        """Declare an exchange for this test."""
        exchange = ExchangeConfig(self._names.exchange(), kind, **options)
        self.declare(exchange)
        return exchange

    def unused_queue(self) -> str:
        return self._names.queue()

    def unused_exchange(self) -> str:
        return self._names.exchange()

    def declare(self, *entities: Entity) -> list[Any]:
        return connections["default"].declare(entities, SOON)

    def declare_own(self, *queues: QueueConfig) -> None:
        """Declare queues that are deleted after the test."""
        self._names.queues += [queue.name for queue in queues]
        self.declare(*queues)

    def take(self, queue: str) -> Taken:
        """The next message, for which a broker may need a moment."""
        deadline = time.monotonic() + SOON
        while (message := self.get(queue)) is None:
            assert time.monotonic() < deadline, f"nothing came to {queue}"
            time.sleep(0.01)
        return message

    def bodies(self, queue: str, count: int) -> list[bytes]:
        """Exactly this many messages, in order."""
        taken = [self.take(queue) for _ in range(count)]
        for message in taken:
            message.ack()
        assert self.get(queue) is None
        return [message.body for message in taken]

    def stays_empty(self, queue: str) -> bool:
        time.sleep(WHILE)
        return self.get(queue) is None


def send(body: bytes = b"x", **options: Any) -> str:
    return publish(body, delivery="now", **options)


def words(error: Rejected, *names: str) -> str:
    """The broker's error message, without the names from the test."""
    text = error.reply_text
    for place, name in enumerate(names, start=1):
        text = text.replace(name, f"NAME{place}")
    return text


def fill(queue: str, *bodies: bytes, **options: Any) -> list[str]:
    """Publish one by one; return the outcomes."""
    outcomes = []
    for body in bodies:
        try:
            send(body, routing_key=queue, **options)
        except Nacked:
            outcomes.append("nack")
        else:
            outcomes.append("ack")
    return outcomes
