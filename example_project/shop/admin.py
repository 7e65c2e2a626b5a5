"""The shop in Django's admin."""

from django.contrib import admin

from .models import Order


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # generic to checkers only
    list_display = ("id", "customer", "item", "amount", "status", "created_at")
    list_filter = ("status",)
    search_fields = ("customer", "item")
    readonly_fields = ("created_at", "updated_at")
