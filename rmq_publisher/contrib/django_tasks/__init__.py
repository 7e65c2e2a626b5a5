"""Django's tasks over RabbitMQ: a backend for ``TASKS``, its results, and what runs them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rmq_publisher.contrib.django_tasks.backend import RabbitMQBackend

_HOMES = {"RabbitMQBackend": "backend"}

__all__ = ["RabbitMQBackend"]


def __getattr__(name: str) -> Any:
    # Looked up on first use: an app's package is imported before Django's apps are ready.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
