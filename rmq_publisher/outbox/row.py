"""A stored message as a row: what another process needs to send it, and nothing else."""

import secrets
import struct
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache, lru_cache
from typing import Any, Final, TypeAlias

from rmq_publisher.amqp.decoding import read_property, read_table
from rmq_publisher.amqp.encoding import FieldError, table
from rmq_publisher.amqp.entities import (
    Binding,
    Entity,
    ExchangeConfig,
    ExchangeName,
    QueueConfig,
    QueueName,
    Topology,
)
from rmq_publisher.db.schema import KEY_MAX
from rmq_publisher.exceptions import InvalidMessage, PublishError
from rmq_publisher.messages.envelope import Envelope
from rmq_publisher.process.lifecycle import InChild, register

# Raised by the reader and by the declarations for bytes that `encoded` did not make.
_SPOILT = (
    struct.error, LookupError, ValueError, TypeError, OverflowError, OSError, RecursionError,
)  # fmt: skip
_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # as in `unicodedata.category`


@dataclass(slots=True)
class OutboxRow:
    """A row that this process owns and is to send.

    Attributes:
        id: of the row.
        token: who owns it; every change of the row asks for it.
        using: RabbitMQ alias.
        envelope: the message.
        ordering_key: empty where no order is asked for.
        own_until: until when its sending may begin, by `timing.monotonic`.
        failed: whether it has failed before; then it is kept as history once it is delivered.
    """

    id: int
    token: int
    using: str
    envelope: Envelope
    ordering_key: str
    own_until: float
    failed: bool = False

    def __repr__(self) -> str:
        return f"<OutboxRow {self.id} {self.envelope!r}>"


class _NotSent(Enum):
    NOT_SENT = "not sent"


NOT_SENT: Final = _NotSent.NOT_SENT  # of a row that was never given to the broker
Outcome: TypeAlias = tuple[OutboxRow, PublishError | _NotSent | None]  # None: confirmed


def new_token() -> int:
    """Return a random token; 0 means that nobody holds the row."""
    return secrets.randbelow(2**63 - 1) + 1


@cache
def process_token() -> int:
    """Return the token of what this process writes: one, so that one statement completes many rows.

    It never takes a row twice: what it lost to a relay comes back by another token only.
    """
    return new_token()


register(InChild.ROW_TOKEN, process_token.cache_clear)


def from_row(row: Sequence[Any], *, token: int, own_until: float) -> OutboxRow:
    """Make a stored message of a row's values.

    Args:
        row: values in the order of `COLUMNS`.
        token: the token that the row was claimed with.
        own_until: see `OutboxRow`.

    Raises:
        InvalidMessage: its declarations are not what `encoded` made.
    """
    (
        id_, message_id, using, exchange, routing_key, ordering_key, header, body, topology, failed_at,
    ) = row  # fmt: skip
    try:
        declarations = bytes(topology)
        envelope = Envelope(
            message_id, exchange, routing_key, bytes(header), bytes(body), decoded(declarations),
            is_mandatory(declarations),
        )  # fmt: skip
    except _SPOILT as error:
        raise InvalidMessage(
            f"the stored row cannot be read ({type(error).__name__})",
            message_id=message_id,
            exchange=exchange,
            routing_key=routing_key,
        ) from error
    return OutboxRow(id_, token, using, envelope, ordering_key, own_until, failed_at is not None)


def without_content(row: Sequence[Any], *, token: int) -> OutboxRow:
    """Make what can be completed, and not sent, of a row that `from_row` cannot read."""
    id_, message_id, using, exchange, routing_key, ordering_key = row[:6]
    envelope = Envelope(message_id, exchange, routing_key, b"", b"")
    return OutboxRow(id_, token, using, envelope, ordering_key, 0.0)


def correlation_id(envelope: Envelope) -> str:
    """Return the message's correlation id, by which people look for it; empty where it has none."""
    return str(read_property(envelope.header, "correlation_id") or "")


def check_storable(envelope: Envelope, using: str) -> None:
    """Refuse what a column of text cannot take, before the caller's transaction is hurt by it.

    Raises:
        InvalidMessage: a name holds NUL.
    """
    named = {**envelope.names, "using": using, "correlation_id": correlation_id(envelope)}
    for what, name in named.items():
        if "\0" in name:
            raise InvalidMessage(f"{what} contains NUL, which a database's text cannot")


