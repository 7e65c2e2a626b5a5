"""`consume` and the handlers that it has registered: those of each app's ``consumers.py``.

The modules are imported on first use, never at import or in ``ready()``, as `topology.registry` does.
"""

from collections.abc import Callable, Iterable
from datetime import timedelta
from importlib import import_module
from typing import Any, Literal, TypeVar

from django.apps import apps
from django.utils.module_loading import module_has_submodule

from rmq_publisher.consumer.handler_options import HandlerOptions, checked_options
from rmq_publisher.consumer.subscriptions import QueueItem

MODULE = "consumers"

Handler = TypeVar("Handler", bound=Callable[..., Any])

_registered: dict[tuple[str, str, str], HandlerOptions] = {}  # by module, function and name


def consume(
    queue: QueueItem,
    *,
    using: str | None = None,
    accept: Iterable[str] | None = ("json",),
    prefetch: int | None = None,
    threads: int = 1,
    once: bool = False,
    once_batch: int | None = None,
    database: str | None = None,
    max_attempts: int = 5,
    backoff: tuple[float | timedelta, float | timedelta] = (1, 300),
    timeout: float | timedelta | None = None,
    name: str | None = None,
    dead_letters: Literal["drop"] | None = None,
) -> Callable[[Handler], Handler]:
    """Make a function in an app's ``consumers.py`` a handler, which `rmq_consume` runs.

    The function is called with the decoded body and the `ReceivedMessage`; the function itself is not
    changed. When it returns, the message is acknowledged. ``raise Reject()`` ends the attempts;
    ``raise Retry()`` and any other exception are failures, and the message is tried again later.

    Args:
        queue: name (verified) or `QueueConfig` (declared); a pair of one of them and a mapping gives the
            consumer's arguments.
        using: RabbitMQ alias; may be left out when there is one.
        accept: serializers or content types that are decoded; other messages are rejected. None decodes
            what registered serializers read and returns other bodies as bytes.
        prefetch: the largest number of messages to hold; 20 for each thread when left out.
        threads: how many handlers run at once in a process.
        once: handle each message once, in a transaction on ``database`` with a row in the inbox.
        once_batch: how many messages share one transaction.
        database: Django alias; ``default`` when left out.
        max_attempts: how often a message is tried.
        backoff: seconds before the second attempt, which double each time, and their maximum.
        timeout: seconds (or timedelta) after which a running handler is logged and, with
            ``--processes``, its process is replaced.
        name: identifies the handler in the inbox; the function's name when left out.
        dead_letters: ``"drop"`` drops a message that used up its attempts; None keeps it.

    Raises:
        TypeError, ValueError, LookupError: a bad argument.
    """

    def register(function: Handler) -> Handler:
        options = checked_options(
            function, queue, using=using, accept=accept, prefetch=prefetch, threads=threads, once=once,
            once_batch=once_batch, database=database, max_attempts=max_attempts, backoff=backoff,
            timeout=timeout, name=name, dead_letters=dead_letters,
        )  # fmt: skip
        # By its place: a module that is imported again replaces its own.
        place = getattr(function, "__qualname__", type(function).__qualname__)
        _registered[function.__module__, place, options.name] = options
        return function

    return register


def registered_handlers() -> tuple[HandlerOptions, ...]:
    """Return the handlers of all apps, in the order found."""
    for app in apps.get_app_configs():
        # As autodiscover_modules does: an ImportError inside an app's module must be seen.
        if app.module is not None and module_has_submodule(app.module, MODULE):
            import_module(f"{app.name}.{MODULE}")
    return tuple(_registered.values())


def options_of(function: Callable[..., Any]) -> HandlerOptions:
    """Return the options with which a function was registered first.

    Raises:
        LookupError: it is no handler.
    """
    for options in _registered.values():
        if options.function is function:
            return options
    name = getattr(function, "__qualname__", repr(function))
    raise LookupError(f"{name} is not a handler: decorate it with @consume(...)")
