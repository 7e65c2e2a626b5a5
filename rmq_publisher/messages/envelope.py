"""The frozen envelope: a message made and validated once, ready for the wire or for a row.

Everything that can be known bad is refused here, before a byte is sent, with an error that names the
argument and never the value.
"""

import difflib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypedDict, Unpack

from pika import BasicProperties

from rmq_publisher import serialization
from rmq_publisher.amqp.encoding import SHORTSTR_MAX, FieldError, basic_properties, shortstr, utf8
from rmq_publisher.amqp.entities import Topology
from rmq_publisher.amqp.validation import Seconds, TopologyError, milliseconds, plain_str
from rmq_publisher.exceptions import InvalidMessage
from rmq_publisher.messages.ids import new_id

FRAME_MAX = 131_072  # bytes; what RabbitMQ and pika offer unless told otherwise
HEADER_OVERHEAD = 8 + 12  # a frame's own bytes; class, weight and body size of a content header
EXPIRATION_MAX = 2**32 - 1  # milliseconds; RabbitMQ closes the channel over more
_DELIVERY_MODES = (1, 2)
_ROUTING_HEADERS = ("CC", "BCC")


Destination = tuple[str, str]  # exchange, routing key


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message as it goes on the wire.

    Attributes:
        message_id: fixed here and kept over every retry.
        exchange: exchange's name, empty for the default exchange.
        routing_key: routing key.
        header: AMQP's own bytes of the property flags and list (headers included).
        body: the encoded body.
        topology: what must be verified or declared on a connection before it is sent.
        mandatory: whether it is returned where no queue takes it; else that counts as confirmed.
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
        """What a queue's health is told by."""
        return self.exchange, self.routing_key

    @property
    def names(self) -> dict[str, str]:
        """What a `PublishError` about it carries."""
        return {
            "message_id": self.message_id,
            "exchange": self.exchange,
            "routing_key": self.routing_key,
        }

    def without_content(self) -> "Envelope":
        """Return what is kept of a message whose caller gave up on its confirm."""
        return replace(self, header=b"", body=b"")

    def __repr__(self) -> str:
        return (
            f"<Envelope {self.message_id} exchange={self.exchange!r} "
            f"routing_key={self.routing_key!r} {len(self.body)} bytes>"
        )


class PropertyOptions(TypedDict, total=False):
    """The properties of a message as keywords; None is the same as left out.

    ``expiration`` is in seconds or a timedelta, ``priority`` an int from 0 to 255, ``delivery_mode`` 1
    (transient) or 2 (persistent), ``serializer`` a name known to `rmq_publisher.serialization`,
    ``compression`` one of kombu's names. All win over ``properties``. ``mandatory`` False lets what no
    queue takes count as confirmed.
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
    """What can be said about a message itself: keywords, and the caller's own properties."""

    properties: BasicProperties | None


MESSAGE_OPTIONS = frozenset(MessageOptions.__annotations__)


