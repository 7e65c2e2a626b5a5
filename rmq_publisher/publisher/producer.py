"""The confirmed producer: publishes now, inside the call, and raises what is not a confirm."""

import functools
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, ParamSpec, Self, TypeVar, Unpack

from pika import BasicProperties

from rmq_publisher.amqp.decoding import BrokerMessage
from rmq_publisher.amqp.entities import Entity, ExchangeConfig, QueueConfig, Topology
from rmq_publisher.conf import loader
from rmq_publisher.exceptions import (
    BrokerUnavailable,
    InvalidMessage,
    PublishError,
    Rejected,
    Unroutable,
)
from rmq_publisher.messages.compose import (
    PRODUCER_OPTIONS,
    Exchange,
    Plan,
    ProducerOptions,
    Queue,
    alias_of,
    configs,
    prepare,
    seconds,
    topology_of,
)
from rmq_publisher.messages.envelope import check_options
from rmq_publisher.outbox.only_outbox import refuse_now
from rmq_publisher.publisher.event_loop import refuse_in_event_loop
from rmq_publisher.publisher.retry_policy import read_policy
from rmq_publisher.timing import NO_RETRY, RetryPolicy
from rmq_publisher.transport.delivery import deliver, retried
from rmq_publisher.transport.handler import connections

P = ParamSpec("P")
R = TypeVar("R")

# (exception, exchange, routing key, message)
OnReturn = Callable[[Unroutable, str, str, BrokerMessage], object]
_IMMEDIATE = (
    "immediate=True is not possible: RabbitMQ removed the flag in 3.0 and ends a connection that uses "
    "it; expiration=0 drops a message that no consumer waits for"
)


class PublishOptions(ProducerOptions, total=False):
    """What `Producer.publish` takes besides body, routing key and properties.

    ``retry`` True sends the message again, within the call's timeout, where the broker could not be
    reached or the connection was lost; ``retry_policy`` says when, by kombu's names. ``immediate`` is
    refused.
    """

    retry: bool
    retry_policy: Mapping[str, Any] | None
    immediate: bool


PUBLISH_OPTIONS = PRODUCER_OPTIONS | {"retry", "retry_policy", "immediate"}


