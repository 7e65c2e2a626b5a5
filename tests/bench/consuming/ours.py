"""rmq_publisher's Consumer, and handlers in a worker of `rmq_consume`."""

from __future__ import annotations

import itertools
import json
from typing import Any

from tests.bench import footprint
from tests.bench.stored.work import configure_django

from .rounds import PREFETCH, Clock

BODY = json.dumps({"text": "x" * 1011}).encode()  # 1 KB
TABLES = "TRUNCATE rmq_publisher_inboxmessage, orders"


class Peer:
    def __init__(self, told: dict[str, Any]) -> None:
        self.queue: str = told["queue"]
        configure_django(told, "rmq_publisher", RMQ_URL=told["url"])
        from django.db import connection  # noqa: PLC0415 (after the settings)

        self._connection = connection
        self._names = itertools.count()
        self._sql("CREATE TABLE IF NOT EXISTS orders (id bigserial PRIMARY KEY, note text)")

    def _sql(self, sql: str) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(sql)

    def fill(self, messages: int) -> dict[str, Any]:
        from rmq_publisher import publish_many  # noqa: PLC0415

        publish_many([BODY] * messages, queue=self.queue, delivery="now")
        return {}

    def fill_tasks(self, messages: int) -> dict[str, Any]:
        """Messages of 1 KB for Celery's worker, as `CeleryTask` makes them."""
        from rmq_publisher import Message, publish_many  # noqa: PLC0415
        from rmq_publisher.contrib.celery.sending import outgoing  # noqa: PLC0415

        from .celery_worker import TASK  # noqa: PLC0415

        made = outgoing(TASK, ["x" * 930], {}, {}, task_id="task")
        items = []
        for number in range(messages):
            name = f"{number:036}"
            headers = {**made.options["headers"], "id": name, "root_id": name}
            items.append(
                Message(
                    made.body, headers=headers, message_id=name, correlation_id=name,
                    content_type="application/json", content_encoding="utf-8",
                )
            )  # fmt: skip
        publish_many(items, queue=self.queue, delivery="now")
        return {}

    def consume(self, messages: int) -> dict[str, Any]:
        """Settle each message by itself with an empty callback."""
        from rmq_publisher import Consumer  # noqa: PLC0415

        clock = Clock(messages)

        def handle(message: Any) -> None:
            message.ack()
            clock.tick()

        consumer = Consumer([self.queue], on_message=handle, prefetch_count=PREFETCH)
        with consumer:
            consumer.run(limit=messages)
        return clock.measured

    def memory(self, messages: int, later: int) -> dict[str, Any]:
        """MiB that the process holds after so many messages, and after all of them."""
        first = self.consume(messages)["messages"] + 1
        assert first == messages
        before = footprint.measure(0)["memory"]
        self.consume(later)
        return {"before": before, "after": footprint.measure(0)["memory"]}

    def handle(
        self, messages: int, once: bool = False, batch: int | None = None, row: bool = False
    ) -> dict[str, Any]:
        """Handle them with one thread of a worker; the handler is empty or writes a row."""
        from rmq_publisher import consume  # noqa: PLC0415
        from rmq_publisher.consumer.handler_work import add_handlers  # noqa: PLC0415
        from rmq_publisher.consumer.handlers import options_of  # noqa: PLC0415
        from rmq_publisher.consumer.worker import Worker  # noqa: PLC0415

        clock = Clock(messages)

        def handler(_body: Any, _message: Any) -> None:
            if row:
                self._insert()
            clock.tick()

        name = f"handler_{next(self._names)}"
        consume(
            self.queue, prefetch=PREFETCH, once=once, once_batch=batch, max_attempts=1, name=name
        )(handler)
        worker = Worker(limit=messages)
        add_handlers(worker, [options_of(handler)], 1, lambda _: None)
        worker.run()
        return clock.measured

    def bare(self, messages: int) -> dict[str, Any]:
        """The handler that writes a row, in a loop of transactions, without any message."""
        from django.db import transaction  # noqa: PLC0415

        clock = Clock(messages)
        for _ in range(messages):
            with transaction.atomic():
                self._insert()
                clock.tick()
        return clock.measured

    def _insert(self) -> None:
        self._sql("INSERT INTO orders (note) VALUES ('benchmark')")

    def empty(self) -> dict[str, Any]:
        self._sql(TABLES)
        return {}
