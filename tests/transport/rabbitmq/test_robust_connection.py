"""When silence means a lost connection, and when nobody waits any more: without a broker."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest

from rmq_publisher import BrokerUnavailable, QueueConfig
from rmq_publisher.amqp.routes import Config
from rmq_publisher.conf import loader
from rmq_publisher.messages.envelope import FRAME_MAX
from rmq_publisher.transport.outcome import Delivery
from rmq_publisher.transport.rabbitmq import robust_connection as module
from rmq_publisher.transport.rabbitmq.event_loop import Loop
from rmq_publisher.transport.rabbitmq.robust_connection import RobustConnection
from rmq_publisher.transport.rabbitmq.topology_repair import OnFound
from tests.support.deliveries import Told


class Line:
    """A connection that takes everything and says nothing."""

    ended_by = None

    def __init__(self) -> None:
        self.received = 100
        self.gave_up: list[str] = []
        self.node = loader.connection("default").nodes[0]
        self.product = ""
        self.undecided = False

    def write(self, deliveries: Sequence[Delivery]) -> None:
        """Nothing comes back."""

    def give_up(self, reason: str) -> None:
        self.gave_up.append(reason)


class Watched:
    """A RobustConnection with one unanswered message, its line and its clock."""

    def __init__(self, loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
        self.loop = loop
        self.time = 1000.0
        monkeypatch.setattr(module, "monotonic", lambda: self.time)
        self.line = Line()
        self.connection = RobustConnection(loop, loader.connection("default"))
        self.connection._connection = cast("Any", self.line)
        self.connection.dispatcher.opened(FRAME_MAX)
        self.connection.dispatcher.add([Told().message])
        self.connection.dispatcher.pump()
        assert self.connection.dispatcher.unanswered == 1

    def watch(self, seconds: float) -> list[str]:
        """Let time pass, and look; return why the line was given up."""
        self.time += seconds
        self.connection.watch()
        return self.line.gave_up


@pytest.fixture
def watched(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    settings.RMQ_CONFIRM_TIMEOUT = 10
    loop = Loop()
    yield Watched(loop, monkeypatch)
    loop.close()


def test_silence_longer_than_the_setting_is_a_lost_connection(watched: Watched) -> None:
    assert watched.watch(0) == []
    assert watched.watch(9.9) == []
    assert watched.watch(0.2) == ["nothing came for 10 s"]


def test_any_byte_counts_whatever_it_says(watched: Watched) -> None:
    watched.watch(0)
    for _ in range(5):
        watched.line.received += 8  # a heartbeat
        assert watched.watch(9.9) == []


def test_under_an_alarm_silence_is_nothing(watched: Watched) -> None:
    watched.watch(0)
    watched.connection.on_blocked("low on memory")
    for _ in range(5):
        assert watched.watch(9.9) == []
    watched.connection.on_blocked(None)
    watched.line.received += 20  # as it was told
    assert watched.watch(1) == []
    assert watched.watch(11) == ["nothing came for 10 s"]


def test_where_no_node_can_be_reached_nobody_waits(watched: Watched) -> None:
    robust = watched.connection
    first, second = Told("first"), Told("second")
    robust.dispatcher.add([first.message])
    robust.on_lost(cast("Any", watched.line), "it was cut off")
    assert not first.done  # the first reconnection is waited for
    robust._connection = cast("Any", watched.line)
    robust.on_failed(cast("Any", watched.line), "connection refused")
    robust.dispatcher.add([second.message])
    for delivery in (first, second):
        assert isinstance(delivery.error, BrokerUnavailable)
        assert "connection refused" in str(delivery.error)
    assert robust.status(brought=0).state == "down"


def test_after_an_alarm_and_a_loss_the_first_reconnection_is_waited_for(watched: Watched) -> None:
    robust = watched.connection
    robust.on_blocked("low on memory")
    assert robust.status(brought=0).blocked == "low on memory"
    robust.dispatcher.reap()  # a caller's deadline has passed
    refused, waiting = Told("refused"), Told("waiting")
    robust.dispatcher.add([refused.message])
    assert "low on memory" in str(refused.error)
    robust.on_lost(cast("Any", watched.line), "it was cut off")
    robust.dispatcher.add([waiting.message])
    assert not waiting.done
    assert robust.status(brought=0).blocked == ""


class Finding:
    """A project whose configs are found when the test says so."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.asked: list[OnFound] = []
        patch.setattr(module.project, "find", lambda _, found: self.asked.append(found))
        self.answers: list[Sequence[Config]] = []


def test_the_projects_configs_are_found_on_the_loop(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding = Finding(monkeypatch)
    for asked in (1, 2):
        watched.connection._find_project(finding.answers.append)
        finding.asked[-1]((QueueConfig("q"),))
        assert len(finding.answers) == asked - 1  # it was another thread
        watched.loop.turn(wait=False)
        assert finding.answers == [(QueueConfig("q"),)] * asked


def test_an_import_that_takes_long_counts_as_none(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding = Finding(monkeypatch)
    monkeypatch.setattr(module, "FIND_SECONDS", 0.0)
    watched.connection._find_project(finding.answers.append)
    watched.loop.turn(wait=False)
    assert finding.answers == [()]
    watched.connection._find_project(finding.answers.append)  # not a second thread beside it
    assert (finding.answers, len(finding.asked)) == ([(), ()], 1)
    finding.asked[0]((QueueConfig("q"),))
    watched.loop.turn(wait=False)
    assert finding.answers == [(), ()]
    watched.connection._find_project(finding.answers.append)
    assert len(finding.asked) == 2
