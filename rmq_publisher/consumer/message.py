"""A received message: decoded on demand, settled once, and only on the channel that delivered it."""

import logging
from collections.abc import Callable
from typing import Any

from rmq_publisher.amqp.compression import HEADER
from rmq_publisher.amqp.decoding import read_properties
from rmq_publisher.consumer.origin import Origin
from rmq_publisher.consumer.retry_headers import Carried
from rmq_publisher.serialization import DecodeError, decode
from rmq_publisher.transport.consuming import (
    ACK,
    ACK_MULTIPLE,
    GIVE_BACK,
    REJECT,
    REQUEUE,
    STREAM_OFFSET,
    Delivered,
)

_Errors = type[Exception] | tuple[type[Exception], ...]
# By verdict.
_SETTLED = ("acknowledged", "rejected", "requeued", "acknowledged", "given back")


class MessageStateError(Exception):
    """A message cannot be settled: it is settled already, or its channel is lost."""


class ReceivedMessage:
    """A message from a queue. It may be settled from any thread, once.

    Attributes:
        queue: name of the queue that it came from.
        no_ack: whether it was acknowledged before it was handed out.
        guarded: whether only the worker may settle it, and not the handler.
        lost_starts: how often its handler started and never ended, as far as its worker knows.
    """

    __slots__ = (
        "_delivered", "_origin", "_payload", "_properties", "_state", "guarded", "lost_starts", "no_ack",
        "queue",
    )  # fmt: skip

    def __init__(
        self, delivered: Delivered, origin: Origin, queue: str, no_ack: bool = False
    ) -> None:
        self._delivered = delivered
        self._origin = origin
        self._state = ""
        self._properties: dict[str, Any] | None = None
        self._payload: tuple[Any] | None = None
        self.queue = queue
        self.no_ack = no_ack
        self.guarded = False
        self.lost_starts = 0

    def __repr__(self) -> str:
        one = self._delivered
        return (
            f"<ReceivedMessage {one.tag} exchange={one.exchange!r} routing_key={one.routing_key!r} "
            f"{one.size} bytes{', ' + self._state if self._state else ''}>"
        )

    # What it says

    @property
    def body(self) -> bytes:
        """The body as it was received.

        Raises:
            DecodeError: it is larger than RMQ_MAX_BODY_SIZE and was not kept.
        """
        one = self._delivered
        if one.size > self._origin.limit:
            raise DecodeError(
                f"the body has {one.size} bytes, RMQ_MAX_BODY_SIZE allows {self._origin.limit}"
            )
        return one.body

    @property
    def header(self) -> bytes:
        """Its properties and headers in AMQP's encoding, as received."""
        return self._delivered.header

    @property
    def payload(self) -> Any:
        """The decoded body; see `decode`."""
        return self.decode()

    def decode(self) -> Any:
        """Return the decompressed and decoded body; bytes if no serializer has its content type.

        Raises:
            DecodeError: its content type is not accepted, or it cannot be decoded.
        """
        __traceback_hide__ = True  # as in compose()
        if self._payload is None:
            values = self._values
            value = decode(
                self.body,
                values.get("content_type"),
                values.get("content_encoding"),
                compression=(values.get("headers") or {}).get(HEADER),
                accept=self._origin.accept,
                limit=self._origin.limit,
            )
            self._payload = (value,)
        return self._payload[0]

    @property
    def _values(self) -> dict[str, Any]:
        """All properties by name, headers among them; read once."""
        if self._properties is None:
            try:
                self._properties = read_properties(self._delivered.header)
            except Exception as error:  # noqa: BLE001 (other clients may have written anything)
                kind = type(error).__name__
                raise DecodeError(f"the properties cannot be read ({kind})") from None
        return self._properties

    @property
    def headers(self) -> dict[str, Any]:
        """The headers as they were published."""
        return self.carried.headers

    @property
    def properties(self) -> dict[str, Any]:
        """The AMQP properties that are set, by name, without the headers."""
        return self.carried.properties

    @property
    def carried(self) -> Carried:
        """What its headers record of its earlier attempts."""
        one = self._delivered
        return Carried(self._values, self.queue, one.exchange, one.routing_key)

    @property
    def content_type(self) -> str | None:
        """The property."""
        value: str | None = self._values.get("content_type")
        return value

    @property
    def content_encoding(self) -> str | None:
        """The property."""
        value: str | None = self._values.get("content_encoding")
        return value

    @property
    def message_id(self) -> str:
        """The property; empty if there is none."""
        return self.carried.message_id

    @property
    def delivery_info(self) -> dict[str, Any]:
        """How it was delivered: consumer_tag, delivery_tag, redelivered, exchange, routing_key, queue."""
        one = self._delivered
        try:
            exchange, routing_key = self.carried.place
        except DecodeError:
            exchange, routing_key = one.exchange, one.routing_key
        return {
            "consumer_tag": one.consumer_tag,
            "delivery_tag": one.tag,
            "redelivered": one.redelivered,
            "exchange": exchange,
            "routing_key": routing_key,
            "queue": self.queue,
        }

    @property
    def delivery_tag(self) -> int:
        """Its number on the channel that delivered it."""
        return self._delivered.tag

    @property
    def redelivered(self) -> bool:
        """Whether the broker has delivered it before."""
        return self._delivered.redelivered

    @property
    def attempts(self) -> int:
        """Which attempt this is, from 1.

        One, plus the failures that its headers count, plus the starts of its handler that never ended
        because the worker died.
        """
        return 1 + self.carried.failures + self.lost_starts

    # Settling

    @property
    def is_current(self) -> bool:
        """Whether the channel that delivered it is open, so that it can still be settled."""
        return self._origin.is_current(self._delivered)

    @property
    def acknowledged(self) -> bool:
        """Whether it is settled: acknowledged, rejected or given back."""
        return bool(self._state) or self.no_ack or self._is_covered

    @property
    def _is_covered(self) -> bool:
        """Whether a later message of its channel was acknowledged with ``multiple=True``."""
        session, tag = self._origin.upto
        one = self._delivered
        return one.session == session and one.tag <= tag

    def ack(self, multiple: bool = False) -> None:
        """Acknowledge it: the broker deletes it.

        Args:
            multiple: also acknowledge all messages that its channel delivered before it.

        Raises:
            MessageStateError: it is settled already, or its channel is lost and it will be redelivered.
        """
        if self.no_ack:
            return
        self._settle(ACK_MULTIPLE if multiple else ACK)
        if multiple:
            self._origin.upto = (self._delivered.session, self._delivered.tag)

    def reject(self, requeue: bool = False) -> None:
        """Reject it: it is dead-lettered if its queue has a dead-letter exchange, otherwise dropped.

        Args:
            requeue: return it to its queue instead.

        Raises:
            MessageStateError: it is settled already, its channel is lost, or it is from a stream.
        """
        if self.no_ack:
            raise MessageStateError("the message was acknowledged as it was taken (no_ack)")
        if self.stream_offset() is not None:
            raise MessageStateError(
                "a stream keeps its messages: ack() this one; it can be neither rejected nor requeued"
            )
        self._settle(REQUEUE if requeue else REJECT)

    def requeue(self) -> None:
        """Return it to its queue; raises as `reject`."""
        self.reject(requeue=True)

    def give_back(self) -> None:
        """Return it unhandled; unlike `requeue`, RabbitMQ 4.3 does not count it. Not for streams."""
        self._settle(GIVE_BACK)

    def stream_offset(self) -> int | None:
        """Return its place in its stream; None where it has none, or its headers cannot be read."""
        try:
            offset = (self._values.get("headers") or {}).get(STREAM_OFFSET)
        except DecodeError:
            return None
        return offset if isinstance(offset, int) else None

    def _settle(self, verdict: int) -> None:
        if self.guarded:
            raise MessageStateError("the worker settles it: return, or raise Reject or Retry")
        if self._state or self._is_covered:
            state = self._state or "acknowledged"
            raise MessageStateError(f"message {self._delivered.tag} is {state} already")
        if not self._origin.settle(self._delivered, verdict):
            raise MessageStateError(
                f"message {self._delivered.tag}: the channel that brought it is lost; it comes again"
            )
        self._state = _SETTLED[verdict]

    def ack_log_error(
        self, logger: logging.Logger, errors: _Errors, multiple: bool = False
    ) -> bool:
        """Acknowledge it, and log those ``errors`` instead of raising; return whether it succeeded."""
        return _logged(logger, errors, "ack", self, lambda: self.ack(multiple))

    def reject_log_error(
        self, logger: logging.Logger, errors: _Errors, requeue: bool = False
    ) -> bool:
        """Reject it, and log those ``errors`` instead of raising; return whether it succeeded."""
        return _logged(logger, errors, "reject", self, lambda: self.reject(requeue))


def _logged(
    logger: logging.Logger,
    errors: _Errors,
    what: str,
    message: ReceivedMessage,
    settle: Callable[[], None],
) -> bool:
    try:
        settle()
    except errors as error:
        logger.critical("cannot %s message %d: %s", what, message.delivery_tag, error)
        return False
    return True
