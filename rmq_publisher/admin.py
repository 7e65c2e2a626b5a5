"""The admin page of publish failures; with a theme, use `PublishFailureAdminMixin`."""

from typing import ClassVar

from django import forms
from django.contrib import admin

from rmq_publisher.modeladmin.actions import FailureActionsMixin
from rmq_publisher.modeladmin.change_view import FailureDetailMixin
from rmq_publisher.modeladmin.changelist import FailureListMixin
from rmq_publisher.modeladmin.views import FailureViewsMixin
from rmq_publisher.models import PublishFailure

__all__ = ["PublishFailureAdmin", "PublishFailureAdminMixin"]


class PublishFailureAdminMixin(
    FailureViewsMixin,
    FailureDetailMixin,
    FailureActionsMixin,
    FailureListMixin,
    metaclass=forms.MediaDefiningClass,
):
    """The whole page: put it before a theme's ModelAdmin, and register that class instead of ours."""

    class Media:
        """Files only, so that the page works under a strict content security policy."""

        css: ClassVar = {"all": ["rmq_publisher/admin.css"]}
        js: ClassVar = ["rmq_publisher/admin.js"]


@admin.register(PublishFailure)
class PublishFailureAdmin(PublishFailureAdminMixin, admin.ModelAdmin):  # type: ignore[type-arg]
    """The page in Django's own admin."""
