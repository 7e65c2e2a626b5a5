"""`CeleryTask`, and `publish` with messages of the same size."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

from .sending import TASK, TEXT, Base, Measured, Send

BODY = json.dumps(
    [[TEXT], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
)


class Peer(Base):
    def __init__(self, told: dict[str, Any]) -> None:
        super().__init__(told)
        from rmq_publisher.contrib.celery import CeleryTask  # noqa: PLC0415 (after the settings)

        self._now = CeleryTask(TASK, queue=self.queue, delivery="now", ignore_result=True)
        self._tasks = {
            delivery: CeleryTask(TASK, queue=self.queue, delivery=delivery, ignore_result=True)
            for delivery in ("on_commit", "outbox")
        }

    def send(self) -> Send:
        return self._now.delay

    def send_after_commit(self) -> Send:
        return self._tasks["on_commit"].delay

    def cost(self, delivery: str, messages: int) -> Measured:
        """Microseconds of `delay` in a transaction, and of a bare `publish` there."""
        from django.db import transaction  # noqa: PLC0415

        from rmq_publisher import publish  # noqa: PLC0415

        task = self._tasks[delivery]

        def bare() -> None:
            publish(BODY, queue=self.queue, delivery=delivery)

        found: dict[str, list[float]] = {"delay": [], "publish": []}
        calls: dict[str, Callable[[], object]] = {
            "delay": lambda: task.delay(TEXT),
            "publish": bare,
        }
        with transaction.atomic():
            # They take turns, so that a moment in which the machine is slow is slow for both.
            for _ in range(messages):
                for name, call in calls.items():
                    started = time.perf_counter()
                    call()
                    found[name].append(time.perf_counter() - started)
            transaction.set_rollback(True)
        return {name: statistics.median(taken) * 1e6 for name, taken in found.items()}
