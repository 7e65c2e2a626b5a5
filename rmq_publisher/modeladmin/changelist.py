"""The list of failures: its columns and its search."""

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy

from rmq_publisher.modeladmin import formatting
from rmq_publisher.modeladmin.bounded_list import BoundedListMixin
from rmq_publisher.modeladmin.filters import FILTERS
from rmq_publisher.modeladmin.permissions import FailureAdminBase
from rmq_publisher.models import PublishFailure

NAME_SHOWN = 40  # characters of a name in a cell
ID_SHOWN = 20


class FailureListMixin(BoundedListMixin, FailureAdminBase):
    """Columns, filters and search."""

    list_display = (
        "message", "state_shown", "failed_shown", "error_shown", "destination_shown", "using_shown",
        "attempts_shown", "next_shown", "size_shown",
    )  # fmt: skip
    list_filter = FILTERS
    ordering = ("-last_failed_at", "-id")
    sortable_by = ("failed_shown",)
    search_fields = ("message_id", "correlation_id", "routing_key", "last_error_text")
    search_help_text = gettext_lazy(
        "Message id, correlation id, or part of a routing key or error message"
    )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[PublishFailure], search_term: str
    ) -> tuple[QuerySet[PublishFailure], bool]:
        """Search for a message id by its index; only if there is none, search all rows."""
        del request
        term = search_term.strip()
        if not term:
            return queryset, False
        by_id = queryset.filter(message_id=term)
        if by_id.exists():
            return by_id, False
        found = (
            Q(correlation_id=term)
            | Q(routing_key__icontains=term)
            | Q(last_error_text__icontains=term)
            | Q(last_error_type__iexact=term)
        )
        return queryset.filter(found), False

    # ---- columns ----

    @admin.display(description=gettext_lazy("message"))
    def message(self, row: Any) -> SafeString:
        """The message's id, linked to its page."""
        return formatting.name(row.message_id, ID_SHOWN)

    @admin.display(description=gettext_lazy("state"))
    def state_shown(self, row: Any) -> SafeString:
        """The state, or that it is being sent."""
        return formatting.state(row)

    @admin.display(description=gettext_lazy("failed"), ordering="last_failed_at")
    def failed_shown(self, row: Any) -> SafeString | str:
        """When it last failed."""
        return formatting.moment(row.last_failed_at, row.now)

    @admin.display(description=gettext_lazy("connection"))
    def using_shown(self, row: Any) -> SafeString:
        """The RabbitMQ alias."""
        return formatting.name(row.using, NAME_SHOWN)

    @admin.display(description=gettext_lazy("exchange, routing key"))
    def destination_shown(self, row: Any) -> SafeString:
        """The exchange, with the routing key below."""
        return formatting.destination(row, NAME_SHOWN)

    @admin.display(description=gettext_lazy("error"))
    def error_shown(self, row: Any) -> SafeString:
        """What went wrong, with the error message below."""
        error = formatting.error(row.last_error_type, row.last_error_code)
        return formatting.two_lines(
            format_html('<span title="{}">{}</span>', error, error),
            formatting.name(row.last_error_text, 2 * NAME_SHOWN),
        )

    @admin.display(description=gettext_lazy("attempts"))
    def attempts_shown(self, row: Any) -> str:
        """How often it has failed since a user last retried all."""
        return str(row.attempts + row.unanswered)

    @admin.display(description=gettext_lazy("next attempt"))
    def next_shown(self, row: Any) -> SafeString | str:
        """When it will be retried."""
        return formatting.next_attempt(row)

    @admin.display(description=gettext_lazy("size"))
    def size_shown(self, row: Any) -> str:
        """The body's size."""
        return formatting.size(row.size)
