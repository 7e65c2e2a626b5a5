"""The admin's page of publish failures; a theme's own ModelAdmin takes `PublishFailureAdminMixin`."""

from typing import ClassVar

from django import forms
from django.contrib import admin

from rmq_publisher.modeladmin.views import PagePart
from rmq_publisher.models import PublishFailure

__all__ = ["PublishFailureAdmin", "PublishFailureAdminMixin"]


class PublishFailureAdminMixin(PagePart, metaclass=forms.MediaDefiningClass):
    """All of the page: put it before the ModelAdmin of a theme, and register that instead of ours."""

    class Media:
        """No inline script or style: it works under a strict content security policy."""

        css: ClassVar = {"all": ["rmq_publisher/failures.css"]}
        js: ClassVar = ["rmq_publisher/failures.js"]


@admin.register(PublishFailure)
class PublishFailureAdmin(PublishFailureAdminMixin, admin.ModelAdmin):  # type: ignore[type-arg]
    """The page as Django's own admin has it."""
