"""What a broker refuses to declare, in RabbitMQ's own words (as of 4.0). Pure.

A declaration must be possible at all, and where there is something of that name already it must be
the same: else 406. Arguments that RabbitMQ does not know are neither judged nor compared.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from rmq_publisher.amqp.arguments import EXCHANGE_TYPES
from rmq_publisher.amqp.reply_codes import (
    ACCESS_REFUSED,
    NOT_FOUND,
    NOT_IMPLEMENTED,
    PRECONDITION_FAILED,
)
from rmq_publisher.exceptions import Rejected
from rmq_publisher.transport.memory.routing import ALTERNATE, Exchange, same_value

Arguments = Mapping[str, Any]

DEAD_LETTER_EXCHANGE = "x-dead-letter-exchange"
DEAD_LETTER_KEY = "x-dead-letter-routing-key"

_WORDS = {
    ACCESS_REFUSED: "ACCESS_REFUSED",
    NOT_FOUND: "NOT_FOUND",
    PRECONDITION_FAILED: "PRECONDITION_FAILED",
    NOT_IMPLEMENTED: "NOT_IMPLEMENTED",
}
_DEAD_LETTERS = (DEAD_LETTER_EXCHANGE, DEAD_LETTER_KEY)
_LENGTHS = ("x-max-length", "x-max-length-bytes")
_ALL_TYPES = ("x-queue-type", *_LENGTHS)
_OF_TYPE = {  # what each type of queue takes, and compares
    "classic": (
        *_ALL_TYPES, "x-expires", "x-message-ttl", *_DEAD_LETTERS, "x-overflow",
        "x-max-priority", "x-queue-mode", "x-single-active-consumer",
    ),
    "quorum": (
        *_ALL_TYPES, "x-expires", "x-message-ttl", *_DEAD_LETTERS, "x-overflow",
        "x-delivery-limit", "x-single-active-consumer",
    ),
    "stream": _ALL_TYPES,
}  # fmt: skip
_KNOWN = frozenset(name for names in _OF_TYPE.values() for name in names)
_TTL_MAX = 2**32 - 1


def refuse(code: int, text: str) -> Rejected:
    """Make the error of a refusal, with the name of its code in front as RabbitMQ writes it."""
    return Rejected(code, f"{_WORDS[code]} - {text}")


def not_found(kind: str, name: str) -> Rejected:
    """Make the error of a queue or exchange that is not there."""
    return refuse(NOT_FOUND, f"no {kind} '{name}' in vhost '/'")


def queue_type(arguments: Arguments) -> str:
    """Return the type of a queue: classic unless told otherwise."""
    return str(arguments.get("x-queue-type", "classic"))


def check_new_queue(name: str, durable: bool, arguments: Arguments) -> None:
    """Judge the declaration of a queue that is not there yet.

    Raises:
        Rejected: 403 for a reserved name, 406 for an argument that it cannot have.
    """
    if name.startswith("amq."):
        raise refuse(ACCESS_REFUSED, f"queue name '{name}' contains reserved prefix 'amq.*'")
    kind = queue_type(arguments)
    where = f"for queue '{name}' in vhost '/'"
    if kind not in _OF_TYPE:
        raise _invalid("x-queue-type", where, f"\"unsupported queue type '{kind}'\"")
    for argument, value in arguments.items():
        if argument in _KNOWN and argument not in _OF_TYPE[kind]:
            text = f"invalid arg '{argument}' {where} of queue type rabbit_{kind}_queue"
            raise refuse(PRECONDITION_FAILED, text)
        if argument in _RULES:
            wrong = _RULES[argument](value)
            if wrong:
                raise _invalid(argument, where, wrong)
    _check_dead_letters(name, where, arguments)
    if not durable and kind != "classic":
        raise refuse(PRECONDITION_FAILED, f"invalid property 'non-durable' {where}")


def _invalid(argument: str, where: str, wrong: str) -> Rejected:
    return refuse(PRECONDITION_FAILED, f"invalid arg '{argument}' {where}: {wrong}")


def _check_dead_letters(name: str, where: str, arguments: Arguments) -> None:
    for argument in _DEAD_LETTERS:
        if argument in arguments and _type(arguments[argument]) != "longstr":
            raise _wrong_type(arguments[argument], argument, f"queue '{name}'")
    if DEAD_LETTER_KEY in arguments and DEAD_LETTER_EXCHANGE not in arguments:
        raise _invalid(DEAD_LETTER_KEY, where, "routing_key_but_no_dlx_defined")


def _wrong_type(value: Any, argument: str, entity: str) -> Rejected:
    text = f"invalid type '{_type(value)}' for arg '{argument}' in {entity} in vhost '/'"
    return refuse(PRECONDITION_FAILED, text)


def _number(value: Any) -> str:
    if _type(value) not in ("signedint", "long"):
        return f'"expected integer, got {_type(value)}"'
    return f"{{value_negative,{value}}}" if value < 0 else ""


def _milliseconds(value: Any) -> str:
    wrong = _number(value)
    return wrong or (f"{{value_too_large,{value}}}" if value > _TTL_MAX else "")


def _idle(value: Any) -> str:
    return _milliseconds(value) or ("{value_zero,0}" if value == 0 else "")


def _priority(value: Any) -> str:
    return _number(value) or (f"{{max_value_exceeded,{value}}}" if value > 255 else "")


def _flag(value: Any) -> str:
    return "" if isinstance(value, bool) else f"{{unacceptable_type,{_type(value)}}}"


def _overflow(value: Any) -> str:
    if _type(value) != "longstr":
        return f"{{unacceptable_type,{_type(value)}}}"
    known = ("drop-head", "reject-publish", "reject-publish-dlx")
    return "" if value in known else "invalid_overflow"


_RULES: Mapping[str, Callable[[Any], str]] = {
    "x-max-length": _number,
    "x-max-length-bytes": _number,
    "x-delivery-limit": _number,
    "x-message-ttl": _milliseconds,
    "x-expires": _idle,
    "x-max-priority": _priority,
    "x-single-active-consumer": _flag,
    "x-overflow": _overflow,
}


def check_same_queue(
    name: str,
    durable: bool,
    arguments: Arguments,
    current_durable: bool,
    current: Arguments,
) -> None:
    """Compare a declaration with the queue that there is.

    Raises:
        Rejected: 406, naming the first difference.
    """
    entity = f"queue '{name}'"
    _check_same("durable", entity, durable, current_durable)
    typed = {"x-queue-type": "classic"}
    for argument in _OF_TYPE[queue_type(current)]:
        _check_same_argument(argument, entity, {**typed, **arguments}, {**typed, **current})


def check_new_exchange(wanted: Exchange) -> None:
    """Judge the declaration of an exchange that is not there yet.

    Raises:
        Rejected: 403 for a reserved name, 406 for an unknown type or a bad alternate exchange.
    """
    if wanted.type not in EXCHANGE_TYPES:
        raise refuse(PRECONDITION_FAILED, f"unknown exchange type '{wanted.type}'")
    if wanted.name.startswith("amq."):
        raise refuse(
            ACCESS_REFUSED, f"exchange name '{wanted.name}' contains reserved prefix 'amq.*'"
        )
    alternate = wanted.arguments.get(ALTERNATE, "")
    if _type(alternate) != "longstr":
        raise _wrong_type(alternate, ALTERNATE, f"exchange '{wanted.name}'")


def check_same_exchange(wanted: Exchange, current: Exchange) -> None:
    """Compare a declaration with the exchange that there is.

    Raises:
        Rejected: 406, naming the first difference.
    """
    entity = f"exchange '{wanted.name}'"
    for what in ("type", "durable", "auto_delete", "internal"):
        _check_same(what, entity, getattr(wanted, what), getattr(current, what))
    _check_same_argument(ALTERNATE, entity, wanted.arguments, current.arguments)


def check_binding(exchange: Exchange, arguments: Arguments) -> None:
    """Judge the arguments of a binding from an exchange.

    Raises:
        Rejected: 406 for an unknown ``x-match`` of a headers exchange.
    """
    if exchange.type != "headers" or "x-match" not in arguments:
        return
    value = arguments["x-match"]
    if _type(value) != "longstr":
        text = f"type {_type(value)} (value {_shown(value)}); expected longstr"
        raise refuse(PRECONDITION_FAILED, f"Invalid x-match field {text}")
    if value not in ("all", "any", "all-with-x", "any-with-x"):
        text = f'value <<"{value}">>; expected all, any, all-with-x, or any-with-x'
        raise refuse(PRECONDITION_FAILED, f"Invalid x-match field {text}")


def _check_same(what: str, entity: str, wanted: object, current: object) -> None:
    if wanted != current:
        raise _unlike(what, entity, f"'{_shown(wanted)}'", f"'{_shown(current)}'")


def _check_same_argument(name: str, entity: str, wanted: Arguments, current: Arguments) -> None:
    if name in wanted and name in current:
        if not same_value(wanted[name], current[name]):
            _check_same(name, entity, _shown(wanted[name]), _shown(current[name]))
    elif name in wanted or name in current:
        raise _unlike(name, entity, _typed(wanted, name), _typed(current, name))


def _unlike(what: str, entity: str, wanted: str, current: str) -> Rejected:
    where = f"inequivalent arg '{what}' for {entity} in vhost '/'"
    return refuse(PRECONDITION_FAILED, f"{where}: received {wanted} but current is {current}")


def _typed(arguments: Arguments, name: str) -> str:
    if name not in arguments:
        return "none"
    value = arguments[name]
    return f"the value '{_shown(value)}' of type '{_type(value)}'"


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _type(value: Any) -> str:
    """Return RabbitMQ's name of a value's type on the wire."""
    if isinstance(value, int) and not isinstance(value, bool):
        return "signedint" if -(2**31) <= value < 2**31 else "long"
    return next((name for kind, name in _TYPES if isinstance(value, kind)), "void")


_TYPES: tuple[tuple[Any, str], ...] = (
    (bool, "bool"),
    (str, "longstr"),
    (bytes, "binary"),
    (datetime, "timestamp"),
    (Decimal, "decimal"),
    (Mapping, "table"),
    (list | tuple, "array"),
)
