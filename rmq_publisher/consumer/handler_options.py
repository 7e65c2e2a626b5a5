"""What `consume` takes, checked as far as that is possible without the settings."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from rmq_publisher.amqp.entities import QueueConfig
from rmq_publisher.amqp.validation import plain_str
from rmq_publisher.consumer.subscriptions import PREFETCH_MAX, Queue, QueueItem, consumed_queue
from rmq_publisher.messages.compose import alias_of
from rmq_publisher.serialization import accepted
from rmq_publisher.topology import registry
from rmq_publisher.transport.consuming import STREAM_OFFSET

PREFETCH_PER_THREAD = 20
NAME_MAX = 100  # characters; the inbox and the dead letters store it
MAX_BACKOFF = 30 * 86_400.0  # seconds
MOST = 2**31 - 1
DROP = "drop"


@dataclass(frozen=True, eq=False)
class HandlerOptions:
    """A handler and how it is run; `consume` describes each.

    Attributes:
        name: of the handler, by which the inbox and the dead letters know it.
        function: the handler itself.
        queue: the name or the `QueueConfig` that was given.
        arguments: of the consumer, such as ``x-stream-offset``.
        backoff: seconds before the second attempt, and at most before any.
        timeout: seconds after which a running handler is reported.
    """

    name: str
    function: Callable[..., Any]
    queue: Queue
    arguments: Mapping[str, Any] = field(default_factory=dict)
    using: str | None = None
    accept: tuple[str, ...] | None = ("json",)
    prefetch: int | None = None
    threads: int = 1
    once: bool = False
    once_batch: int | None = None
    database: str | None = None
    max_attempts: int = 5
    backoff: tuple[float, float] = (1.0, 300.0)
    timeout: float | None = None
    dead_letters: str | None = None

    @property
    def queue_name(self) -> str:
        """The name of its queue."""
        return self.queue.name if isinstance(self.queue, QueueConfig) else self.queue

    @property
    def alias(self) -> str:
        """The RabbitMQ alias.

        Raises:
            InvalidMessage, ImproperlyConfigured: there is no such alias, or none is named.
        """
        return alias_of(self.using, self.queue)

    @property
    def config(self) -> QueueConfig | None:
        """The config of its queue, also where it was given by name; None where nothing declares it."""
        if isinstance(self.queue, QueueConfig):
            return self.queue
        named = (one for one in registry.queues(self.alias) if one.name == self.queue)
        return next(named, None)

    @property
    def is_async(self) -> bool:
        """Whether it is a coroutine function."""
        return inspect.iscoroutinefunction(self.function)

    @property
    def is_stream(self) -> bool:
        """Whether its queue is a stream, as far as the project says."""
        return STREAM_OFFSET in self.arguments or _is_stream(self.config)

    def prefetch_of(self, threads: int) -> int:
        """Return the number of messages that may be held for so many threads."""
        if self.prefetch is not None:
            return self.prefetch
        return min(PREFETCH_MAX, PREFETCH_PER_THREAD * threads)

    @property
    def place(self) -> str:
        """Where it is written: module and name of the function."""
        name = getattr(self.function, "__qualname__", type(self.function).__qualname__)
        return f"{self.function.__module__}.{name}"

    def __str__(self) -> str:
        return f"handler {self.name!r}"


def _is_stream(config: QueueConfig | None) -> bool:
    return config is not None and config.queue_type == "stream"


def checked_options(function: Any, queue: QueueItem, **given: Any) -> HandlerOptions:
    """Return a handler's options.

    Raises:
        TypeError, ValueError, LookupError: a bad argument.
    """
    if not callable(function):
        raise TypeError(f"@consume is for functions, not {type(function).__name__}")
    consumed = consumed_queue(queue)
    name = _name(given["name"], function)
    options = HandlerOptions(
        name=name,
        function=function,
        queue=consumed.queue,
        arguments=consumed.arguments,
        using=_text("using", given["using"]),
        accept=_accept(given["accept"]),
        prefetch=_count("prefetch", given["prefetch"], PREFETCH_MAX, optional=True),
        threads=_count("threads", given["threads"], 1000) or 1,
        once=_bool("once", given["once"]),
        once_batch=_count("once_batch", given["once_batch"], 10_000, optional=True),
        database=_text("database", given["database"]),
        max_attempts=_count("max_attempts", given["max_attempts"], MOST) or 1,
        backoff=_backoff(given["backoff"]),
        timeout=None if given["timeout"] is None else _seconds("timeout", given["timeout"]),
        dead_letters=_dead_letters(given["dead_letters"]),
    )
    _check_together(options)
    return options


def _check_together(options: HandlerOptions) -> None:
    if options.once_batch is not None and not options.once:
        raise ValueError("once_batch needs once=True: without it there is no transaction")
    if options.once and options.is_async:
        raise TypeError(
            f"{options}: once=True needs a plain function: an `async def` cannot run in a transaction"
        )
    given_stream = STREAM_OFFSET in options.arguments or (
        isinstance(options.queue, QueueConfig) and _is_stream(options.queue)
    )
    if given_stream and options.max_attempts != 1:
        raise ValueError(f"{options}: messages of a stream cannot be retried: set max_attempts=1")


def _name(name: Any, function: Any) -> str:
    if name is None:
        name = getattr(function, "__name__", None) or type(function).__name__
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, not {type(name).__name__}")
    if not name or len(name) > NAME_MAX or not name.isprintable():
        raise ValueError(f"name must have 1 to {NAME_MAX} printable characters")
    return plain_str(name)


def _text(label: str, value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{label} must be the name of an alias, not {type(value).__name__}")
    return None if value is None else plain_str(value)


def _accept(accept: Any) -> tuple[str, ...] | None:
    if accept is not None and not isinstance(accept, str | bytes) and isinstance(accept, Iterable):
        accept = tuple(accept)
    accepted(accept)
    found: tuple[str, ...] | None = accept
    return found


def _bool(label: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{label} must be True or False, not {type(value).__name__}")
    return value


def _count(label: str, value: Any, most: int, *, optional: bool = False) -> int | None:
    if value is None and optional:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{label} must be an int, not {type(value).__name__}")
    if not 1 <= value <= most:
        raise ValueError(f"{label} must be from 1 to {most}, not {value}")
    return value


def _seconds(label: str, value: Any) -> float:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{label} must be seconds or a timedelta, not {type(value).__name__}")
    if not 0 < value <= MAX_BACKOFF:
        raise ValueError(f"{label} must be more than 0 and at most {MAX_BACKOFF:.0f} seconds")
    return float(value)


def _backoff(backoff: Any) -> tuple[float, float]:
    if not isinstance(backoff, tuple | list) or len(backoff) != 2:
        raise TypeError(
            "backoff must be a pair of seconds: the first delay and the longest, "
            f"such as (1, 300); not {type(backoff).__name__}"
        )
    first, most = (_seconds("backoff", value) for value in backoff)
    if first > most:
        raise ValueError(f"the first delay of backoff exceeds the longest: {first:g} > {most:g}")
    return first, most


def _dead_letters(value: Any) -> str | None:
    if value not in (None, DROP):
        raise ValueError(f'dead_letters must be None, or "{DROP}" to drop messages, not {value!r}')
    return DROP if value == DROP else None
