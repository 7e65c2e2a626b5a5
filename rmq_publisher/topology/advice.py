"""Advice about a queue or exchange that the broker does not have, from the project's declarations."""

import difflib
import logging
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from django.core.signals import setting_changed

from rmq_publisher.amqp.reply_codes import NOT_FOUND
from rmq_publisher.conf import loader
from rmq_publisher.conf.schema import PREFIX
from rmq_publisher.exceptions import BrokerAnswer, Unroutable
from rmq_publisher.topology import registry

logger = logging.getLogger("rmq_publisher")

_MISSING = re.compile(r"no (queue|exchange) '(.*)' in vhost ")


def advice(error: BrokerAnswer) -> str:
    """Return what to do about a missing queue or exchange, or an empty string.

    Never raises.
    """
    try:
        missing = _missing(error)
        return _about(*missing) if missing else ""
    except Exception as wrong:  # noqa: BLE001 (the project's modules, which it imports, may raise anything)
        logger.debug("no advice about a missing queue: %s", type(wrong).__name__)
        return ""


def _missing(error: BrokerAnswer) -> tuple[str, str] | None:
    """Return the kind and the name of what is missing."""
    if isinstance(error, Unroutable):
        return None if error.exchange else ("queue", error.routing_key)
    found = _MISSING.search(error.reply_text) if error.reply_code == NOT_FOUND else None
    return (found[1], found[2]) if found else None


@lru_cache(maxsize=256)  # a relay asks for each row of a batch that failed for one reason
def _about(kind: str, name: str) -> str:
    known = dict(_known(kind))
    if name in known:
        declaration = known[name]
        using = f" --using {declaration.alias}" if len(loader.aliases()) > 1 else ""
        return f"{declaration.sources[0]} declares it: run manage.py rmq_declare{using}"
    for close in difflib.get_close_matches(name, known, 1):
        return f"did you mean {close!r} ({known[close].sources[0]})?"
    return ""


def _forget(*, setting: str, **_: Any) -> None:
    if setting.startswith(PREFIX) or setting == "INSTALLED_APPS":
        _about.cache_clear()


setting_changed.connect(_forget, dispatch_uid="rmq_publisher.advice")


def _known(kind: str) -> Iterator[tuple[str, registry.Declaration]]:
    for alias in loader.aliases():
        for declaration in registry.declarations(alias):
            if str(declaration.config).startswith(f"{kind} "):
                yield declaration.config.name, declaration