def check_options(name: str, options: Iterable[str], known: frozenset[str]) -> None:
    """Raise what Python raises for a keyword argument that a function does not take.

    Raises:
        TypeError: ``options`` holds a name that is not ``known``.
    """
    for unknown in set(options) - known:
        close = difflib.get_close_matches(unknown, known, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise TypeError(f"{name} got an unexpected keyword argument {unknown!r}{hint}")


class Message:
    """An item of `publish_many`: a body with a routing key and properties of its own.

    What it leaves out is taken from the call.
    """

    __module__ = "rmq_publisher"

    __slots__ = ("body", "options", "ordering_key", "routing_key")

    def __init__(
        self,
        body: Any,
        *,
        routing_key: str | None = None,
        ordering_key: str | None = None,
        **options: Unpack[MessageOptions],
    ) -> None:
        __traceback_hide__ = True  # as in compose()
        check_options("Message()", options.keys(), MESSAGE_OPTIONS)
        self.body = body
        self.routing_key = routing_key
        self.ordering_key = ordering_key
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
        body: str (sent as UTF-8) or bytes (unchanged); anything else needs ``serializer``.
        exchange: exchange's name.
        routing_key: routing key.
        topology: what to verify or declare before it is sent.
        max_body_size: bytes.
        serializer: name of a serializer for what is neither str nor bytes.
        compression: name of a compression, told by kombu's header.
        mandatory: whether the broker returns what no queue takes.
        properties: the caller's, never changed; the keywords win over them.
        headers: merged over those of ``properties``.
        expiration: seconds or timedelta.
        keywords: the other basic properties by name, None for not given.

    Raises:
        TypeError: the body is neither str nor bytes and no serializer is named.
        InvalidMessage: anything that AMQP or RabbitMQ cannot take.
    """
    __traceback_hide__ = True  # as in compose()
    names = {"exchange": exchange, "routing_key": routing_key}
    if not isinstance(mandatory, bool):
        raise InvalidMessage(
            f"mandatory must be True or False, not {type(mandatory).__name__}", **_printable(names)
        )
    encoded = encoded_body(body, serializer, names)
    if len(encoded.body) > max_body_size:
        raise too_large(encoded.body, max_body_size, names)
    if compression is not None:
        encoded = _compressed(encoded, compression, max_body_size, names)
    try:
        values = _merged(encoded, properties, headers, expiration, keywords)
        header = basic_properties(values)
        for what, name in names.items():
            shortstr(what, name)
    except (FieldError, TopologyError) as error:
        raise InvalidMessage(str(error), **_printable(names)) from error.with_traceback(None)
    if len(header) + HEADER_OVERHEAD > FRAME_MAX:
        raise InvalidMessage(
            f"properties and headers take {len(header)} bytes; a frame of {FRAME_MAX} must hold them",
            **names,
        )
    message_id = plain_str(values["message_id"])
    return Envelope(message_id, exchange, routing_key, header, encoded.body, topology, mandatory)


def _compressed(
    encoded: serialization.Encoded, compression: str, limit: int, names: Mapping[str, str]
) -> serialization.Encoded:
    """Compress a body; also what compression makes larger must stay below the limit."""
    __traceback_hide__ = True  # as in compose()
    try:
        smaller = serialization.compress(encoded, compression)
    except (LookupError, ValueError) as error:
        raise InvalidMessage(str(error.args[0]), **_printable(names)) from error
    if len(smaller.body) > limit:
        raise too_large(smaller.body, limit, names)
    return smaller


def too_large(body: bytes, limit: int, names: Mapping[str, str]) -> InvalidMessage:
    """Return the error of a body over the limit."""
    return InvalidMessage(
        f"the body has {len(body)} bytes, RMQ_MAX_BODY_SIZE allows {limit}", **names
    )


def _printable(names: Mapping[str, Any]) -> dict[str, str]:
    """Names that were refused may be of any type and size; an error keeps only what is a name."""
    return {
        what: name if isinstance(name, str) and len(name) <= 255 else ""
        for what, name in names.items()
    }


def encoded_body(
    body: Any, serializer: str | None, names: Mapping[str, str]
) -> serialization.Encoded:
    """Return the body as bytes, and what a serializer says of it."""
    __traceback_hide__ = True  # as in compose()
    try:
        if serializer is not None:
            serialization.check(serializer)  # a wrong name is one whatever the body
        if isinstance(body, bytes):
            return serialization.Encoded(body, "")
        if isinstance(body, str):
            return serialization.Encoded(utf8("the body", body), "")
    except FieldError as error:
        raise InvalidMessage(str(error), **_printable(names)) from error.with_traceback(None)
    except LookupError as error:
        raise InvalidMessage(str(error.args[0]), **_printable(names)) from error
    if serializer is None:
        raise TypeError(
            f"the body must be str or bytes, not {type(body).__name__}: encode it, or name a "
            'serializer (serializer="json", or RMQ_SERIALIZER)'
        )
    try:
        return serialization.encode(serializer, body)
    except (TypeError, ValueError, RecursionError) as error:
        # The serializer's words may quote the value: only their kind is told, nothing is chained.
        raise InvalidMessage(
            f"serializer {serializer!r} cannot encode this {type(body).__name__} "
            f"({type(error).__name__})",
            **_printable(names),
        ) from None


def _merged(
    encoded: serialization.Encoded,
    properties: BasicProperties | None,
    headers: Mapping[str, Any] | None,
    expiration: Seconds | None,
    keywords: Mapping[str, Any],
) -> dict[str, Any]:
    """Merge the caller's properties, the serializer's and the keywords; the latter win."""
    values: dict[str, Any] = {}
    own_headers: Mapping[str, Any] | None = None
    if properties is None:
        values["content_type"] = "application/json"
    elif not isinstance(properties, BasicProperties):
        raise FieldError(f"properties must be BasicProperties, not {type(properties).__name__}")
    else:
        values.update(
            (name, value) for name, value in vars(properties).items() if value is not None
        )
        own_headers = values.pop("headers", None)
        _check_own_expiration(values.get("expiration"))
    if encoded.content_type:
        values["content_type"] = encoded.content_type
    if encoded.content_encoding is not None:
        values["content_encoding"] = encoded.content_encoding
    values.update((name, value) for name, value in keywords.items() if value is not None)
    if expiration is not None:
        values["expiration"] = _expiration(expiration)
    layers = [
        layer for layer in (own_headers, headers, encoded.headers or None) if layer is not None
    ]
    if layers and (merged := _headers(*layers)):
        values["headers"] = merged
    mode = values.setdefault("delivery_mode", 2)
    if not isinstance(mode, int) or mode not in _DELIVERY_MODES:
        raise FieldError("delivery_mode must be 1 (transient) or 2 (persistent)")
    if values.setdefault("message_id", "") == "":
        values["message_id"] = new_id()
    values.setdefault("timestamp", int(time.time()))
    return values


def _headers(*layers: Mapping[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for layer in layers:
        if not isinstance(layer, Mapping):
            raise FieldError(f"headers must be a mapping, not {type(layer).__name__}")
        merged.update(layer)
    for name in _ROUTING_HEADERS:
        # RabbitMQ closes the channel over anything but a list of strings here.
        keys = merged.get(name, [])
        if not isinstance(keys, list | tuple) or not all(isinstance(key, str) for key in keys):
            raise FieldError(f"headers[{name!r}] must be a list of routing keys (str)")
    return merged


def _expiration(value: Seconds) -> str:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    expiration = milliseconds("expiration", value)
    if expiration > EXPIRATION_MAX:
        raise FieldError(f"expiration must be at most {EXPIRATION_MAX // 1000} seconds")
    return str(expiration)


def _check_own_expiration(value: object) -> None:
    """The property itself is AMQP's: a str of milliseconds. The broker closes channels over others."""
    if value is None:
        return
    if not isinstance(value, str) or not (value.isascii() and value.isdigit()):
        raise FieldError(
            "properties.expiration must be a str of whole milliseconds; "
            "the keyword expiration= takes seconds"
        )
    if len(value) > SHORTSTR_MAX or int(value) > EXPIRATION_MAX:
        raise FieldError(f"properties.expiration must be at most {EXPIRATION_MAX} milliseconds")
