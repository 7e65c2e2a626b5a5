"""Settings of both Celery apps of a run, from the environment; a module of its own path (see run.py)."""

import os

broker_url = os.environ["RUN_BROKER"]
result_backend = os.environ["RUN_BACKEND"]
task_default_queue = os.environ["RUN_QUEUE"]
task_default_queue_type = os.environ["RUN_KIND"]
if task_default_queue_type == "classic":
    task_queue_max_priority = 10
worker_hijack_root_logger = False
