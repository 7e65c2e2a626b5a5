"""Topology on short-lived channels, so that one caller's refused declaration affects no other."""

import functools
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeGuard

from pika.channel import Channel
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker
from pika.frame import Method

from rmq_publisher.amqp.entities import Topology
from rmq_publisher.amqp.reply_codes import HARD_ERRORS, INTERNAL_ERROR, RESOURCE_LOCKED
from rmq_publisher.amqp.validation import Step
from rmq_publisher.transport.outcome import Declared
from rmq_publisher.transport.rabbitmq.errors import describe
from rmq_publisher.transport.rabbitmq.event_loop import Loop, Timer

Replies = list[Declared]
Refusal = tuple[int, str]  # reply code and text
OnVerified = Callable[[Replies, Refusal | None], None]

P = ParamSpec("P")

LOST = 0  # the code of a refusal that is none: the connection was lost
NO_CHANNEL = -1  # not a reply code: no channel could be opened for the request

MOST_CHANNELS = 2047  # of a connection, where the broker names no limit
CHANNELS_MAX = 32  # at once; more wait
PLACE_SECONDS = 1.0  # unanswered for longer: the next one need not wait for it


def guarded(callback: Callable[P, None]) -> Callable[P, None]:
    """Pass what a method raises to its object's ``crashed()``.

    pika would log it, with values, and carry on.
    """

    @functools.wraps(callback)
    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            callback(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 (handed on: the I/O thread ends with it)
            owner: Any = args[0]
            owner.crashed(error)

    return call


class TopologyChannel:
    """Some steps of topology, in order, on one channel.

    Args:
        connection: pika's, open.
        number: a free channel number.
        steps: what to run; the first refusal ends it, for it closes the channel.
        done: called once, with the replies so far and the refusal, if any.
        owner: the connection's `TopologyChannels`.
    """

    def __init__(
        self,
        connection: Any,
        number: int,
        steps: Iterable[Step],
        done: OnVerified,
        owner: "TopologyChannels",
    ) -> None:
        self.number = number
        self._steps = deque(steps)
        self._done: OnVerified | None = done
        self._owner = owner
        self.crashed = owner.crashed
        self._replies: Replies = []
        self._connection = connection
        self._open()

    @guarded
    def _open(self) -> None:
        if not self._connection.is_open:
            self._finish((LOST, "the connection was lost"))
            return
        self._opened = False
        # Before it opens, because the broker may refuse to open it.
        self._connection.channel(self.number, self._on_open).add_on_close_callback(self._on_close)

    @guarded
    def _on_open(self, channel: Channel) -> None:
        self._opened = True
        self._owner.opened(self.number)
        self._next(channel)

    def _next(self, channel: Channel) -> None:
        if self._steps:
            self._step = step = self._steps.popleft()
            run = getattr(channel, step.operation)
            run(**step.arguments, callback=lambda frame: self._on_reply(channel, step, frame))
        else:
            self._finish(None)
            channel.close()

    @guarded
    def _on_reply(self, channel: Channel, step: Step, frame: "Method[Any]") -> None:
        messages = getattr(frame.method, "message_count", None)
        consumers = getattr(frame.method, "consumer_count", None)
        self._replies.append(Declared(step.entity, messages, consumers))
        self._next(channel)

    @guarded
    def _on_close(self, _channel: Channel, reason: Exception) -> None:
        if isinstance(reason, ConnectionClosedByBroker) and self._owner.channel_refused:
            alone = not self._opened and self._owner.is_alone(reason.reply_code)
            text = f"no channel to declare or verify on: {reason.reply_code} {reason.reply_text}"
            self._finish((NO_CHANNEL, text) if alone else (LOST, describe(reason)))
        elif isinstance(reason, ChannelClosedByBroker) and self._exists_locked(reason.reply_code):
            self._replies.append(Declared(self._step.entity, None, None))
            # Not at once: pika still has to forget the channel of this number.
            self._owner.again(self._open)
            return
        elif isinstance(reason, ChannelClosedByBroker) or self._ended_it(reason):
            self._finish((reason.reply_code, reason.reply_text))
        else:
            self._finish((LOST, describe(reason)))
        self._owner.closed(self.number)

    def _exists_locked(self, code: int) -> bool:
        """Whether the broker says that a queue exists, but is exclusive to another connection.

        Nothing more can be verified of such a queue, and messages may be published to it.
        """
        passive = bool(self._step.arguments.get("passive"))
        return code == RESOURCE_LOCKED and passive and self._owner.accepts_locked

    def _ended_it(self, reason: Exception) -> TypeGuard[ConnectionClosedByBroker]:
        """Whether the broker ended the whole connection over these steps."""
        return (
            isinstance(reason, ConnectionClosedByBroker)
            and reason.reply_code >= HARD_ERRORS
            and self._done is not None
            and self._owner.is_alone(reason.reply_code)
        )

    def _finish(self, refusal: Refusal | None) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(self._replies, refusal)


class TopologyChannels:
    """Those of one connection: so many at a time, each on a channel of its own.

    One of them may make the broker end the connection (before RabbitMQ 4.0 by an exchange type that it
    does not know: 503). Where one alone was under way it is that one; where there were several, the
    next connection runs one at a time.

    Some are answered late or never (a queue whose node is ill). Such a one keeps its channel and may
    still be answered, but not its place: others are begun beside it, on further channels. Not where
    one at a time is the point.

    Args:
        connection: pika's, open.
        first: the first free channel number.
        most: how many at a time.
        loop: the I/O thread's.
        crashed: called with what a callback raises.
        publishing: whether messages are on the wire.

    Attributes:
        undecided: whether one of several ended the connection.
        ended_it: whether one did, of which it is known which.
        channel_refused: whether the broker ended it because it opens no further channel.
        accepts_locked: whether a queue that is exclusive to another connection can be used.
    """

    def __init__(
        self,
        connection: Any,
        first: int,
        most: int,
        loop: Loop,
        crashed: Callable[[Exception], None],
        publishing: Callable[[], bool],
    ) -> None:
        self.undecided = False
        self.ended_it = False
        self.channel_refused = False
        self.accepts_locked = True
        self._publishing = publishing
        self.crashed = crashed
        self._connection = connection
        self._places = most
        self._may_overtake = most > 1
        self._late = False
        self._loop = loop
        last = connection.params.channel_max or MOST_CHANNELS
        self._has_none = last < first
        self._unused = iter(range(first, last + 1))
        self._free: deque[int] = deque()
        self._opening: set[int] = set()
        self._busy: dict[int, Timer | None] = {}  # None: it has given its place back
        self._waiting: deque[tuple[Iterable[Step], OnVerified]] = deque()

    def add(self, steps: Iterable[Step], done: OnVerified) -> None:
        """Run steps as soon as a channel is free; ``done`` gets replies or the refusal."""
        if self._has_none:
            text = (
                "the broker allows 1 channel per connection (channel_max), and to declare or verify "
                "takes a second one"
            )
            self._loop.add_callback(lambda: done([], (NO_CHANNEL, text)))
            return
        self._waiting.append((steps, done))
        self._next()

    @property
    def deciding(self) -> bool:
        """Whether one at a time is under way, and the culprit may be among those to come.

        No longer once one of them was late: a slow node must not delay messages that do not need it.
        """
        return not (self._may_overtake or self._late) and bool(self._busy or self._waiting)

    def refuse_opening(self) -> None:
        """Note that the broker is ending the connection over a channel, if one is being opened."""
        self.channel_refused = bool(self._opening)

    def again(self, call: Callable[[], None]) -> None:
        """Call something in the loop's next iteration."""
        self._loop.add_callback(call)

    def is_alone(self, code: int) -> bool:
        """Whether one channel was in use when the connection ended: it did it.

        Of all errors only the internal one (541) is made by messages as well.
        """
        beside = code == INTERNAL_ERROR and self._publishing()
        self.undecided = self.undecided or beside or len(self._busy) > 1
        self.ended_it = not self.undecided
        return self.ended_it

    def _next(self) -> None:
        while self._waiting and self._places and self._connection.is_open:
            number = self._free.popleft() if self._free else next(self._unused, None)
            if number is None:
                return
            steps, done = self._waiting.popleft()
            self._places -= 1
            overdue = functools.partial(self._overdue, number)
            self._busy[number] = self._loop.call_later(PLACE_SECONDS, overdue)
            self._opening.add(number)
            TopologyChannel(self._connection, number, steps, done, self)

    def opened(self, number: int) -> None:
        """Note that the broker has opened a channel."""
        self._opening.discard(number)

    @guarded
    def _overdue(self, number: int) -> None:
        self._late = True
        if self._may_overtake:
            self._busy[number] = None
            self._places += 1
            self._next()

    def closed(self, number: int) -> None:
        """Take back a channel's number."""
        # Not at once: pika still has to forget the channel of this number.
        self._loop.add_callback(lambda: self._release(number))

    @guarded
    def _release(self, number: int) -> None:
        if timer := self._busy.pop(number):
            self._loop.remove_timeout(timer)
            self._places += 1
        self._free.append(number)
        self._next()


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
