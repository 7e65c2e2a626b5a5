"""The admin pages of stored messages; with a theme, use the mixins."""

from typing import ClassVar

from django import forms
from django.contrib import admin

from rmq_publisher.modeladmin.actions import FailureActionsMixin
from rmq_publisher.modeladmin.change_view import FailureDetailMixin
from rmq_publisher.modeladmin.changelist import FailureListMixin
from rmq_publisher.modeladmin.dead_letter_page import DeadLetterPageMixin
from rmq_publisher.modeladmin.inbox_page import InboxPageMixin
from rmq_publisher.modeladmin.pending_page import PendingPageMixin
from rmq_publisher.modeladmin.views import FailureViewsMixin
from rmq_publisher.models import DeadLetter, InboxMessage, PendingMessage, PublishFailure

__all__ = [
    "DeadLetterAdmin",
    "DeadLetterAdminMixin",
    "InboxMessageAdmin",
    "InboxMessageAdminMixin",
    "PendingMessageAdmin",
    "PendingMessageAdminMixin",
    "PublishFailureAdmin",
    "PublishFailureAdminMixin",
]


class _Media(metaclass=forms.MediaDefiningClass):
    class Media:
        """Files only, so that the pages work under a strict content security policy."""

        css: ClassVar = {"all": ["rmq_publisher/admin.css"]}
        js: ClassVar = ["rmq_publisher/admin.js"]


class PublishFailureAdminMixin(
    FailureViewsMixin, FailureDetailMixin, FailureActionsMixin, FailureListMixin, _Media
):
    """The page of failures: put it before a theme's ModelAdmin, and register that class."""


@admin.register(PublishFailure)
class PublishFailureAdmin(PublishFailureAdminMixin, admin.ModelAdmin):  # type: ignore[type-arg]
    """The page of failures in Django's own admin."""


class PendingMessageAdminMixin(PendingPageMixin, _Media):
    """The page of pending and scheduled messages: for a theme as well."""


@admin.register(PendingMessage)
class PendingMessageAdmin(PendingMessageAdminMixin, admin.ModelAdmin):  # type: ignore[type-arg]
    """The page of pending and scheduled messages in Django's own admin."""


class DeadLetterAdminMixin(DeadLetterPageMixin, _Media):
    """The page of dead letters: for a theme as well."""


@admin.register(DeadLetter)
class DeadLetterAdmin(DeadLetterAdminMixin, admin.ModelAdmin):  # type: ignore[type-arg]
    """The page of dead letters in Django's own admin."""


class InboxMessageAdminMixin(InboxPageMixin, _Media):
    """The page of handled messages: for a theme as well."""


@admin.register(InboxMessage)
class InboxMessageAdmin(InboxMessageAdminMixin, admin.ModelAdmin):  # type: ignore[type-arg]
    """The page of handled messages in Django's own admin."""
