"""The list: columns, search, and pages whose cost does not grow with the table."""

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
from rmq_publisher.modeladmin.filters import FILTERS
from rmq_publisher.modeladmin.permissions import FailuresBase
from rmq_publisher.models import PublishFailure
from rmq_publisher.outbox.claims import being_sent

LISTED_MAX = 5000  # rows that can be paged through; filters and search reach the others
PERIOD = "period"  # of the chart, in the list's address
NAME_SHOWN = 40  # characters of a name in a cell
ID_SHOWN = 20


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Pages through the first rows only: neither counts a million nor skips over them.

    One statement finds what is listed, however slow its condition; a page is then fetched by id.
    """

    @cached_property
    def _ids(self) -> list[int]:
        found: Any = self.object_list
        return list(found.values_list("pk", flat=True)[:LISTED_MAX])

    @cached_property
    def count(self) -> int:
        """How many are listed."""
        return len(self._ids)

    def validate_number(self, number: Any) -> int:
        """Return a page's number; the last one's where that has gone with its rows."""
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
        """Return listed rows by their places."""
        found: Any = self.object_list
        return found.filter(pk__in=self._ids[start:end])  # type: ignore[no-any-return]


class FailureList(ChangeList):
    """The list as Django has it, but for the chart's period and for what it costs."""

    def get_filters_params(self, params: Any = None) -> Any:
        """Return what filters the list."""
        found = super().get_filters_params(params)
        found.pop(PERIOD, None)
        return found

    def get_results(self, request: HttpRequest) -> None:
        """Fetch what is listed."""
        super().get_results(request)
        self.page_num = min(self.page_num, self.paginator.num_pages)  # the one that is shown
        if not self.multi_page or (self.show_all and self.can_show_all):
            paginator: Any = self.paginator
            self.result_list = paginator.fetched(0, self.result_count)


def narrowed_by(changes: Any) -> list[tuple[str, str]]:
    """Return what narrows a list, in words: each filter's title and choice, and what is searched for."""
    found = []
    for spec in changes.filter_specs:
        if not spec.used_parameters:
            continue
        chosen = [each["display"] for each in spec.choices(changes) if each["selected"]]
        # What is in an address need not be among what is offered.
        shown = [str(each) for each in chosen or spec.used_parameters.values()]
        found.append((str(spec.title), ", ".join(shown)))
    if term := changes.query.strip():
        found.append((_("search"), term))
    return found


class ListPart(FailuresBase):
    """Columns, filters and search."""

    list_display = (
        "message", "state_shown", "failed_shown", "error_shown", "exchange_shown", "key_shown",
        "using_shown", "attempts_shown", "next_shown", "size_shown",
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
        "Message id, correlation id, or part of a routing key or of an error's text"
    )

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return our own list."""
        del request, kwargs
        return FailureList

    def lookup_allowed(self, lookup: str, value: str, request: Any = None) -> bool:
        """Allow our own filters only: conditions on bodies would tell what is in them."""
        del value, request
        return lookup in {each.parameter_name for each in FILTERS}

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[PublishFailure], search_term: str
    ) -> tuple[QuerySet[PublishFailure], bool]:
        """Look for an id by its index, and only if nothing has it through all rows."""
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
        """The message's id, which leads to its page."""
        return formatting.name(row.message_id, ID_SHOWN)

    @admin.display(description=gettext_lazy("state"))
    def state_shown(self, row: Any) -> SafeString:
        """The state, or that it is being sent."""
        shown = _("being sent") if being_sent(row) else row.get_state_display()
        return format_html('<span class="rmq-state rmq-{}">{}</span>', row.state, shown)

    @admin.display(description=gettext_lazy("failed"), ordering="last_failed_at")
    def failed_shown(self, row: Any) -> SafeString | str:
        """When it failed last."""
        return formatting.moment(row.last_failed_at, row.now)

    @admin.display(description=gettext_lazy("connection"))
    def using_shown(self, row: Any) -> SafeString:
        """The RabbitMQ alias."""
        return formatting.name(row.using, NAME_SHOWN)

    @admin.display(description=gettext_lazy("exchange"))
    def exchange_shown(self, row: Any) -> SafeString | str:
        """The exchange."""
        return formatting.exchange(row.exchange, NAME_SHOWN)

    @admin.display(description=gettext_lazy("routing key"))
    def key_shown(self, row: Any) -> SafeString:
        """The routing key."""
        return formatting.name(row.routing_key, NAME_SHOWN)

    @admin.display(description=gettext_lazy("error"))
    def error_shown(self, row: Any) -> SafeString:
        """What went wrong: in our words, and in those of whoever said so."""
        return format_html(
            '{}<br><span class="rmq-quiet">{}</span>',
            formatting.error(row.last_error_type, row.last_error_code),
            formatting.name(row.last_error_text, 2 * NAME_SHOWN),
        )

    @admin.display(description=gettext_lazy("attempts"))
    def attempts_shown(self, row: Any) -> str:
        """How often it failed since a person last sent it again."""
        return str(row.attempts + row.unanswered)

    @admin.display(description=gettext_lazy("next attempt"))
    def next_shown(self, row: Any) -> SafeString | str:
        """When it is sent again."""
        return formatting.next_attempt(row)

    @admin.display(description=gettext_lazy("size"))
    def size_shown(self, row: Any) -> str:
        """Of the body."""
        return formatting.size(row.size)
