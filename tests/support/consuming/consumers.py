"""A handler that writes a row, and does what its message says."""

import os
import signal
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection

from rmq_publisher import consume

DIRECTORY = Path(settings.CONSUMING_DIRECTORY)


@consume(settings.RMQ_QUEUES[0], **settings.CONSUMING_OPTIONS)
def work(body: dict[str, Any], message: Any) -> None:
    """Write the row, tell the test, and wait for it if the message says so."""
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO effects (body) VALUES (%s)", [body["id"]])
    (DIRECTORY / f"started {body['id']} {os.getpid()}").touch()
    if body.get("kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    while body.get("wait") and not (DIRECTORY / "go").exists():
        time.sleep(0.01)
