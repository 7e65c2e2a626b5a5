"""The benchmark of sending Celery tasks."""
