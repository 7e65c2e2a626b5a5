"""A caller that gives up tells the transport, which gives its place back and looks after the rest."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from rmq_publisher import BrokerUnavailable, PublishManyError, apublish, connections, publish
from rmq_publisher import publish_many as many
from rmq_publisher.transport import delivery as waiting
from rmq_publisher.transport.base import Status
from rmq_publisher.transport.outcome import Delivery


class Deaf:
    """A transport that takes everything and answers nothing."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings
        self.told = 0
        self.open: list[Delivery] = []

    def submit(self, deliveries: Sequence[Delivery]) -> None:
        self.open += deliveries

    def abandoned(self) -> None:
        assert all(delivery.done for delivery in self.open)
        self.told += 1

    def status(self) -> Status:
        return Status("default", "open")


def now() -> None:
    publish("body", routing_key="key", delivery="now", timeout=0.01)


def batch() -> None:
    many(["one", "two"], routing_key="key", delivery="now", timeout=0.01)


def awaited() -> None:
    asyncio.run(apublish("body", routing_key="key", timeout=0.01))


@pytest.mark.parametrize("call", [now, batch, awaited])
def test_the_transport_is_told_of_a_deadline_once(call: Callable[[], None]) -> None:
    made: list[Deaf] = []

    def make(settings: Any) -> Any:
        made.append(Deaf(settings))
        return made[-1]

    with connections.replaced(make), pytest.raises((BrokerUnavailable, PublishManyError)):
        call()
    (transport,) = made
    assert transport.told == 1


class Slow(Deaf):
    """One that takes 0.4 s to take a message, by a clock that is played."""

    time = 1000.0

    def submit(self, deliveries: Sequence[Delivery]) -> None:
        super().submit(deliveries)
        Slow.time += 0.4


class Waiter:
    """A lock that is never released; it notes for how long it was waited."""

    waits: list[float]

    def acquire(self, timeout: float = -1) -> bool:
        if timeout >= 0:
            self.waits.append(timeout)
        return timeout < 0

    def release(self) -> None:
        """The outcome came."""


def test_a_call_waits_for_what_is_left_of_its_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    Waiter.waits = []
    monkeypatch.setattr(waiting, "monotonic", lambda: Slow.time)
    monkeypatch.setattr(waiting, "threading", SimpleNamespace(Lock=Waiter))
    made: Any = Slow
    with connections.replaced(made), pytest.raises(BrokerUnavailable):
        publish("body", routing_key="key", delivery="now", timeout=1)
    assert Waiter.waits == [pytest.approx(0.6)]


class Noting(Deaf):
    """Notes in which order callers give up."""

    order: list[str]

    def submit(self, deliveries: Sequence[Delivery]) -> None:
        super().submit(deliveries)
        for delivery in deliveries:
            delivery._on_done = partial(self.order.append, delivery.envelope.message_id)


def test_a_batch_is_given_up_from_its_end() -> None:
    """Else the places of those on the wire would be taken by those behind them."""
    Noting.order = []
    made: Any = Noting
    with connections.replaced(made), pytest.raises(PublishManyError) as caught:
        many(["one", "two", "three"], routing_key="key", delivery="now", timeout=0.01)
    ids = [error.message_id for error in caught.value.outcomes if error]
    assert len(ids) == 3
    assert Noting.order == ids[::-1]
