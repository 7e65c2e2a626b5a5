"""What the hooks of one commit may wait together, by a clock that is played."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from django.db import transaction

from rmq_publisher import publish
from rmq_publisher.messages.envelope import Envelope
from rmq_publisher.publisher import on_commit


class Clock:
    """Goes on when somebody waits."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []


class PlayedBatch:
    """No answer comes to any of its messages."""

    clock: Clock

    def __init__(self, _using: str, envelopes: Sequence[Envelope]) -> None:
        self._count = len(envelopes)

    def submit(self) -> None:
        """Nothing is sent."""

    def wait(self, _timeout: float, deadline: float, *, extend: bool) -> float:
        assert not extend
        self.clock.waits.append(deadline - self.clock.now)
        self.clock.now = deadline
        return deadline

    def outcomes(self) -> list[None]:
        return [None] * self._count


@pytest.mark.django_db
def test_what_one_hook_has_waited_the_next_one_has_not(
    monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Callable[..., Any]
) -> None:
    PlayedBatch.clock = clock = Clock()
    monkeypatch.setattr(on_commit, "Batch", PlayedBatch)
    monkeypatch.setattr(on_commit, "monotonic", lambda: clock.now)
    with django_capture_on_commit_callbacks(execute=True), transaction.atomic():
        for number in range(3):  # under a capture each hook sends its own
            publish(str(number), routing_key="key", timeout=5)
    assert clock.waits == [5.0, 0.0, 0.0]
