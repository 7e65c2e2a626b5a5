"""The form that places an order, for people and for machines."""

from typing import ClassVar

from django import forms

from .models import Order


class OrderForm(forms.ModelForm):  # type: ignore[type-arg]  # generic to checkers only
    class Meta:
        model = Order
        fields = ("customer", "item", "amount")
        widgets: ClassVar = {
            "customer": forms.TextInput(attrs={"autocomplete": "name"}),
            "amount": forms.NumberInput(attrs={"min": "0.01", "step": "0.01"}),
        }
