"""The publishing channel over a pika that is played: what comes before what."""

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pika.adapters.utils.nbio_interface import AbstractStreamProtocol
from pika.exceptions import ChannelClosedByBroker

from rmq_publisher.transport.rabbitmq.channel import PublishChannel
from rmq_publisher.transport.rabbitmq.event_loop import Loop
from rmq_publisher.transport.rabbitmq.socket_stream import Wire


class PlayedChannel:
    """pika's channel, as far as a publishing one needs it."""

    is_open = True

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.select_ok: Callable[[object], None] = lambda _: None

    def add_on_close_callback(self, callback: Callable[[Any, Exception], None]) -> None:
        self.calls.append("close callback")
        self.closed = callback

    def add_on_return_callback(self, _: object) -> None:
        self.calls.append("return callback")

    def confirm_delivery(self, _: object, callback: Callable[[object], None]) -> None:
        self.calls.append("confirm_delivery")
        self.select_ok = callback


class PlayedConnection:
    """pika's connection; it opens channels at once."""

    is_open = True

    def __init__(self) -> None:
        self.bytes_received = 0
        self.opens = 0
        self.opened = PlayedChannel()

    def channel(self, _number: int, on_open: Callable[[Any], None]) -> None:
        self.opens += 1
        on_open(self.opened)


class Protocol(AbstractStreamProtocol):
    """pika's end of the stream: what it is handed."""

    def __init__(self) -> None:
        self.heard = b""

    def connection_made(self, transport: object) -> None:
        raise AssertionError(transport)

    def connection_lost(self, error: BaseException | None) -> None:
        assert error is None

    def eof_received(self) -> None:
        raise AssertionError

    def data_received(self, data: bytes) -> None:
        self.heard += data


class Owner:
    """Told what the broker says."""

    def __init__(self) -> None:
        self.ready = 0
        self.late = 0
        self.answers: list[tuple[int, bool, bool]] = []
        self.closed: list[tuple[int, str]] = []

    def on_answered(self, tag: int, *, multiple: bool, nack: bool) -> None:
        self.answers.append((tag, multiple, nack))

    def on_returned(self, message_id: str, code: int, text: str) -> None:
        raise AssertionError((message_id, code, text))

    def on_channel_closed(self, code: int, text: str) -> None:
        self.closed.append((code, text))

    def on_crashed(self, error: Exception) -> None:
        raise error

    def on_ready(self) -> None:
        self.ready += 1

    def on_late(self) -> None:
        self.late += 1


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


def opened(loop: Loop, timeout: float = 30.0) -> tuple[PublishChannel, PlayedConnection, Owner]:
    owner, connection = Owner(), PlayedConnection()
    channel = PublishChannel(loop, timeout, owner, owner.on_ready, owner.on_late)
    channel.open(connection)
    return channel, connection, owner


def test_publishing_begins_after_select_ok_and_with_all_callbacks_registered(loop: Loop) -> None:
    _, connection, owner = opened(loop)
    assert connection.opened.calls == ["close callback", "return callback", "confirm_delivery"]
    assert owner.ready == 0
    connection.opened.select_ok(None)
    assert owner.ready == 1


def test_a_broker_that_never_says_select_ok_is_late(loop: Loop) -> None:
    _, _, owner = opened(loop, timeout=0.0)
    loop.turn(wait=False)
    assert (owner.ready, owner.late) == (0, 1)


def test_a_broker_that_said_it_is_not(loop: Loop) -> None:
    _, connection, owner = opened(loop, timeout=0.0)
    connection.opened.select_ok(None)
    loop.turn(wait=False)
    assert (owner.ready, owner.late) == (1, 0)


def test_what_the_broker_closed_is_opened_again_in_the_next_turn(loop: Loop) -> None:
    """Not at once: pika still has to forget the channel of this number."""
    _, connection, owner = opened(loop)
    connection.opened.select_ok(None)
    connection.opened.closed(None, ChannelClosedByBroker(404, "NOT_FOUND"))
    assert owner.closed == [(404, "NOT_FOUND")]
    assert connection.opens == 1
    loop.turn(wait=False)
    assert connection.opens == 2
    connection.opened.select_ok(None)
    assert owner.ready == 2


def test_acks_that_pika_does_not_see_are_a_sign_of_life_to_it(loop: Loop) -> None:
    channel, connection, owner = opened(loop)
    connection.opened.select_ok(None)
    protocol = Protocol()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    wire = Wire(loop, ours, protocol, channel.on_ack)
    ack = bytes.fromhex("01 0001 0000000d 003c 0050 0000000000000007 01 ce")
    with theirs:
        theirs.send(ack)
        loop.turn(wait=True)
        assert owner.answers == [(7, True, False)]
        assert protocol.heard == b""
        assert connection.bytes_received == len(ack)
        wire.abort()
        loop.turn(wait=False)
