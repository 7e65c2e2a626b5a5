"""Our stream over TLS, against a peer whose records the test holds, cuts and answers itself."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from rmq_publisher.conf.schema import TLSSettings
from rmq_publisher.transport.rabbitmq import tls
from rmq_publisher.transport.rabbitmq.addresses import Addresses
from rmq_publisher.transport.rabbitmq.event_loop import Loop
from rmq_publisher.transport.rabbitmq.socket_stream import TLSWire
from rmq_publisher.transport.rabbitmq.stream_setup import Services
from tests.support.rig.certificates import Certificates

from .test_socket_stream import HEARTBEAT, Protocol, ack, frame

Versions = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


class Heard(Protocol):
    def connection_made(self, transport: Any) -> None:
        self.heard.append("made")


class Secured:
    """A connection in the making, and the TLS of its other end, which does no I/O by itself."""

    def __init__(
        self, certificates: Certificates, version: ssl.TLSVersion, host: str = "localhost"
    ) -> None:
        self.loop = Loop()
        near, self.far = socket.socketpair()
        near.settimeout(0)
        self.far.settimeout(0)
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(*certificates.server)
        server.minimum_version = server.maximum_version = version
        self._to, self._of = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = server.wrap_bio(self._to, self._of, server_side=True)
        self.protocol = Heard()
        self.done: list[Any] = []
        self.services = Services(self.loop, Addresses(), self.done.append, self.on_ack)
        self.reference = self.services.create_streaming_connection(
            lambda: self.protocol,  # type: ignore[arg-type, return-value]
            near,
            self.done.append,
            tls.context(TLSSettings(ca_file=str(certificates.ca_file))),
            host,
        )

    def on_ack(self, tag: int, multiple: bool) -> None:
        self.protocol.heard.append((tag, multiple))

    def turn(self) -> None:
        self.loop.turn(wait=False)

    def take_in(self, size: int = 1_000_000) -> None:
        """Let the peer's TLS have what was sent to it."""
        try:
            self._to.write(self.far.recv(size))
        except BlockingIOError:
            pass

    def outgoing(self) -> bytes:
        """What the peer's TLS wants to send."""
        return self._of.read()

    def shake_hands(self) -> None:
        for _ in range(20):
            self.turn()
            self.take_in()
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError:
                break  # it was refused
            if self.services.wire is None and self.done:
                break
            self.far.sendall(self.outgoing())
            if self.done:
                break
        self.turn()

    def read(self) -> bytes:
        """What the peer can read of what it has taken in."""
        pieces = []
        while True:
            try:
                pieces.append(self.tls.read(65_536))
            except ssl.SSLWantReadError:
                return b"".join(pieces)

    def close(self) -> None:
        if self.services.wire is not None:
            self.services.wire.abort()
        self.reference.cancel()
        self.turn()
        self.far.close()
        self.loop.close()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(params=Versions, ids=lambda version: version.name)
