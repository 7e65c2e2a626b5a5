"""The inbox: messages that were handled once. It is read only."""

from collections.abc import Mapping
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from rmq_publisher.consumer.handlers import registered_handlers
from rmq_publisher.db.keys import key_of
from rmq_publisher.modeladmin import formatting, tiles
from rmq_publisher.modeladmin.bounded_list import BoundedListMixin
from rmq_publisher.modeladmin.choice_filter import ChoiceFilter, Choices
from rmq_publisher.modeladmin.guards import or_unavailable, outside_transactions
from rmq_publisher.modeladmin.row_views import RowViewsMixin
from rmq_publisher.models import InboxMessage

NAME_SHOWN = 40  # characters of a name in a cell
ID_SHOWN = 60

Rows = QuerySet[InboxMessage]


def _handlers() -> set[str]:
    return {options.name for options in registered_handlers() if options.once}


class HandlerFilter(ChoiceFilter):
    """The handler."""

    title = gettext_lazy("handler")
    parameter_name = "handler"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Return the project's handlers with ``once=True`` and the chosen one."""
        del model_admin
        names = _handlers() | set(request.GET.getlist(self.parameter_name)[-1:])
        return [(name, formatting.visible(name)) for name in sorted(names)]

    def chosen(self, queryset: Rows, value: str) -> Rows:
        """Return the rows of this handler."""
        return queryset.filter(name=value)


class InboxPageMixin(RowViewsMixin, BoundedListMixin):
    """The list and its search."""

    paths: ClassVar = {"live": "live/"}
    actions = None
    list_display = ("message", "handler_shown", "handled_shown")
    list_display_links = None
    list_filter = (HandlerFilter,)
    ordering = ("-handled_at",)
    sortable_by = ()
    search_fields = ("message_id",)
    search_help_text = gettext_lazy("Message id")

    def list_context(self, request: HttpRequest) -> dict[str, Any]:
        """Return the number above the list."""
        del request
        count = self.rows()[: tiles.COUNTED_MAX].count()
        number = tiles.shown(count, more=count == tiles.COUNTED_MAX)
        return {
            "strip": {
                "announcement": _("%s handled") % number,
                "tiles": [{"label": _("Remembered"), "value": number}],
            },
            "nothing_yet": not count,
        }

    @outside_transactions
    @or_unavailable
    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: Mapping[str, Any] | None = None,
    ) -> HttpResponse:
        """Show a row as Django does for those who may only look."""
        return super().change_view(request, object_id, form_url, dict(extra_context or {}))

    def get_search_results(
        self, request: HttpRequest, queryset: Rows, search_term: str
    ) -> tuple[Rows, bool]:
        """Search by the key of a handler and an id; only if there is none, search all rows."""
        del request
        term = search_term.strip()
        if not term:
            return queryset, False
        by_key = queryset.filter(pk__in=[key_of(name, term) for name in _handlers()])
        return (by_key if by_key.exists() else queryset.filter(message_id=term)), False

    # ---- columns ----

    @admin.display(description=gettext_lazy("message"))
    def message(self, row: Any) -> SafeString:
        """The message's id."""
        return formatting.name(row.message_id, ID_SHOWN)

    @admin.display(description=gettext_lazy("handler"))
    def handler_shown(self, row: Any) -> SafeString:
        """The handler that handled it."""
        return formatting.name(row.name, NAME_SHOWN)

    @admin.display(description=gettext_lazy("handled"))
    def handled_shown(self, row: Any) -> SafeString | str:
        """When it was handled."""
        return formatting.moment(row.handled_at, row.now)
