"""One AMQP connection by pika's `SelectConnection`: it opens, writes, verifies, closes.

Only here are pika's connections made, and touched only on the I/O thread. A link lives for one
connection; the next connection is another link, so that a late callback of a lost one cannot be taken
for its successor's.
"""

import functools
import logging
import os
import socket
import ssl
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from pika import BasicProperties, ConnectionParameters, PlainCredentials, SSLOptions
from pika.adapters.select_connection import SelectConnection
from pika.channel import Channel
from pika.exceptions import ChannelClosedByBroker, ChannelClosedByClient
from pika.frame import Method
from pika.spec import Basic

from rmq_publisher.conf import ConnectionSettings, Node
from rmq_publisher.entities import Step
from rmq_publisher.message import FRAME_MAX
from rmq_publisher.transport.base import Delivery
from rmq_publisher.transport.failures import describe
from rmq_publisher.transport.frames import PUBLISH_CHANNEL
from rmq_publisher.transport.loop import Loop
from rmq_publisher.transport.verification import (
    CHANNELS_MAX,
    LOST,
    OnVerified,
    Refusal,
    Replies,
    Verifications,
    guarded,
)
from rmq_publisher.transport.wire import ACK_SIZE, Services

logger = logging.getLogger("rmq_publisher.transport")


class LinkOwner(Protocol):
    """Who is told what happens on a link."""

    def link_ready(self, link: "Link") -> None: ...  # noqa: D102
    def link_failed(self, link: "Link", reason: str) -> None: ...  # noqa: D102
    def link_lost(self, link: "Link", reason: str) -> None: ...  # noqa: D102
    def link_answered(self, tag: int, *, multiple: bool, nack: bool) -> None: ...  # noqa: D102
    def link_returned(self, message_id: str, code: int, text: str) -> None: ...  # noqa: D102
    def link_channel_closed(self, code: int, text: str) -> None: ...  # noqa: D102
    def link_channel_reopened(self) -> None: ...  # noqa: D102
    def link_blocked(self, reason: str | None) -> None: ...  # noqa: D102
    def link_crashed(self, error: Exception) -> None: ...  # noqa: D102




def parameters(settings: ConnectionSettings, node: Node, name: str) -> ConnectionParameters:
    """Return pika's parameters for one node.

    Raises:
        OSError, ssl.SSLError: a certificate or key file cannot be read.
    """
    tls = None
    if node.tls:
        context = ssl.create_default_context(cafile=settings.tls.ca_file)
        if settings.tls.cert_file:
            context.load_cert_chain(settings.tls.cert_file, settings.tls.key_file)
        tls = SSLOptions(context, settings.tls.server_hostname or node.host)
    return ConnectionParameters(
        host=node.host,
        port=node.port,
        virtual_host=node.vhost,
        credentials=PlainCredentials(settings.username, settings.password),
        heartbeat=settings.heartbeat,
        frame_max=FRAME_MAX,
        socket_timeout=settings.connect_timeout,
        stack_timeout=settings.connect_timeout,
        connection_attempts=1,
        retry_delay=0,
        ssl_options=tls,
        client_properties={"connection_name": name},
    )