def secured(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[Secured]:
    made = Secured(certificates, request.param)
    made.shake_hands()
    assert made.protocol.heard == ["made"]
    made.protocol.heard.clear()
    yield made
    made.close()


def wire(secured: Secured) -> TLSWire:
    assert isinstance(secured.services.wire, TLSWire)
    return secured.services.wire


def test_frames_in_records_that_come_byte_by_byte(secured: Secured) -> None:
    secured.tls.write(ack(1, False) + HEARTBEAT + ack(7, True))
    for byte in secured.outgoing():
        secured.far.sendall(bytes([byte]))
        secured.turn()
    assert secured.protocol.heard == [(1, False), HEARTBEAT, (7, True)]


def test_many_records_at_once_are_all_read(secured: Secured) -> None:
    """OpenSSL keeps nothing to itself that poll() would not report."""
    body = frame(3, b"b" * 100_000)
    secured.tls.write(body + ack(1, False))
    for number in range(50):
        secured.tls.write(ack(number, False))
    rest = secured.outgoing()
    while rest:
        rest = rest[secured.far.send(rest[:30_000]) :]
        secured.turn()
    for _ in range(60):
        secured.turn()
    expected = [body, (1, False), *((number, False) for number in range(50))]
    assert secured.protocol.heard == expected


def test_a_large_body_waits_for_room_and_arrives_in_order(secured: Secured) -> None:
    pieces = [bytes([number]) * 700_000 for number in range(5)]
    for piece in pieces:
        wire(secured).write(piece)
    assert wire(secured).get_write_buffer_size() > 0
    came = b""
    for _ in range(2_000):
        secured.take_in(50_000)
        came += secured.read()
        secured.turn()
        if len(came) == 3_500_000:
            break
    assert came == b"".join(pieces)
    assert wire(secured).get_write_buffer_size() == 0
    assert not secured.loop._watched[wire(secured)._fd] & secured.loop.WRITE


def test_acks_are_read_while_a_body_waits_for_room(secured: Secured) -> None:
    wire(secured).write(b"b" * 3_000_000)
    secured.tls.write(ack(3, False))
    secured.far.sendall(secured.outgoing())
    secured.turn()
    assert secured.protocol.heard == [(3, False)]


def test_the_other_end_closes_with_and_without_a_goodbye(secured: Secured) -> None:
    with pytest.raises(ssl.SSLWantReadError):
        secured.tls.unwrap()  # close_notify
    secured.far.sendall(secured.outgoing())
    secured.turn()
    secured.turn()
    assert (secured.protocol.heard, secured.protocol.lost) == (["eof"], [None])
    wire(secured).write(b"ignored")


def test_the_other_end_is_cut_off_within_a_record(secured: Secured) -> None:
    secured.tls.write(HEARTBEAT * 10)
    secured.far.sendall(secured.outgoing()[:20])
    secured.turn()
    secured.far.close()
    secured.turn()
    secured.turn()
    assert len(secured.protocol.lost) == 1


def test_a_record_that_was_changed_on_its_way_ends_the_connection(secured: Secured) -> None:
    secured.tls.write(ack(1, False))
    record = bytearray(secured.outgoing())
    record[-1] ^= 1
    secured.far.sendall(record)
    secured.turn()
    secured.turn()
    [error] = secured.protocol.lost
    assert isinstance(error, ssl.SSLError)
    assert secured.protocol.heard == []


class Reluctant:
    """A socket that has to write before it can read, and to read before it can write."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self.raising: list[ssl.SSLError] = []

    def recv(self, size: int) -> bytes:
        if self.raising:
            raise self.raising.pop()
        return bytes(self._sock.recv(size))

    def send(self, data: memoryview) -> int:
        if self.raising:
            raise self.raising.pop()
        return int(self._sock.send(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


def test_reading_that_has_to_write_first_goes_on_when_it_can(secured: Secured) -> None:
    stream = wire(secured)
    stream._socket = reluctant = Reluctant(stream._socket)  # type: ignore[assignment]
    reluctant.raising = [ssl.SSLWantWriteError()]
    secured.tls.write(ack(1, False))
    secured.far.sendall(secured.outgoing())
    secured.turn()
    assert secured.protocol.heard == []
    assert secured.loop._watched[stream._fd] & secured.loop.WRITE
    secured.turn()
    assert secured.protocol.heard == [(1, False)]
    assert secured.loop._watched[stream._fd] == secured.loop.READ


def test_writing_that_has_to_read_first_is_done_later(secured: Secured) -> None:
    stream = wire(secured)
    stream._socket = reluctant = Reluctant(stream._socket)  # type: ignore[assignment]
    reluctant.raising = [ssl.SSLWantReadError()]
    stream.write(b"first")
    stream.write(b"second")
    secured.turn()
    secured.take_in()
    assert secured.read() == b"firstsecond"


@pytest.mark.parametrize("version", Versions, ids=lambda version: version.name)
def test_a_handshake_with_another_host_is_refused(
    certificates: Certificates, version: ssl.TLSVersion
) -> None:
    secured = Secured(certificates, version, "elsewhere.example")
    secured.shake_hands()
    [error] = secured.done
    assert isinstance(error, ssl.SSLCertVerificationError)
    assert secured.protocol.heard == []
    assert not secured.loop.descriptors
    secured.close()


def test_a_handshake_that_is_called_off(certificates: Certificates) -> None:
    secured = Secured(certificates, ssl.TLSVersion.TLSv1_3)
    secured.turn()
    assert secured.loop.descriptors
    assert secured.reference.cancel()
    assert not secured.loop.descriptors
    assert secured.done == []
    assert not secured.reference.cancel()
    secured.close()
