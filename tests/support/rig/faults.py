"""What can go wrong between a client and its broker, decided frame by frame.

A fault is armed on a proxy and counts from then on; `hits` and `wait()` tell whether it struck.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from threading import Condition
from typing import TYPE_CHECKING

from . import PATIENCE, wire
from .wire import Frame

if TYPE_CHECKING:
    from .link import Link


class Verdict(enum.Enum):
    PASS = enum.auto()
    DROP = enum.auto()  # this frame only
    STOP = enum.auto()  # this frame and all that follows in this direction
    CUT = enum.auto()  # what came before passes, then both sides are cut
    CUT_INSIDE = enum.auto()  # the same, but half of this frame passes too


class Step(enum.Enum):
    """What a frame from the client means for the message it belongs to."""

    NONE = enum.auto()
    STARTED = enum.auto()  # the method frame of a publish
    DONE = enum.auto()  # its last frame


class Fault:
    """One armed fault."""

    def __init__(self) -> None:
        self.hits = 0
        self.armed = True
        self.reset = True  # cut by RST, not by FIN
        self._condition = Condition()

    def hit(self) -> None:
        with self._condition:
            self.hits += 1
            self._condition.notify_all()

    def wait(self, timeout: float = PATIENCE, hits: int = 1) -> bool:
        """Wait until it struck so many times; False when time is up."""
        with self._condition:
            return self._condition.wait_for(lambda: self.hits >= hits, timeout)

    def disarm(self) -> None:
        """Let everything pass again."""
        self.armed = False

    def from_client(self, link: Link, frame: Frame, step: Step) -> Verdict:
        return Verdict.PASS

    def from_broker(self, link: Link, frame: Frame) -> Verdict:
        return Verdict.PASS


class CutBeforePublish(Fault):
    """The nth publish never leaves; both sides are cut in its place."""

    def __init__(self, n: int, reset: bool) -> None:
        super().__init__()
        self._left, self.reset = n, reset

    def from_client(self, link: Link, frame: Frame, step: Step) -> Verdict:
        if step is not Step.STARTED:
            return Verdict.PASS
        self._left -= 1
        if self._left:
            return Verdict.PASS
        self.disarm()
        return Verdict.CUT


class CutAfterPublish(Fault):
    """The broker has the nth publish and answered it; the client is cut off without the answer.

    After the nth nothing of the client passes any more, and no confirm reaches it.
    """

    # A broker that does not confirm (blocked, or confirms are off) is cut all the same.
    ANSWER_TIMEOUT = 3.0

    def __init__(self, n: int, reset: bool) -> None:
        super().__init__()
        self._left, self.reset = n, reset
        self.answered = False  # the broker has confirmed (or refused) the nth
        self._link: Link | None = None
        self._channel = self._tag = 0

    def from_client(self, link: Link, frame: Frame, step: Step) -> Verdict:
        if link is self._link:
            return Verdict.STOP
        if step is not Step.DONE or self._link is not None:
            return Verdict.PASS
        self._left -= 1
        if self._left:
            return Verdict.PASS
        self._link, self._channel = link, frame.channel
        self._tag = link.published(frame.channel)
        link.later(self.ANSWER_TIMEOUT, self._cut)
        return Verdict.PASS

    def from_broker(self, link: Link, frame: Frame) -> Verdict:
        if link is not self._link or frame.method not in (wire.ACK, wire.NACK):
            return Verdict.PASS
        tag, multiple = link.answer(frame)
        if frame.channel == self._channel and (tag == self._tag or (multiple and tag > self._tag)):
            self.answered = True
            self._cut()
        return Verdict.DROP

    def _cut(self) -> None:
        if self.armed and self._link is not None:
            self.disarm()
            if not self._link.closed:
                self.hit()
                self._link.cut(self.reset)


class ResetInBody(Fault):
    """A reset after half of the (first) body frame of the nth publish."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self._left = n

    def from_client(self, link: Link, frame: Frame, step: Step) -> Verdict:
        if step is Step.STARTED:
            self._left -= 1
        if self._left or frame.kind != wire.BODY:
            return Verdict.PASS
        self.disarm()
        return Verdict.CUT_INSIDE


class SwallowAcks(Fault):
    """The next n basic.ack frames (all of them for None) never reach the client."""

    def __init__(self, n: int | None) -> None:
        super().__init__()
        self._left = n

    def from_broker(self, link: Link, frame: Frame) -> Verdict:
        if frame.method != wire.ACK:
            return Verdict.PASS
        if self._left is not None:
            self._left -= 1
            if not self._left:
                self.disarm()
        self.hit()
        return Verdict.DROP


class DelayAcks(Fault):
    """Acks and nacks come late, in their order; everything else overtakes them."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def from_broker(self, link: Link, frame: Frame) -> Verdict:
        if frame.method not in (wire.ACK, wire.NACK):
            return Verdict.PASS
        link.later(self._seconds, link.resend(frame))
        self.hit()
        return Verdict.DROP


class DropHeartbeats(Fault):
    """No heartbeat passes, in either direction."""

    def from_client(self, link: Link, frame: Frame, step: Step) -> Verdict:
        return self.from_broker(link, frame)

    def from_broker(self, link: Link, frame: Frame) -> Verdict:
        if frame.kind != wire.HEARTBEAT:
            return Verdict.PASS
        self.hit()
        return Verdict.DROP


class Stall(Fault):
    """Bytes stay where they are; a hit is a peer that has something to say meanwhile."""

    def __init__(self, towards: str, resume: Callable[[Stall], None]) -> None:
        super().__init__()
        self.to_broker = towards in ("both", "broker")
        self.to_client = towards in ("both", "client")
        self._resume = resume

    def disarm(self) -> None:
        self._resume(self)
