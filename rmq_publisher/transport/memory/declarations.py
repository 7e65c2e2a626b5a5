"""The exchanges and queues of the memory broker, and AMQP's methods that declare and bind them."""

from collections.abc import Mapping
from typing import Any

from rmq_publisher.amqp.arguments import EXCHANGE_TYPES
from rmq_publisher.transport.memory.queue import MemoryQueue
from rmq_publisher.transport.memory.routing import Exchange, Target, route, to_exchange, to_queue
from rmq_publisher.transport.memory.validation import (
    check_binding,
    check_new_exchange,
    check_new_queue,
    check_same_exchange,
    check_same_queue,
    not_found,
)

Arguments = Mapping[str, Any]


class Catalogue:
    """What is declared; nothing here looks at messages. Methods are named as AMQP's (and pika's)."""

    def __init__(self) -> None:
        self.queues: dict[str, MemoryQueue] = {}
        self._exchanges = {name: Exchange(name, kind) for name, kind in _predeclared()}

    def queue(self, name: str) -> MemoryQueue:
        """Return a queue.

        Raises:
            Rejected: 404, it is not there.
        """
        if name not in self.queues:
            raise not_found("queue", name)
        return self.queues[name]

    def exchange(self, name: str) -> Exchange:
        """Return an exchange other than the default one.

        Raises:
            Rejected: 404, it is not there.
        """
        if name not in self._exchanges:
            raise not_found("exchange", name)
        return self._exchanges[name]

    def reached(
        self, exchange: str, keys: tuple[str, ...], headers: Mapping[str, Any]
    ) -> list[MemoryQueue]:
        """Return the queues that a message reaches, each once."""
        names = route(self._exchanges, self.queues, exchange, keys, headers)
        return [self.queues[name] for name in names]

    def queue_declare(
        self,
        queue: str,
        passive: bool = False,
        durable: bool = False,
        arguments: Arguments | None = None,
    ) -> tuple[int, int]:
        """Make a queue or compare it with the one that is there; passively, only look.

        Returns:
            How many messages wait in it, and how many consumers it has.

        Raises:
            Rejected: 403, 404, 406 as RabbitMQ does.
        """
        current = self.queue(queue) if passive else self.queues.get(queue)
        if current is None:
            check_new_queue(queue, durable, arguments or {})
            current = self.queues[queue] = MemoryQueue(queue, durable, arguments or {})
        elif not passive:
            check_same_queue(queue, durable, arguments or {}, current.durable, current.arguments)
        return len(current), len(current.consumers)

    def queue_purge(self, queue: str) -> tuple[int, None]:
        """Drop all that waits in a queue.

        Returns:
            How many messages that was.

        Raises:
            Rejected: 404, it is not there.
        """
        return self.queue(queue).purge(), None

    def exchange_declare(
        self,
        exchange: str,
        exchange_type: str = "direct",
        passive: bool = False,
        durable: bool = False,
        auto_delete: bool = False,
        internal: bool = False,
        arguments: Arguments | None = None,
    ) -> tuple[()]:
        """Make an exchange or compare it with the one that is there; passively, only look.

        Raises:
            Rejected: 403, 404, 406 as RabbitMQ does.
        """
        wanted = Exchange(exchange, exchange_type, durable, auto_delete, internal, arguments or {})
        current = self.exchange(exchange) if passive else self._exchanges.get(exchange)
        if current is None:
            check_new_exchange(wanted)
            self._exchanges[exchange] = wanted
        elif not passive:
            check_same_exchange(wanted, current)
        return ()

    def queue_bind(
        self, queue: str, exchange: str, routing_key: str = "", arguments: Arguments | None = None
    ) -> tuple[()]:
        """Lead from an exchange to a queue.

        Raises:
            Rejected: 404 where one is not there, 406 for a bad ``x-match``.
        """
        self._bind(exchange, to_queue(queue), routing_key, arguments or {})
        return ()

    def exchange_bind(
        self,
        destination: str,
        source: str,
        routing_key: str = "",
        arguments: Arguments | None = None,
    ) -> tuple[()]:
        """Lead from an exchange to another.

        Raises:
            Rejected: 404 where one is not there, 406 for a bad ``x-match``.
        """
        self._bind(source, to_exchange(destination), routing_key, arguments or {})
        return ()

    def _bind(self, source: str, target: Target, key: str, arguments: Arguments) -> None:
        exchange = self.exchange(source)
        if target.is_exchange:
            self.exchange(target.name)
        else:
            self.queue(target.name)
        check_binding(exchange, arguments)
        exchange.bind(target, key, arguments)

    def delete_queue(self, name: str) -> None:
        """Delete a queue and the bindings to it, if it is there."""
        if self.queues.pop(name, None) is not None:
            self._unbind(to_queue(name))

    def delete_exchange(self, name: str) -> None:
        """Delete an exchange and the bindings to it, if it is there."""
        if self._exchanges.pop(name, None) is not None:
            self._unbind(to_exchange(name))

    def _unbind(self, target: Target) -> None:
        for exchange in list(self._exchanges.values()):
            if exchange.unbind_all(target) and exchange.auto_delete:
                self.delete_exchange(exchange.name)


def _predeclared() -> list[tuple[str, str]]:
    return [("amq.match", "headers"), *((f"amq.{kind}", kind) for kind in EXCHANGE_TYPES)]
