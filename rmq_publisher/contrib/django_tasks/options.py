"""The options of ``TASKS[alias]["OPTIONS"]``, validated without connecting to anything."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rmq_publisher.conf import loader
from rmq_publisher.conf.schema import Problem
from rmq_publisher.conf.validators import SettingError, choice, integer, seconds, shown

TAG = "rmq_publisher_tasks"
UNKNOWN = f"{TAG}.E001"
WRONG_VALUE = f"{TAG}.E002"

MOST_RUNS = 2**31 - 1
MOST_DEATHS = 1_000  # below `topology.DELIVERY_LIMIT`, with which every queue is declared
MOST_BACKOFF = 30 * 86_400.0  # seconds
MOST_DAYS = 36_500


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """How a task is run.

    Attributes:
        max_attempts: runs that may end in an exception or by the timeout.
        backoff: seconds before the second attempt, doubled before each further one, and at most.
        timeout: seconds that a run may take; None for no limit.
        max_deaths: workers that may die over the task; after the last of them it has failed.
    """

    max_attempts: int = 1
    backoff: tuple[float, float] = (1.0, 300.0)
    timeout: float | None = None
    max_deaths: int = 3

    def delay(self, failures: int) -> float:
        """Return the seconds to wait after this many failed runs."""
        first, most = self.backoff
        # 2.0**1024 would overflow; the maximum is reached long before.
        return min(most, first * 2.0 ** min(failures - 1, 1000))


TASK_OPTIONS = ("max_attempts", "backoff", "timeout", "max_deaths")


@dataclass(frozen=True, slots=True)
class BackendOptions:
    """The options of one alias of ``TASKS``.

    Attributes:
        using: RabbitMQ alias; None for the only one.
        database: Django alias of the database that holds the results and the messages.
        delivery: ``"outbox"`` or ``"on_commit"``.
        prefix: of the broker's queues: it precedes the name of the task's queue.
        queue_type: ``"quorum"`` or ``"classic"``.
        max_priority: of a classic queue.
        format: of the messages: ``"json"`` for `rmq_worker`, ``"celery"`` for Celery workers.
        result_retention_days: how long finished results are kept.
        defaults: how tasks are run.
        tasks: what differs from that, by the path of a task.
    """

    using: str | None = None
    database: str = "default"
    delivery: str = "outbox"
    prefix: str = "tasks."
    queue_type: str = "quorum"
    max_priority: int | None = None
    format: str = "json"
    result_retention_days: int = 7
    defaults: TaskOptions = TaskOptions()
    tasks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def of(self, path: str, own: Mapping[str, Any]) -> TaskOptions:
        """Return how a task is run.

        Args:
            path: dotted path of the task.
            own: what its decorator says, where it says anything; the settings win.
        """
        return replace(self.defaults, **{**own, **self.tasks.get(path, {})})


def backoff(value: object) -> tuple[float, float]:
    """Validate a pair of seconds."""
    wanted = "a pair of seconds, such as (1, 300)"
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise SettingError(f"must be {wanted}, not {shown(value)}", f"Set {wanted}.")
    first, most = (seconds()(part) for part in value)
    if not first <= most <= MOST_BACKOFF:
        raise SettingError(
            f"must ascend, to {MOST_BACKOFF:.0f} s (30 days) at most", f"Set {wanted}."
        )
    return first, most


def _or_none(rule: Callable[[object], Any]) -> Callable[[object], Any]:
    return lambda value: None if value is None else rule(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise SettingError(f"must be a str, not {shown(value)}", "Set a str.")
    return value


_TASK_RULES: Mapping[str, Callable[[object], Any]] = {
    "max_attempts": integer(1, MOST_RUNS),
    "backoff": backoff,
    "timeout": _or_none(seconds()),
    "max_deaths": integer(0, MOST_DEATHS),
}
_RULES: Mapping[str, Callable[[object], Any]] = {
    "using": _or_none(_text),
    "database": lambda value: "default" if value is None else _text(value),
    "delivery": choice("outbox", "on_commit"),
    "prefix": _text,
    "queue_type": choice("quorum", "classic"),
    "max_priority": _or_none(integer(1, 255)),
    "format": choice("json", "celery"),
    "result_retention_days": integer(1, MOST_DAYS),
}


def task_options(values: Mapping[str, object]) -> dict[str, Any]:
    """Validate the keywords of a task's decorator.

    Raises:
        ValueError: names the keyword.
    """
    problems: list[Problem] = []
    taken = _taken("@task", values, _TASK_RULES, problems)
    if problems:
        raise ValueError(str(problems[0]))
    return taken


def read(alias: str, options: object) -> tuple[BackendOptions, list[Problem]]:
    """Read the options of an alias of ``TASKS``.

    Returns:
        The options, where one is wrong its default; and what is wrong.
    """
    place = f"TASKS[{alias!r}]['OPTIONS']"
    problems: list[Problem] = []
    if not isinstance(options, Mapping):
        text = f"must be a dict, not {shown(options)}"
        return BackendOptions(), [Problem(place, text, "Set a dict.", WRONG_VALUE)]
    given = dict(options)
    by_task = given.pop("tasks", {})
    taken = _taken(place, given, {**_RULES, **_TASK_RULES}, problems)
    own = {name: taken.pop(name) for name in TASK_OPTIONS if name in taken}
    if taken.get("max_priority") is not None and taken.get("queue_type") != "classic":
        del taken["max_priority"]
        problems.append(
            Problem(
                f"{place}['max_priority']",
                "is only for classic queues: quorum queues need no such setting",
                'Leave it out, or set "queue_type": "classic".',
                WRONG_VALUE,
            )
        )
    own_tasks = _tasks(f"{place}['tasks']", by_task, problems)
    return BackendOptions(**taken, defaults=TaskOptions(**own), tasks=own_tasks), problems


def _tasks(place: str, value: object, problems: list[Problem]) -> dict[str, dict[str, Any]]:
    if not isinstance(value, Mapping):
        text = f"must be a dict by the tasks' dotted paths, not {shown(value)}"
        problems.append(Problem(place, text, "Set a dict.", WRONG_VALUE))
        return {}
    found: dict[str, dict[str, Any]] = {}
    for path, options in value.items():
        own = f"{place}[{path!r}]"
        if isinstance(options, Mapping):
            found[str(path)] = _taken(own, options, _TASK_RULES, problems)
        else:
            text = f"must be a dict, not {shown(options)}"
            problems.append(Problem(own, text, "Set a dict.", WRONG_VALUE))
    return found


def _taken(
    place: str,
    given: Mapping[Any, object],
    rules: Mapping[str, Callable[[object], Any]],
    problems: list[Problem],
) -> dict[str, Any]:
    """Return the valid values; note problems for the others."""
    taken = {}
    for name, value in given.items():
        own = f"{place}[{name!r}]"
        rule = rules.get(name)
        if rule is None:
            close = difflib.get_close_matches(str(name), rules, 1)
            hint = f"Did you mean {close[0]!r}?" if close else f"Options: {', '.join(rules)}."
            problems.append(Problem(own, "is not an option", hint, UNKNOWN))
            continue
        try:
            taken[name] = rule(value)
        except SettingError as error:
            problems.append(Problem(own, error.text, error.hint, WRONG_VALUE))
    return taken


def rabbitmq_alias(options: BackendOptions) -> str:
    """Return the RabbitMQ alias of a backend.

    Raises:
        InvalidMessage, ImproperlyConfigured: there is none, or several and none is named.
    """
    return loader.alias_for(options.using)
