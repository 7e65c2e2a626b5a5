"""A message's properties: merged from the caller's, the serializer's and the defaults, and encoded."""

import os
from collections.abc import Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Any

from pika import BasicProperties

from rmq_publisher.amqp.encoding import SHORTSTR_MAX, FieldError, basic_properties
from rmq_publisher.amqp.validation import Seconds, milliseconds, plain_str
from rmq_publisher.process.lifecycle import InChild, register
from rmq_publisher.serialization import Encoded
from rmq_publisher.timing import epoch_seconds

EXPIRATION_MAX = 2**32 - 1  # milliseconds; RabbitMQ closes the channel over more
_DIRECT_REPLY_TO = "amq.rabbitmq.reply-to"
_DELIVERY_MODES = (1, 2)
_ROUTING_HEADERS = ("CC", "BCC")
_ID_SIZE = 32
_IDS_AT_ONCE = 64  # reading the system's random bytes releases the GIL: not for every message
# Version and variant of a random UUID (RFC 9562, 5.4): the bits that are random, and those that are set.
_RANDOM_BITS = int("ffffffffffff0fff3fffffffffffffff" * _IDS_AT_ONCE, 16)
_SET_BITS = int("00000000000040008000000000000000" * _IDS_AT_ONCE, 16)
_ids: list[str] = []
register(InChild.MESSAGE_IDS, _ids.clear)


def new_id() -> str:
    """Return a random UUID (version 4) as 32 hexadecimal digits.

    Without dashes, the properties of a typical message take 61 bytes. Over 64 bytes the broker stores
    them apart from the rest, which makes every message 10 % slower (measured).
    """
    while True:
        try:
            return _ids.pop()
        except IndexError:
            random = int.from_bytes(os.urandom(_IDS_AT_ONCE * _ID_SIZE // 2))
            digits = f"{random & _RANDOM_BITS | _SET_BITS:0{_IDS_AT_ONCE * _ID_SIZE}x}"
            _ids.extend(digits[at : at + _ID_SIZE] for at in range(0, len(digits), _ID_SIZE))


def id_and_header(
    encoded: Encoded,
    properties: BasicProperties | None,
    headers: Mapping[str, Any] | None,
    expiration: Seconds | None,
    keywords: Mapping[str, Any],
) -> tuple[str, bytes]:
    """Return a message's id, and the property flags and property list of its content header.

    Raises:
        FieldError, TopologyError: something that AMQP or RabbitMQ does not accept.
    """
    if properties is None and headers is None and expiration is None and not encoded.headers:
        app_id = keywords.get("app_id")
        if len(keywords) == ("app_id" in keywords) and (app_id is None or isinstance(app_id, str)):
            message_id = new_id()
            before, behind = _template(encoded.content_type, encoded.content_encoding, app_id)
            now = epoch_seconds().to_bytes(8)
            return message_id, b"".join((before, message_id.encode(), now, behind))
    values = _merged(encoded, properties, headers, expiration, keywords)
    header = basic_properties(values)
    return plain_str(values["message_id"]), header


@lru_cache(maxsize=64)
def _template(
    content_type: str, content_encoding: str | None, app_id: str | None
) -> tuple[bytes, bytes]:
    """Return the bytes before the id and after the time: all else is the same in most headers."""
    mark = "-" * _ID_SIZE
    keywords = {"message_id": mark, "app_id": app_id}
    values = _merged(Encoded(b"", content_type, content_encoding), None, None, None, keywords)
    before, _, behind = basic_properties(values).partition(mark.encode())
    return before, behind[8:]


def _merged(
    encoded: Encoded,
    properties: BasicProperties | None,
    headers: Mapping[str, Any] | None,
    expiration: Seconds | None,
    keywords: Mapping[str, Any],
) -> dict[str, Any]:
    """Merge the caller's properties, the serializer's and the keywords; later ones override."""
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
    values.setdefault("timestamp", epoch_seconds())
    if values.get("reply_to") == _DIRECT_REPLY_TO:
        raise FieldError(
            f"reply_to must not be {_DIRECT_REPLY_TO!r}: RabbitMQ allows it only on a channel that "
            "consumes the replies, and closes ours over it; give a queue of your own"
        )
    return values


def _headers(*layers: Mapping[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for layer in layers:
        if not isinstance(layer, Mapping):
            raise FieldError(f"headers must be a mapping, not {type(layer).__name__}")
        merged.update(layer)
    for name in _ROUTING_HEADERS:
        # RabbitMQ closes the channel if this is anything but a list of strings.
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
    """Check AMQP's own property, a str of milliseconds; the broker closes the channel over others."""
    if value is None:
        return
    if not isinstance(value, str) or not (value.isascii() and value.isdigit()):
        raise FieldError(
            "properties.expiration must be a str of whole milliseconds; "
            "the keyword expiration= takes seconds"
        )
    if len(value) > SHORTSTR_MAX or int(value) > EXPIRATION_MAX:
        raise FieldError(f"properties.expiration must be at most {EXPIRATION_MAX} milliseconds")
