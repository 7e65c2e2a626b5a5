"""Until when the process that wrote a row may begin to send it."""

from typing import Any

import pytest

from rmq_publisher.messages.envelope import seal
from rmq_publisher.outbox import transitions


@pytest.mark.django_db
def test_the_writer_stops_early_enough_for_the_last_one_to_end_within_its_grace(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.RMQ_OUTBOX_GRACE = 30
    monkeypatch.setattr(transitions, "monotonic", lambda: 1000.0)
    envelope = seal("body", exchange="", routing_key="key", max_body_size=100)
    (row,) = transitions.insert("default", "default", [envelope], ordering_keys=[""], timeout=5.0)
    assert row.own_until == 1025.0
