"""For the tests of projects: what was published, without a broker or with one in memory.

`capture` takes every message that is published in its block, whatever RMQ_URL says, and nothing
leaves; `assert_published` finds one of them and gives it back, `assert_task_sent` a task for a Celery
worker. All are of one process, and of all its threads.

An assertion that fails shows the bodies of messages, shortened, and the names of their headers: it is
read by whoever wrote the test. Nothing else here shows a body, and nothing a header's value.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, TypedDict, Unpack

from django.conf import settings
from django.test import override_settings

from rmq_publisher.conf import loader
from rmq_publisher.conf.schema import NO_URL
from rmq_publisher.exceptions import PublishError
from rmq_publisher.messages.envelope import check_options
from rmq_publisher.telemetry import outages
from rmq_publisher.telemetry.publish_counts import counts_in_memory, keep_counts_in_memory
from rmq_publisher.testing.captured import Capture, OnCommit, Published, PublishedMessage
from rmq_publisher.testing.matching import differences, report
from rmq_publisher.transport.handler import connections
from rmq_publisher.transport.memory.broker import MemoryBroker
from rmq_publisher.transport.memory.received import Received
from rmq_publisher.transport.memory.transport import broker_of

__all__ = [
    "MemoryBroker", "Published", "PublishedMessage", "Received", "assert_not_published",
    "assert_published", "assert_task_sent", "capture", "keep_counts_in_memory", "memory_broker",
]  # fmt: skip


_open: list[Published] = []  # the captures of this process; the last one gets the messages


def capture(
    on_commit: OnCommit = "run", *, route: bool = False, error: PublishError | None = None
) -> Capture:
    """Capture what is published in this block instead of sending it.

    May be nested, and decorate functions, ``async`` ones too. Every message is confirmed, and no queue
    or exchange need exist. What was published inside never leaves, even where its transaction commits
    after the block.

    Args:
        on_commit: "run" takes the transaction that a TestCase wraps around each test for none, so
            that messages are there once the code's own ``atomic`` blocks are left; "pending" leaves
            them in ``pending`` until something commits or runs the hooks.
        route: route them by a fresh memory broker that has the queues and exchanges which the project
            declares (`Published.broker`); the rest has RabbitMQ's answers.
        error: the outcome of every message, instead of a confirm.

    Returns:
        A context manager of the messages, a sequence that grows. With ``route`` it raises `Rejected`
        where the project declares what no broker takes.

    Raises:
        ValueError: another ``on_commit``.
    """
    if on_commit not in ("run", "pending"):
        raise ValueError(f'on_commit must be "run" or "pending", not {on_commit!r}')
    return Capture(partial(_captured, on_commit, route=route, error=error))


@contextmanager
def _captured(
    on_commit: OnCommit, *, route: bool, error: PublishError | None
) -> Iterator[Published]:
    if _open:
        _open[-1].send_committed()
    with ExitStack() as stack:
        stack.enter_context(counts_in_memory())
        outages.forget()  # a test may expect the log lines of a simulated outage
        if missing := missing_urls():
            stack.enter_context(override_settings(**missing))
        published = Published(on_commit, route=route, error=error)
        if route:
            for connection in loader.usable():
                published.transport(connection)
        stack.enter_context(connections.replaced(published.transport))
        _open.append(published)
        stack.callback(_open.remove, published)
        stack.callback(published.end)
        yield published


def missing_urls() -> dict[str, Any]:
    """Return the project's settings, with a broker wherever they have none."""
    if not loader.aliases():
        return {"RMQ_URL": "memory://"}
    if all(problem.id != NO_URL for problem in loader.problems()):
        return {}
    found: Mapping[str, Any] = getattr(settings, "RMQ_CONNECTIONS", {})
    named = {
        alias: {**own, "URL": own.get("URL") or "memory://"} if isinstance(own, Mapping) else own
        for alias, own in found.items()
    }
    return {"RMQ_CONNECTIONS": named}


def memory_broker(using: str | None = None) -> MemoryBroker:
    """Return the memory broker of an alias whose URL is ``memory://``.

    It keeps what it has until the process ends or `MemoryBroker.reset` is called.

    Args:
        using: RabbitMQ alias; may be left out when there is one.

    Raises:
        RuntimeError: the alias has another broker.
    """
    keep_counts_in_memory()
    alias = loader.alias_for(using)
    if not loader.connection(alias).memory:
        raise RuntimeError(
            f"the URL of {alias!r} is not memory://: set it so for tests, or use capture(route=True)"
        )
    return broker_of(alias)


