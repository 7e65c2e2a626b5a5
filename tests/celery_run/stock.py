"""A Celery app as it comes, without a line of rmq_publisher: for the tasks that `CeleryTask` sends."""

import celery_conf  # found by the path that run.py sets, not inside the package of tests
import run_tasks
from celery import Celery

app = Celery("stock")
app.config_from_object(celery_conf)
__all__ = ["app", "run_tasks"]
