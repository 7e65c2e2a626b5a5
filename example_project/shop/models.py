"""An order and the way it goes."""

from collections.abc import Collection, Iterable
from decimal import Decimal
from typing import Any, Self

from django.core.validators import MinValueValidator
from django.db import models


class Order(models.Model):
    class Status(models.TextChoices):
        PLACED = "placed", "placed"
        PAID = "paid", "paid"
        SHIPPED = "shipped", "shipped"
        CANCELLED = "cancelled", "cancelled"

    customer = models.CharField(max_length=100)
    item = models.CharField(max_length=100)
    amount = models.DecimalField(
        max_digits=8, decimal_places=2, validators=[MinValueValidator(Decimal("0.01"))]
    )
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.PLACED)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    # What the database says, so that a signal can tell a change from a mere save.
    stored_status: str | None = None

    class Meta:
        ordering = ("-id",)

    def __str__(self) -> str:
        return f"order {self.pk}: {self.item} for {self.customer}"

    @classmethod
    def from_db(
        cls,
        db: str | None,
        field_names: Collection[str],
        values: Collection[Any],
        **more: Any,  # Django 6.1 has a `fetch_mode`
    ) -> Self:
        order = super().from_db(db, field_names, values, **more)
        order._remember_status()
        return order

    def refresh_from_db(
        self,
        using: str | None = None,
        fields: Iterable[str] | None = None,
        from_queryset: models.QuerySet[Self] | None = None,
    ) -> None:
        super().refresh_from_db(using, fields, from_queryset)
        self._remember_status()

    def _remember_status(self) -> None:
        self.stored_status = self.__dict__.get("status")  # absent where it was deferred

    @property
    def next_status(self) -> str | None:
        """The status after this one, None at the end of the way."""
        way = {self.Status.PLACED: self.Status.PAID, self.Status.PAID: self.Status.SHIPPED}
        return way.get(self.Status(self.status))

    @property
    def may_cancel(self) -> bool:
        return self.next_status is not None

    def event(self) -> dict[str, Any]:
        """What the shop's messages say of it: a contract with their consumers."""
        return {
            "id": self.pk,
            "customer": self.customer,
            "item": self.item,
            "amount": f"{self.amount:.2f}",  # text: JSON's numbers are floats to many readers
            "status": self.status,
            "created_at": self.created_at.isoformat(),
        }
