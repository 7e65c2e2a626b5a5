"""The system checks of a task backend, which need neither a broker nor a database.

The ids are stable; silence one with ``SILENCED_SYSTEM_CHECKS``.

| id | says |
|---|---|
| `rmq_publisher_tasks.E001` | an option that does not exist |
| `rmq_publisher_tasks.E002` | an option of the wrong type or out of range |
| `rmq_publisher_tasks.E003` | the RabbitMQ connection is unknown, or not named where there are several |
| `rmq_publisher_tasks.E004` | the database is unknown, or cannot hold messages or tasks |
| `rmq_publisher_tasks.E005` | a queue's name is longer than AMQP allows |
| `rmq_publisher_tasks.E006` | the app is not installed |
| `rmq_publisher_tasks.E007` | Django before 6.0 without the package `django-tasks` |
| `rmq_publisher_tasks.W001` | two backends share a queue |
| `rmq_publisher_tasks.W002` | a timeout over the broker's own limit of 30 minutes |
"""

from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from typing import Any

from django.apps import apps
from django.core import checks
from django.db import connections as databases
from django.db import router

from rmq_publisher.amqp.validation import TopologyError
from rmq_publisher.conf import loader
from rmq_publisher.conf.schema import Problem
from rmq_publisher.contrib.django_tasks.options import TAG, BackendOptions
from rmq_publisher.contrib.django_tasks.topology import all_queues
from rmq_publisher.db.support import unfit

APP = "rmq_publisher.contrib.django_tasks"
CONSUMER_TIMEOUT = (
    1800.0  # RabbitMQ's default, in seconds, for the time that a message may stay unsettled
)


def has_framework() -> bool:
    """Return whether Django's task framework is available: in Django, or as django-tasks."""
    return any(find_spec(name) is not None for name in ("django.tasks", "django_tasks"))


def check_framework(**_: Any) -> list[checks.CheckMessage]:
    """Return an error if the framework is missing."""
    problem = Problem(
        f"INSTALLED_APPS contains {APP}, which",
        "needs Django 6.0 or later, or the package django-tasks",
        "Install django-tasks, or a later Django.",
        f"{TAG}.E007",
    )
    return [] if has_framework() else messages([problem])


def messages(problems: Iterable[Problem]) -> list[checks.CheckMessage]:
    """Return problems as Django shows them."""
    return [
        (checks.Error if problem.is_error else checks.Warning)(
            f"{problem.setting} {problem.text}.", hint=problem.hint, id=problem.id
        )
        for problem in problems
    ]


def check_backend(alias: str, queues: Iterable[str], options: BackendOptions) -> Iterator[Problem]:
    """Yield a backend's problems that involve more than the value of one option.

    Args:
        alias: of ``TASKS``.
        queues: of tasks.
        options: of the backend.
    """
    place = f"TASKS[{alias!r}]['OPTIONS']"
    if not apps.is_installed(APP):
        text = f"has a backend of {APP}, which is not installed"
        hint = f'Add "{APP}" to INSTALLED_APPS and run manage.py migrate.'
        yield Problem(f"TASKS[{alias!r}]", text, hint, f"{TAG}.E006")
    yield from _connection(place, options)
    yield from _database(place, options)
    for queue in sorted(queues):
        try:
            all_queues(options, queue)
        except TopologyError as error:
            text = f"gives the queue {queue[:60]!r} an invalid name at the broker: {error}"
            yield Problem(f"{place}['prefix']", text, "Shorten one of them.", f"{TAG}.E005")
    yield from _timeouts(place, options)


def _connection(place: str, options: BackendOptions) -> Iterator[Problem]:
    known = loader.aliases()
    if not known:
        return  # rmq_publisher.W001 reports it
    listed = ", ".join(map(repr, known))
    hint = f"Set it to one of {listed}."
    if options.using is None and len(known) > 1:
        text = f"is not set, and there are several RabbitMQ connections: {listed}"
        yield Problem(f"{place}['using']", text, hint, f"{TAG}.E003")
    elif options.using is not None and options.using not in known:
        text = f"names the unknown RabbitMQ connection {options.using!r}"
        yield Problem(f"{place}['using']", text, hint, f"{TAG}.E003")


def _database(place: str, options: BackendOptions) -> Iterator[Problem]:
    place, database = f"{place}['database']", options.database
    if database not in databases:
        hint = f"Set it to one of {', '.join(map(repr, databases))}."
        yield Problem(place, f"names the unknown database {database!r}", hint, f"{TAG}.E004")
    elif reason := unfit(database):
        text = f"is {database!r}, which cannot hold messages: {reason}"
        yield Problem(place, text, "Name another database.", f"{TAG}.E004")
    elif apps.is_installed(APP) and not router.allow_migrate(
        database, apps.get_app_config(TAG).label, model_name="taskrecord"
    ):
        text = f"is {database!r}, where DATABASE_ROUTERS do not allow the table of tasks"
        hint = (
            "Have allow_migrate() return True for rmq_publisher_tasks, or name another database."
        )
        yield Problem(place, text, hint, f"{TAG}.E004")


def _timeouts(place: str, options: BackendOptions) -> Iterator[Problem]:
    limits = {f"{place}['timeout']": options.defaults.timeout}
    limits |= {
        f"{place}['tasks'][{path!r}]['timeout']": own.get("timeout")
        for path, own in options.tasks.items()
    }
    for name, timeout in limits.items():
        if timeout is not None and timeout > CONSUMER_TIMEOUT:
            yield Problem(
                name,
                f"of {timeout:g} s is longer than the {CONSUMER_TIMEOUT:.0f} s (consumer_timeout) after "
                "which RabbitMQ requeues and redelivers a message",
                "Raise the broker's consumer_timeout above it and silence this check, or split the task.",
                f"{TAG}.W002",
            )


def sharing(backends: Iterable[tuple[str, Iterable[str], BackendOptions]]) -> Iterator[Problem]:
    """Yield backends that share a queue: the workers of each would receive the other's tasks.

    Args:
        backends: alias, queues and options of each.
    """
    seen: list[tuple[str, set[str], BackendOptions]] = []
    for alias, listed, options in backends:
        queues = set(listed)
        for other, others, its in seen:
            if (options.using, options.prefix) != (its.using, its.prefix):
                continue
            if queues and others and not queues & others:
                continue
            yield Problem(
                f"TASKS[{alias!r}]",
                f"and TASKS[{other!r}] share queues at the broker: their prefix is {options.prefix!r}",
                'Give one of them another "prefix", or other QUEUES.',
                f"{TAG}.W001",
            )
        seen.append((alias, queues, options))
