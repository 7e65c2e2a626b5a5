"""No wake-up of the I/O thread is lost: its turns are played, one moment at a time."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rmq_publisher import BrokerUnavailable
from rmq_publisher.conf import loader
from rmq_publisher.transport.rabbitmq.io_thread import IOThread
from rmq_publisher.transport.rabbitmq.topology_channels import LOST, Request
from tests.support.calls import PATIENCE
from tests.support.deliveries import Told


def _nothing() -> None:
    """Nobody comes."""


class PlayedConnection:
    """Connects to nothing."""

    def __init__(self) -> None:
        self.over = False
        self.crash = None

    def connect(self) -> None:
        """Nothing to do."""

    def ended(self, reason: str | None) -> None:
        assert reason is None

    def abort(self) -> bool:
        return False


class PlayedThread(IOThread):
    """Runs in the test's own thread; callers come at the moments that the test says.

    Attributes:
        rings: of the bell.
        waits: for each turn, whether it was to wait.
    """

    def __init__(self) -> None:
        self.looked: Callable[[], None] = _nothing
        super().__init__(loader.connection("default"))
        self.rings = 0
        self.waits: list[bool] = []
        self.connection: Any = PlayedConnection()
        loop: Any = self._loop
        loop.wake = self._ring
        loop.turn = self._turn

    def _ring(self) -> None:
        self.rings += 1

    def _turn(self, *, wait: bool) -> None:
        self.waits.append(wait)

    @property
    def _news(self) -> bool:
        seen = self.__dict__["_news"]
        self.looked()
        return bool(seen)

    @_news.setter
    def _news(self, value: bool) -> None:
        self.__dict__["_news"] = value


@pytest.fixture
def engine() -> Iterator[PlayedThread]:
    made = PlayedThread()
    yield made
    made._loop.close()


def test_what_a_caller_brings_rings_the_bell(engine: PlayedThread) -> None:
    engine.wake()
    assert engine.rings == 1


def test_what_comes_while_the_thread_works_is_seen_before_it_waits(engine: PlayedThread) -> None:
    def cycle() -> None:
        engine._news = False
        if len(engine.waits) == 1:
            engine.wake()  # a caller, after the inbox was emptied
        else:
            engine.connection.over = True

    engine._cycle = cycle  # type: ignore[method-assign]
    engine._run()
    assert engine.waits == [True, False]


def test_what_comes_after_the_last_look_rings(engine: PlayedThread) -> None:
    rung = []

    def looked() -> None:
        engine.looked = _nothing
        engine.wake()  # a caller, between the look and the wait
        rung.append(engine.rings)

    def cycle() -> None:
        engine._news = False
        if len(engine.waits) == 1:
            engine.looked = looked
        else:
            engine.connection.over = True

    engine._cycle = cycle  # type: ignore[method-assign]
    engine._run()
    assert rung == [1]


def test_what_comes_when_the_thread_has_just_ended_has_its_outcome(engine: PlayedThread) -> None:
    engine._stopped = True  # the inbox was emptied for the last time
    delivery = Told()
    assert engine.submit([delivery.message])
    assert isinstance(delivery.error, BrokerUnavailable)


def test_a_question_is_answered_when_the_thread_dies() -> None:
    thread, request = IOThread(loader.connection("default")), Request(())

    def dies() -> None:
        thread.ask(request)
        raise ZeroDivisionError

    thread.connection.connect = dies  # type: ignore[method-assign]
    thread.start()
    assert request.answered.wait(PATIENCE)
    assert request.refusal == (LOST, "the I/O thread died of ZeroDivisionError")
    thread.close(0)


def test_a_question_to_a_thread_that_has_ended_is_answered() -> None:
    thread, request = IOThread(loader.connection("default")), Request(())
    thread.connection.connect = lambda: 1 / 0  # type: ignore[assignment, method-assign, return-value]
    thread.start()
    thread.close(PATIENCE)
    thread.ask(request)
    assert request.answered.is_set()
    assert request.refusal == (LOST, "the I/O thread has ended")
