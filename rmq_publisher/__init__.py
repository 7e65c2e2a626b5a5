"""Emit tasks and events from Django to RabbitMQ: after commit, persistent, mandatory, confirmed."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rmq_publisher.amqp.entities import Binding, ExchangeConfig, QueueConfig
    from rmq_publisher.consumer.consumer import Consumer
    from rmq_publisher.consumer.handlers import consume
    from rmq_publisher.consumer.outcomes import Reject, Retry
    from rmq_publisher.exceptions import (
        BrokerUnavailable,
        ConfirmTimeout,
        InvalidMessage,
        Nacked,
        PublishError,
        PublishManyError,
        Rejected,
        Unroutable,
    )
    from rmq_publisher.messages.envelope import Message
    from rmq_publisher.publisher.api import apublish, publish, publish_many
    from rmq_publisher.publisher.producer import Producer
    from rmq_publisher.publisher.scheduling import cancel
    from rmq_publisher.transport.handler import connections

__version__ = "0.1.0"

# Looked up on first use (PEP 562): an app's package is imported before Django's apps are ready.
_HOMES = {
    "publish": "publisher.api",
    "apublish": "publisher.api",
    "publish_many": "publisher.api",
    "cancel": "publisher.scheduling",
    "Message": "messages.envelope",
    "Producer": "publisher.producer",
    "Consumer": "consumer.consumer",
    "consume": "consumer.handlers",
    "Reject": "consumer.outcomes",
    "Retry": "consumer.outcomes",
    "QueueConfig": "amqp.entities",
    "ExchangeConfig": "amqp.entities",
    "Binding": "amqp.entities",
    "connections": "transport.handler",
    "PublishError": "exceptions",
    "InvalidMessage": "exceptions",
    "Unroutable": "exceptions",
    "Nacked": "exceptions",
    "Rejected": "exceptions",
    "ConfirmTimeout": "exceptions",
    "BrokerUnavailable": "exceptions",
    "PublishManyError": "exceptions",
}

__all__ = [
    "Binding",
    "BrokerUnavailable",
    "ConfirmTimeout",
    "Consumer",
    "ExchangeConfig",
    "InvalidMessage",
    "Message",
    "Nacked",
    "Producer",
    "PublishError",
    "PublishManyError",
    "QueueConfig",
    "Reject",
    "Rejected",
    "Retry",
    "Unroutable",
    "apublish",
    "cancel",
    "connections",
    "consume",
    "publish",
    "publish_many",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    # No submodule may have a public name: importing it would put the module in the object's place.
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
