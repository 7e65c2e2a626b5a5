"""Tells the broker that an order's status has changed, whoever saved it: a view, the admin."""

from typing import Any

from django.db.models.signals import post_save
from django.dispatch import receiver

from rmq_publisher import publish

from . import queues
from .models import Order


@receiver(post_save, sender=Order)
def status_changed(instance: Order, created: bool, using: str, **_: Any) -> None:
    before, instance.stored_status = instance.stored_status, instance.status
    if created or before in (None, instance.status):
        return
    publish(
        {**instance.event(), "previous_status": before},
        exchange=queues.EVENTS.name,
        routing_key="orders.status_changed",
        type="orders.status_changed",
        serializer="json",
        database=using,
    )