class Producer:
    """Publishes to one destination, now: inside the call, and raises what is not a confirm.

    Args:
        exchange: name, or `ExchangeConfig` to be declared.
        queue: name (verified passively) or `QueueConfig` (declared); empty skips this.
        using: RabbitMQ alias; may be left out when there is one.
        routing_key: default routing key; the queue's name when left out.
        serializer: for bodies that are neither str nor bytes.
        compression: default compression; see `publish`.
        declare: `QueueConfig` and `ExchangeConfig` objects declared before the first message.
        auto_declare: False neither declares nor verifies what the producer itself names.
        on_return: called with ``(exception, exchange, routing_key, message)`` when a message comes back
            that no queue took, before the call raises the same exception.
        timeout: seconds for a whole call; RMQ_PUBLISH_TIMEOUT when left out.

    Used as a decorator it publishes what the function returns, and returns it unchanged; None means
    do not publish. It holds no connection: all producers of a process share one.
    """

    __module__ = "rmq_publisher"

    def __init__(
        self,
        exchange: Exchange = "",
        queue: Queue = "",
        using: str | None = None,
        *,
        routing_key: str | None = None,
        serializer: str | None = None,
        compression: str | None = None,
        declare: Iterable[QueueConfig | ExchangeConfig] = (),
        auto_declare: bool = True,
        on_return: OnReturn | None = None,
        timeout: float | timedelta | None = None,
    ) -> None:
        self.exchange = exchange
        self.queue = queue
        self.using = using
        self.routing_key = routing_key
        self.serializer = serializer
        self.compression = compression
        self.auto_declare = auto_declare
        self.on_return = on_return
        self.timeout = timeout
        self._declarations = configs(declare)
        self._declared: tuple[int, set[Entity]] = (0, set())

    def publish(
        self,
        body: Any,
        routing_key: str | None = None,
        properties: BasicProperties | None = None,
        **options: Unpack[PublishOptions],
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
        refuse_now("Producer.publish()")
        check_options("Producer.publish()", options.keys(), PUBLISH_OPTIONS)
        call: dict[str, Any] = {
            name: value for name, value in options.items() if value is not None
        }
        if call.pop("immediate", False):
            raise InvalidMessage(_IMMEDIATE)
        policy = read_policy(call.pop("retry", False), call.pop("retry_policy", None))
        plan = self._plan(body, routing_key, properties, call)
        try:
            deliver(*plan, policy)
        except (Unroutable, Rejected) as error:
            self.release()  # what maybe_declare() has declared may be gone
            if self.on_return is not None and isinstance(error, Unroutable):
                sent = plan.envelope
                message = BrokerMessage(sent.exchange, sent.routing_key, sent.header, sent.body)
                self.on_return(error, sent.exchange, sent.routing_key, message)
            raise
        return plan.envelope.message_id

    def _plan(
        self,
        body: Any,
        routing_key: str | None,
        properties: BasicProperties | None,
        call: dict[str, Any],
    ) -> Plan:
        """Compose a message; what the call leaves out is the producer's own."""
        __traceback_hide__ = True  # as in compose()
        own: dict[str, Any] = {
            "exchange": self.exchange, "queue": self.queue, "using": self.using,
            "routing_key": self.routing_key, "serializer": self.serializer,
            "timeout": self.timeout,
        }  # fmt: skip
        if self.compression is not None:
            own["compression"] = self.compression
        declare = configs(call.get("declare", ()))
        whole = {**own, **call, "declare": (*self._declarations, *declare)}
        if routing_key is not None:
            whole["routing_key"] = routing_key
        plan = prepare(body, properties=properties, **whole)
        if not self.auto_declare:
            plan = plan._replace(envelope=plan.envelope._replace(topology=declare))
        return plan

    # What a destination needs

    def declare(self) -> Self:
        """Declare or verify now what the producer names: ``declare``, its exchange, its queue.

        Raises:
            Rejected: the broker refused.
            BrokerUnavailable: it cannot be asked.
        """
        entities = topology_of(self.exchange, self.queue, self._declarations)
        self._ask(entities, NO_RETRY)
        return self

    def maybe_declare(
        self, entity: QueueConfig | ExchangeConfig, retry: bool = False, **retry_policy: Any
    ) -> bool:
        """Declare a queue or exchange unless this producer has done so on the present connection.

        Args:
            entity: what to declare.
            retry: whether to try again, within the timeout, where the broker cannot be reached.
            retry_policy: when, by kombu's names.

        Returns:
            Whether it was declared by this call.

        Raises:
            Rejected: the broker refused.
            BrokerUnavailable: it cannot be asked.
        """
        entities = configs((entity,))
        policy = read_policy(retry, retry_policy)
        status = connections[self._alias(*entities)].status()
        same = status.state == "open" and status.connects == self._declared[0]
        if same and entity in self._declared[1]:
            return False
        self._ask(entities, policy)
        return True

    def _alias(self, *entities: object) -> str:
        return alias_of(self.using, self.exchange, self.queue, *entities)

    def _ask(self, entities: Topology, policy: RetryPolicy) -> None:
        alias = self._alias(*entities)
        transport = connections[alias]
        timeout = seconds("timeout", self.timeout, loader.connection(alias).publish_timeout)

        def attempt(left: float) -> PublishError | None:
            try:
                transport.declare(entities, left)
            except BrokerUnavailable as error:
                return error
            return None

        if error := retried(attempt, timeout, policy):
            raise error
        connects = transport.status().connects
        known = self._declared[1] if self._declared[0] == connects else set()
        self._declared = (connects, known | set(entities))

    def revive(self) -> Self:
        """Declare again what the producer names, for instance after it was deleted.

        After a lost connection no call is needed: it is reopened and everything is verified on it.

        Raises:
            Rejected, BrokerUnavailable: as `declare`.
        """
        self.release()
        return self.declare() if self.auto_declare else self

    def release(self) -> None:
        """Forget what was declared; the connection is the process's own and stays open."""
        self._declared = (0, set())

    close = release

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

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
