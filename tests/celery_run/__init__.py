"""Celery workers run what `CeleryTask` and an app through `AMQP` send; every result is compared.

`python -m tests.celery_run --tasks 2000` is the full size, on the Celery of any interpreter
(`--python`) and on any broker (`--broker`); the suite runs a small one.
"""
