"""Handlers in the tests of projects: run as a worker would, also with duplicates."""

from collections.abc import Callable
from typing import Any

from django.db import DEFAULT_DB_ALIAS, transaction

from rmq_publisher.amqp.entities import QueueConfig
from rmq_publisher.conf import loader
from rmq_publisher.consumer.consumer import Consumer
from rmq_publisher.consumer.event_loop import EventLoop
from rmq_publisher.consumer.handler_call import HandlerCall
from rmq_publisher.consumer.handler_work import HandlerWork
from rmq_publisher.consumer.handlers import options_of
from rmq_publisher.consumer.message import ReceivedMessage
from rmq_publisher.consumer.origin import Origin
from rmq_publisher.consumer.outcomes import HANDLED, Outcome
from rmq_publisher.consumer.retry_headers import ATTEMPTS
from rmq_publisher.messages.compose import compose
from rmq_publisher.messages.envelope import Envelope, Message
from rmq_publisher.messages.properties import new_id
from rmq_publisher.publisher.api import publish_many
from rmq_publisher.serialization import accepted
from rmq_publisher.testing.assertions import memory_broker
from rmq_publisher.transport.consuming import Delivered

PATIENCE = 5.0  # seconds; the memory broker delivers at once

Handler = Callable[..., Any]


def deliver(
    handler: Handler, body: Any, *, attempts: int = 1, redelivered: bool = False, **options: Any
) -> Outcome:
    """Run a handler for one message as a worker would, in this thread, and return how it ended.

    No broker is needed, and nothing is sent or settled: the outcome says what a worker would do. With
    ``once=True`` the transaction and the inbox's row are real: a second delivery of the same
    ``message_id`` does not call the handler.

    Args:
        handler: a function that `consume` has registered.
        body: as `publish` takes it; encoded as JSON unless it is str or bytes.
        attempts: which attempt this is.
        redelivered: whether the broker has delivered it before.
        options: the message's properties, as `publish` takes them.

    Returns:
        The outcome: ``ended`` is a member of `rmq_publisher.consumer.outcomes.Ended`, ``error`` what was
        raised, ``countdown`` the wait that the handler asked for.

    Raises:
        LookupError: the function is not a handler.
        TypeError, InvalidMessage: a bad argument.
    """
    __traceback_hide__ = True  # as in compose()
    of_handler = options_of(handler)
    settings = loader.connection(of_handler.alias)
    if attempts > 1:
        options["headers"] = {**(options.get("headers") or {}), ATTEMPTS: attempts - 1}
    options.setdefault("serializer", settings.serializer or "json")
    envelope = compose(settings, body, queue=of_handler.queue_name, **options)
    message = _received(envelope, redelivered, accepted(of_handler.accept), settings.max_body_size)
    message.guarded = True
    loop = EventLoop()
    try:
        return HandlerCall(of_handler, loop).run(message)
    finally:
        loop.close()


def _received(
    envelope: Envelope, redelivered: bool, accept: frozenset[str] | None, limit: int
) -> ReceivedMessage:
    delivered = Delivered(
        1, 1, "test", redelivered, envelope.exchange, envelope.routing_key, envelope.header,
        envelope.body, len(envelope.body),
    )  # fmt: skip
    origin = Origin(lambda *_: True, lambda _: True, accept, limit)
    return ReceivedMessage(delivered, origin, envelope.routing_key)


def assert_idempotent(
    handler: Handler,
    message: Any,
    database_state: Callable[[], Any],
    *,
    neighbour: Any = None,
) -> None:
    """Deliver a message more than once, on the memory broker, and fail if that makes a difference.

    Each time it begins with the same database, which it leaves as it was: the message is delivered twice,
    again after a worker died between the commit and the ack, again after its neighbour, and after its
    neighbour instead of before.

    Args:
        handler: a function that `consume` has registered; not a coroutine function.
        message: a body, or a `Message` with its own properties.
        database_state: returns what the handler changes, as something that can be compared.
        neighbour: another message of the queue; the same one under another id when left out.

    Raises:
        AssertionError: the states differ, or the handler failed.
        LookupError: the function is not a handler.
        RuntimeError: the URL of its RabbitMQ connection is not ``memory://``.
    """
    __traceback_hide__ = True  # as in compose()
    first, other = _named(message), _named(message if neighbour is None else neighbour)
    if other.options["message_id"] == first.options["message_id"]:
        other.options["message_id"] = new_id()
    rehearsal = _Rehearsal(handler, database_state)
    handle, crash = rehearsal.handle, rehearsal.crash
    once = rehearsal.state_after((handle, first))
    both = rehearsal.state_after((handle, first), (handle, other))
    for what, expected, steps in (
        ("delivered twice", once, [(handle, first), (handle, first)]),
        ("delivered again after a crash before its ack", once, [(crash, first)]),
        ("delivered again after its neighbour", both, [(handle, m) for m in (first, other, first)]),
        ("delivered after its neighbour", both, [(handle, other), (handle, first)]),
    ):  # fmt: skip
        found = rehearsal.state_after(*steps)
        if found != expected:
            raise AssertionError(
                f"{rehearsal.options} is not idempotent: {what}, the state is\n  {found!r}\n"
                f"and should be\n  {expected!r}"
            )


def _named(message: Any) -> Message:
    one = message if isinstance(message, Message) else Message(message)
    options: dict[str, Any] = {"message_id": new_id(), "serializer": "json", **one.options}
    return Message(one.body, **options)


class _Rehearsal:
    """A handler on the memory broker."""

    def __init__(self, handler: Handler, database_state: Callable[[], Any]) -> None:
        self.options = options_of(handler)
        self._state = database_state
        self._queue = self.options.queue_name
        broker = memory_broker(self.options.alias)
        broker.declare(self.options.config or QueueConfig(self._queue))
        self._loop = EventLoop()

    def state_after(self, *steps: tuple[Callable[[Message], None], Message]) -> Any:
        """Return the state after some deliveries, which are undone."""
        database = self.options.database or DEFAULT_DB_ALIAS
        Consumer([self._queue], using=self.options.alias).purge()
        with transaction.atomic(using=database):
            for step, message in steps:
                step(message)
            state = self._state()
            transaction.set_rollback(True, using=database)
        return state

    def handle(self, message: Message) -> None:
        """Deliver a message, and settle it as a worker does."""
        self._publish(message)
        self._consume(self._work)

    def crash(self, message: Message) -> None:
        """Deliver a message to a worker that dies before its ack, and then to another one."""
        self._publish(message)
        self._consume(HandlerCall(self.options, self._loop).run)
        self._consume(self._work)

    def _work(self, message: ReceivedMessage) -> Outcome:
        work = HandlerWork(self.options, self._loop)
        try:
            return work.handle([message])[0]
        finally:
            work.close()

    def _publish(self, message: Message) -> None:
        publish_many([message], queue=self._queue, using=self.options.alias, delivery="now")

    def _consume(self, run: Callable[[ReceivedMessage], Outcome]) -> None:
        queue = (self._queue, self.options.arguments)
        using, accept = self.options.alias, self.options.accept
        with Consumer([queue], using=using, accept=accept, prefetch_count=1) as consumer:
            message = consumer._take(PATIENCE, lambda: False)
            if message is None:
                raise AssertionError(f"{self.options}: its message did not come")
            outcome = run(message)
        if outcome is not HANDLED:
            ended = outcome.ended.name.lower().replace("_", " ")
            raise AssertionError(f"{self.options}: {ended}: {outcome.error!r}") from outcome.error
