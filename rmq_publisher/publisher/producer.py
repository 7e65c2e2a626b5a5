"""The confirmed producer: publishes now, inside the call, and raises what is not a confirm."""

import asyncio
import functools
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar, Unpack

from django.core.exceptions import SynchronousOnlyOperation
from pika import BasicProperties

from rmq_publisher.amqp.entities import ExchangeConfig, QueueConfig
from rmq_publisher.messages.compose import (
    PRODUCER_OPTIONS,
    Exchange,
    ProducerOptions,
    Queue,
    configs,
    prepare,
)
from rmq_publisher.messages.envelope import check_options
from rmq_publisher.transport.delivery import deliver

P = ParamSpec("P")
R = TypeVar("R")


def refuse_in_event_loop(name: str) -> None:
    """Raise where a blocking call would stop a running event loop.

    Raises:
        SynchronousOnlyOperation: this thread runs an event loop.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise SynchronousOnlyOperation(
        f"{name} would block the running event loop: use `await apublish(...)`, "
        "or call it in a thread (asgiref's sync_to_async)"
    )


class Producer:
    """Publishes to one destination, now: inside the call, and raises what is not a confirm.

    Args:
        exchange: name, or `ExchangeConfig` to be declared.
        queue: name (verified passively) or `QueueConfig` (declared); empty skips this.
        using: RabbitMQ alias; may be left out when there is one.
        routing_key: default routing key; the queue's name when left out.
        serializer: for bodies that are neither str nor bytes.
        declare: `QueueConfig` and `ExchangeConfig` objects declared before the first message.
        timeout: seconds for a whole call; RMQ_PUBLISH_TIMEOUT when left out.

    Used as a decorator it publishes what the function returns, and returns it unchanged; None means
    do not publish.
    """

    def __init__(
        self,
        exchange: Exchange = "",
        queue: Queue = "",
        using: str | None = None,
        *,
        routing_key: str | None = None,
        serializer: str | None = None,
        declare: Iterable[QueueConfig | ExchangeConfig] = (),
        timeout: float | timedelta | None = None,
    ) -> None:
        self.exchange = exchange
        self.queue = queue
        self.using = using
        self.routing_key = routing_key
        self.serializer = serializer
        self.declare = configs(declare)
        self.timeout = timeout

    def publish(
        self,
        body: Any,
        routing_key: str | None = None,
        properties: BasicProperties | None = None,
        **options: Unpack[ProducerOptions],
    ) -> str:
        """Publish one message and wait for its confirm; what is left out is the producer's own.

        Returns:
            The message's id.

        Raises:
            TypeError, InvalidMessage: bad arguments; nothing was sent.
            PublishError: every other outcome but a confirm.
        """
        __traceback_hide__ = True  # as in compose()
        refuse_in_event_loop("Producer.publish()")
        check_options("Producer.publish()", options.keys(), PRODUCER_OPTIONS)
        call: dict[str, Any] = {
            "exchange": self.exchange, "queue": self.queue, "using": self.using,
            "routing_key": self.routing_key, "serializer": self.serializer,
            "timeout": self.timeout,
        }  # fmt: skip
        call |= {name: value for name, value in options.items() if value is not None}
        call["declare"] = (*self.declare, *configs(options.get("declare", ())))
        if routing_key is not None:
            call["routing_key"] = routing_key
        plan = prepare(body, properties=properties, **call)
        deliver(*plan)
        return plan.envelope.message_id

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate ``function``: publish what it returns, and return it unchanged."""

        @functools.wraps(function)
        def publishing(*args: P.args, **kwargs: P.kwargs) -> R:
            __traceback_hide__ = True  # as in compose()
            result = function(*args, **kwargs)
            if result is not None:
                self.publish(result)
            return result

        return publishing
