"""Sends tasks by a Celery app with `AMQP`: `python -m tests.celery_run.by_app NUMBER`."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import cycle
from typing import Any

import django

django.setup()

from celery import chain, chord, group  # noqa: E402
from django.db import transaction  # noqa: E402
from run_tasks import add, echo, facts, fails, given, now, retries, total  # noqa: E402
from shop import app, replaces_itself, retries_inside_atomic  # noqa: E402

from tests.celery_run.expected import Expected, described  # noqa: E402
from tests.celery_run.values import VALUES  # noqa: E402

FACTS = {"priority": 0, "timelimit": [None, None], "shadow": None, "stamps": {}, "ours": True}
expected = Expected()


def equals(result: Any, value: object) -> None:
    expected.equals(result.id, value)


def types(number: int) -> None:
    value = VALUES[number % len(VALUES)]
    equals(echo.delay(value, x=[value]), [[described(value)], {"x": [described(value)]}])
    equals(echo.apply_async(VALUES, compression="gzip"), [described(VALUES), {}])


def in_transactions(number: int) -> None:
    with transaction.atomic():
        equals(add.delay(number, 1), number + 1)
        equals(add.apply_async((number, 2), delivery="outbox"), number + 2)
        equals(app.send_task("run.add", (number, 3), delivery="now"), number + 3)
        with transaction.atomic():
            expected.nothing(add.delay(number, 4).id)
            chord([add.s(1, 1)], total.s()).delay()
            transaction.set_rollback(True)


def options(number: int) -> None:
    priority = number % 10
    equals(facts.apply_async(priority=priority), {**FACTS, "priority": priority})
    limited = facts.apply_async(time_limit=60, soft_time_limit=50, shadow=f"shown as {number}")
    equals(limited, {**FACTS, "timelimit": [60, 50], "shadow": f"shown as {number}"})
    stamped = facts.s()
    stamped.stamp(tenant="t")
    equals(stamped.apply_async(), {**FACTS, "stamps": {"tenant": "t"}})


def times(number: int) -> None:
    seconds = 0.2 + number % 5 / 4
    due = datetime.now(UTC) + timedelta(seconds=seconds)
    for schedule in ("table", "worker"):
        by_countdown = now.apply_async(countdown=seconds, schedule=schedule)
        expected.not_before(due, by_countdown.id)
        expected.not_before(due, now.apply_async(eta=due, schedule=schedule).id)


def expiring(number: int) -> None:
    equals(add.apply_async((number, 1), expires=600), number + 1)
    expected.nothing(add.apply_async((number, 1), expires=-1).id)


def links(number: int) -> None:
    linked, after_failure = add.s(10), given.s()
    linked_result, error_result = linked.freeze(), after_failure.freeze()
    equals(add.apply_async((number, 1), link=linked), number + 1)
    equals(linked_result, number + 11)
    failing = fails.apply_async(link_error=after_failure)
    equals(error_result, failing.id)


def canvas(number: int) -> None:
    equals(chain(add.s(number, 1), add.s(2), add.s(3)).apply_async(), number + 6)
    for result, value in zip(
        group(add.s(number, 1), chain(add.s(number, 2), add.s(3))).apply_async().results,
        (number + 1, number + 5),
        strict=True,
    ):
        equals(result, value)


def chords(number: int) -> None:
    equals(chord([add.s(number, 1), add.s(number, 2)], total.s()).apply_async(), 2 * number + 3)
    with transaction.atomic():
        equals(chain(group(add.s(1, 1), add.s(2, 2)), total.s()).apply_async(), 6)


def retried(number: int) -> None:
    equals(retries.delay(number % 3), number % 3)
    equals(retries_inside_atomic.delay(number % 3), number % 3)


def replaced(number: int) -> None:
    kinds = ("task", "chain", "chord", "group")
    equals(replaces_itself.delay(kinds[number % len(kinds)]), 6)


KINDS: list[Callable[[int], None]] = [
    types, in_transactions, options, times, expiring, links, canvas, chords, retried, replaced,
]  # fmt: skip

for number, kind in enumerate(cycle(KINDS)):
    if len(expected.results) >= int(sys.argv[1]) and number >= 4 * len(KINDS):
        break
    kind(number // len(KINDS))
expected.tell()