class Link:
    """One connection with its publishing channel and short-lived channels for topology."""

    def __init__(
        self,
        loop: Loop,
        settings: ConnectionSettings,
        node: Node,
        name: str,
        owner: LinkOwner,
        *,
        one_by_one: bool = False,
    ) -> None:
        self.node = node
        self.product = ""
        self.frame_max = FRAME_MAX
        self._loop = loop
        self._owner = owner
        self._timeout = settings.connect_timeout
        self._one_by_one = one_by_one
        self._ready = False
        self._over = False
        self._channel: Channel | None = None
        self._timer: Any = None
        self._verifications: Verifications | None = None
        self._services = Services(loop, self._on_ack)
        self._connection = SelectConnection(
            parameters(settings, node, name),
            on_open_callback=self._on_open,
            on_open_error_callback=self._on_open_error,
            on_close_callback=self._on_close,
            custom_ioloop=self._services,
        )
        self._connection.add_on_connection_blocked_callback(self._on_blocked)
        self._connection.add_on_connection_unblocked_callback(self._on_unblocked)
        # The one method of pika's that is not public; basic_publish does the same, slower.
        self._emit = getattr(self._connection, "_output_marshaled_frames", None)

    @property
    def received(self) -> int:
        """Bytes that came so far, heartbeats included."""
        return int(getattr(self._connection, "bytes_received"))  # noqa: B009 (not in the stubs)

    @property
    def undecided(self) -> bool:
        """Whether one of several verifications made the broker end the connection."""
        return self._verifications is not None and self._verifications.undecided

    # Opening

    @guarded
    def _on_open(self, connection: Any) -> None:
        properties = connection.server_properties or {}
        self.product = f"{properties.get('product', '')} {properties.get('version', '')}".strip()
        self.frame_max = connection.params.frame_max or FRAME_MAX
        most = 1 if self._one_by_one else CHANNELS_MAX
        later = self._loop.add_callback
        self._verifications = Verifications(
            connection, PUBLISH_CHANNEL + 1, most, later, self.crashed
        )
        self._open_channel()

    @guarded
    def _open_channel(self) -> None:
        if self._over or not self._connection.is_open:
            return
        self._start_timer()
        self._connection.channel(PUBLISH_CHANNEL, self._on_channel_open)

    def renew_channel(self) -> None:
        """Close the publishing channel and open another one; the owner is told as of any reopened."""
        if self._channel is not None:
            self._start_timer()
            self._channel.close()

    def _start_timer(self) -> None:
        if self._timer is None:
            # pika's own time limit has ended; a broker that freezes now must not be waited for.
            self._timer = self._loop.call_later(self._timeout, self._on_channel_timeout)

    @guarded
    def _on_channel_timeout(self) -> None:
        self._timer = None
        self.give_up("no answer in time")

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._loop.remove_timeout(self._timer)
            self._timer = None

    @guarded
    def _on_channel_open(self, channel: Channel) -> None:
        channel.add_on_close_callback(self._on_channel_close)
        channel.add_on_return_callback(self._on_return)
        # Publishing begins only after SelectOk: a tag before it would count for nothing.
        channel.confirm_delivery(self._on_answer, lambda _: self._on_select_ok(channel))

    @guarded
    def _on_select_ok(self, channel: Channel) -> None:
        self._channel = channel
        self._stop_timer()
        if self._over:
            return
        if self._ready:
            self._owner.link_channel_reopened()
        else:
            self._ready = True
            self._owner.link_ready(self)

    def crashed(self, error: Exception) -> None:
        """A callback raised."""
        self._owner.link_crashed(error)

    # Ending

    def _end(self, reason: str) -> None:
        """Tell the owner once, whatever pika calls back afterwards."""
        if not self._over:
            self._over = True
            tell = self._owner.link_lost if self._ready else self._owner.link_failed
            tell(self, reason)

    @guarded
    def _on_open_error(self, _connection: Any, error: BaseException | str) -> None:
        self._end(describe(error) if isinstance(error, BaseException) else "not opened")

    @guarded
    def _on_close(self, _connection: Any, error: BaseException) -> None:
        self._stop_timer()
        self._end(describe(error))

    def close(self) -> None:
        """Close politely; the owner is told when it is over."""
        if self._connection.is_open:
            self._connection.close()

    def give_up(self, reason: str) -> None:
        """Treat it as lost now, and cut it off."""
        self._cut_off()  # first: the owner may begin the next link at once, on the same loop
        self._end(reason)

    def abort(self) -> None:
        """Cut the socket off; pika notices as if the network had done it, the owner is not told."""
        self._over = True
        self._cut_off()

    def _cut_off(self) -> None:
        # Not by pika's close(): it asserts while the connection is being opened, and waits for the
        # broker afterwards.
        for descriptor in self._loop.descriptors:
            with socket.socket(fileno=os.dup(descriptor)) as double:
                try:
                    double.shutdown(socket.SHUT_RDWR)
                except OSError as error:
                    logger.debug("cutting off %s: %s", self.node, error.strerror)

    # Publishing

    def write(self, deliveries: Sequence[Delivery]) -> None:
        """Hand over messages to the publishing channel, in order."""
        wire = self._services.wire
        if wire is not None or self._emit is not None:
            data = b"".join([delivery.data for delivery in deliveries])
            if wire is not None:
                wire.write(data)
            else:
                self._emit([data])
            return
        assert self._channel is not None  # noqa: S101 (narrowing; the dispatcher waits for link_ready)
        for delivery in deliveries:
            envelope = delivery.envelope
            properties = BasicProperties()
            properties.decode(envelope.header)
            self._channel.basic_publish(
                envelope.exchange,
                envelope.routing_key,
                envelope.body,
                properties,
                mandatory=True,
            )

    @guarded
    def _on_ack(self, tag: int, multiple: bool) -> None:
        """Take an ack that pika does not see; its heartbeats must know that something came."""
        self._connection.bytes_received += ACK_SIZE
        if not self._over and self._channel is not None and self._channel.is_open:
            self._owner.link_answered(tag, multiple=multiple, nack=False)

    @guarded
    def _on_answer(self, frame: "Method[Any]") -> None:
        if not self._over:
            method = frame.method
            self._owner.link_answered(
                method.delivery_tag,
                multiple=bool(method.multiple),
                nack=isinstance(method, Basic.Nack),
            )

    @guarded
    def _on_return(
        self, _channel: Channel, method: Basic.Return, properties: BasicProperties, _body: bytes
    ) -> None:
        if not self._over:
            self._owner.link_returned(
                properties.message_id or "", method.reply_code or 0, method.reply_text or ""
            )

    @guarded
    def _on_channel_close(self, _channel: Channel, reason: Exception) -> None:
        self._channel = None
        if self._over or not isinstance(reason, ChannelClosedByBroker | ChannelClosedByClient):
            return  # the connection's own end is told by _on_close
        if isinstance(reason, ChannelClosedByBroker):
            self._owner.link_channel_closed(reason.reply_code, reason.reply_text)
        # Not at once: pika still has to forget the channel of this number.
        self._loop.add_callback(self._open_channel)

    @guarded
    def _on_blocked(self, _connection: Any, frame: "Method[Any]") -> None:
        if not self._over:
            self._owner.link_blocked(str(frame.method.reason))

    @guarded
    def _on_unblocked(self, _connection: Any, _frame: "Method[Any]") -> None:
        if not self._over:
            self._owner.link_blocked(None)

    # Topology

    def verify(self, steps: Iterable[Step], done: OnVerified) -> None:
        """Run steps in order on a channel of their own; ``done`` gets replies or the refusal."""
        assert self._verifications is not None  # noqa: S101 (narrowing; the owner waits for link_ready)
        self._verifications.add(steps, functools.partial(self._tell, done))

    @guarded
    def _tell(self, done: OnVerified, replies: Replies, refusal: Refusal | None) -> None:
        # What comes late on a lost connection says nothing of the next one.
        done(replies, (LOST, "the connection was lost") if self._over else refusal)
