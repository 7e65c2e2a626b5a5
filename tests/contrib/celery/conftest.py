"""Celery apps in the suite's own process, which send through `AMQP` into what captures it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery, _state


@pytest.fixture
def make_app() -> Iterator[Callable[..., Celery]]:
    """Makes apps that no other test sees."""
    made = []

    def make(**conf: Any) -> Celery:
        app = Celery(
            "shop", amqp="rmq_publisher.contrib.celery:AMQP", set_as_current=False, fixups=[]
        )
        app.conf.update(broker_url="memory://", **conf)
        made.append(app)
        return app

    yield make
    for app in made:
        app.close()
        _state._deregister_app(app)


@pytest.fixture
def app(settings: Any, make_app: Callable[..., Celery], rmq_published: Any) -> Celery:
    """An app whose tasks are in `rmq_published`."""
    settings.RMQ_URL = "memory://"
    return make_app()
