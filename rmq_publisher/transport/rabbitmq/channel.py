"""The publishing channel of a connection: opened with confirms on, and opened again if it closes."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from pika import BasicProperties
from pika.channel import Channel
from pika.exceptions import ChannelClosedByBroker, ChannelClosedByClient
from pika.frame import Method
from pika.spec import Basic

from rmq_publisher.transport.rabbitmq.frames import PUBLISH_CHANNEL
from rmq_publisher.transport.rabbitmq.opening_channel import CrashOwner, OpeningChannel
from rmq_publisher.transport.rabbitmq.outgoing import OutgoingMessage
from rmq_publisher.transport.rabbitmq.socket_stream import ACK_SIZE, Wire
from rmq_publisher.transport.rabbitmq.topology_channels import guarded


class ChannelOwner(CrashOwner, Protocol):
    """What a publishing channel reports to: the broker's answers about messages."""

    def on_answered(self, tag: int, *, multiple: bool, nack: bool) -> None: ...  # noqa: D102
    def on_returned(self, message_id: str, code: int, text: str) -> None: ...  # noqa: D102
    def on_channel_closed(self, code: int, text: str) -> None: ...  # noqa: D102


class PublishChannel(OpeningChannel[ChannelOwner]):
    """It opens itself again after the broker closed it, as long as the connection lives."""

    number = PUBLISH_CHANNEL
    _emit: Callable[[list[bytes]], None] | None = None

    def open(self, connection: Any) -> None:
        """Open it on pika's connection."""
        # The one method of pika's that is not public; basic_publish does the same, slower.
        self._emit = getattr(connection, "_output_marshaled_frames", None)
        super().open(connection)

    def renew(self) -> None:
        """Close it and open another one; `on_ready` is called then."""
        if self._channel is not None:
            self._start_timer()
            self._channel.close()

    @guarded
    def _on_open(self, channel: Channel) -> None:
        channel.add_on_close_callback(self._on_close)
        channel.add_on_return_callback(self._on_return)
        # Publishing begins only after SelectOk: a tag before it would count for nothing.
        channel.confirm_delivery(self._on_answer, lambda _: self._on_select_ok(channel))

    @guarded
    def _on_select_ok(self, channel: Channel) -> None:
        self._channel = channel
        self.stop_timer()
        if not self.silent:
            self._on_ready()

    @guarded
    def _on_close(self, _channel: Channel, reason: Exception) -> None:
        self._channel = None
        if self.silent or not isinstance(reason, ChannelClosedByBroker | ChannelClosedByClient):
            return  # the connection reports its own end
        if isinstance(reason, ChannelClosedByBroker):
            self._owner.on_channel_closed(reason.reply_code, reason.reply_text)
        # Not at once: pika still has to forget the channel of this number.
        self._loop.add_callback(self._open)

    # Publishing

    def write(self, messages: Sequence[OutgoingMessage], wire: Wire | None) -> None:
        """Hand messages over, in order: to the stream below pika where there is one, else to pika."""
        if wire is not None:
            wire.write(b"".join([message.frames for message in messages]))
        elif self._emit is not None:
            self._emit([b"".join([message.frames for message in messages])])
        else:
            for message in messages:
                self._publish(message)

    def _publish(self, message: OutgoingMessage) -> None:
        assert self._channel is not None  # noqa: S101 (narrowing; the dispatcher waits for on_ready)
        envelope = message.envelope
        properties = BasicProperties()
        properties.decode(envelope.header)
        self._channel.basic_publish(
            envelope.exchange,
            envelope.routing_key,
            envelope.body,
            properties,
            mandatory=envelope.mandatory,
        )

    # Answers

    @guarded
    def on_ack(self, tag: int, multiple: bool) -> None:
        """Take an ack that pika does not see; its heartbeats must know that something came."""
        if self._channel is None:
            return  # of one that the broker closed, or of none at all
        self._connection.bytes_received += ACK_SIZE
        if not self.silent and self._channel.is_open:
            self._owner.on_answered(tag, multiple=multiple, nack=False)

    @guarded
    def _on_answer(self, frame: "Method[Any]") -> None:
        if not self.silent:
            method = frame.method
            self._owner.on_answered(
                method.delivery_tag,
                multiple=bool(method.multiple),
                nack=isinstance(method, Basic.Nack),
            )

    @guarded
    def _on_return(
        self, _channel: Channel, method: Basic.Return, properties: BasicProperties, _body: bytes
    ) -> None:
        if not self.silent:
            self._owner.on_returned(
                properties.message_id or "", method.reply_code or 0, method.reply_text or ""
            )
