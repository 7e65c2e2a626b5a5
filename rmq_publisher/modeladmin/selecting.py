"""Which rows an action is for: those that were ticked, or all that the list names."""

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from rmq_publisher.modeladmin import changelist
from rmq_publisher.modeladmin.changelist import ListPart
from rmq_publisher.models import PublishFailure

ID_MAX = 2**63 - 1  # of the database's column


class SelectionPart(ListPart):
    """The rows of an action's form."""

    def response_action(
        self, request: HttpRequest, queryset: QuerySet[PublishFailure], *args: Any, **kwargs: Any
    ) -> Any:
        """Run an action as Django does, once the ids are known to be some."""
        try:
            ids = selected_ids(request)
        except ValueError:
            text = _("What was selected are no messages. Nothing was changed.")
            self.message_user(request, text, messages.ERROR)
            return None
        posted: Any = request.POST.copy()
        posted.setlist(ACTION_CHECKBOX_NAME, [str(id_) for id_ in ids])
        request.POST = posted
        return super().response_action(request, queryset, *args, **kwargs)

    def selected(
        self, request: HttpRequest, queryset: QuerySet[PublishFailure]
    ) -> list[PublishFailure]:
        """Return the rows that an action is for; what was ticked and is not among them is told.

        Where all of the list are meant, these are those that it offers: the first `LISTED_MAX`.
        """
        found = queryset.only("pk", "message_id", "state", "size")
        rows = list(found[: changelist.LISTED_MAX])
        left = 0 if is_across(request) else len(selected_ids(request)) - len(rows)
        if left:
            text = ngettext(
                "%d selected message is left out: it does not match the list's filters any more, or is "
                "gone.",
                "%d selected messages are left out: they do not match the list's filters any more, or "
                "are gone.",
                left,
            )
            self.message_user(request, text % left, messages.WARNING)
        elif not rows:
            text = _("No message matches the list's filters any more. Nothing was changed.")
            self.message_user(request, text, messages.WARNING)
        return rows


def is_across(request: HttpRequest) -> bool:
    """Whether all of the list are meant, as Django's own form reads it."""
    field = forms.BooleanField(required=False)
    return bool(field.clean(request.POST.get("select_across")))


def selected_ids(request: HttpRequest) -> list[int]:
    """Return the ids that a form holds, in order, each once.

    A field may hold several with commas between: Django takes a thousand fields at most.

    Raises:
        ValueError: these are no ids, or more than a list has.
    """
    fields = request.POST.getlist(ACTION_CHECKBOX_NAME)
    parts = [part for field in fields for part in field.split(",")]
    ids = dict.fromkeys(_id(part) for part in parts)
    if len(ids) > changelist.LISTED_MAX:
        raise ValueError("too many")
    return list(ids)


def _id(text: str) -> int:
    if text.isascii() and text.isdigit() and (number := int(text)) <= ID_MAX:
        return number
    raise ValueError("no id")
