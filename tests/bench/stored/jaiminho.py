"""jaiminho's way: a pickled call in each row; one after the other is called, confirmed and marked.

Its package is not on PyPI (the one of this name there is another one), so its algorithm takes part.
"""

from __future__ import annotations

import pickle
import time
from typing import Any

import pika

from .ours import BODY
from .work import configure_django


class Peer:
    def __init__(self, told: dict[str, Any]) -> None:
        self.told = told
        configure_django(told)
        from django.db import connection, models  # noqa: PLC0415

        class Event(models.Model):  # noqa: DJ008
            message = models.BinaryField()
            created_at = models.DateTimeField(auto_now_add=True)
            sent_at = models.DateTimeField(null=True)

            class Meta:
                app_label = "jaiminho"

        self.model = Event
        with connection.schema_editor() as editor:
            editor.create_model(Event)
        channel = pika.BlockingConnection(pika.URLParameters(told["url"])).channel()
        channel.confirm_delivery()
        self._channel = channel

    def empty(self) -> dict[str, Any]:
        self.model.objects.all().delete()
        return {}

    def relay(self, messages: int) -> dict[str, Any]:
        from django.db import transaction  # noqa: PLC0415
        from django.utils import timezone  # noqa: PLC0415

        message = pickle.dumps(((self.told["queue"], BODY), {}))
        self.model.objects.bulk_create(
            (self.model(message=message) for _ in range(messages)), batch_size=1000
        )
        properties = pika.BasicProperties(content_type="application/json", delivery_mode=2)
        started, cpu = time.perf_counter(), time.process_time()
        for event in self.model.objects.filter(sent_at__isnull=True).order_by("created_at"):
            with transaction.atomic():
                (queue, body), _ = pickle.loads(bytes(event.message))
                self._channel.basic_publish("", queue, body, properties, mandatory=True)
                event.sent_at = timezone.now()
                event.save()
        seconds, used = time.perf_counter() - started, time.process_time() - cpu
        return {"messages": messages, "seconds": seconds, "cpu": used}
