"""The stream in the place of pika's: what it takes out, what it hands over, and when it ends."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pika import spec
from pika.frame import decode_frame

from rmq_publisher.messages.envelope import FRAME_MAX
from rmq_publisher.transport.rabbitmq.event_loop import Loop
from rmq_publisher.transport.rabbitmq.socket_stream import Wire


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


class PikasOwn(Protocol):
    """Takes frames in as pika's connection does, and raises what it raises."""

    def __init__(self) -> None:
        super().__init__()
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._buffer:
            size, frame = decode_frame(self._buffer)
            if frame is None:
                return
            self._buffer = self._buffer[size:]
            method = getattr(frame, "method", None)
            if isinstance(method, spec.Basic.Ack) and getattr(frame, "channel_number", 0) == 1:
                self.heard.append((method.delivery_tag, method.multiple))
            else:
                self.heard.append(repr(frame))


class Ends:
    """A wire on a loop, and the socket at its other end."""

    def __init__(
        self,
        protocol: Protocol | None = None,
        near: socket.socket | None = None,
        far: socket.socket | None = None,
    ) -> None:
        self.loop = Loop()
        if near is None or far is None:
            near, far = socket.socketpair()
        self.far = far
        near.settimeout(0)
        self.protocol = protocol or Protocol()
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


def method(*words: int, rest: bytes = b"", channel: int = 1) -> bytes:
    return frame(1, struct.pack(">HH", *words) + rest, channel)


# What a broker sends: acks and all that comes between them.
RETURN = (
    method(60, 50, rest=struct.pack(">H", 312) + b"\x08NO_ROUTE\x00\x01q")
    + frame(2, struct.pack(">HHQH", 60, 0, 5, 1 << 7) + b"\x01m")
    + frame(3, b"hello")
)
NACK = method(60, 120, rest=struct.pack(">QB", 3, 1))
CLOSE = method(20, 40, rest=struct.pack(">H", 404) + b"\x09NOT_FOUND" + struct.pack(">HH", 60, 40))
HEARTBEAT = frame(8, b"", 0)
BLOCKED = method(10, 60, rest=b"\x03low", channel=0)
sent_by_brokers = st.lists(
    st.one_of(
        st.sampled_from([RETURN, NACK, CLOSE, HEARTBEAT, BLOCKED]),
        st.builds(ack, st.integers(0, 2**64 - 1), st.booleans(), st.sampled_from([1, 2])),
    ),
    max_size=12,
).map(b"".join)


def fed(protocol: Protocol, stream: bytes, cuts: list[int]) -> Ends:
    """A wire that was sent the stream in pieces; it is closed."""
    ends = Ends(protocol)
    try:
        for size in [*cuts, len(stream)]:
            piece, stream = stream[:size], stream[size:]
            if piece and not protocol.lost:
                ends.far.sendall(piece)
                ends.loop.turn(wait=True)
                ends.loop.turn(wait=False)
    finally:
        ends.close()
    return ends


def by_pika(stream: bytes) -> tuple[list[object], type[Exception] | None]:
    """What pika alone hears of it, and what it dies of."""
    alone = PikasOwn()
    try:
        alone.data_received(stream)
    except Exception as error:
        return alone.heard, type(error)
    return alone.heard, None


@given(sent_by_brokers, st.lists(st.integers(1, 60)))
def test_together_they_hear_what_pika_alone_would(stream: bytes, cuts: list[int]) -> None:
    """pika, which used to parse everything, is the oracle."""
    protocol = PikasOwn()
    fed(protocol, stream, cuts)
    assert (protocol.heard, None) == by_pika(stream)


def test_a_stream_that_is_cut_at_every_byte() -> None:
    stream = (
        RETURN + ack(1, False) + NACK + ack(2**64 - 1, True) + HEARTBEAT + CLOSE + ack(9, True)
    )
    for size in range(1, len(stream)):
        protocol = PikasOwn()
        fed(protocol, stream, [size])
        assert (protocol.heard, None) == by_pika(stream)


@given(sent_by_brokers, st.lists(st.integers(1, 60)), st.data())
def test_a_stream_with_a_wrong_byte_ends_as_pika_alone_would_end_it(
    stream: bytes, cuts: list[int], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, max(0, len(stream) - 1)))
    spoilt = stream[:at] + data.draw(st.binary(min_size=1, max_size=1)) + stream[at + 1 :]
    protocol = PikasOwn()
    fed(protocol, spoilt, cuts)
    heard, died_of = by_pika(spoilt)
    assert protocol.heard == heard
    ended_by = next((type(error) for error in protocol.lost if error is not None), None)
    if ended_by is ConnectionError:  # too large a frame: pika would wait for all of it
        assert died_of is None
    else:
        assert ended_by is died_of


@given(st.binary(min_size=1, max_size=300), st.lists(st.integers(1, 60)))
@example(b"HTTP/1.1 400 Bad Request\r\n\r\n", [])
@example(b"AMQP\x00\x00\x09\x01", [7])  # the last byte alone looks like a frame's type
def test_what_is_no_frame_is_pikas_to_judge_with_all_that_follows(
    garbage: bytes, cuts: list[int]
) -> None:
    garbage = bytes([garbage[0] | 0x40]) + garbage[1:]  # no type of a frame
    protocol = Protocol()
    fed(protocol, garbage, cuts)
    assert b"".join(piece for piece in protocol.heard if isinstance(piece, bytes)) == garbage


