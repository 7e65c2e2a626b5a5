"""One AMQP connection by pika's `SelectConnection`: it opens, writes, verifies, closes.

Only here are pika's connections made, and touched only on the I/O thread. A link lives for one
connection; the next connection is another link, so that a late callback of a lost one cannot be taken
for its successor's.
"""

# Resolving a host's name imports it: a fork in that moment would leave its lock taken in the child, whose
# own first connection would then never be made.
import encodings.idna  # noqa: F401
import functools
import logging
import os
import socket
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from pika import ConnectionParameters, PlainCredentials, SSLOptions
from pika.adapters.select_connection import SelectConnection
from pika.frame import Method
from pika.spec import Channel as ChannelMethods
from pika.spec import Connection as ConnectionMethods

from rmq_publisher.amqp.reply_codes import HARD_ERRORS, NOT_ALLOWED
from rmq_publisher.amqp.validation import Step
from rmq_publisher.conf.loader import ConnectionSettings, Node
from rmq_publisher.messages.envelope import FRAME_MAX
from rmq_publisher.transport.rabbitmq import tls
from rmq_publisher.transport.rabbitmq.addresses import Addresses
from rmq_publisher.transport.rabbitmq.channel import ChannelOwner, PublishChannel
from rmq_publisher.transport.rabbitmq.ended import why_ended
from rmq_publisher.transport.rabbitmq.errors import said
from rmq_publisher.transport.rabbitmq.event_loop import Loop
from rmq_publisher.transport.rabbitmq.frames import PUBLISH_CHANNEL
from rmq_publisher.transport.rabbitmq.outgoing import OutgoingMessage
from rmq_publisher.transport.rabbitmq.stream_setup import Services
from rmq_publisher.transport.rabbitmq.topology_channels import (
    CHANNELS_MAX,
    LOST,
    OnVerified,
    Refusal,
    Replies,
    TopologyChannels,
    guarded,
)

logger = logging.getLogger("rmq_publisher.transport")


class ConnectionOwner(ChannelOwner, Protocol):
    """What a connection reports to."""

    def on_ready(self, link: "Connection") -> None: ...  # noqa: D102
    def on_failed(self, link: "Connection", reason: str) -> None: ...  # noqa: D102
    def on_lost(self, link: "Connection", reason: str) -> None: ...  # noqa: D102
    def on_channel_reopened(self) -> None: ...  # noqa: D102
    def on_blocked(self, reason: str | None) -> None: ...  # noqa: D102
    def is_publishing(self) -> bool: ...  # noqa: D102


def parameters(settings: ConnectionSettings, node: Node, name: str) -> ConnectionParameters:
    """Return pika's parameters for one node.

    Raises:
        TLSFileError: a certificate or key file cannot be used.
    """
    options = None
    if node.tls:
        host = settings.tls.server_hostname or node.host
        options = SSLOptions(tls.context(settings.tls), host)
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
        ssl_options=options,
        client_properties={"connection_name": name},
    )


