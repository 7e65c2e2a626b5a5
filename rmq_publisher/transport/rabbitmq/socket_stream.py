"""The stream under a connection, with or without TLS. It replaces pika's and has pika's interface.

It sends at once what the socket takes. Nearly everything received while publishing is an ack; those
are read here, without a pika object for each. All other frames go to pika, whole and in order.
"""

import socket
import ssl
import struct
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

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


class FrameReader(Protocol):
    """Takes frames off the stream before pika sees them."""

    def take_frame(self, data: bytes, at: int, end: int) -> bool: ...  # noqa: D102
    def after_read(self, taken: int) -> None: ...  # noqa: D102


_READ_BYTES = 65_536
_FRAME = struct.Struct(">BHI")  # type, channel, size
_FRAME_TYPES = (1, 2, 3, 8)
_FRAME_END = 0xCE
# basic.ack on the publishing channel: the method frame's head, class and method; tag and multiple and
# the frame's end follow (AMQP 0-9-1, 4.2.3 and 1.8.3.13).
_ACK = _FRAME.pack(1, PUBLISH_CHANNEL, 13) + struct.pack(">HH", 60, 80)
ACK_SIZE = len(_ACK) + 8 + 1 + 1


class Wire(AbstractStreamTransport):
    """A stream over a connected, non-blocking socket."""

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
        self._unread = b""  # the beginning of a frame
        self._framed = True  # whether all data so far was AMQP frames
        self._active = True
        loop.add_handler(self._fd, self._on_events, loop.READ)

    def get_protocol(self) -> AbstractStreamProtocol:
        """Return the protocol that receives what is read."""
        return self._protocol

    def get_write_buffer_size(self) -> int:
        """Return how many bytes the socket has not taken yet."""
        return sum(map(len, self._unsent))

    def abort(self) -> None:
        """Close without sending what is left; the protocol is notified in the loop's next turn."""
        self._end(None)

    def write(self, data: bytes) -> None:
        """Send in order; what the socket does not take now is sent when it is writable."""
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
        if self._framed:
            self._split(self._unread + data if self._unread else data)
        else:
            self._hand_over(data)

    def _split(self, data: bytes) -> None:
        """Read the acks, and hand all other frames to pika."""
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
            self._framed = False  # not AMQP: pika decides about this and all that follows
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
            self._unsent.clear()
            self._loop.remove_handler(self._fd)
            # In the next turn, because the caller may be in the middle of a write or a read.
            self._loop.add_callback(lambda: self._ended(error))

    def _ended(self, error: BaseException | None) -> None:
        try:
            self._protocol.connection_lost(error)
        finally:
            self._socket.close()


class TLSWire(Wire):
    """A stream over TLS: its socket has completed the handshake."""

    _reading_needs_to_write = False

    def _send(self, data: memoryview) -> int:
        sent = 0
        try:
            while sent < len(data):  # OpenSSL takes at most one record (16 KiB) at a time
                sent += self._socket.send(data[sent:])
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError as error:
            self._end(error)
        return sent

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


class Services(SelectorIOServicesAdapter):
    """pika's services of a loop, with our stream.

    Attributes:
        wire: the stream; None before there is one.
    """

    def __init__(self, loop: Loop, on_ack: OnAck, reader: FrameReader | None = None) -> None:
        super().__init__(loop)
        self._reader = reader
        self.wire: Wire | None = None
        self._native = loop
        self._on_ack = on_ack

    def create_streaming_connection(
        self,
        protocol_factory: Callable[[], AbstractStreamProtocol],
        sock: socket.socket,
        on_done: Callable[[Any], None],
        ssl_context: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
    ) -> AbstractIOReference:
        """Complete the TLS handshake if there is a context, then connect protocol and stream."""

        def link_up(ready: socket.socket) -> None:
            protocol = protocol_factory()
            kind = TLSWire if ssl_context else Wire
            self.wire = wire = kind(self._native, ready, protocol, self._on_ack, self._reader)
            protocol.connection_made(wire)
            on_done((wire, protocol))

        if ssl_context is None:
            return _LinkUp(self._native, sock, link_up)
        secured = ssl_context.wrap_socket(
            sock, server_hostname=server_hostname, do_handshake_on_connect=False
        )
        return _Handshake(self._native, secured, link_up, on_done)


class _LinkUp(AbstractIOReference):
    """The wait for the loop's next turn, in which the stream is made; it can be cancelled."""

    def __init__(
        self, loop: Loop, sock: socket.socket, link_up: Callable[[socket.socket], None]
    ) -> None:
        self._waits = True
        self._loop = loop
        self._socket = sock
        self._link_up = link_up
        loop.add_callback(self._proceed)

    def _proceed(self) -> None:
        if self._waits:
            self._waits = False
            self._link_up(self._socket)

    def cancel(self) -> bool:
        """Close the socket; return whether that was in time."""
        if self._waits:
            self._waits = False
            self._socket.close()
            return True
        return False


class _Handshake(_LinkUp):
    """A TLS handshake in progress; it can be cancelled."""

    _watches = False

    def __init__(
        self,
        loop: Loop,
        sock: ssl.SSLSocket,
        link_up: Callable[[socket.socket], None],
        on_failed: Callable[[OSError], None],
    ) -> None:
        self._on_failed = on_failed
        self._do_handshake = sock.do_handshake
        super().__init__(loop, sock, link_up)

    def _proceed(self, *_: int) -> None:
        if not self._waits:
            return
        try:
            self._do_handshake()
        except ssl.SSLWantReadError:
            self._watch(self._loop.READ)
        except ssl.SSLWantWriteError:
            self._watch(self._loop.WRITE)
        except OSError as error:  # ssl.SSLError is one
            self.cancel()
            self._on_failed(error)
        else:
            self._stop_watching()
            super()._proceed()

    def _watch(self, events: int) -> None:
        if self._watches:
            self._loop.update_handler(self._socket.fileno(), events)
        else:
            self._watches = True
            self._loop.add_handler(self._socket.fileno(), self._proceed, events)

    def _stop_watching(self) -> None:
        if self._watches:
            self._watches = False
            self._loop.remove_handler(self._socket.fileno())

    def cancel(self) -> bool:
        """Close the socket; return whether that was in time."""
        if self._waits:
            self._stop_watching()
        return super().cancel()
