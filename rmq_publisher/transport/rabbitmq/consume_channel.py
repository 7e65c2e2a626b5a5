"""The consuming channel of a connection: deliveries come in, and what was settled goes out."""

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from pika.channel import Channel
from pika.exceptions import ChannelClosedByBroker
from pika.frame import Method

from rmq_publisher.timing import Backoff
from rmq_publisher.transport.consuming import Buffer, Subscription
from rmq_publisher.transport.rabbitmq.delivery_reader import (
    CONSUME_CHANNEL,
    DeliveryReader,
    SettledTags,
)
from rmq_publisher.transport.rabbitmq.opening_channel import CrashOwner, OpeningChannel
from rmq_publisher.transport.rabbitmq.stream_setup import Services
from rmq_publisher.transport.rabbitmq.topology_channels import LOST, Refusal, guarded

OnDone = Callable[[Refusal | None], None]
_FRAME_END = 0xCE
_LOST: Refusal = (LOST, "the channel was closed")
_NUMBER = CONSUME_CHANNEL.to_bytes(2)


def _by_pika(*_: object) -> None:
    """Pika sees no deliveries: the stream takes them off before."""


class ConsumeOwner(CrashOwner, Protocol):
    """What a consuming channel reports to."""

    def channel_closed(self, code: int, text: str) -> None: ...  # noqa: D102
    def cancelled(self, tag: str, reason: str) -> None: ...  # noqa: D102


class Sessions:
    """Numbers the channels that a consumer has had, over all its connections.

    Attributes:
        current: the number of the open channel; 0 while there is none.
    """

    def __init__(self) -> None:
        self.current = 0
        self._last = 0

    def begin(self) -> int:
        """Return the number of a channel that has been opened."""
        self._last += 1
        self.current = self._last
        return self.current

    def end(self) -> None:
        """The channel is closed, or about to be: its tags mean nothing any more."""
        self.current = 0


class ConsumeChannel(OpeningChannel[ConsumeOwner]):
    """It opens itself again, with a backoff, after the broker closed it.

    Args:
        body_max: bytes of a body that is kept.
        sessions: counts the channels of all connections of a consumer.
        buffer: takes the deliveries.
        opening: as for `OpeningChannel`.

    Attributes:
        services: of the connection, whose stream is written to.
    """

    number = CONSUME_CHANNEL

    def __init__(self, body_max: int, sessions: Sessions, buffer: Buffer, *opening: Any) -> None:
        super().__init__(*opening)
        self._sessions = sessions
        self._buffer = buffer
        self._reader = DeliveryReader(body_max)
        self._tags = SettledTags()
        self.services: Services | None = None
        self._backoff = Backoff()
        self._renewing = False
        self._waiting: deque[OnDone] = deque()  # for answers, in order

    @guarded
    def _on_open(self, channel: Channel) -> None:
        channel.add_on_close_callback(self._on_close)
        channel.add_on_cancel_callback(self._on_cancel)
        self.stop_timer()
        self._channel = channel
        self._tags = SettledTags()
        self._reader.opened(self._sessions.begin())
        if not self.silent:
            self._on_ready()

    def renew(self) -> None:
        """Close it, which gives all unsettled messages back, and open another one."""
        if self._channel is not None and self._channel.is_open:
            self._leave()
            self._renewing = True
            self._channel.close()

    def _leave(self) -> None:
        self._sessions.end()
        self._reader.opened(self._sessions.current)

    @guarded
    def _on_close(self, _channel: Channel, reason: Exception) -> None:
        self._channel = None
        self._leave()
        waiting, self._waiting = self._waiting, deque()
        refusal: Refusal = _LOST
        if isinstance(reason, ChannelClosedByBroker):
            # Methods are answered in order: the first that waits is the one that was refused.
            refusal = (reason.reply_code, reason.reply_text)
        for done in waiting:
            done(refusal)
            refusal = _LOST
        if self.silent or not self._connection.is_open:
            return  # the connection reports its own end
        delay = 0.0
        if isinstance(reason, ChannelClosedByBroker):
            delay = self._backoff.delay()
            self._owner.channel_closed(reason.reply_code, reason.reply_text)
        elif not self._renewing:
            return
        self._renewing = False
        # Not at once: pika still has to forget the channel of this number.
        self._loop.call_later(delay, self._open)

    # Consuming

    def subscribe(self, subscription: Subscription, done: OnDone) -> None:
        """Consume from a queue; ``done`` is called with the refusal, if any."""
        channel = self._channel
        if channel is None:
            done(_LOST)
            return
        self._waiting.append(done)
        # Without global_qos it applies to each consumer that is started after it.
        channel.basic_qos(prefetch_count=subscription.prefetch)
        channel.basic_consume(
            subscription.queue,
            _by_pika,
            consumer_tag=subscription.tag,
            arguments=subscription.current_arguments(),
            callback=self._on_answer,
        )

    def cancel(self, tag: str, done: OnDone) -> None:
        """Stop consuming."""
        if self._channel is None:
            done(None)
            return
        self._waiting.append(done)
        self._channel.basic_cancel(tag, callback=self._on_answer)

    @guarded
    def _on_answer(self, _frame: "Method[Any]") -> None:
        self._backoff.reset()
        if self._waiting:
            self._waiting.popleft()(None)

    @guarded
    def _on_cancel(self, frame: "Method[Any]") -> None:
        if not self.silent:
            self._owner.cancelled(frame.method.consumer_tag, "the broker cancelled the consumer")

    # Deliveries

    def take_frame(self, data: bytes, at: int, end: int) -> bool:
        """Take a whole frame off the stream; return False for one that is pika's."""
        if data[at + 1 : at + 3] != _NUMBER or data[end - 1] != _FRAME_END:
            return False
        return self._reader.feed(data[at], data[at + 7 : end - 1])

    def after_read(self, taken: int) -> None:
        """Hand over what was read; pika's heartbeats must know that something came."""
        self._connection.bytes_received += taken
        complete, self._reader.complete = self._reader.complete, []
        if complete and self._reader.session:
            self._buffer.put(complete)

    # Settling

    def settle(self, settled: list[tuple[int, int]]) -> None:
        """Write what was settled on this channel, in one piece."""
        if self._channel is None or not self._channel.is_open:
            return
        frames = self._tags.take(settled)
        wire = self.services.wire if self.services is not None else None
        if frames and wire is not None:
            wire.write(frames)
