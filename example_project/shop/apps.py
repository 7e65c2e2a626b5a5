"""The shop as a Django app."""

from django.apps import AppConfig


class ShopConfig(AppConfig):
    name = "example_project.shop"
    label = "shop"
    verbose_name = "Shop"

    def ready(self) -> None:
        from . import memory, signals  # noqa: F401, PLC0415

        if memory.in_use():
            memory.declare()
