"""The list: columns, search, and pagination whose cost does not grow with the table."""

from functools import cached_property
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import EmptyPage, Page, Paginator
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from rmq_publisher.modeladmin import formatting
from rmq_publisher.modeladmin.filters import ALL, FILTERS, filters_only
from rmq_publisher.modeladmin.permissions import FailureAdminBase
from rmq_publisher.models import PublishFailure

LISTED_MAX = 5000  # rows that can be paged through; filters and search find the others
PERIOD = "period"  # the chart's parameter in the list's address
NAME_SHOWN = 40  # characters of a name in a cell
ID_SHOWN = 20


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Pages through the first `LISTED_MAX` rows, so that nothing counts or skips a million rows.

    One query finds their ids, with conditions that may be slow; each page is then fetched by id.
    """

    @cached_property
    def _ids(self) -> list[int]:
        found: Any = self.object_list
        return list(found.values_list("pk", flat=True)[:LISTED_MAX])

    @cached_property
    def count(self) -> int:
        """The number of rows that can be paged through."""
        return len(self._ids)

    def validate_number(self, number: Any) -> int:
        """Return a page's number, or the last page's if its rows have gone meanwhile."""
        try:
            return super().validate_number(number)
        except EmptyPage:
            if int(number) < 1:
                raise
            return self.num_pages

    def page(self, number: Any) -> Any:
        """Return a page."""
        number = self.validate_number(number)
        start = (number - 1) * self.per_page
        return Page(self.fetched(start, start + self.per_page), number, self)

    def fetched(self, start: int, end: int) -> QuerySet[Any]:
        """Return listed rows by their positions."""
        found: Any = self.object_list
        return found.filter(pk__in=self._ids[start:end])  # type: ignore[no-any-return]


class FailureList(ChangeList):
    """Django's list, with our pagination and without the chart's period among its filters."""

    def get_filters_params(self, params: Any = None) -> Any:
        """Return the parameters that filter the list."""
        found = super().get_filters_params(params)
        found.pop(PERIOD, None)
        return found

    def get_results(self, request: HttpRequest) -> None:
        """Fetch the page's rows, unless only the filters are wanted."""
        if filters_only(request):
            return
        super().get_results(request)
        self.page_num = min(self.page_num, self.paginator.num_pages)  # the one that is shown
        if not self.multi_page or (self.show_all and self.can_show_all):
            paginator: Any = self.paginator
            self.result_list = paginator.fetched(0, self.result_count)


def narrowed_by(changes: Any) -> list[tuple[str, str]]:
    """Return the list's active filters in words: title and choice of each, and the search term."""
    found = []
    for spec in changes.filter_specs:
        if not spec.used_parameters or spec.value() == ALL:
            continue
        chosen = [each["display"] for each in spec.choices(changes) if each["selected"]]
        # An address may hold a value that is not among the choices.
        shown = [str(each) for each in chosen or spec.used_parameters.values()]
        found.append((str(spec.title), ", ".join(shown)))
    if term := changes.query.strip():
        found.append((_("search"), term))
    return found


class FailureListMixin(FailureAdminBase):
    """Columns, filters and search."""

    list_display = (
        "message", "state_shown", "failed_shown", "error_shown", "destination_shown", "using_shown",
        "attempts_shown", "next_shown", "size_shown",
    )  # fmt: skip
    list_filter = FILTERS
    list_per_page = 100
    ordering = ("-last_failed_at", "-id")
    sortable_by = ("failed_shown",)
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # they count all rows, several times
    paginator = BoundedPaginator
    search_fields = ("message_id", "correlation_id", "routing_key", "last_error_text")
    search_help_text = gettext_lazy(
        "Message id, correlation id, or part of a routing key or error message"
    )

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return our own change list."""
        del request, kwargs
        return FailureList

    def lookup_allowed(self, lookup: str, value: str, request: Any = None) -> bool:
        """Allow our own filters only: a condition on the body would reveal its content."""
        del value, request
        return lookup in {each.parameter_name for each in FILTERS}

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
        return formatting.two_lines(
            formatting.exchange(row.exchange, NAME_SHOWN),
            formatting.name(row.routing_key, NAME_SHOWN),
        )

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
