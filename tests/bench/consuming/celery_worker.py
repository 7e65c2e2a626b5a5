"""A Celery worker with the solo pool, in a process of its own for each round."""

from __future__ import annotations

import contextlib
from typing import Any

from celery import Celery
from celery.worker import state

from .rounds import PREFETCH, Clock

TASK = "bench.empty"


class Peer:
    def __init__(self, told: dict[str, Any]) -> None:
        self.told = told

    def consume(self, messages: int) -> dict[str, Any]:
        clock = Clock(messages)
        app = Celery("bench", broker=self.told["url"], set_as_current=False)
        app.conf.update(
            task_ignore_result=True,
            task_default_queue=self.told["queue"],
            worker_prefetch_multiplier=PREFETCH,
            worker_hijack_root_logger=False,
            worker_redirect_stdouts=False,
            worker_enable_remote_control=False,
            worker_send_task_events=False,
            broker_heartbeat=0,
        )

        @app.task(name=TASK)  # type: ignore[untyped-decorator]
        def empty(_text: str) -> None:
            if clock.tick():
                state.should_stop = 0

        worker = app.Worker(
            pool="solo", concurrency=1, without_gossip=True, without_mingle=True,
            without_heartbeat=True, loglevel="ERROR",
        )  # fmt: skip
        with contextlib.suppress(SystemExit):
            worker.start()
        return clock.measured
