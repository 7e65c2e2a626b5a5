"""Topology on short-lived channels: what one caller asks for can hurt nobody else."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from pika.channel import Channel
from pika.exceptions import ChannelClosedByBroker
from pika.frame import Method

from rmq_publisher.entities import Step
from rmq_publisher.topology import Topology
from rmq_publisher.transport.base import Declared
from rmq_publisher.transport.failures import describe

Replies = list[Declared]
Refusal = tuple[int, str]  # reply code and text; code 0: the connection was lost
OnVerified = Callable[[Replies, Refusal | None], None]


class Verification:
    """Some steps of topology, in order, on one channel.

    Args:
        connection: pika's, open.
        number: a free channel number.
        steps: what to run; the first refusal ends it, for it closes the channel.
        done: called once, with the replies so far and the refusal, if any.
        closed: called with the number when the channel is closed.
    """

    def __init__(
        self,
        connection: Any,
        number: int,
        steps: Sequence[Step],
        done: OnVerified,
        closed: Callable[[int], None],
    ) -> None:
        self._number = number
        self._steps = deque(steps)
        self._done: OnVerified | None = done
        self._closed = closed
        self._replies: Replies = []
        connection.channel(number, self._on_open)

    def _on_open(self, channel: Channel) -> None:
        channel.add_on_close_callback(self._on_close)
        self._next(channel)

    def _next(self, channel: Channel) -> None:
        if self._steps:
            step = self._steps.popleft()
            run = getattr(channel, step.operation)
            run(**step.arguments, callback=lambda frame: self._on_reply(channel, step, frame))
        else:
            self._finish(None)
            channel.close()

    def _on_reply(self, channel: Channel, step: Step, frame: "Method[Any]") -> None:
        messages = getattr(frame.method, "message_count", None)
        consumers = getattr(frame.method, "consumer_count", None)
        self._replies.append(Declared(step.entity, messages, consumers))
        self._next(channel)

    def _on_close(self, _channel: Channel, reason: Exception) -> None:
        if isinstance(reason, ChannelClosedByBroker):
            self._finish((reason.reply_code, reason.reply_text))
        else:
            self._finish((0, describe(reason)))
        self._closed(self._number)

    def _finish(self, refusal: Refusal | None) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(self._replies, refusal)


class Request:
    """A caller's question about topology, and its answer."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.replies: Replies = []
        self.refusal: Refusal | None = None
        self.answered = threading.Event()

    def steps(self) -> list[Step]:
        """Return the steps to run."""
        return [step for entity in self.topology for step in entity.steps()]

    def answer(self, replies: Replies, refusal: Refusal | None) -> None:
        """Take the answer."""
        self.replies, self.refusal = replies, refusal
        self.answered.set()
