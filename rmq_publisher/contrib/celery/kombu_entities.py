"""kombu's queues and exchanges as configs that declare the same as a Celery worker does."""

from typing import Any

from kombu import Exchange, Queue
from kombu.transport.base import to_rabbitmq_queue_arguments

from rmq_publisher.amqp.entities import Binding, ExchangeConfig, QueueConfig
from rmq_publisher.amqp.validation import TopologyError

Declared = tuple[tuple[QueueConfig | ExchangeConfig, ...], str]

_MOST = 1000  # remembered objects: an app has a few, but a caller may create one for each call
# By id; the object is kept, so that its id is not reused.
_known: dict[int, tuple[Any, Declared]] = {}


def declared(entity: Any) -> Declared:
    """Return what to declare for a kombu entity, and the name of a queue that is only verified.

    What a `QueueConfig` cannot express (auto-delete, exclusive, ``no_declare``, arguments of the
    caller's own that it refuses) is left to the worker: the queue is verified and never declared.
    Converting costs 0.3 ms, so that it is done once for each object.
    """
    found = _known.get(id(entity))
    if found is None or found[0] is not entity:
        if len(_known) >= _MOST:
            _known.clear()
        found = _known[id(entity)] = (entity, _converted(entity))
    return found[1]


def _converted(entity: Any) -> Declared:
    if isinstance(entity, Exchange):
        config = _exchange(entity)
        return ((config,) if config else ()), ""
    if not isinstance(entity, Queue) or not entity.name:
        return (), ""
    if entity.auto_delete or entity.exclusive or entity.no_declare:
        # A broadcast queue belongs to one worker; another queue must exist.
        return (), "" if entity.auto_delete else entity.name
    try:
        return (_queue(entity),), ""
    except TopologyError:
        return (), entity.name


def _queue(queue: Any) -> QueueConfig:
    return QueueConfig(
        queue.name,
        durable=queue.durable,
        arguments=to_rabbitmq_queue_arguments(
            queue.queue_arguments or {},
            expires=queue.expires,
            message_ttl=queue.message_ttl,
            max_length=queue.max_length,
            max_length_bytes=queue.max_length_bytes,
            max_priority=queue.max_priority,
        ),
        bindings=list(_bindings(queue)),
    )


def _bindings(queue: Any) -> Any:
    if queue.exchange is not None and queue.exchange.name:
        yield _binding(queue.exchange, queue.routing_key, queue.binding_arguments)
    for binding in queue.bindings or ():
        yield _binding(binding.exchange, binding.routing_key, binding.arguments)


def _binding(exchange: Any, routing_key: str | None, arguments: Any) -> Binding:
    return Binding(_exchange(exchange) or exchange.name, routing_key or "", arguments or None)


def _exchange(exchange: Any) -> ExchangeConfig | None:
    """Return its config, or None if it is never declared."""
    name = exchange.name
    if not name or name.startswith("amq.") or exchange.no_declare or exchange.passive:
        return None
    return ExchangeConfig(
        name,
        exchange.type or "direct",
        durable=exchange.durable,
        auto_delete=exchange.auto_delete,
        arguments=exchange.arguments or None,
    )
