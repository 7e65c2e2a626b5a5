"""The app's entry into Django: it registers the checks, and reads no setting."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

from rmq_publisher.checks import register_checks


class RmqPublisherConfig(AppConfig):
    """Neither raises nor connects in ``ready()``."""

    name = "rmq_publisher"
    verbose_name = _("RabbitMQ publisher")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks."""
        register_checks()
