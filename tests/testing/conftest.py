"""Fixtures of several tests of the testing helpers."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from rmq_publisher import publish
from rmq_publisher.testing import (
    Published,
    capture,
)
from tests.support.configured import configurer


@pytest.fixture
def configure(settings: Any) -> Any:
    return configurer(settings)


@pytest.fixture
def published() -> Iterator[Published]:
    with capture() as published:
        publish(
            {"id": 1, "total": Decimal("2.50")}, serializer="json", queue="orders", message_id="m1",
            headers={"tenant": "a", "n": None, "flag": True, "more": {"a": [1.0], "b": 2}},
            type="created", delivery="now",
        )  # fmt: skip
        publish("text", queue="mails", message_id="m2", priority=1, delivery="now")
        publish(b"\xff\x00", exchange="x", routing_key="k", message_id="m3", delivery="now")
        publish("text", queue="mails", message_id="m4", expiration=3, delivery="now")
        yield published
