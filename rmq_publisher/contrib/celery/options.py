"""The options of a task: what `CeleryTask.apply_async` and signatures take, and where they apply."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypedDict

from rmq_publisher.amqp.entities import ExchangeConfig, QueueConfig

Delay = float | timedelta


class TaskOptions(TypedDict, total=False):
    """Where, when and how a task is sent; names that Celery's ``apply_async`` has mean the same.

    ``link`` and ``link_error`` are signatures, or lists of them. ``schedule`` is ``"table"``,
    ``"worker"`` or ``"broker"``: who holds a task with ``countdown`` or ``eta``.
    """

    countdown: Delay | None
    eta: datetime | None
    expires: Delay | datetime | None
    priority: int | None
    queue: str | QueueConfig
    exchange: str | ExchangeConfig
    routing_key: str | None
    task_id: str | None
    headers: Mapping[str, Any] | None
    link: Any
    link_error: Any
    time_limit: float | None
    soft_time_limit: float | None
    ignore_result: bool
    reply_to: str | None
    shadow: str | None
    schedule: str | None
    using: str | None
    database: str | None
    delivery: str | None
    ordering_key: str | None


NAMES = frozenset(TaskOptions.__annotations__)
# These have no effect on a linked or chained task, which a worker sends.
_OURS = frozenset({"schedule", "using", "database", "delivery", "ordering_key"})


def check_names(options: Mapping[str, Any]) -> None:
    """Raise an error for an unknown option.

    Raises:
        TypeError: names it.
    """
    if unknown := sorted(options.keys() - NAMES):
        raise TypeError(
            f"no option of a task: {', '.join(unknown)}. There are: {', '.join(sorted(NAMES))}"
        )


def for_worker(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a task that a worker will send, as Celery takes them."""
    kept = {
        name: value
        for name, value in options.items()
        if value is not None and name not in _OURS and name not in ("link", "link_error")
    }
    for name in ("queue", "exchange"):
        if isinstance(config := kept.get(name), QueueConfig | ExchangeConfig):
            kept[name] = config.name
    for name in ("countdown", "expires"):
        if isinstance(delay := kept.get(name), timedelta):
            kept[name] = delay.total_seconds()
    return {name: value for name, value in kept.items() if value != ""}


def as_list(value: Any) -> Sequence[Any]:
    """Return ``link`` or ``link_error`` as a list; None is an empty one."""
    if value is None:
        return ()
    return tuple(value) if isinstance(value, list | tuple) else (value,)
