"""The stream under a connection, with or without TLS. It replaces pika's and has pika's interface.

It sends immediately, as far as the socket accepts it. Nearly everything received while publishing is
an ack; acks are read here, without a pika object for each. pika gets all other frames, complete and in
order.
"""

import socket
import ssl
import struct
from collections import deque
from collections.abc import Callable
from typing import Protocol

from pika.adapters.utils.nbio_interface import AbstractStreamProtocol, AbstractStreamTransport

from rmq_publisher.messages.envelope import FRAME_MAX
from rmq_publisher.transport.rabbitmq.event_loop import Loop
from rmq_publisher.transport.rabbitmq.frames import PUBLISH_CHANNEL

OnAck = Callable[[int, bool], None]  # delivery tag, multiple


class FrameReader(Protocol):
    """Takes frames that pika need not see."""

    def take_frame(self, data: bytes, at: int, end: int) -> bool: ...  # noqa: D102
    def after_read(self, taken: int) -> None: ...  # noqa: D102


_READ_BYTES = 65_536
_FRAME = struct.Struct(">BHI")  # type, channel, size
_FRAME_TYPES = (1, 2, 3, 8)
_FRAME_END = 0xCE
# basic.ack on the publishing channel, up to the delivery tag: frame header, class and method. The tag,
# the bit "multiple" and the frame end follow (AMQP 0-9-1, 4.2.3 and 1.8.3.13).
_ACK = _FRAME.pack(1, PUBLISH_CHANNEL, 13) + struct.pack(">HH", 60, 80)
ACK_SIZE = len(_ACK) + 8 + 1 + 1


class Wire(AbstractStreamTransport):
    """A stream over a connected, non-blocking socket.

    Attributes:
        error: what ended it; None while it lives, and where the other side closed it.
        heard: whether anything was received.
        framed: whether all that was received is AMQP frames.
    """

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        protocol: AbstractStreamProtocol,
        on_ack: OnAck,
        reader: FrameReader | None = None,
    ) -> None:
        self._reader = reader
        self._loop = loop
        self._socket = sock
        self._fd = sock.fileno()
        self._protocol = protocol
        self._on_ack = on_ack
        self._unsent: deque[memoryview] = deque()
        self._unread = b""  # the first bytes of an incomplete frame
        self.error: BaseException | None = None
        self.heard = False
        self.framed = True
        self._active = True
        loop.add_handler(self._fd, self._on_events, loop.READ)

    def get_protocol(self) -> AbstractStreamProtocol:
        """Return the protocol that receives what is read."""
        return self._protocol

    def get_write_buffer_size(self) -> int:
        """Return how many bytes are still to be sent."""
        return sum(map(len, self._unsent))

    def abort(self) -> None:
        """Close without sending the rest; the protocol is notified in the loop's next iteration."""
        self._end(None)

    def write(self, data: bytes) -> None:
        """Send in order. What the socket does not accept now is sent when it is writable."""
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
        self._received(data)

    def _received(self, data: bytes) -> None:
        if not data:
            self._protocol.eof_received()
            self._end(None)
            return
        self.heard = True
        if self.framed:
            self._split(self._unread + data if self._unread else data)
        else:
            self._hand_over(data)

    def _split(self, data: bytes) -> None:
        """Process the acks, and pass all other frames to the reader or to pika."""
        at = taken = 0
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
            if self._reader is not None and self._reader.take_frame(data, at, end):
                taken += end - at
            else:
                self._hand_over(data[at:end])
            at = end
        self._unread = data[at:]
        if taken and self._reader is not None:
            self._reader.after_read(taken)

    def _end_of_frame(self, data: bytes, at: int) -> int:
        if data[at] not in _FRAME_TYPES:
            self.framed = False  # not AMQP: leave this and all that follows to pika
            return len(data)
        if len(data) - at < _FRAME.size:
            return len(data) + 1
        size = int(_FRAME.unpack_from(data, at)[2]) + _FRAME.size + 1
        if size > FRAME_MAX:
            # More than we negotiated: a broken peer could make us buffer up to 4 GiB.
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
            self.error = error
            self._unsent.clear()
            self._loop.remove_handler(self._fd)
            # In the next iteration, because the caller may be in the middle of a write or a read.
            self._loop.add_callback(lambda: self._ended(error))

    def _ended(self, error: BaseException | None) -> None:
        try:
            self._protocol.connection_lost(error)
        finally:
            self._socket.close()


class TLSWire(Wire):
    """A stream over TLS, on a socket that has completed the handshake."""

    _reading_needs_to_write = False

    def _send(self, data: memoryview) -> int:
        sent = 0
        try:
            while sent < len(data):  # OpenSSL takes at most one record (16 KiB) at a time
                sent += self._socket.send(data[sent:])
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError as error:
            self._end(self._received_alert() or error)
        return sent

    def _received_alert(self) -> OSError | None:
        """Return what the other side said before it closed: it explains why nothing can be sent."""
        try:
            self._socket.recv(1)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        except OSError as error:
            return error
        return None

    def _on_events(self, _fd: int, _events: int) -> None:
        # TLS may need to read in order to write, and to write in order to read.
        if self._reading_needs_to_write:
            self._reading_needs_to_write = False
            self._loop.update_handler(self._fd, self._loop.READ)
        if self._unsent:
            self._send_rest()
        if self._active:
            self._read()

    def _read(self) -> None:
        try:
            # A record is smaller than this, so OpenSSL holds back nothing that poll() would not report.
            data = self._socket.recv(_READ_BYTES)
        except ssl.SSLWantReadError:
            return
        except ssl.SSLWantWriteError:
            self._reading_needs_to_write = True
            self._loop.update_handler(self._fd, self._loop.READ | self._loop.WRITE)
            return
        except OSError as error:
            self._end(error)
            return
        self._received(data)
