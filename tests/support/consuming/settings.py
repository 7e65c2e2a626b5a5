"""The suite's settings with this app, the broker, the queue and the database that a test names."""

import json
import os

from rmq_publisher import QueueConfig
from tests.settings import *  # noqa: F403
from tests.settings import DATABASES as _DATABASES
from tests.settings import INSTALLED_APPS as _INSTALLED_APPS

INSTALLED_APPS = [*_INSTALLED_APPS, "tests.support.consuming"]
DATABASES = {**_DATABASES, "default": json.loads(os.environ["CONSUMING_DATABASE"])}
RMQ_URL = os.environ["CONSUMING_URL"]
RMQ_QUEUES = [QueueConfig(os.environ["CONSUMING_QUEUE"], queue_type="quorum")]
CONSUMING_DIRECTORY = os.environ["CONSUMING_DIRECTORY"]
CONSUMING_OPTIONS = json.loads(os.environ["CONSUMING_OPTIONS"])
