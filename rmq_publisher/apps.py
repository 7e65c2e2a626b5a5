"""The app's entry into Django: it registers the checks, and reads no setting."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

from rmq_publisher.checks import register_checks
from rmq_publisher.contrib.celery import checks as celery_checks
from rmq_publisher.exceptions import BrokerAnswer
from rmq_publisher.topology.advice import advice
from rmq_publisher.topology.registry import declaration_order
from rmq_publisher.transport import project


class RmqPublisherConfig(AppConfig):
    """Neither raises nor connects in ``ready()``."""

    name = "rmq_publisher"
    verbose_name = _("RabbitMQ publisher")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks, how to find the project's topology, and errors' advice."""
        register_checks()
        celery_checks.register_checks()
        project.found_by(declaration_order)
        BrokerAnswer.advice = staticmethod(advice)
