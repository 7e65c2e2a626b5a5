"""A Celery app: as it comes, with ``confirm_publish``, or with this package's `AMQP`."""

from __future__ import annotations

from functools import partial
from typing import Any

from .sending import TASK, Base, Send


class Peer(Base):
    def __init__(self, told: dict[str, Any]) -> None:
        way = told["settings"].pop("way")
        super().__init__(told)
        from celery import Celery  # noqa: PLC0415 (after Django's settings)

        amqp = "rmq_publisher.contrib.celery:AMQP" if way == "amqp" else None
        self._app = Celery("bench", broker=told["url"], amqp=amqp)
        self._app.conf.update(
            task_ignore_result=True,
            task_default_queue=self.queue,
            broker_pool_limit=16,  # one for each thread
            broker_transport_options={"confirm_publish": True} if way == "confirmed" else {},
        )

        @self._app.task(name=TASK)  # type: ignore[untyped-decorator]
        def empty(_text: str) -> None:
            """The worker's."""

        self._task = empty

    def send(self) -> Send:
        return partial(self._task.delay)
