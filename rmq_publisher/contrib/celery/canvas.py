"""Signatures and chains: what Celery's message protocol can express without a result back end."""

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Unpack

from asgiref.sync import sync_to_async

from rmq_publisher.contrib.celery.message import check_arguments
from rmq_publisher.contrib.celery.options import TaskOptions, as_list, check_names, for_worker
from rmq_publisher.contrib.celery.sending import Outgoing, outgoing
from rmq_publisher.publisher.api import publish


class Signature:
    """A task with some of its arguments and options, to be sent, linked, chained or grouped."""

    def __init__(
        self,
        task: str,
        args: Any = (),
        kwargs: Any = None,
        *,
        options: Mapping[str, Any] | None = None,
        immutable: bool = False,
        bind: Callable[..., object] | None = None,
    ) -> None:
        """Make a signature.

        Args:
            task: name of the task.
            args, kwargs: arguments that are known already.
            options: see `TaskOptions`.
            immutable: take no further arguments, nor the result of the task before.
            bind: raises `TypeError` for arguments that the task does not take.
        """
        check_arguments(args, kwargs := {} if kwargs is None else kwargs)
        self.task = task
        self.args = tuple(args)
        self.kwargs = dict(kwargs)
        self.options = dict(options or {})
        self.immutable = immutable
        self._bind = bind
        check_names(self.options)

    def set(self, **options: Unpack[TaskOptions]) -> "Signature":
        """Return a copy with these options, which take precedence over its own."""
        return self._with(options={**self.options, **options})

    def clone(self, args: Any = (), kwargs: Any = None) -> "Signature":
        """Return a copy with more arguments: positional ones come first, as in Celery."""
        check_arguments(args, kwargs := {} if kwargs is None else kwargs)
        if self.immutable:
            return self
        return self._with(args=(*args, *self.args), kwargs={**self.kwargs, **kwargs})

    def _with(self, **changes: Any) -> "Signature":
        own = {
            "args": self.args, "kwargs": self.kwargs, "options": self.options,
            "immutable": self.immutable, "bind": self._bind,
        }  # fmt: skip
        return Signature(self.task, **{**own, **changes})

    def delay(self, *args: Any, **kwargs: Any) -> str:
        """Send the task with these further arguments; return its id."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self, args: Any = (), kwargs: Any = None, **options: Unpack[TaskOptions]
    ) -> str:
        """Send the task; return its id.

        Args:
            args, kwargs: further arguments.
            options: see `TaskOptions`; they win over those of the signature.

        Raises:
            TypeError, InvalidMessage: bad arguments or options; nothing is sent.
            PublishError: with ``delivery="now"``, as `publish`.
        """
        __traceback_hide__ = True  # Django's debug page would show the arguments
        signature = self.set(**options) if options else self
        if args != () or kwargs is not None:
            signature = signature.clone(args, kwargs)
        return send(signature.messages()[-1])

    async def adelay(self, *args: Any, **kwargs: Any) -> str:
        """`delay` for coroutines."""
        return await sync_to_async(self.delay)(*args, **kwargs)

    async def aapply_async(
        self, args: Any = (), kwargs: Any = None, **options: Unpack[TaskOptions]
    ) -> str:
        """`apply_async` for coroutines."""
        return await sync_to_async(self.apply_async)(args, kwargs, **options)

    def __or__(self, other: object) -> "chain":
        return chain(self, other)

    def messages(
        self, rest: Iterable["Signature"] = (), group: tuple[str, int] | None = None
    ) -> list[Outgoing]:
        """Return the message that sends this task, in a list.

        Args:
            rest: the tasks that follow it in a chain.
            group: id of the group that it belongs to, and its place in it.
        """
        __traceback_hide__ = True
        if self._bind is not None:
            self._bind(*self.args, **self.kwargs)
        following = [signature.as_dict() for signature in rest]
        return [
            outgoing(
                self.task,
                self.args,
                self.kwargs,
                self.options,
                task_id=self.options.get("task_id") or new_id(),
                links=[signature_dict(link) for link in as_list(self.options.get("link"))],
                error_links=[
                    signature_dict(link) for link in as_list(self.options.get("link_error"))
                ],
                chain=following[::-1],
                group=group,
            )
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return it in Celery's form of a signature that a worker sends."""
        options = for_worker(self.options)
        for name in ("link", "link_error"):
            if links := as_list(self.options.get(name)):
                options[name] = [signature_dict(link) for link in links]
        return {
            "task": self.task,
            "args": list(self.args),
            "kwargs": dict(self.kwargs),
            "options": options,
            "subtask_type": None,
            "immutable": self.immutable,
        }

    def __repr__(self) -> str:
        return f"<Signature {self.task}>"


