"""django-outbox-pattern: STOMP, one row after the other in one transaction, without confirms."""

from __future__ import annotations

import time
from typing import Any

import pika

from .work import configure_django


class Peer:
    def __init__(self, told: dict[str, Any]) -> None:
        self.told = told
        options = {
            "DEFAULT_STOMP_HOST_AND_PORTS": [("127.0.0.1", told["stomp"])],
            "DEFAULT_PRODUCER_WAITING_TIME": 0,
        }
        configure_django(told, "django_outbox_pattern", DJANGO_OUTBOX_PATTERN=options)
        from django_outbox_pattern.factories import factory_producer  # noqa: PLC0415

        self._producer = factory_producer()

    def empty(self) -> dict[str, Any]:
        from django_outbox_pattern.models import Published  # noqa: PLC0415

        Published.objects.all().delete()
        return {}

    def relay(self, messages: int) -> dict[str, Any]:
        from django.db import connection  # noqa: PLC0415
        from django_outbox_pattern.models import Published  # noqa: PLC0415

        destination, body = f"/amq/queue/{self.told['queue']}", {"text": "x" * 1011}
        rows = (Published(destination=destination, body=body) for _ in range(messages))
        Published.objects.bulk_create(rows, batch_size=1000)
        with connection.cursor() as cursor:
            cursor.execute(f"VACUUM ANALYZE {Published._meta.db_table}")
        started, cpu = time.perf_counter(), time.process_time()
        self._producer.publish_message_from_database()
        seconds, used = time.perf_counter() - started, time.process_time() - cpu
        self._arrived(messages)
        return {"messages": messages, "seconds": seconds, "cpu": used}

    def _arrived(self, messages: int) -> None:
        """It returns before its messages are there."""
        with pika.BlockingConnection(pika.URLParameters(self.told["url"])) as connection:
            channel = connection.channel()
            for _ in range(600):
                queue = channel.queue_declare(self.told["queue"], passive=True)
                if queue.method.message_count >= messages:
                    return
                time.sleep(0.1)
