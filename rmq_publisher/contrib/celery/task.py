"""A task of a Celery worker, sent without Celery in this process."""

import inspect
from collections.abc import Callable
from typing import Any, Unpack

from asgiref.sync import sync_to_async

from rmq_publisher.contrib.celery.canvas import Signature
from rmq_publisher.contrib.celery.options import TaskOptions, check_names


class CeleryTask:
    """A task by its name, with `delay` and `apply_async` as in Celery.

    Its message goes through `publish()`: after the commit, persistent, confirmed, and stored when the
    broker cannot be reached. It needs neither Celery nor the task's code in this process.
    """

    def __init__(
        self,
        name: str,
        *,
        signature: Callable[..., object] | None = None,
        **defaults: Unpack[TaskOptions],
    ) -> None:
        """Describe a task; nothing connects.

        Args:
            name: as the worker knows it, such as ``"shop.tasks.create_invoice"``.
            signature: a function whose parameters the arguments must fit.
            defaults: see `TaskOptions`; ``queue`` is ``"celery"`` when left out, as in Celery.

        Raises:
            TypeError: an unknown option, or the name is not a str.
            ValueError: the name is empty.
        """
        if not isinstance(name, str):
            raise TypeError(f"the name of a task must be a str, not {type(name).__name__}")
        if not name:
            raise ValueError("the name of a task must not be empty")
        check_names(defaults)
        self.name = name
        self.defaults: dict[str, Any] = dict(defaults)
        self._bind = None if signature is None else _binder(name, signature)

    def delay(self, *args: Any, **kwargs: Any) -> str:
        """Send the task with these arguments; return its id.

        Raises:
            TypeError, InvalidMessage: bad arguments; nothing is sent.
            PublishError: with ``delivery="now"``, as `publish`.
        """
        __traceback_hide__ = True  # Django's debug page would show the arguments
        return self.apply_async(args, kwargs)

    def apply_async(
        self, args: Any = (), kwargs: Any = None, **options: Unpack[TaskOptions]
    ) -> str:
        """Send the task; return its id.

        Args:
            args, kwargs: what the task is called with.
            options: see `TaskOptions`; they win over the task's defaults.

        Raises:
            TypeError, InvalidMessage: bad arguments or options; nothing is sent.
            PublishError: with ``delivery="now"``, as `publish`.
        """
        __traceback_hide__ = True
        return self._signature(args, kwargs).apply_async(**options)

    async def adelay(self, *args: Any, **kwargs: Any) -> str:
        """`delay` for coroutines."""
        return await sync_to_async(self.delay)(*args, **kwargs)

    async def aapply_async(
        self, args: Any = (), kwargs: Any = None, **options: Unpack[TaskOptions]
    ) -> str:
        """`apply_async` for coroutines."""
        return await sync_to_async(self.apply_async)(args, kwargs, **options)

    def s(self, *args: Any, **kwargs: Any) -> Signature:
        """Return a signature, which takes the result of the task before it as its first argument."""
        return self._signature(args, kwargs)

    def si(self, *args: Any, **kwargs: Any) -> Signature:
        """Return an immutable signature: it takes no result of another task."""
        return self._signature(args, kwargs, immutable=True)

    def set(self, **options: Unpack[TaskOptions]) -> "CeleryTask":
        """Return a copy with these defaults, which take precedence over its own."""
        copy = CeleryTask(self.name)
        copy.defaults = {**self.defaults, **options}
        check_names(copy.defaults)
        copy._bind = self._bind
        return copy

    def _signature(self, args: Any, kwargs: Any, *, immutable: bool = False) -> Signature:
        return Signature(
            self.name, args, kwargs, options=self.defaults, immutable=immutable, bind=self._bind
        )

    def __repr__(self) -> str:
        return f"<CeleryTask {self.name}>"


def _binder(name: str, function: Callable[..., object]) -> Callable[..., object]:
    signature = inspect.signature(function)

    def bind(*args: Any, **kwargs: Any) -> None:
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:  # names parameters, never values
            raise TypeError(f"{name}{signature}: {error}") from None

    return bind
