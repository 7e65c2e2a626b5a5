"""The shop without RabbitMQ: on the memory broker, which is of one process and begins empty.

`manage.py rmq_declare` cannot help there: its own process would have the queues, and no other.
"""

from django.conf import settings

from rmq_publisher import connections

from . import queues

TIMEOUT = 1.0  # seconds


def in_use() -> bool:
    """Return whether the shop's broker is the memory broker."""
    return str(getattr(settings, "RMQ_URL", "")).startswith("memory:")


def declare() -> None:
    """Make the shop's queues and exchanges in this process."""
    connections["default"].declare((queues.ORDERS, queues.DEAD_ORDERS), timeout=TIMEOUT)
