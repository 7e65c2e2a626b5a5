"""The scenarios by name."""

from __future__ import annotations

from collections.abc import Callable

from tests.faults.result import Result

from .alarm import alarm
from .consumed import consumed
from .direct import direct
from .lies import lies
from .order import order
from .stage import Stage
from .stored import outage, outbox_on_mariadb, outbox_on_postgres, outbox_on_sqlite

SCENARIOS: dict[str, Callable[[Stage], Result]] = {
    "direct": direct,
    "postgres": outbox_on_postgres,
    "sqlite": outbox_on_sqlite,
    "mariadb": outbox_on_mariadb,
    "outage": outage,
    "order": order,
    "alarm": alarm,
    "lies": lies,
    "consumed": consumed,
}
