"""Declarations that are never answered, or end the connection, over a pika that is played."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from pika.exceptions import ConnectionClosedByBroker

from rmq_publisher.amqp.entities import ExchangeConfig
from rmq_publisher.transport.rabbitmq import topology_channels
from rmq_publisher.transport.rabbitmq.event_loop import Loop
from rmq_publisher.transport.rabbitmq.topology_channels import (
    LOST,
    NO_CHANNEL,
    Refusal,
    Replies,
    TopologyChannels,
)

UNKNOWN_TYPE = ConnectionClosedByBroker(503, "COMMAND_INVALID - unknown exchange type 'x'")


class PlayedConnection:
    """pika's connection; its channels take a declaration and do not answer."""

    is_open = True
    opens = True
    params = SimpleNamespace(channel_max=10)

    def __init__(self) -> None:
        self.numbers: list[int] = []  # of the channels that were opened
        self._close_callbacks: list[Callable[[Any, Exception], None]] = []

    def channel(self, number: int, on_open: Callable[[Any], None]) -> Any:
        self.numbers.append(number)
        opened = SimpleNamespace(
            add_on_close_callback=self._close_callbacks.append,
            exchange_declare=lambda **_: None,
        )
        if self.opens:
            on_open(opened)
        return opened

    def end(self, reason: Exception) -> None:
        """As pika does: every channel is told."""
        for callback in self._close_callbacks:
            callback(None, reason)


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


def crashed(error: Exception) -> None:
    raise error


def refusals(
    loop: Loop, count: int, reason: Exception, *, publishing: bool = False
) -> tuple[list[Refusal | None], bool]:
    """What so many channels under way are told when the connection ends, and if it is open who."""
    connection = PlayedConnection()
    channels = TopologyChannels(connection, 2, 32, loop, crashed, lambda: publishing)
    told: list[Refusal | None] = []

    def done(_replies: Replies, refusal: Refusal | None) -> None:
        told.append(refusal)

    for number in range(count):
        channels.add(ExchangeConfig(f"exchange {number}").steps(), done)
    connection.end(reason)
    return told, channels.undecided


def test_one_alone_ended_the_connection(loop: Loop) -> None:
    words = UNKNOWN_TYPE.reply_text
    assert refusals(loop, 1, UNKNOWN_TYPE) == ([(503, words)], False)


def test_of_several_none_is_blamed_and_the_next_connection_takes_one_at_a_time(loop: Loop) -> None:
    told, undecided = refusals(loop, 3, UNKNOWN_TYPE)
    assert [refusal[0] for refusal in told if refusal] == [LOST] * 3
    assert undecided


NO_MORE = ConnectionClosedByBroker(530, "NOT_ALLOWED - user's limit of channels (1) is reached")


def while_opening(loop: Loop, *, opened: bool) -> tuple[list[Refusal | None], TopologyChannels]:
    """What one is told, on a channel that the broker has opened or refuses to."""
    connection = PlayedConnection()
    connection.opens = opened
    channels = TopologyChannels(connection, 2, 32, loop, crashed, lambda: False)
    told: list[Refusal | None] = []
    channels.add(ExchangeConfig("exchange").steps(), lambda _, refusal: told.append(refusal))
    channels.refuse_opening()  # the broker's words do not say what it refuses
    connection.end(NO_MORE)
    return told, channels


def test_a_channel_that_is_refused_says_nothing_of_what_it_was_for(loop: Loop) -> None:
    [refusal], channels = while_opening(loop, opened=False)
    assert refusal is not None
    assert refusal[0] == NO_CHANNEL
    assert "530 NOT_ALLOWED" in refusal[1]
    assert channels.channel_refused


def test_a_declaration_that_is_not_allowed_is_refused_itself(loop: Loop) -> None:
    [refusal], channels = while_opening(loop, opened=True)
    assert refusal == (530, NO_MORE.reply_text)
    assert not channels.channel_refused


def test_an_internal_error_may_be_that_of_a_message(loop: Loop) -> None:
    broken = ConnectionClosedByBroker(541, "INTERNAL_ERROR")
    told, undecided = refusals(loop, 1, broken, publishing=True)
    assert [refusal[0] for refusal in told if refusal] == [LOST]
    assert undecided
    assert refusals(loop, 1, broken) == ([(541, "INTERNAL_ERROR")], False)
    assert refusals(loop, 1, UNKNOWN_TYPE, publishing=True)[1] is False


def test_an_operator_who_ends_the_connection_blames_nobody(loop: Loop) -> None:
    told, undecided = refusals(loop, 1, ConnectionClosedByBroker(320, "CONNECTION_FORCED"))
    assert [refusal[0] for refusal in told if refusal] == [LOST]
    assert not undecided


@pytest.mark.parametrize(("most", "opened"), [(2, [2, 3, 4, 5]), (1, [2])])
def test_one_that_is_not_answered_keeps_its_channel_and_not_its_place(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, most: int, opened: list[int]
) -> None:
    """But for where one at a time is the point."""
    monkeypatch.setattr(topology_channels, "PLACE_SECONDS", 0.0)
    connection = PlayedConnection()
    channels = TopologyChannels(connection, 2, most, loop, crashed, lambda: False)
    for number in range(4):
        steps = ExchangeConfig(f"exchange {number}").steps()
        channels.add(steps, lambda replies, refusal: crashed(AssertionError(replies, refusal)))
    assert connection.numbers == opened[:most]
    loop.turn(wait=False)
    assert connection.numbers == opened


def test_where_one_channel_is_allowed_nothing_is_waited_for(loop: Loop) -> None:
    connection = PlayedConnection()
    connection.params = SimpleNamespace(channel_max=1)
    channels = TopologyChannels(connection, 2, 32, loop, crashed, lambda: False)
    told: list[Refusal | None] = []
    channels.add(ExchangeConfig("exchange").steps(), lambda _, refusal: told.append(refusal))
    loop.turn(wait=False)
    [refusal] = told
    assert refusal is not None
    assert refusal[0] == NO_CHANNEL
    assert "channel_max" in refusal[1]
    assert connection.numbers == []