def test_the_largest_frame_and_a_larger_one(ends: Ends) -> None:
    largest = frame(3, b"b" * (FRAME_MAX - 8))
    rest = largest
    while rest:  # more than a socket takes at once
        ends.far.sendall(rest[:30_000])
        rest = rest[30_000:]
        ends.loop.turn(wait=True)
    assert ends.protocol.heard == [largest]
    ends.far.sendall(struct.pack(">BHI", 3, 1, FRAME_MAX - 7))
    ends.loop.turn(wait=True)
    ends.loop.turn(wait=False)
    assert [type(error) for error in ends.protocol.lost] == [ConnectionError]


@given(st.lists(st.tuples(st.integers(1, 9000), st.integers(0, 9000)), max_size=30))
def test_all_that_is_written_arrives_once_and_in_order(steps: list[tuple[int, int]]) -> None:
    """Whatever the socket takes at a time; no more is watched than there is to do."""
    near, far = socket.socketpair()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    far.settimeout(0)
    ends = Ends(near=near, far=far)
    written, came = b"", b""
    try:
        for number, (size, take) in enumerate(steps):
            piece = bytes([number]) * size
            written += piece
            ends.wire.write(piece)
            came += receive(far, take)
            ends.loop.turn(wait=False)
            waits = ends.wire.get_write_buffer_size()
            assert len(came) + waits <= len(written)
            watched = ends.loop._watched[near.fileno()]
            assert bool(watched & ends.loop.WRITE) is bool(waits)
        for _ in range(200):
            came += receive(far, 100_000)
            ends.loop.turn(wait=False)
        assert came == written
        assert ends.wire.get_write_buffer_size() == 0
    finally:
        ends.close()


def receive(sock: socket.socket, size: int) -> bytes:
    try:
        return sock.recv(size) if size else b""
    except BlockingIOError:
        return b""


def test_a_large_message_is_not_copied_for_each_piece_that_is_sent(ends: Ends) -> None:
    """64 messages of a megabyte wait at times; each byte moved anew for each send is too many."""
    ends.wire.write(b"b" * 5_000_000)
    [rest] = ends.wire._unsent
    assert isinstance(rest.obj, bytes)
    assert len(rest.obj) == 5_000_000
    ends.far.recv(1_000_000)
    ends.loop.turn(wait=True)
    assert ends.wire._unsent[0].obj is rest.obj


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


def tcp() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        return near, server.accept()[0]


def write_twice(wire: Wire) -> None:
    wire.write(b"x")
    wire.write(b"y")


@pytest.mark.parametrize("act", [lambda _: None, write_twice])
def test_a_connection_that_is_reset(act: Callable[[Wire], None]) -> None:
    """By a read or by a write: it is told once, what was heard before stays heard."""
    near, far = tcp()
    ends = Ends(near=near, far=far)
    try:
        far.sendall(HEARTBEAT)
        ends.loop.turn(wait=True)
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        far.close()
        act(ends.wire)
        for _ in range(3):
            ends.loop.turn(wait=False)
        [error] = ends.protocol.lost
        assert isinstance(error, ConnectionResetError | BrokenPipeError)
        assert ends.protocol.heard == [HEARTBEAT]
        assert near.fileno() == -1
    finally:
        ends.close()


def test_a_reset_while_something_waits_to_be_sent() -> None:
    near, far = tcp()
    ends = Ends(near=near, far=far)
    try:
        ends.wire.write(b"b" * 20_000_000)
        assert ends.wire.get_write_buffer_size() > 0
        far.close()  # with unread data: by RST
        for _ in range(3):
            ends.loop.turn(wait=False)
        assert len(ends.protocol.lost) == 1
        assert ends.wire.get_write_buffer_size() == 0
    finally:
        ends.close()


def test_an_answer_over_which_the_connection_is_cut_off_is_the_last_one() -> None:
    """A callback ends it in the midst of what was read: nothing behind it is heard."""
    ends = Ends()
    try:
        heard = ends.protocol.heard

        def on_ack(tag: int, multiple: bool) -> None:
            heard.append((tag, multiple))
            ends.wire.abort()

        ends.wire._on_ack = on_ack
        ends.far.sendall(ack(1, False) + ack(2, False) + HEARTBEAT)
        ends.loop.turn(wait=True)
        ends.loop.turn(wait=False)
        assert heard == [(1, False)]
        assert ends.protocol.lost == [None]
    finally:
        ends.close()


def test_a_reset_is_told_once_and_not_from_within_the_write(ends: Ends) -> None:
    ends.far.close()
    for _ in range(3):
        ends.wire.write(b"x" * 1000)
    assert ends.protocol.lost == []
    ends.loop.turn(wait=False)
    ends.loop.turn(wait=False)
    assert [type(error) for error in ends.protocol.lost] == [BrokenPipeError]
