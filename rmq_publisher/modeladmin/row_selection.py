"""The rows that a list's actions are for."""

from typing import Any, ClassVar

from django import forms
from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from rmq_publisher.modeladmin import bounded_list
from rmq_publisher.modeladmin.base import PageBase

ID_MAX = 2**63 - 1  # the largest id that the database's column holds


class RowSelectionMixin(PageBase):
    """Reads a form's ids, of which there may be thousands, and says which rows are left out.

    Attributes:
        listed_by: columns that an action needs of each row.
    """

    listed_by: ClassVar[tuple[str, ...]] = ("pk", "message_id", "state", "size")

    def read_id(self, text: str) -> Any:
        """Return a row's id out of a form.

        Raises:
            ValueError: it is none.
        """
        if text.isascii() and text.isdigit() and (number := int(text)) <= ID_MAX:
            return number
        raise ValueError("not an id")

    def response_action(
        self, request: HttpRequest, queryset: QuerySet[Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Run an action as Django does, after checking the ids that the form holds."""
        try:
            ids = self._selected_ids(request)
        except ValueError:
            text = _("The selection is not valid. Nothing was changed.")
            self.message_user(request, text, messages.ERROR)
            return None
        posted: Any = request.POST.copy()
        posted.setlist(ACTION_CHECKBOX_NAME, [str(id_) for id_ in ids])
        request.POST = posted
        return super().response_action(request, queryset, *args, **kwargs)

    def selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        """Return the rows that an action is for, and tell the user if some are left out.

        If the whole list is selected, these are the first `LISTED_MAX` rows.
        """
        found = queryset.only(*self.listed_by)
        rows = list(found[: bounded_list.LISTED_MAX])
        left = 0 if is_across(request) else len(self._selected_ids(request)) - len(rows)
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

    def _selected_ids(self, request: HttpRequest) -> list[Any]:
        """Return the ids that a form holds, in order and without duplicates.

        One field may hold several, separated by commas: Django accepts a thousand fields at most.

        Raises:
            ValueError: something else than ids, or more than a list has.
        """
        fields = request.POST.getlist(ACTION_CHECKBOX_NAME)
        parts = [part for field in fields for part in field.split(",")]
        ids = dict.fromkeys(self.read_id(part) for part in parts)
        if len(ids) > bounded_list.LISTED_MAX:
            raise ValueError("too many ids")
        return list(ids)


def confirmed(request: HttpRequest) -> bool:
    """Whether this is the answer to the question before discarding."""
    return "confirmed" in request.POST


def is_across(request: HttpRequest) -> bool:
    """Whether the whole list is selected, as Django's own form reads it."""
    field = forms.BooleanField(required=False)
    return bool(field.clean(request.POST.get("select_across")))
