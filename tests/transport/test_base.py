"""What a message that is given up says of its connection."""

from types import SimpleNamespace
from typing import Any

import pytest

from rmq_publisher.transport.base import Status, late


@pytest.mark.parametrize(
    ("status", "why"),
    [
        ({"state": "open"}, "open"),
        ({"state": "open", "last_error": "of another time"}, "open"),
        ({"state": "down", "last_error": "refused"}, "down: refused"),
        ({"state": "connecting"}, "connecting"),
        ({"state": "open", "blocked": "low on memory"}, "blocked: low on memory"),
    ],
)
def test_a_timeout_says_what_its_connection_is_doing(status: dict[str, str], why: str) -> None:
    transport: Any = SimpleNamespace(status=lambda: Status("a", node="host:1", **status))
    assert late(transport, 2.5) == f"no confirm from RabbitMQ at host:1 within 2.5 s ({why})"
