"""Plain pika for tests that look at what one connection sees."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError

from tests.support.rig import PATIENCE

PERSISTENT = pika.BasicProperties(delivery_mode=2)


@contextmanager
def client(url: str, **options: object) -> Iterator[pika.BlockingConnection]:
    """Fails at the first lost connection, so that a test sees one connection only."""
    parameters = pika.URLParameters(url)
    parameters.heartbeat = 0
    for name, value in options.items():
        setattr(parameters, name, value)
    connection = pika.BlockingConnection(parameters)
    try:
        yield connection
    finally:
        with suppress(AMQPError):
            connection.close()


def confirming(connection: pika.BlockingConnection) -> BlockingChannel:
    channel = connection.channel()
    channel.confirm_delivery()
    return channel


def publish(channel: BlockingChannel, queue: str, *bodies: bytes) -> None:
    for body in bodies:
        channel.basic_publish("", queue, body, PERSISTENT, mandatory=True)


@contextmanager
def beside(*actions: Callable[[], object]) -> Iterator[None]:
    """Run this on a thread meanwhile, because pika's blocking client does nothing while it waits."""
    thread = threading.Thread(target=lambda: [action() for action in actions])
    thread.start()
    yield
    thread.join(PATIENCE)
