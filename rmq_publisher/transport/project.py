"""What the project declares for a connection: the app says how to find it when Django starts.

The layers above collect it, from settings and from modules of the project's apps.
"""

import logging
import threading
from collections.abc import Callable, Sequence

from rmq_publisher.amqp.entities import Bare, Entity
from rmq_publisher.amqp.routes import Config

logger = logging.getLogger("rmq_publisher.transport")


class _Project:
    order: Callable[[str], Sequence[Entity]] = staticmethod(lambda _: ())


def found_by(order: Callable[[str], Sequence[Entity]]) -> None:
    """Take what returns all that the project declares for an alias, in order of declaration."""
    _Project.order = staticmethod(order)


def entities(alias: str) -> Sequence[Entity]:
    """Return what declares the project's topology for an alias, each thing by itself, in order."""
    return _Project.order(alias)


def configs(alias: str) -> tuple[Config, ...]:
    """Return the project's exchanges and queues for an alias, in order of declaration."""
    return tuple(entity.config for entity in entities(alias) if isinstance(entity, Bare))


def find(alias: str, found: Callable[[tuple[Config, ...]], object]) -> None:
    """Have something called with the project's configs, on a thread of its own; it must not raise.

    They are collected on first use, which imports modules of the project: those may take their time,
    publish, or wait for a thread that does. Without a thread, or with a project that cannot be
    imported, there are none.
    """

    def run() -> None:
        result: tuple[Config, ...] = ()
        try:
            result = configs(alias)
        except BaseException as error:  # noqa: BLE001 (the project's own, even SystemExit; the checks tell)
            logger.debug("%s: the project's topology: %s", alias, type(error).__name__)
        found(result)

    try:
        threading.Thread(target=run, name=f"rmq_publisher project {alias}", daemon=True).start()
    except (RuntimeError, MemoryError):
        found(())
