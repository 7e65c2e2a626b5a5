"""The stream in the place of pika's: what it takes out, what it hands over, and when it ends."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmq_publisher.transport.loop import Loop
from rmq_publisher.transport.wire import Wire


def frame(kind: int, payload: bytes, channel: int = 1) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def ack(tag: int, multiple: bool, channel: int = 1) -> bytes:
    return frame(1, struct.pack(">HHQB", 60, 80, tag, multiple), channel)


class Protocol:
    def __init__(self) -> None:
        self.heard: list[object] = []
        self.lost: list[BaseException | None] = []

    def data_received(self, data: bytes) -> None:
        self.heard.append(data)

    def eof_received(self) -> None:
        self.heard.append("eof")

    def connection_lost(self, error: BaseException | None) -> None:
        self.lost.append(error)


class Ends:
    """A wire on a loop, and the socket at its other end."""

    def __init__(self) -> None:
        self.loop = Loop()
        near, self.far = socket.socketpair()
        near.settimeout(0)
        self.protocol = Protocol()
        self.wire = Wire(self.loop, near, self.protocol, self.on_ack)  # type: ignore[arg-type]

    def on_ack(self, tag: int, multiple: bool) -> None:
        self.protocol.heard.append((tag, multiple))

    def close(self) -> None:
        self.wire.abort()
        self.loop.turn(wait=False)
        self.far.close()
        self.loop.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.close()


others = st.one_of(
    st.builds(frame, st.sampled_from([1, 2, 3]), st.binary(max_size=40), st.integers(0, 3)),
    st.builds(ack, st.integers(0, 2**64 - 1), st.booleans(), st.just(2)),  # of another channel
    st.just(frame(8, b"", 0)),
)
acks = st.builds(lambda tag, multiple: (tag, multiple), st.integers(0, 2**64 - 1), st.booleans())


@given(st.lists(st.one_of(others, acks), max_size=12), st.lists(st.integers(1, 60)))
def test_acks_are_taken_out_and_all_else_is_handed_over_whole_and_in_order(
    items: list[bytes | tuple[int, bool]], cuts: list[int]
) -> None:
    ends = Ends()
    try:
        stream = b"".join(item if isinstance(item, bytes) else ack(*item) for item in items)
        for size in [*cuts, len(stream)]:
            piece, stream = stream[:size], stream[size:]
            if piece:
                ends.far.sendall(piece)
                ends.loop.turn(wait=True)
        assert ends.protocol.heard == items
    finally:
        ends.close()


def test_what_is_no_frame_is_pikas_to_judge(ends: Ends) -> None:
    ends.far.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    ends.loop.turn(wait=True)
    assert ends.protocol.heard == [b"HTTP/1.1 400 Bad Request\r\n\r\n"]


def test_what_the_socket_does_not_take_is_sent_later_and_in_order(ends: Ends) -> None:
    pieces = [bytes([n]) * 500_000 for n in range(8)]
    for piece in pieces:
        ends.wire.write(piece)
    assert ends.wire.get_write_buffer_size() > 0
    ends.far.settimeout(0)
    came = b""
    deadline = time.monotonic() + 10
    while len(came) < 4_000_000 and time.monotonic() < deadline:
        ends.loop.turn(wait=False)
        try:
            came += ends.far.recv(1_000_000)
        except BlockingIOError:
            continue
    assert came == b"".join(pieces)
    assert ends.wire.get_write_buffer_size() == 0


def test_the_other_end_closes(ends: Ends) -> None:
    ends.far.close()
    ends.loop.turn(wait=True)
    ends.loop.turn(wait=False)
    assert ends.protocol.heard == ["eof"]
    assert ends.protocol.lost == [None]
    ends.wire.write(b"ignored")


def test_a_reset_is_told_once_and_not_from_within_the_write(ends: Ends) -> None:
    ends.far.close()
    for _ in range(3):
        ends.wire.write(b"x" * 1000)
    assert ends.protocol.lost == []
    ends.loop.turn(wait=False)
    ends.loop.turn(wait=False)
    assert [type(error) for error in ends.protocol.lost] == [BrokenPipeError]