def check_ordering_key(key: object) -> None:
    """Refuse what cannot be an ordering key.

    Collations of MySQL and MariaDB ignore control and format characters, blanks and marks: a key of those
    alone would equal the empty key.

    Raises:
        InvalidMessage: it is not a str, is empty, blank or too long, or contains invisible characters.
    """
    if not isinstance(key, str) or not 0 < len(key) <= KEY_MAX:
        raise InvalidMessage(f"ordering_key must be a str of 1 to {KEY_MAX} characters")
    if key.isascii() and key.isprintable() and not key.isspace():
        return
    if any(unicodedata.category(character) in _UNSEEN for character in key):
        raise InvalidMessage(
            "ordering_key holds a control or format character, a line separator or a surrogate"
        )
    whole = unicodedata.normalize("NFKD", key)
    if all(unicodedata.category(character)[0] in "ZM" for character in whole):
        raise InvalidMessage("ordering_key is blank: a letter, a digit or a sign must be in it")


@lru_cache(maxsize=1024)
def encoded(topology: Topology, mandatory: bool = True) -> bytes:
    """Return declarations as bytes that `decoded` makes equal ones of, and `is_mandatory` reads.

    Raises:
        InvalidMessage: they are too large.
    """
    if not topology and mandatory:
        return b""
    values: dict[str, Any] = {"": [_entity_table(entity) for entity in topology]}
    if not mandatory:
        values["mandatory"] = False
    try:
        return table("declare", values)
    except FieldError as error:
        raise InvalidMessage(str(error)) from error


@lru_cache(maxsize=1024)
def decoded(data: bytes) -> Topology:
    """Return what `encoded` was given."""
    if not data:
        return ()
    return tuple(_entity(values) for values in read_table(data)[""])


def is_mandatory(data: bytes) -> bool:
    """Return whether a message of these declarations is returned where no queue takes it."""
    return not data or bool(read_table(data).get("mandatory", True))


def _entity_table(entity: Entity) -> dict[str, Any]:
    if isinstance(entity, QueueName):
        return {"kind": "queue name", "name": entity.name}
    if isinstance(entity, ExchangeName):
        return {"kind": "exchange name", "name": entity.name}
    if isinstance(entity, QueueConfig):
        own: dict[str, Any] = {"kind": "queue"}
    elif isinstance(entity, ExchangeConfig):
        own = {
            "kind": "exchange",
            "type": entity.type,
            "auto_delete": entity.auto_delete,
            "internal": entity.internal,
        }
    else:
        raise TypeError(f"{entity!r} cannot be part of a message")
    return {
        **own,
        "name": entity.name,
        "durable": entity.durable,
        "arguments": dict(entity.x_arguments),
        "bindings": [_binding_table(binding) for binding in entity.bindings],
    }


def _binding_table(binding: Binding) -> dict[str, Any]:
    source = binding.exchange
    return {
        "exchange": source if isinstance(source, str) else _entity_table(source),
        "routing_key": binding.routing_key,
        "arguments": dict(binding.arguments or {}),
    }


def _entity(values: Mapping[str, Any]) -> Entity:
    kind, name = values["kind"], values["name"]
    if kind == "queue name":
        return QueueName(name)
    if kind == "exchange name":
        return ExchangeName(name)
    common = {
        "durable": values["durable"],
        "arguments": values["arguments"],
        "bindings": _bindings(values["bindings"]),
    }
    if kind == "queue":
        return QueueConfig(name, **common)
    flags = {"auto_delete": values["auto_delete"], "internal": values["internal"]}
    return ExchangeConfig(name, values["type"], **flags, **common)


def _bindings(tables: Iterable[Mapping[str, Any]]) -> list[Binding]:
    found = []
    for values in tables:
        source = values["exchange"]
        exchange = _entity(source) if isinstance(source, Mapping) else source
        if not isinstance(exchange, str | ExchangeConfig):
            raise TypeError(f"nothing is bound to {exchange!r}")
        found.append(Binding(exchange, values["routing_key"], values["arguments"]))
    return found
