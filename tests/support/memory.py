"""What several tests of the memory broker share."""

from collections.abc import Callable
from typing import Any

from rmq_publisher import publish
from rmq_publisher.transport.memory.transport import broker_of
from tests.support.configured import configurer


def send(body: Any = b"x", **options: Any) -> str:
    return publish(body, delivery="now", **options)


def memory_settings(settings: Any) -> Callable[..., None]:
    """Point the library at empty memory brokers; what is returned changes the settings further."""
    configure = configurer(settings)
    configure(URL="memory://")
    for alias in ("default", "other"):
        broker_of(alias).reset()
    return configure
