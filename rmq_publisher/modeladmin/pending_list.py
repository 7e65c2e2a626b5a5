"""The list of pending and scheduled messages: its filters, columns and search."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext

from rmq_publisher.db.clock import DatabaseNow
from rmq_publisher.modeladmin import formatting
from rmq_publisher.modeladmin.bounded_list import BoundedList, BoundedListMixin
from rmq_publisher.modeladmin.choice_filter import ChoiceFilter, Choices, ConnectionFilter
from rmq_publisher.modeladmin.pending_dashboard import pending_dashboard
from rmq_publisher.modeladmin.pending_holds import ID_SHOWN, Holds
from rmq_publisher.modeladmin.permissions import MessagePageBase
from rmq_publisher.models import PendingMessage

NAME_SHOWN = 40  # characters of a name in a cell

Rows = QuerySet[PendingMessage]


class TimeFilter(ChoiceFilter):
    """Whether its time has come, by the database's clock."""

    title = gettext_lazy("time")
    parameter_name = "time"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Return due and scheduled."""
        del request, model_admin
        return [("due", pgettext("next attempt", "due")), ("scheduled", _("scheduled"))]

    def chosen(self, queryset: Rows, value: str) -> Rows:
        """Return the rows that are due, or that are not yet."""
        if value == "due":
            return queryset.filter(available_at__lte=DatabaseNow())
        if value == "scheduled":
            # None of them has an ordering key; saying so leads along the index.
            later = {"available_at__gt": DatabaseNow(), "scheduled_at__gt": DatabaseNow()}
            return queryset.filter(ordering_key="", **later)
        raise IncorrectLookupParameters(self.parameter_name)


class KeyFilter(ChoiceFilter):
    """The ordering key; a cell of the list leads to it."""

    title = gettext_lazy("ordering key")
    parameter_name = "key"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Return the chosen key only: finding all of them would scan the table."""
        del model_admin
        chosen = request.GET.getlist(self.parameter_name)[-1:]
        return [(key, formatting.visible(key)) for key in chosen]

    def chosen(self, queryset: Rows, value: str) -> Rows:
        """Return the rows of this key."""
        return queryset.filter(ordering_key=value)


class PendingList(BoundedList):
    """The bounded list, which knows of the shown rows what each waits for."""

    def get_results(self, request: HttpRequest) -> None:
        """Fetch the page's rows."""
        super().get_results(request)
        rows: Any = list(self.result_list)
        page: Any = self.model_admin
        holds = Holds(page, request, rows)
        for row in rows:
            row.waits_for = holds.of(row)
        self.result_list = rows


class PendingListMixin(BoundedListMixin, MessagePageBase):
    """Columns, filters and search."""

    list_display = (
        "message", "waits_shown", "scheduled_shown", "created_shown", "destination_shown", "key_shown",
        "using_shown", "size_shown",
    )  # fmt: skip
    list_filter = (TimeFilter, ConnectionFilter, KeyFilter)
    # As the index has them: due first, and those with a key by their keys.
    ordering = ("ordering_key", "available_at", "id")
    sortable_by = ()
    search_fields = ("message_id", "correlation_id", "routing_key")
    search_help_text = gettext_lazy("Message id, correlation id, or part of a routing key")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[PendingList]:
        """Return our own change list."""
        del request, kwargs
        return PendingList

    def list_context(self, request: HttpRequest) -> dict[str, Any]:
        """Return the numbers above the list."""
        return {
            "strip": pending_dashboard(self, request),
            "nothing_yet": self._nothing_yet,  # the template asks only if the list is empty
        }

    def _nothing_yet(self) -> bool:
        return not self.rows().order_by(*self.ordering).values_list("pk")[:1]

    def get_search_results(
        self, request: HttpRequest, queryset: Rows, search_term: str
    ) -> tuple[Rows, bool]:
        """Search for a message id by its index; only if there is none, search all rows."""
        del request
        term = search_term.strip()
        if not term:
            return queryset, False
        by_id = queryset.filter(message_id=term, state="pending", token=0)
        if by_id.exists():
            return by_id, False
        found = Q(message_id=term) | Q(correlation_id=term) | Q(routing_key__icontains=term)
        return queryset.filter(found), False

    # ---- columns ----

    @admin.display(description=gettext_lazy("message"))
    def message(self, row: Any) -> SafeString:
        """The message's id, linked to its page."""
        return formatting.name(row.message_id, ID_SHOWN)

    @admin.display(description=gettext_lazy("waits for"))
    def waits_shown(self, row: Any) -> SafeString | str:
        """What keeps it from being sent."""
        return row.waits_for  # type: ignore[no-any-return]

    @admin.display(description=gettext_lazy("scheduled for"))
    def scheduled_shown(self, row: Any) -> SafeString | str:
        """The time that was asked for."""
        return scheduled(row)

    @admin.display(description=gettext_lazy("created"))
    def created_shown(self, row: Any) -> SafeString | str:
        """When it was published."""
        return formatting.moment(row.created_at, row.now)

    @admin.display(description=gettext_lazy("connection"))
    def using_shown(self, row: Any) -> SafeString:
        """The RabbitMQ alias."""
        return formatting.name(row.using, NAME_SHOWN)

    @admin.display(description=gettext_lazy("exchange, routing key"))
    def destination_shown(self, row: Any) -> SafeString:
        """The exchange, with the routing key below."""
        return formatting.destination(row, NAME_SHOWN)

    @admin.display(description=gettext_lazy("ordering key"))
    def key_shown(self, row: Any) -> SafeString | str:
        """The ordering key, which leads to the rows that have it."""
        if not row.ordering_key:
            return "-"
        return formatting.filter_link(KeyFilter.parameter_name, row.ordering_key, NAME_SHOWN)

    @admin.display(description=gettext_lazy("size"))
    def size_shown(self, row: Any) -> str:
        """The body's size."""
        return formatting.size(row.size)


def scheduled(row: Any) -> SafeString | str:
    """Return the time that a message was scheduled for."""
    return "-" if row.scheduled_at is None else formatting.moment(row.scheduled_at, row.now)
