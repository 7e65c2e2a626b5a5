"""Tasks for Celery workers: sent without Celery, or by an existing Celery app.

`CeleryTask`, `chain` and `group` need no Celery in this process; `AMQP` and `register_django_tasks` do.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rmq_publisher.contrib.celery.amqp import AMQP
    from rmq_publisher.contrib.celery.canvas import Signature, chain
    from rmq_publisher.contrib.celery.django_tasks import register_django_tasks
    from rmq_publisher.contrib.celery.groups import group
    from rmq_publisher.contrib.celery.task import CeleryTask

_HOMES = {
    "AMQP": "amqp",
    "CeleryTask": "task",
    "Signature": "canvas",
    "chain": "canvas",
    "group": "groups",
    "register_django_tasks": "django_tasks",
}

__all__ = ["AMQP", "CeleryTask", "Signature", "chain", "group", "register_django_tasks"]


def __getattr__(name: str) -> Any:
    # Looked up on first use: most of them need no Celery.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
