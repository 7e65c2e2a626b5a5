"""A list whose cost does not grow with its table: pagination, search and filters of all pages."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.core.paginator import EmptyPage, Page, Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseBase, HttpResponseNotAllowed
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from rmq_publisher.modeladmin.base import PageBase
from rmq_publisher.modeladmin.choice_filter import ALL, filters_only
from rmq_publisher.modeladmin.guards import or_unavailable, outside_transactions

LISTED_MAX = 5000  # rows that can be paged through; filters and search find the others
PERIOD = "period"  # a chart's parameter in the list's address


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Pages through the first `LISTED_MAX` rows, so that nothing counts or skips a million rows.

    One query finds their ids, with conditions that may be slow; each page is then fetched by id.
    """

    @cached_property
    def _ids(self) -> list[Any]:
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


class BoundedList(ChangeList):
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


class BoundedListMixin(PageBase):
    """The list's limits; columns, filters and search are each page's own."""

    list_per_page = 100
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # they count all rows, several times
    paginator = BoundedPaginator

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return our own change list."""
        del request, kwargs
        return BoundedList

    def lookup_allowed(self, lookup: str, value: str, request: Any = None) -> bool:
        """Allow our own filters only: a condition on the body would reveal its content."""
        del value, request
        own: Any = self.list_filter
        return lookup in {each.parameter_name for each in own}

    def list_context(self, request: HttpRequest) -> dict[str, Any]:
        """Return what the page shows around the list."""
        raise NotImplementedError

    @outside_transactions
    @or_unavailable
    def changelist_view(
        self, request: HttpRequest, extra_context: Mapping[str, Any] | None = None
    ) -> HttpResponseBase:
        """Show the list and what is around it; run actions."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        context: dict[str, Any] = {}
        if request.method == "GET":
            context = {
                "title": capfirst(self.opts.verbose_name_plural),
                "listed_max": LISTED_MAX,
                "live_url": self.address("live"),
                **self.list_context(request),
            }
        context.update(extra_context or {})
        response: HttpResponseBase = super().changelist_view(request, context)
        return response

    def live_view(self, request: HttpRequest) -> HttpResponseBase:
        """Return the list for the script that refreshes it.

        It is the same page, but messages to the user wait for a page that the user opens.
        """
        if request.method != "GET":
            return HttpResponseNotAllowed(["GET"])
        response: HttpResponseBase = self.changelist_view(request, {"messages": ()})
        return response
