"""The envelope: a message that was validated and encoded once, ready to be sent or stored.

Whatever is known to be invalid is refused here, before anything is sent. The error names the argument,
never its value.
"""

import difflib
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple, TypedDict, Unpack

from pika import BasicProperties

from rmq_publisher import serialization
from rmq_publisher.amqp.encoding import FieldError, utf8
from rmq_publisher.amqp.entities import Topology
from rmq_publisher.amqp.validation import Seconds, TopologyError, plain
from rmq_publisher.exceptions import InvalidMessage
from rmq_publisher.messages.properties import id_and_header
from rmq_publisher.messages.unencodable import culprit

FRAME_MAX = 131_072  # bytes; the default of RabbitMQ and pika
HEADER_OVERHEAD = 8 + 12  # frame header and end; class, weight and body size of a content header

Destination = tuple[str, str]  # exchange, routing key


class Envelope(NamedTuple):
    """A message as it is sent.

    Attributes:
        message_id: stays the same over every retry.
        exchange: name of the exchange, empty for the default exchange.
        routing_key: routing key.
        header: property flags and property list (with the headers) of AMQP's content header.
        body: the encoded body.
        topology: what must be verified or declared on a connection before the message is sent.
        mandatory: whether the broker returns the message when no queue takes it; if False, such a
            message counts as confirmed.
    """

    message_id: str
    exchange: str
    routing_key: str
    header: bytes
    body: bytes
    topology: Topology = ()
    mandatory: bool = True

    @property
    def destination(self) -> Destination:
        """The unit by which unhealthy queues are recognised."""
        return self.exchange, self.routing_key

    @property
    def names(self) -> dict[str, str]:
        """The attributes of a `PublishError` about this message."""
        return {
            "message_id": self.message_id,
            "exchange": self.exchange,
            "routing_key": self.routing_key,
        }

    def without_content(self) -> "Envelope":
        """Return a copy without header and body, for a message that will not be sent again."""
        return self._replace(header=b"", body=b"")

    def __repr__(self) -> str:
        return (
            f"<Envelope {self.message_id} exchange={self.exchange!r} "
            f"routing_key={self.routing_key!r} {len(self.body)} bytes>"
        )


class PropertyOptions(TypedDict, total=False):
    """The properties of a message as keywords; None is the same as left out.

    ``expiration`` is in seconds or a timedelta, ``priority`` an int from 0 to 255, ``delivery_mode`` 1
    (transient) or 2 (persistent), ``serializer`` a name known to `rmq_publisher.serialization`,
    ``compression`` one of kombu's names. All of them override ``properties``. With ``mandatory`` False,
    a message that no queue takes counts as confirmed.
    """

    headers: Mapping[str, Any] | None
    priority: int | None
    expiration: Seconds | None
    delivery_mode: int | None
    message_id: str | None
    correlation_id: str | None
    reply_to: str | None
    type: str | None
    user_id: str | None
    app_id: str | None
    content_type: str | None
    content_encoding: str | None
    serializer: str | None
    compression: str | None
    mandatory: bool


class MessageOptions(PropertyOptions, total=False):
    """The options of a message itself: its properties as keywords and as `pika.BasicProperties`."""

    properties: BasicProperties | None


MESSAGE_OPTIONS = frozenset(MessageOptions.__annotations__)


