"""What can be done with an order; each in one transaction with its message."""

from django.db import transaction

from rmq_publisher import publish

from . import queues
from .forms import OrderForm
from .models import Order


class ImpossibleChangeError(Exception):
    """The order is too far along for this; the text is for the user."""


def place(form: OrderForm) -> tuple[Order, str]:
    """Save a valid form's order and announce it; also returns the message's id.

    The message leaves after the commit: one of an order that was rolled back is never sent.
    """
    with transaction.atomic():
        order = form.save()
        message_id = publish(
            order.event(),
            exchange=queues.EVENTS.name,
            routing_key="orders.created",
            type="orders.created",
            serializer="json",
        )
    return order, message_id


def advance(order_id: int) -> Order:
    """Placed, paid, shipped: one step on."""
    with transaction.atomic():
        order = _locked(order_id)
        if order.next_status is None:
            raise ImpossibleChangeError(
                f"Order {order.pk} is {order.status}: there is no next step."
            )
        order.status = order.next_status
        order.save()  # the signal in signals.py announces it
    return order


def cancel(order_id: int) -> Order:
    """Give it up, as long as it has not been shipped."""
    with transaction.atomic():
        order = _locked(order_id)
        if not order.may_cancel:
            raise ImpossibleChangeError(
                f"Order {order.pk} is {order.status} and cannot be cancelled."
            )
        order.status = Order.Status.CANCELLED
        order.save()
    return order


def _locked(order_id: int) -> Order:
    # Two clicks at once: the second waits and sees the first one's status. SQLite has no locks on
    # rows; there the transaction itself (IMMEDIATE, see the settings) keeps the second waiting.
    return Order.objects.select_for_update().get(pk=order_id)
