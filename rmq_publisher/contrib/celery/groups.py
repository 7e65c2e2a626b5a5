"""Groups: tasks and chains that are sent together."""

from collections.abc import Iterable, Iterator
from typing import Any, Unpack

from asgiref.sync import sync_to_async
from django.db import DEFAULT_DB_ALIAS, transaction

from rmq_publisher.contrib.celery.canvas import Signature, chain, is_many, new_id, send
from rmq_publisher.contrib.celery.options import TaskOptions
from rmq_publisher.contrib.celery.sending import Outgoing

_NO_CHORD = (
    "a group followed by a task is a chord, which needs a result back end: "
    "send it through an app with Celery(amqp='rmq_publisher.contrib.celery:AMQP')"
)


class group:  # noqa: N801 (Celery's name)
    """Tasks and chains that are sent together and run in parallel."""

    def __init__(self, *tasks: Any) -> None:
        """Make a group of signatures and chains, given one by one or as one iterable.

        Raises:
            TypeError: one of them is neither.
        """
        self.tasks = tuple(tasks[0] if len(tasks) == 1 and is_many(tasks[0]) else tasks)
        for task in self.tasks:
            if not isinstance(task, Signature | chain):
                raise TypeError(f"a group takes signatures and chains, not {type(task).__name__}")

    def apply_async(self, **options: Unpack[TaskOptions]) -> list[str]:
        """Send all of them; return the ids of the tasks, and for a chain that of its last task.

        Unless the delivery is ``"now"`` they leave together, in one transaction.

        Args:
            options: see `TaskOptions`; they win over those of the tasks.

        Raises:
            TypeError, InvalidMessage: bad arguments or options; nothing is sent.
            PublishError: with ``delivery="now"``, as `publish`; those before it were sent.
        """
        __traceback_hide__ = True
        made = list(self._made(options))
        messages = [message for message, _ in made]
        if all(message.options["delivery"] == "now" for message in messages):
            _publish(messages)
        else:
            with transaction.atomic(options.get("database") or _database(messages)):
                _publish(messages)
        return [last for _, last in made]

    def delay(self) -> list[str]:
        """Send all of them; return their ids."""
        return self.apply_async()

    async def aapply_async(self, **options: Unpack[TaskOptions]) -> list[str]:
        """`apply_async` for coroutines."""
        return await sync_to_async(self.apply_async)(**options)

    def _made(self, options: Any) -> Iterator[tuple[Outgoing, str]]:
        group_id = new_id()
        for index, task in enumerate(self.tasks):
            if isinstance(task, chain):
                first = task.tasks[0].set(**options)
                [message], last = chain(first, *task.tasks[1:]).messages((group_id, index))
                yield message, last
            else:
                [message] = task.set(**options).messages(group=(group_id, index))
                yield message, message.task_id

    def __or__(self, other: object) -> Any:
        raise TypeError(_NO_CHORD)

    def __repr__(self) -> str:
        return f"<group of {len(self.tasks)}>"


def _publish(messages: Iterable[Outgoing]) -> None:
    for message in messages:
        send(message)


def _database(messages: Iterable[Outgoing]) -> str:
    """Return the database whose transaction counts if the caller names none."""
    named = {message.options["database"] for message in messages} - {None}
    return next(iter(named), DEFAULT_DB_ALIAS)
