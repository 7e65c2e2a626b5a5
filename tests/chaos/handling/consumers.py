"""A handler with ``once=True`` that writes a row and publishes another message by the outbox."""

import time
from typing import Any

from django.conf import settings
from django.db import connection

from rmq_publisher import consume, publish
from tests.chaos import consuming_liars

_TOLD = settings.CHAOS_CONSUMING
consuming_liars.activate(_TOLD["liar"])


@consume(
    settings.RMQ_QUEUES[0],
    name="effect",
    once=True,
    max_attempts=50,
    backoff=(0.2, 0.2),
    prefetch=20,
)
def effect(body: str, message: Any) -> None:
    """Do the work, and publish; some messages fail at first, after their work."""
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO chaos_effect (message_id) VALUES (%s)", [message.message_id])
    out = f"{message.message_id}.out"
    publish(f"{out}|", queue=_TOLD["out"], message_id=out, delivery="outbox")
    time.sleep(_TOLD["seconds"])
    if body == "fails at first" and message.attempts == 1:
        raise RuntimeError("as it was told to")