def send(message: Outgoing) -> str:
    """Publish the message of a task; return the task's id."""
    __traceback_hide__ = True  # Django's debug page would show the arguments
    return publish(message.body, **message.options)


def new_id() -> str:
    """Return a new task id in Celery's form."""
    return str(uuid.uuid4())


def signature_dict(link: object) -> dict[str, Any]:
    """Return a linked signature in Celery's form.

    Raises:
        TypeError: it is not a signature.
    """
    if isinstance(link, Signature):
        return link.as_dict()
    raise TypeError(
        f"link and link_error take signatures, as task.s() makes them, not {type(link).__name__}"
    )


class chain:  # noqa: N801 (Celery's name)
    """Tasks that run one after the other, each with the result of the one before."""

    def __init__(self, *tasks: Any) -> None:
        """Make a chain of signatures and chains.

        Raises:
            TypeError: one of them is a group, or no signature.
        """
        self.tasks = tuple(_flat(tasks[0] if len(tasks) == 1 and is_many(tasks[0]) else tasks))
        if not self.tasks:
            raise TypeError("a chain needs at least one task")

    def apply_async(
        self, args: Any = (), kwargs: Any = None, **options: Unpack[TaskOptions]
    ) -> str:
        """Send the first task, whose message contains the others.

        Args:
            args, kwargs: further arguments of the first task.
            options: of the first task, but for ``task_id`` and ``link``, which are of the last, and
                ``link_error``, which is of each.

        Returns:
            The id of the last task.

        Raises:
            TypeError, InvalidMessage: bad arguments or options; nothing is sent.
            PublishError: with ``delivery="now"``, as `publish`.
        """
        __traceback_hide__ = True
        messages, last = self._messages(args, kwargs, options)
        send(messages[0])
        return last

    def delay(self, *args: Any, **kwargs: Any) -> str:
        """Send it with these further arguments of the first task; return the id of the last."""
        return self.apply_async(args, kwargs)

    async def adelay(self, *args: Any, **kwargs: Any) -> str:
        """`delay` for coroutines."""
        return await sync_to_async(self.delay)(*args, **kwargs)

    async def aapply_async(
        self, args: Any = (), kwargs: Any = None, **options: Unpack[TaskOptions]
    ) -> str:
        """`apply_async` for coroutines."""
        return await sync_to_async(self.apply_async)(args, kwargs, **options)

    def messages(self, group: tuple[str, int] | None = None) -> tuple[list[Outgoing], str]:
        """Return the message that sends it, in a list, and the id of its last task."""
        return self._messages((), None, {}, group)

    def _messages(
        self, args: Any, kwargs: Any, options: Any, group: tuple[str, int] | None = None
    ) -> tuple[list[Outgoing], str]:
        __traceback_hide__ = True
        check_names(options)
        own = dict(options)
        last_options = {name: own.pop(name) for name in ("task_id", "link") if name in own}
        errors = {"link_error": own.pop("link_error")} if "link_error" in own else {}
        tasks = [
            task.set(**{"task_id": task.options.get("task_id") or new_id(), **errors})
            for task in self.tasks
        ]
        tasks[-1] = tasks[-1].set(**{name: value for name, value in last_options.items() if value})
        tasks[0] = tasks[0].set(**own).clone(args, kwargs)
        messages = tasks[0].messages(tasks[1:], group)
        return messages, tasks[-1].options["task_id"]

    def __or__(self, other: object) -> "chain":
        return chain(*self.tasks, other)

    def __repr__(self) -> str:
        return f"<chain {' | '.join(task.task for task in self.tasks)}>"


def is_many(value: object) -> bool:
    """Whether it is an iterable of tasks, not a single task."""
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)


def _flat(tasks: Iterable[Any]) -> Iterator[Signature]:
    for task in tasks:
        if isinstance(task, Signature):
            yield task
        elif isinstance(task, chain):
            yield from task.tasks
        else:
            raise TypeError(
                f"a chain takes signatures and chains, not {type(task).__name__}; groups in chains need "
                "an app with Celery(amqp='rmq_publisher.contrib.celery:AMQP')"
            )