def check_options(name: str, options: Iterable[str], known: frozenset[str]) -> None:
    """Raise the TypeError that Python raises for an unexpected keyword argument.

    Raises:
        TypeError: one of ``options`` is not ``known``.
    """
    for unknown in set(options) - known:
        close = difflib.get_close_matches(unknown, known, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise TypeError(f"{name} got an unexpected keyword argument {unknown!r}{hint}")


class Message:
    """An item of `publish_many`: a body with its own routing key and properties.

    The arguments of the call apply to whatever is left out here.
    """

    __module__ = "rmq_publisher"

    __slots__ = ("body", "options", "ordering_key", "routing_key", "time")

    def __init__(
        self,
        body: Any,
        *,
        routing_key: str | None = None,
        ordering_key: str | None = None,
        countdown: Seconds | None = None,
        eta: datetime | None = None,
        **options: Unpack[MessageOptions],
    ) -> None:
        __traceback_hide__ = True  # as in compose()
        check_options("Message()", options.keys(), MESSAGE_OPTIONS)
        self.body = body
        self.routing_key = routing_key
        self.ordering_key = ordering_key
        self.time = None if countdown is None and eta is None else (countdown, eta)
        self.options = options

    def __repr__(self) -> str:
        return f"<Message with {', '.join(self.options) or 'a body'}>"


def seal(
    body: Any,
    *,
    exchange: str,
    routing_key: str,
    topology: Topology = (),
    max_body_size: int,
    serializer: str | None = None,
    compression: str | None = None,
    mandatory: bool = True,
    properties: BasicProperties | None = None,
    headers: Mapping[str, Any] | None = None,
    expiration: Seconds | None = None,
    **keywords: str | int | None,
) -> Envelope:
    """Make the envelope of a message.

    Args:
        body: str (sent as UTF-8) or bytes (sent as they are); anything else needs a ``serializer``.
        exchange: name of the exchange, a valid short string.
        routing_key: routing key, a valid short string.
        topology: what to verify or declare before the message is sent.
        max_body_size: limit of the encoded body in bytes.
        serializer: name of a serializer, used for anything but str and bytes.
        compression: name of a compression, which kombu's header names for the consumer.
        mandatory: whether the broker returns the message when no queue takes it.
        properties: the caller's, never changed; the keywords override them.
        headers: override the headers of ``properties``.
        expiration: seconds or timedelta.
        keywords: the other basic properties by name; None is the same as left out.

    Raises:
        TypeError: the body is neither str nor bytes, and no serializer is named.
        InvalidMessage: something that AMQP or RabbitMQ does not accept.
    """
    __traceback_hide__ = True  # as in compose()
    try:
        _check_mandatory(mandatory)
        encoded = _encoded(body, serializer)
        _check_size(encoded.body, max_body_size)
        if compression is not None:
            encoded = _compressed(encoded, compression)
            _check_size(encoded.body, max_body_size)  # compression can make a body larger
        message_id, header = id_and_header(encoded, properties, headers, expiration, keywords)
        _check_header_size(header)
    except (FieldError, TopologyError) as error:
        names = {"exchange": exchange, "routing_key": routing_key}
        raise InvalidMessage(str(error), **names) from error.with_traceback(None)
    return Envelope(message_id, exchange, routing_key, header, encoded.body, topology, mandatory)


def _check_mandatory(mandatory: object) -> None:
    if not isinstance(mandatory, bool):
        raise FieldError(f"mandatory must be True or False, not {type(mandatory).__name__}")


def _check_header_size(header: bytes) -> None:
    if len(header) + HEADER_OVERHEAD > FRAME_MAX:
        raise FieldError(
            f"properties and headers take {len(header)} bytes and must fit a frame of "
            f"{FRAME_MAX} bytes"
        )


def _check_size(body: bytes, limit: int) -> None:
    if len(body) > limit:
        raise FieldError(f"the body has {len(body)} bytes, RMQ_MAX_BODY_SIZE allows {limit}")


def _compressed(encoded: serialization.Encoded, compression: str) -> serialization.Encoded:
    __traceback_hide__ = True  # as in compose()
    try:
        return serialization.compress(encoded, plain(compression))
    except (LookupError, ValueError) as error:
        raise FieldError(str(error.args[0])) from error


def _encoded(body: Any, serializer: str | None) -> serialization.Encoded:
    """Return the body as bytes, with the content type of its serializer."""
    __traceback_hide__ = True  # as in compose()
    if serializer is not None:
        try:
            serialization.check(plain(serializer))  # an unknown name is an error for every body
        except LookupError as error:
            raise FieldError(str(error.args[0])) from error
    if isinstance(body, bytes):
        return serialization.Encoded(body, "")
    if isinstance(body, str):
        return serialization.Encoded(utf8("the body", body), "")
    if serializer is None:
        raise TypeError(
            f"the body must be str or bytes, not {type(body).__name__}: encode it, or name a "
            'serializer (serializer="json", or RMQ_SERIALIZER)'
        )
    try:
        return serialization.encode(serializer, body)
    except (TypeError, ValueError, RecursionError) as error:
        # The serializer's message may quote the value: name only its class, and chain nothing.
        raise FieldError(
            f"serializer {serializer!r} cannot encode {culprit(serializer, body)} "
            f"({type(error).__name__})"
        ) from None
