"""The list's actions. Each requires its own permission, and runs on POST only."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from rmq_publisher.modeladmin import changelist, export, operations
from rmq_publisher.modeladmin.permissions import FailureAdminBase
from rmq_publisher.models import PublishFailure

REPEATED = ("action", "index")  # form fields that say which action it is
ID_MAX = 2**63 - 1  # the largest id that the database's column holds


class FailureActionsMixin(FailureAdminBase):
    """Retry, discard and export selected rows."""

    actions = ("retry_selected", "discard_selected", "export_json")

    @admin.action(permissions=["retry"], description=gettext_lazy("Retry selected messages now"))
    def retry_selected(self, request: HttpRequest, queryset: QuerySet[PublishFailure]) -> None:
        """Send them from this process; the relay retries those that fail again."""
        rows = self._selected(request, queryset)
        if len(rows) > operations.SENT_MAX:
            text = _("This action takes at most %(most)d messages. Nothing was changed.")
            advice = _("To retry more, use “Retry all matching messages”.")
            self.message_user(
                request, f"{text % {'most': operations.SENT_MAX}} {advice}", messages.ERROR
            )
        elif rows:
            operations.retry(self, request, rows)

    @admin.action(permissions=["discard"], description=gettext_lazy("Discard selected messages"))
    def discard_selected(
        self, request: HttpRequest, queryset: QuerySet[PublishFailure]
    ) -> TemplateResponse | None:
        """Discard them, once the user has confirmed it."""
        rows = self._selected(request, queryset)
        if rows and (_is_across(request) or not confirmed(request)):
            form = [(key, each) for key in REPEATED for each in request.POST.getlist(key)]
            back = request.get_full_path()
            return operations.ask_before_discarding(self, request, rows, back, form)
        if rows:
            operations.discard(self, request, rows)
        return None

    @admin.action(
        permissions=["export"], description=gettext_lazy("Export selected messages as JSON")
    )
    def export_json(
        self, request: HttpRequest, queryset: QuerySet[PublishFailure]
    ) -> StreamingHttpResponse | None:
        """Download them, with bodies and headers if the user may see those."""
        rows = self._selected(request, queryset)
        if not rows:
            return None
        operations.log(request, rows, "Exported as JSON.")
        ids = [(row.pk, row.size) for row in rows]
        return export.response(self, request, ids, payload=self.has_payload_permission(request))

    # ---- the selected rows ----

    def response_action(
        self, request: HttpRequest, queryset: QuerySet[PublishFailure], *args: Any, **kwargs: Any
    ) -> Any:
        """Run an action as Django does, after checking the ids that the form holds."""
        try:
            ids = _selected_ids(request)
        except ValueError:
            text = _("The selection is not valid. Nothing was changed.")
            self.message_user(request, text, messages.ERROR)
            return None
        posted: Any = request.POST.copy()
        posted.setlist(ACTION_CHECKBOX_NAME, [str(id_) for id_ in ids])
        request.POST = posted
        return super().response_action(request, queryset, *args, **kwargs)

    def _selected(
        self, request: HttpRequest, queryset: QuerySet[PublishFailure]
    ) -> list[PublishFailure]:
        """Return the rows that an action is for, and tell the user if some are left out.

        If the whole list is selected, these are the rows that it offers: the first `LISTED_MAX`.
        """
        found = queryset.only("pk", "message_id", "state", "size")
        rows = list(found[: changelist.LISTED_MAX])
        left = 0 if _is_across(request) else len(_selected_ids(request)) - len(rows)
        if left:
            text = ngettext(
                "Left out %d selected message: it no longer matches the filters, or was deleted.",
                "Left out %d selected messages: they no longer match the filters, or were deleted.",
                left,
            )
            self.message_user(request, text % left, messages.WARNING)
        elif not rows:
            text = _("No message matches the filters any more. Nothing was changed.")
            self.message_user(request, text, messages.WARNING)
        return rows


def confirmed(request: HttpRequest) -> bool:
    """Whether this is the answer to the question before discarding."""
    return "confirmed" in request.POST


def _is_across(request: HttpRequest) -> bool:
    """Whether the whole list is selected, as Django's own form reads it."""
    field = forms.BooleanField(required=False)
    return bool(field.clean(request.POST.get("select_across")))


def _selected_ids(request: HttpRequest) -> list[int]:
    """Return the ids that a form holds, in order and without duplicates.

    One field may hold several, separated by commas: Django accepts a thousand fields at most.

    Raises:
        ValueError: something else than ids, or more than a list has.
    """
    fields = request.POST.getlist(ACTION_CHECKBOX_NAME)
    parts = [part for field in fields for part in field.split(",")]
    ids = dict.fromkeys(_id(part) for part in parts)
    if len(ids) > changelist.LISTED_MAX:
        raise ValueError("too many ids")
    return list(ids)


def _id(text: str) -> int:
    if text.isascii() and text.isdigit() and (number := int(text)) <= ID_MAX:
        return number
    raise ValueError("not an id")
