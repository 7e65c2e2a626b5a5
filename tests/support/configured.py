"""RMQ_ settings for one test."""

from collections.abc import Callable
from typing import Any

from django.conf import settings as django_settings


def configurer(settings: Any) -> Callable[..., None]:
    """Return a function that sets RMQ_ settings; those of the test suite are removed."""

    def configure(**raw: object) -> None:
        for name in [name for name in dir(django_settings) if name.startswith("RMQ_")]:
            setattr(settings, name, None)  # deleting one sends no signal
        for name, value in raw.items():
            setattr(settings, f"RMQ_{name}", value)

    configure()
    return configure