class Connection:
    """One connection with its publishing channel and short-lived channels for topology."""

    accepts_locked = True  # whether a queue that is exclusive to another connection can be used

    def __init__(
        self,
        loop: Loop,
        settings: ConnectionSettings,
        node: Node,
        name: str,
        owner: ConnectionOwner,
        *,
        addresses: Addresses,
        one_by_one: bool = False,
    ) -> None:
        self.node = node
        self.product = ""
        self.frame_max = FRAME_MAX
        self.ended_by: tuple[int, str] | None = (
            None  # the broker's error, if no verification did it
        )
        self._loop = loop
        self._owner = owner
        self._one_by_one = one_by_one
        self._ready = False
        self._over = False
        self._settings = settings
        self._closed_by: tuple[int, str] | None = None  # the broker's words
        self._topology_channels: TopologyChannels | None = None
        self._addresses = addresses
        self._services = self._make_channel()
        self._connection = SelectConnection(
            parameters(settings, node, name),
            on_open_callback=self._on_open,
            on_open_error_callback=self._on_open_error,
            on_close_callback=self._on_close,
            custom_ioloop=self._services,
        )
        self._services.limits = self._connection.params
        self._connection.add_on_connection_blocked_callback(self._on_blocked)
        self._connection.add_on_connection_unblocked_callback(self._on_unblocked)
        # Before pika's own, which takes what the broker says for a guess of its own.
        self._connection.callbacks.add(0, ConnectionMethods.Close, self._on_closing)

    def _make_channel(self) -> Services:
        """Make the channel that is opened on it, and return the services that its stream needs."""
        self._channel: Any = PublishChannel(
            self._loop,
            self._settings.connect_timeout,
            self._owner,
            self._on_channel_ready,
            self._on_channel_late,
        )
        return Services(self._loop, self._addresses, self._on_address_failed, self._channel.on_ack)

    @property
    def received(self) -> int:
        """Bytes that came so far, heartbeats included."""
        return int(getattr(self._connection, "bytes_received"))  # noqa: B009 (not in the stubs)

    @property
    def undecided(self) -> bool:
        """Whether one of several verifications made the broker end the connection."""
        return self._topology_channels is not None and self._topology_channels.undecided

    @property
    def deciding(self) -> bool:
        """Whether verifications run one at a time, to find the one that ended the last connection."""
        return self._topology_channels is not None and self._topology_channels.deciding

    # Opening

    @guarded
    def _on_open(self, connection: Any) -> None:
        properties = connection.server_properties or {}
        self.product = f"{properties.get('product', '')} {properties.get('version', '')}".strip()
        self.frame_max = connection.params.frame_max or FRAME_MAX
        most = 1 if self._one_by_one else CHANNELS_MAX
        self._topology_channels = TopologyChannels(
            connection,
            PUBLISH_CHANNEL + 1,
            most,
            self._loop,
            self.crashed,
            self._owner.is_publishing,
        )
        self._topology_channels.accepts_locked = self.accepts_locked
        self._channel.open(connection)

    def _on_channel_ready(self) -> None:
        if self._ready:
            self._owner.on_channel_reopened()
        else:
            self._ready = True
            self._owner.on_ready(self)

    def _on_channel_late(self) -> None:
        self.give_up("no answer in time")

    def crashed(self, error: Exception) -> None:
        """A callback raised."""
        self._owner.on_crashed(error)

    # Ending

    def _end(self, reason: str) -> None:
        """Report the end to the owner once, whatever pika calls back afterwards."""
        if not self._over:
            self._silence()
            tell = self._owner.on_lost if self._ready else self._owner.on_failed
            tell(self, reason)

    def _silence(self) -> None:
        self._over = self._channel.silent = True

    @guarded
    def _on_open_error(self, _connection: Any, error: BaseException | str) -> None:
        self._end(self._why(error) if isinstance(error, BaseException) else "not opened")

    @guarded
    def _on_address_failed(self, error: Exception) -> None:
        self._end(self._why(error))

    @guarded
    def _on_closing(self, frame: "Method[Any]") -> None:
        method = frame.method
        self._closed_by = (method.reply_code, said(method.reply_text))
        refused = (method.class_id << 16) | method.method_id
        # Where a user's limit of channels is reached, RabbitMQ does not say which method it refuses.
        is_channel = refused in (0, ChannelMethods.Open.INDEX)
        if is_channel and method.reply_code == NOT_ALLOWED and self._topology_channels is not None:
            self._topology_channels.refuse_opening()

    def _why(self, error: BaseException) -> str:
        return why_ended(error, self._closed_by, self._services.wire)

    @guarded
    def _on_close(self, _connection: Any, error: BaseException) -> None:
        self._channel.stop_timer()
        channels = self._topology_channels
        decided = channels is not None and (channels.ended_it or channels.channel_refused)
        if self._closed_by is not None and not decided:
            self.ended_by = self._closed_by if self._closed_by[0] >= HARD_ERRORS else None
        self._end(self._why(error))

    def close(self) -> None:
        """Close by AMQP's handshake; `on_lost` follows."""
        if self._connection.is_open:
            self._connection.close()

    def give_up(self, reason: str) -> None:
        """Treat it as lost now, and cut it off."""
        self._cut_off()  # first: the owner may begin the next connection at once, on the same loop
        self._end(reason)

    def abort(self) -> None:
        """Cut the socket off, as if the network had failed; nothing is reported to the owner."""
        self._silence()
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

    def write(self, messages: Sequence[OutgoingMessage]) -> None:
        """Hand over messages to the publishing channel, in order."""
        self._channel.write(messages, self._services.wire)

    def renew_channel(self) -> None:
        """Close the publishing channel and open another one; `on_channel_reopened` follows."""
        self._channel.renew()

    @guarded
    def _on_blocked(self, _connection: Any, frame: "Method[Any]") -> None:
        if not self._over:
            self._owner.on_blocked(str(frame.method.reason))

    @guarded
    def _on_unblocked(self, _connection: Any, _frame: "Method[Any]") -> None:
        if not self._over:
            self._owner.on_blocked(None)

    # Topology

    def verify(self, steps: Iterable[Step], done: OnVerified) -> None:
        """Run steps in order on a channel of their own; ``done`` gets replies or the refusal."""
        assert self._topology_channels is not None  # noqa: S101 (narrowing; the owner waits for on_ready)
        self._topology_channels.add(steps, functools.partial(self._tell, done))

    @guarded
    def _tell(self, done: OnVerified, replies: Replies, refusal: Refusal | None) -> None:
        # What comes late on a lost connection says nothing of the next one.
        done(replies, (LOST, "the connection was lost") if self._over else refusal)
