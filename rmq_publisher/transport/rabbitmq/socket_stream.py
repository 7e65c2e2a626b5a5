"""The stream under a connection without TLS, in the place of pika's: pika's own interface for it.

It sends at once what the socket takes, and reads acks, nearly all that comes while publishing,
without a pika object for each. All other frames go to pika, whole and in order.
"""

import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Any

from pika.adapters.utils.nbio_interface import (
    AbstractIOReference,
    AbstractStreamProtocol,
    AbstractStreamTransport,
)
from pika.adapters.utils.selector_ioloop_adapter import SelectorIOServicesAdapter

from rmq_publisher.messages.envelope import FRAME_MAX
from rmq_publisher.transport.rabbitmq.event_loop import Loop
from rmq_publisher.transport.rabbitmq.frames import PUBLISH_CHANNEL

OnAck = Callable[[int, bool], None]  # delivery tag, multiple
_READ_BYTES = 65_536
_FRAME = struct.Struct(">BHI")  # type, channel, size
_FRAME_TYPES = (1, 2, 3, 8)
_FRAME_END = 0xCE
# basic.ack on the publishing channel: the method frame's head, class and method; tag and multiple and
# the frame's end follow (AMQP 0-9-1, 4.2.3 and 1.8.3.13).
_ACK = _FRAME.pack(1, PUBLISH_CHANNEL, 13) + struct.pack(">HH", 60, 80)
ACK_SIZE = len(_ACK) + 8 + 1 + 1


class Wire(AbstractStreamTransport):
    """A connected socket: what pika writes to, and where it hears from."""

    def __init__(
        self, loop: Loop, sock: socket.socket, protocol: AbstractStreamProtocol, on_ack: OnAck
    ) -> None:
        self._loop = loop
        self._socket = sock
        self._fd = sock.fileno()
        self._protocol = protocol
        self._on_ack = on_ack
        self._unsent: deque[memoryview] = deque()
        self._unread = b""  # the beginning of a frame
        self._framed = True  # as far as is known
        self._active = True
        loop.add_handler(self._fd, self._on_events, loop.READ)

    def get_protocol(self) -> AbstractStreamProtocol:
        """Return whom it tells what it reads."""
        return self._protocol

    def get_write_buffer_size(self) -> int:
        """Return how many bytes the socket did not take yet."""
        return sum(map(len, self._unsent))

    def abort(self) -> None:
        """Close it without sending what is left; the protocol is told in the next turn."""
        self._end(None)

    def write(self, data: bytes) -> None:
        """Send, in order; what the socket does not take now is sent when it can be."""
        if not self._active:
            return
        rest = memoryview(data)
        if not self._unsent:
            rest = rest[self._send(rest) :]
            if not rest or not self._active:
                return
            self._loop.update_handler(self._fd, self._loop.READ | self._loop.WRITE)
        self._unsent.append(rest)

    # Inside

    def _send_rest(self) -> None:
        while self._unsent:
            rest = self._unsent[0]
            rest = rest[self._send(rest) :]
            if not self._active:
                return
            if rest:
                self._unsent[0] = rest
                return
            self._unsent.popleft()
        self._loop.update_handler(self._fd, self._loop.READ)

    def _send(self, data: memoryview) -> int:
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._end(error)
            return 0

    def _on_events(self, _fd: int, events: int) -> None:
        if events & self._loop.WRITE and self._unsent:
            self._send_rest()
        if events & self._loop.READ and self._active:
            self._read()

    def _read(self) -> None:
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(error)
            return
        if not data:
            self._protocol.eof_received()
            self._end(None)
            return
        if self._framed:
            self._split(self._unread + data if self._unread else data)
        else:
            self._hand_over(data)

    def _split(self, data: bytes) -> None:
        """Take the acks out, and hand all other frames over."""
        at = 0
        while at < len(data) and self._active:
            if (
                data.startswith(_ACK, at)
                and len(data) - at >= ACK_SIZE
                and data[at + ACK_SIZE - 1] == _FRAME_END
            ):
                tag = int.from_bytes(data[at + 11 : at + 19])
                self._on_ack(tag, bool(data[at + 19] & 1))
                at += ACK_SIZE
                continue
            end = self._end_of_frame(data, at)
            if end > len(data):
                break
            self._hand_over(data[at:end])
            at = end
        self._unread = data[at:]

    def _end_of_frame(self, data: bytes, at: int) -> int:
        if data[at] not in _FRAME_TYPES:
            self._framed = False  # what else it is, and all that follows, is pika's to judge
            return len(data)
        if len(data) - at < _FRAME.size:
            return len(data) + 1
        size = int(_FRAME.unpack_from(data, at)[2]) + _FRAME.size + 1
        if size > FRAME_MAX:
            # We offered no more. Else a broken peer could have us keep up to 4 GiB of it.
            self._end(ConnectionError(f"a frame of {size} bytes"))
        return at + size

    def _hand_over(self, data: bytes) -> None:
        try:
            self._protocol.data_received(data)
        except Exception as error:  # noqa: BLE001 (as pika's own stream does)
            self._end(error)

    def _end(self, error: BaseException | None) -> None:
        if self._active:
            self._active = False
            self._unsent.clear()
            self._loop.remove_handler(self._fd)
            # Later: whoever caused it may be in the midst of something.
            self._loop.add_callback(lambda: self._ended(error))

    def _ended(self, error: BaseException | None) -> None:
        try:
            self._protocol.connection_lost(error)
        finally:
            self._socket.close()


class Services(SelectorIOServicesAdapter):
    """pika's services of a loop, with our stream where there is no TLS.

    Attributes:
        wire: the stream; None with TLS and before there is one.
    """

    def __init__(self, loop: Loop, on_ack: OnAck) -> None:
        super().__init__(loop)
        self.wire: Wire | None = None
        self._native = loop
        self._on_ack = on_ack

    def create_streaming_connection(
        self,
        protocol_factory: Callable[[], AbstractStreamProtocol],
        sock: socket.socket,
        on_done: Callable[[Any], None],
        ssl_context: Any = None,
        server_hostname: str | None = None,
    ) -> AbstractIOReference:
        """Bring a protocol and a connected socket together."""
        if ssl_context is not None:
            return super().create_streaming_connection(
                protocol_factory, sock, on_done, ssl_context, server_hostname
            )
        return _LinkUp(self, self._native, protocol_factory, sock, on_done, self._on_ack)


class _LinkUp(AbstractIOReference):
    """The moment before a stream is made, which can still be called off."""

    def __init__(
        self,
        services: Services,
        loop: Loop,
        protocol_factory: Callable[[], AbstractStreamProtocol],
        sock: socket.socket,
        on_done: Callable[[Any], None],
        on_ack: OnAck,
    ) -> None:
        self._waits = True
        self._socket = sock

        def link_up() -> None:
            if self._waits:
                self._waits = False
                protocol = protocol_factory()
                services.wire = wire = Wire(loop, sock, protocol, on_ack)
                protocol.connection_made(wire)
                on_done((wire, protocol))

        loop.add_callback(link_up)

    def cancel(self) -> bool:
        """Call it off; return whether it was in time."""
        if self._waits:
            self._waits = False
            self._socket.close()
            return True
        return False
