"""Creates the stream of a connection, each step cancellable: address, TLS handshake, stream, protocol."""

import functools
import socket
import ssl
from collections.abc import Callable
from typing import Any

from pika.adapters.utils.nbio_interface import AbstractIOReference, AbstractStreamProtocol
from pika.adapters.utils.selector_ioloop_adapter import SelectorIOServicesAdapter

from rmq_publisher.timing import monotonic
from rmq_publisher.transport.rabbitmq.addresses import Addresses
from rmq_publisher.transport.rabbitmq.event_loop import Loop
from rmq_publisher.transport.rabbitmq.socket_stream import FrameReader, OnAck, TLSWire, Wire


class Services(SelectorIOServicesAdapter):
    """pika's interface to an event loop, with our stream.

    Attributes:
        wire: the stream; None until it is connected.
        limits: pika's parameters, whose timeouts become those of the address that is tried.
        addresses: of the host; pika is given one of them, since it would not go on to the next
            after a broker that closes the connection.
        on_failed: called with an error that pika does not catch.
    """

    def __init__(
        self,
        loop: Loop,
        addresses: Addresses,
        on_failed: Callable[[Exception], None],
        on_ack: OnAck,
        reader: FrameReader | None = None,
    ) -> None:
        super().__init__(loop)
        self.addresses = addresses
        self._on_failed = on_failed
        self._reader = reader
        self.wire: Wire | None = None
        self.limits: Any = None
        self._native = loop
        self._on_ack = on_ack

    def getaddrinfo(
        self,
        host: str | bytes | None,
        port: str | bytes | int | None,
        on_done: Callable[[Any], None],
        family: int = 0,
        socktype: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> AbstractIOReference:
        """Call ``on_done`` with the next address to try; look the host up if there is none yet."""
        found = functools.partial(self._found, on_done)
        if self.addresses:
            return _Later(self._native, lambda: found(()))
        try:
            # An address in figures needs no thread.
            numeric = socket.AI_NUMERICHOST
            records = socket.getaddrinfo(host, port, family, socktype, proto, numeric)
        except socket.gaierror:
            pass
        else:
            return _Later(self._native, lambda: found(records))
        try:
            return super().getaddrinfo(host, port, found, family, socktype, proto, flags)
        except RuntimeError as error:  # no thread can be started
            failed = error
            return _Later(self._native, lambda: on_done(failed))

    def _found(self, on_done: Callable[[Any], None], result: Any) -> None:
        if isinstance(result, BaseException):
            on_done(result)
            return
        if not self.addresses:
            self.addresses.found(result)
        record = self.addresses.take()
        if self.limits is not None:
            seconds = self.addresses.seconds(monotonic(), self.limits.stack_timeout)
            self.limits.socket_timeout = self.limits.stack_timeout = seconds
        try:
            on_done([record])
        except OSError as error:  # no socket can be made; pika lets it through
            self._on_failed(error)

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


class _Later(AbstractIOReference):
    """Calls something in the loop's next iteration, unless it is cancelled."""

    def __init__(self, loop: Loop, call: Callable[[], None]) -> None:
        self._call: Callable[[], None] | None = call
        loop.add_callback(self._proceed)

    def _proceed(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call()

    def cancel(self) -> bool:
        """Do not call it; return False if it was called."""
        waited, self._call = self._call is not None, None
        return waited


class _LinkUp(AbstractIOReference):
    """Creates the stream in the loop's next iteration, unless it is cancelled."""

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
        """Close the socket; return False if the stream already exists."""
        if self._waits:
            self._waits = False
            self._socket.close()
            return True
        return False


class _Handshake(_LinkUp):
    """Completes the TLS handshake before it creates the stream."""

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
        """Close the socket; return False if the stream already exists."""
        if self._waits:
            self._stop_watching()
        return super().cancel()
