"""Sends tasks by `CeleryTask`: `python -m tests.celery_run.by_name NUMBER`; Celery is not imported."""

import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import cycle

import django

django.setup()

from django.db import transaction  # noqa: E402

from rmq_publisher import QueueConfig  # noqa: E402
from rmq_publisher.contrib.celery import CeleryTask, chain, group  # noqa: E402
from tests.celery_run.anything import Anything  # noqa: E402
from tests.celery_run.expected import Expected, described  # noqa: E402
from tests.celery_run.values import VALUES  # noqa: E402

if os.environ["RUN_KIND"] == "quorum":
    QUEUE = QueueConfig(os.environ["RUN_QUEUE"], queue_type="quorum")
else:
    QUEUE = QueueConfig(os.environ["RUN_QUEUE"], max_priority=10)
echo, add, total, facts, now, fails, given, retries = (
    CeleryTask(f"run.{name}", queue=QUEUE)
    for name in ("echo", "add", "total", "facts", "now", "fails", "given", "retries")
)
FACTS = {"priority": 0, "timelimit": [None, None], "shadow": None, "stamps": {}, "ours": False}
expected = Expected()
equals = expected.equals


def types(number: int) -> None:
    value = VALUES[number % len(VALUES)]
    equals(echo.delay(value, x=[value]), [[described(value)], {"x": [described(value)]}])
    equals(echo.delay(*VALUES), [described(VALUES), {}])


def anything(number: int) -> None:
    for seed in range(12 * number, 12 * number + 12):
        made = Anything(seed)
        args, kwargs = made.call()
        equals(
            echo.apply_async(args, kwargs, **made.options()), [described(args), described(kwargs)]
        )


def in_transactions(number: int) -> None:
    with transaction.atomic():
        equals(add.delay(number, 1), number + 1)
        equals(add.apply_async((number, 2), delivery="outbox"), number + 2)
        equals(add.apply_async((number, 3), delivery="now"), number + 3)
        with transaction.atomic():
            expected.nothing(add.delay(number, 4))
            expected.nothing(add.apply_async((number, 5), delivery="outbox"))
            transaction.set_rollback(True)


def options(number: int) -> None:
    priority = number % 10
    equals(facts.apply_async(priority=priority), {**FACTS, "priority": priority})
    limited = facts.apply_async(time_limit=60, soft_time_limit=50, shadow=f"shown as {number}")
    equals(limited, {**FACTS, "timelimit": [60, 50], "shadow": f"shown as {number}"})


def times(number: int) -> None:
    seconds = 0.2 + number % 5 / 4
    due = datetime.now(UTC) + timedelta(seconds=seconds)
    for schedule in ("table", "worker"):
        expected.not_before(due, now.apply_async(countdown=seconds, schedule=schedule))
        expected.not_before(due, now.apply_async(eta=due, schedule=schedule))


def expiring(number: int) -> None:
    equals(add.apply_async((number, 1), expires=600), number + 1)
    expected.nothing(add.apply_async((number, 1), expires=-1))


def links(number: int) -> None:
    linked, alone, after_failure = (f"{name}-{number}" for name in ("link", "si", "error"))
    first = add.apply_async(
        (number, 1),
        link=[add.s(10).set(task_id=linked), given.si("alone").set(task_id=alone)],
    )
    equals(first, number + 1)
    equals(linked, number + 11)
    equals(alone, "alone")
    failing = fails.apply_async(link_error=given.s().set(task_id=after_failure))
    equals(after_failure, failing)


def chains(number: int) -> None:
    equals((add.s(number, 1) | add.s(2) | add.s(3)).apply_async(), number + 6)
    equals(chain(given.si([number, 1]), total.s(), add.si(7, 8)).delay(), 15)
    equals(chain(add.s(1), retries.si(2)).apply_async((number,), countdown=0.2), 2)


def groups(number: int) -> None:
    ids = group([add.s(number, 1), add.s(number, 2) | add.s(3), given.s("three")]).apply_async()
    for task_id, value in zip(ids, (number + 1, number + 5, "three"), strict=True):
        equals(task_id, value)


def retried(number: int) -> None:
    equals(retries.delay(number % 3), number % 3)


KINDS: list[Callable[[int], None]] = [
    types, anything, in_transactions, options, times, expiring, links, chains, groups, retried,
]  # fmt: skip

for number, kind in enumerate(cycle(KINDS)):
    if len(expected.results) >= int(sys.argv[1]) and number >= len(KINDS):
        break
    kind(number // len(KINDS))
assert not {"celery", "kombu"} & sys.modules.keys()
expected.tell()
