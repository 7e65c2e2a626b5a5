"""The app of Django's tasks. Its label is its own: the backport's is ``django_tasks``."""

from importlib import import_module

from django.apps import AppConfig
from django.core import checks
from django.utils.translation import gettext_lazy as _

from rmq_publisher.contrib.django_tasks.checks import check_framework, has_framework
from rmq_publisher.contrib.django_tasks.options import TAG


class DjangoTasksConfig(AppConfig):
    """Neither raises nor connects in ``ready()``."""

    name = "rmq_publisher.contrib.django_tasks"
    label = TAG
    verbose_name = _("RabbitMQ tasks")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the checks, and have the rest of the package know the tasks."""
        checks.register(check_framework, TAG)
        if has_framework():
            import_module(f"{self.name}.wiring").connect()
