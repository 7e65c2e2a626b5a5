"""Django settings for the processes of the harness; the environment has what differs between them."""

import json
import os
import threading
import time

from rmq_publisher import QueueConfig

_told = json.loads(os.environ["CHAOS"])

SECRET_KEY = "only-for-chaos"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["rmq_publisher"]
if CHAOS_CONSUMING := _told.get("consuming"):
    INSTALLED_APPS += ["tests.chaos.handling"]
    RMQ_QUEUES = [QueueConfig(CHAOS_CONSUMING["queue"], queue_type="quorum")]
DATABASES = {"default": _told["database"]}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"timed": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "timed"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    # Connections are lost on purpose; pika tells each with a traceback.
    "loggers": {"pika": {"level": "CRITICAL"}},
}

globals().update({f"RMQ_{name}": value for name, value in _told["rmq"].items()})


def _end_with_the_harness() -> None:
    while os.getppid() == _told["parent"]:
        time.sleep(0.5)
    os._exit(1)


threading.Thread(target=_end_with_the_harness, daemon=True).start()
