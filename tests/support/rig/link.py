"""One client's connection through the proxy: two sockets, and the frames between them."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

import pika.spec

from . import wire
from .faults import Fault, Step, Verdict
from .wire import Frame

if TYPE_CHECKING:
    from .proxy import Proxy

_CHUNK = 256 * 1024
_BACKLOG = 1024 * 1024  # stop reading while so much waits to be written
_RESET = struct.pack("ii", 1, 0)
_ANSWER = struct.Struct(">QB")
_BODY_SIZE = struct.Struct(">Q")


class Stream:
    """One direction."""

    def __init__(self, source: socket.socket, target: socket.socket, to_broker: bool) -> None:
        self.source, self.target, self.to_broker = source, target, to_broker
        self.received = bytearray()  # not yet a whole frame
        self.waiting = bytearray()  # not yet written
        self.stopped = False  # what still comes is thrown away
        self.ended = False  # the source has said goodbye
        self.heard_in_stall = False


class Link:
    """All of it runs in the proxy's thread."""

    def __init__(self, proxy: Proxy, client: socket.socket, broker: socket.socket) -> None:
        self._proxy = proxy
        self.up = Stream(client, broker, to_broker=True)
        self.down = Stream(broker, client, to_broker=False)
        self.closed = False
        self._opaque = False  # TLS: nothing to see here, pass the bytes on
        self._greeted = False
        self._tags: dict[int, int] = {}
        self._body_left: dict[int, int] = {}
        for stream in (self.up, self.down):
            stream.source.setblocking(False)
            stream.source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._watch(stream.source)

    # -- for the faults -----------------------------------------------------------------------

    def published(self, channel: int) -> int:
        """The delivery tag of the last publish on the channel."""
        return self._tags.get(channel, 0)

    def answer(self, frame: Frame) -> tuple[int, bool]:
        """Delivery tag and `multiple` of an ack or nack."""
        tag, bits = _ANSWER.unpack_from(self.down.received, frame.start + 11)
        return tag, bool(bits & 1)

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        self._proxy.call_later(seconds, action)

    def resend(self, frame: Frame) -> Callable[[], None]:
        """An action that passes this frame of the broker on after all."""
        data = bytes(self.down.received[frame.start : frame.end])
        return lambda: self._send(self.down, data)

    def cut(self, reset: bool = True, why: str = "cut") -> None:
        """Close both sides, by RST or by FIN."""
        if self.closed:
            return
        self.closed = True
        for stream in (self.up, self.down):
            self._proxy.watch(stream.source, 0, self)
            if reset:
                with contextlib.suppress(OSError):
                    stream.source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            stream.source.close()
        self._proxy.forget(self, why)

    # -- moving bytes -------------------------------------------------------------------------

    def ready(self, sock: socket.socket, mask: int) -> None:
        """The selector says that a socket can be read or written."""
        outward, inward = self._streams(sock)
        try:
            if mask & selectors.EVENT_WRITE:
                self._flush(inward)
            if mask & selectors.EVENT_READ and not self.closed:
                self._read(outward)
        except OSError as error:
            self.cut(reset=True, why=type(error).__name__)

    def refresh(self) -> None:
        """Watch for what matters now (after a stall began or ended)."""
        for stream in (self.up, self.down):
            stream.heard_in_stall = False
        for stream in (self.up, self.down):
            if not self.closed:
                self._watch(stream.source)

    def _read(self, stream: Stream) -> None:
        if stall := self._proxy.stalled(stream.to_broker):
            stream.heard_in_stall = True
            stall.hit()
            self._watch(stream.source)
            return
        try:
            data = stream.source.recv(_CHUNK)
        except BlockingIOError:
            return
        if not data:
            self._goodbye(stream)
        elif not stream.stopped:
            self._relay(stream, data)

    def _goodbye(self, stream: Stream) -> None:
        stream.ended = True
        if stream.waiting:
            self._watch(stream.source)  # the rest goes out first
        else:
            self.cut(reset=False, why="client left" if stream.to_broker else "broker left")

    def _relay(self, stream: Stream, data: bytes) -> None:
        if not self._greeted:
            self._greeted = True
            self._opaque = not (stream.to_broker and data.startswith(b"AMQP"))
        if self._opaque:
            self._send(stream, data)
            return
        stream.received += data
        frames, used = wire.split(stream.received)
        passed, killer = self._pass(stream, frames, used)
        if self.closed:
            return
        del stream.received[:used]
        self._send(stream, passed)
        if killer is not None:
            self._finish(stream)
            killer.hit()  # first, so that a client that notices finds the hit counted
            self.cut(killer.reset)

    def _pass(self, stream: Stream, frames: list[Frame], used: int) -> tuple[bytes, Fault | None]:
        """What may go on, and the fault that wants the connection cut after it."""
        # All in one piece when nothing is armed: the proxy must not be what is measured.
        armed = [fault for fault in self._proxy.faults if fault.armed]
        kept, at, published = bytearray(), 0, 0
        answers: list[tuple[int, int]] = []
        killer = None
        for frame in frames:
            step = self._follow(frame) if stream.to_broker else Step.NONE
            verdict, fault = self._judge(armed, stream, frame, step)
            if verdict is not Verdict.PASS:
                half = (frame.start + frame.end) // 2
                kept += stream.received[
                    at : half if verdict is Verdict.CUT_INSIDE else frame.start
                ]
                at = frame.end
            if verdict not in (Verdict.PASS, Verdict.DROP):
                stream.stopped, at = True, used
                killer = None if verdict is Verdict.STOP else fault
                break
            published += step is Step.DONE
            if frame.method is not None:
                answers.append(frame.method)
                self._log(stream, frame.method)
        self._proxy.count(published, [] if stream.to_broker else answers)
        return bytes(kept + stream.received[at:used]), killer

    def _judge(
        self, armed: list[Fault], stream: Stream, frame: Frame, step: Step
    ) -> tuple[Verdict, Fault | None]:
        for fault in armed:
            if stream.to_broker:
                verdict = fault.from_client(self, frame, step)
            else:
                verdict = fault.from_broker(self, frame)
            if verdict is not Verdict.PASS:
                return verdict, fault
        return Verdict.PASS, None

    def _finish(self, stream: Stream) -> None:
        """Write out what waits before the connection is cut."""
        with contextlib.suppress(OSError):
            stream.target.settimeout(1)
            stream.target.sendall(stream.waiting)
            stream.waiting.clear()

    def _follow(self, frame: Frame) -> Step:
        """Keep account of the client's messages and their delivery tags."""
        channel = frame.channel
        if frame.kind == wire.BODY:
            left = self._body_left.get(channel, 0) - (
                frame.end - frame.start - wire.FRAME_OVERHEAD
            )
            self._body_left[channel] = left
            return Step.NONE if left else Step.DONE
        if frame.kind == wire.HEADER:
            (size,) = _BODY_SIZE.unpack_from(self.up.received, frame.start + 11)
            self._body_left[channel] = size
            return Step.NONE if size else Step.DONE
        if frame.method == wire.PUBLISH:
            self._tags[channel] = self._tags.get(channel, 0) + 1
            return Step.STARTED
        if frame.method in (wire.CHANNEL_OPEN, wire.CONFIRM_SELECT):
            self._tags[channel] = 0
        return Step.NONE

    def _send(self, stream: Stream, data: bytes) -> None:
        if self.closed or not data:
            return
        stream.waiting += data
        self._flush(stream)

    def _flush(self, stream: Stream) -> None:
        if stream.waiting and not self._proxy.stalled(stream.to_broker):
            try:
                sent = stream.target.send(stream.waiting)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self.cut(reset=True, why=type(error).__name__)
                return
            del stream.waiting[:sent]
        if stream.ended and not stream.waiting:
            self._goodbye(stream)
            return
        self._watch(stream.target)
        self._watch(stream.source)

    def _watch(self, sock: socket.socket) -> None:
        """Ask the selector for exactly what this socket can be used for now."""
        outward, inward = self._streams(sock)
        mask = 0
        if not outward.ended and not outward.heard_in_stall and len(outward.waiting) < _BACKLOG:
            mask |= selectors.EVENT_READ
        if inward.waiting and not self._proxy.stalled(inward.to_broker):
            mask |= selectors.EVENT_WRITE
        self._proxy.watch(sock, mask, self)

    def _streams(self, sock: socket.socket) -> tuple[Stream, Stream]:
        """The stream that this socket feeds, and the one that it is fed by."""
        return (self.up, self.down) if sock is self.up.source else (self.down, self.up)

    def _log(self, stream: Stream, method: tuple[int, int]) -> None:
        if method in _UNLOGGED:
            return
        known = pika.spec.methods.get(method[0] << 16 | method[1])
        name = known.NAME if known is not None else str(method)
        self._proxy.log(f"{'client' if stream.to_broker else 'broker'} {name}")


# Too many; they are counted instead.
_UNLOGGED = frozenset({wire.PUBLISH, wire.ACK})
