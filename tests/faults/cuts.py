"""Cuts that know how many messages were in flight: written by the client, and unanswered to it.

The one that a cut is aimed at is among them, so that a cut that strikes has hit.
"""

from __future__ import annotations

import random
from typing import Any

from tests.support.rig import wire
from tests.support.rig.faults import (
    CutAfterPublish,
    CutBeforePublish,
    Fault,
    ResetInBody,
    Step,
    Verdict,
)
from tests.support.rig.link import Link
from tests.support.rig.proxy import Proxy
from tests.support.rig.wire import Frame

CHANNEL_CLOSE = (20, 40)


class Census(Fault):
    """Counts what is unanswered, as the client sees it; what is mixed in decides what happens."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.in_flight = 0  # when it struck
        self._unanswered: dict[tuple[Link, int], set[int]] = {}
        self._last: set[int] = set()

    def from_client(self, link: Link, frame: Frame, step: Step) -> Verdict:
        verdict = super().from_client(link, frame, step)
        if frame.method == wire.CHANNEL_OPEN:
            self._unanswered[link, frame.channel] = set()
        if step is Step.STARTED and verdict is not Verdict.STOP:
            self._last = self._of(link, frame)
            self._last.add(link.published(frame.channel))
        return verdict

    def from_broker(self, link: Link, frame: Frame) -> Verdict:
        verdict = super().from_broker(link, frame)
        if verdict is Verdict.PASS and frame.method in (wire.ACK, wire.NACK):
            tag, multiple = link.answer(frame)
            waiting = self._of(link, frame)
            waiting.difference_update(
                [known for known in waiting if known <= tag] if multiple else [tag]
            )
        return verdict

    def hit(self) -> None:
        self.in_flight = len(self._last)
        super().hit()

    def _of(self, link: Link, frame: Frame) -> set[int]:
        return self._unanswered.setdefault((link, frame.channel), set())


class Before(Census, CutBeforePublish):
    """The nth publish never leaves."""


class Inside(Census, ResetInBody):
    """A reset in the midst of the nth body."""


class After(Census, CutAfterPublish):
    """The broker has the nth and confirmed it; the client never hears."""


class Closes(Census):
    """Watches the broker close publishing channels, and hurts nobody."""

    def __init__(self) -> None:
        super().__init__()
        self.closed_over: list[int] = []  # messages unanswered each time

    def from_broker(self, link: Link, frame: Frame) -> Verdict:
        if frame.method == CHANNEL_CLOSE and (link, frame.channel) in self._unanswered:
            waiting = self._unanswered[link, frame.channel]
            if waiting:  # else it is a channel for topology
                self.closed_over.append(len(waiting))
        return super().from_broker(link, frame)


def arm(proxy: Proxy, fault: Any) -> Any:
    """Arm a fault of ours."""
    return proxy._arm(fault)


def cut_at(proxy: Proxy, n: int, chance: random.Random) -> Any:
    """Cut at the nth publish from now: before it, within it, or after its confirm."""
    reset = chance.random() < 0.5
    return arm(
        proxy, chance.choice([Before, After])(n, reset) if chance.random() < 0.7 else Inside(n)
    )