class Criteria(TypedDict, total=False):
    """What a message must have; what is left out is not compared.

    ``queue`` is the queue that the call named (where messages are routed: one that took it). ``body``
    is bytes, a str, or what the body holds as JSON. ``headers`` are some of the message's. The others
    are compared as they are on the wire: ``expiration`` is a str of milliseconds.
    """

    queue: str
    exchange: str
    routing_key: str
    body: Any
    headers: Mapping[str, Any]
    using: str
    message_id: str
    content_type: str
    content_encoding: str
    delivery_mode: int
    priority: int
    correlation_id: str
    reply_to: str
    expiration: str
    timestamp: int
    type: str
    user_id: str
    app_id: str


_CRITERIA = frozenset(Criteria.__annotations__)


def assert_published(
    published: Sequence[PublishedMessage] | None = None,
    /,
    *,
    count: int = 1,
    **criteria: Unpack[Criteria],
) -> PublishedMessage:
    """Assert how many messages match; return the first of them.

    Args:
        published: what to look at: a capture, or one of its ``pending`` and ``refused``; the innermost
            capture that is open when left out.
        count: how many must fit; other messages may have been published besides.
        criteria: what they must have.

    Raises:
        AssertionError: others or more fit; the text says what was published instead.
        TypeError: an unknown criterion.
        ValueError: ``count`` is less than one.
        RuntimeError: no capture is given and none is open.
    """
    check_options("assert_published()", criteria, _CRITERIA)
    return _first_of(count, published, criteria)


def assert_task_sent(
    name: str,
    published: Sequence[PublishedMessage] | None = None,
    /,
    *,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    count: int = 1,
    **criteria: Unpack[Criteria],
) -> PublishedMessage:
    """Assert how many messages send this task to a Celery worker; return the first of them.

    A chain is sent as its first task.

    Args:
        name: of the task, such as ``"shop.tasks.create_invoice"``.
        published: as in `assert_published`.
        args, kwargs: what the task is called with, compared as JSON; any when left out.
        count: how many messages must fit.
        criteria: what else they must have, as in `assert_published`.

    Raises:
        AssertionError: more or fewer fit; the text says what was published instead.
        InvalidMessage: ``args`` or ``kwargs`` cannot be written as JSON.
        TypeError: an unknown criterion.
        ValueError: ``count`` is less than one.
        RuntimeError: no capture is given and none is open.
    """
    check_options("assert_task_sent()", criteria, _CRITERIA)
    wanted: dict[str, Any] = {"task": name, **criteria}
    if args is not None:
        wanted["args"] = args
    if kwargs is not None:
        wanted["kwargs"] = kwargs
    return _first_of(count, published, wanted)


def _first_of(
    count: int, published: Sequence[PublishedMessage] | None, criteria: Mapping[str, Any]
) -> PublishedMessage:
    """Return the first of the matching messages, after checking their number."""
    if count < 1:
        raise ValueError("count must be 1 or more; for none there is assert_not_published()")
    messages = _looked_at(published)
    fitting = [message for message in messages if not differences(message, criteria)]
    if len(fitting) != count:
        raise AssertionError(report(messages, criteria, len(fitting), count))
    return fitting[0]


def assert_not_published(
    published: Sequence[PublishedMessage] | None = None, /, **criteria: Unpack[Criteria]
) -> None:
    """Assert that no message matches; without criteria, that there is none at all.

    Args:
        published: as in `assert_published`.
        criteria: as for `assert_published`.

    Raises:
        AssertionError: some do; the text says which.
        TypeError: an unknown criterion.
        RuntimeError: no capture is given and none is open.
    """
    check_options("assert_not_published()", criteria, _CRITERIA)
    messages = _looked_at(published)
    fitting = [message for message in messages if not differences(message, criteria)]
    if fitting:
        raise AssertionError(report(messages, criteria, len(fitting), 0))


def _looked_at(published: Sequence[PublishedMessage] | None) -> Sequence[PublishedMessage]:
    if published is not None:
        return published
    if not _open:
        raise RuntimeError(
            "no capture is open: give the one to look at, as in "
            "`with capture() as published: ...` and `assert_published(published, ...)`"
        )
    return _open[-1]
