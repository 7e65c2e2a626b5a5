"""Tasks over the memory broker, on each kind of database."""

from __future__ import annotations

from typing import Any

import pytest

from rmq_publisher.testing import memory_broker
from tests.support.rig.stores import migrate

BACKEND = "rmq_publisher.contrib.django_tasks.RabbitMQBackend"


@pytest.fixture
def configure(settings: Any, store: str) -> Any:
    """Sets ``TASKS``, whose rows are in `store`, on a fresh memory broker."""
    settings.RMQ_URL = "memory://"
    migrate(store, "rmq_publisher_tasks")
    memory_broker().reset()

    def set_tasks(queues: Any = ("default",), **options: Any) -> None:
        options.setdefault("database", store)
        settings.TASKS = {
            "default": {"BACKEND": BACKEND, "QUEUES": list(queues), "OPTIONS": options}
        }

    set_tasks()
    return set_tasks
