"""Checks the options of queues and exchanges, alone and in combination, and makes x-arguments of them."""

from collections.abc import Mapping
from typing import Any

from rmq_publisher.amqp.validation import (
    Arguments,
    TopologyError,
    check_name,
    merge_arguments,
    milliseconds,
)

EXCHANGE_TYPES = ("direct", "topic", "fanout", "headers")
QUEUE_TYPES = ("classic", "quorum", "stream")
OVERFLOWS = ("drop-head", "reject-publish", "reject-publish-dlx")
_LIMITS = (
    ("max_length", 0, 2**63 - 1), ("max_length_bytes", 0, 2**63 - 1),
    ("max_priority", 1, 255), ("delivery_limit", 0, 2**31 - 1),
)  # fmt: skip


def check_exchange_type(what: str, kind: str) -> str:
    """Return the type of an exchange as a plain str.

    Raises:
        TopologyError: it is neither a type of AMQP nor a plugin's ``x-...``.
    """
    kind = check_name(f"{what}: type", kind)
    if kind not in EXCHANGE_TYPES and not kind.startswith("x-"):
        raise TopologyError(f"{what}: type must be one of {EXCHANGE_TYPES} or x-..., not {kind!r}")
    return kind


def queue_arguments(what: str, options: Mapping[str, Any]) -> tuple[Arguments | None, Arguments]:
    """Return the further x-arguments of a queue, and all of them, as `merge_arguments` does.

    Args:
        what: the queue, for error messages.
        options: the arguments of a `QueueConfig` by name.

    Raises:
        TopologyError: an option, or a combination of options, that every broker rejects.
    """
    _check_type(what, options)
    _check_dead_letters(what, options)
    _check_limits(what, options)
    named = {
        "x-queue-type": options["queue_type"],
        "x-dead-letter-exchange": options["dead_letter_exchange"],
        "x-dead-letter-routing-key": options["dead_letter_routing_key"],
        "x-message-ttl": _milliseconds(what, options, "message_ttl"),
        "x-max-length": options["max_length"],
        "x-max-length-bytes": options["max_length_bytes"],
        "x-overflow": options["overflow"],
        "x-max-priority": options["max_priority"],
        "x-delivery-limit": options["delivery_limit"],
        "x-single-active-consumer": True if options["single_active_consumer"] else None,
        "x-expires": _milliseconds(what, options, "expires"),
    }
    if named["x-expires"] == 0:
        raise TopologyError(f"{what}: expires must be more than zero")
    return merge_arguments(what, options["arguments"], named)


def _check_type(what: str, options: Mapping[str, Any]) -> None:
    kind, overflow = options["queue_type"], options["overflow"]
    if kind is not None and kind not in QUEUE_TYPES:
        raise TopologyError(f"{what}: queue_type must be one of {QUEUE_TYPES}, not {kind!r}")
    if kind in ("quorum", "stream") and not options["durable"]:
        raise TopologyError(f"{what}: a {kind} queue must be durable")
    if kind in ("quorum", "stream") and options["max_priority"] is not None:
        raise TopologyError(f"{what}: max_priority needs a classic queue")
    if overflow is not None and overflow not in OVERFLOWS:
        raise TopologyError(f"{what}: overflow must be one of {OVERFLOWS}, not {overflow!r}")


def _check_dead_letters(what: str, options: Mapping[str, Any]) -> None:
    for name in ("dead_letter_exchange", "dead_letter_routing_key"):
        if options[name] is not None:
            check_name(f"{what}: {name}", options[name], empty=True)
    if options["dead_letter_routing_key"] is not None and options["dead_letter_exchange"] is None:
        raise TopologyError(
            f"{what}: dead_letter_routing_key needs dead_letter_exchange "
            '("" for the default exchange)'
        )


def _check_limits(what: str, options: Mapping[str, Any]) -> None:
    for name, least, most in _LIMITS:
        value = options[name]
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise TopologyError(f"{what}: {name} must be an int from {least} to {most}")


def _milliseconds(what: str, options: Mapping[str, Any], name: str) -> int | None:
    value = options[name]
    return None if value is None else milliseconds(f"{what}: {name}", value)
