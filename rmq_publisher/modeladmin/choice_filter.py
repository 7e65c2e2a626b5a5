"""The base of the lists' filters. None of them scans the table to find its choices."""

import copy
from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import QuerySet
from django.http import HttpRequest, QueryDict
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from rmq_publisher.conf import loader
from rmq_publisher.modeladmin import formatting
from rmq_publisher.modeladmin.base import TEMPLATES

Choices = list[tuple[str, Any]]

ALL = "all"


def only_filters(request: HttpRequest, query: str) -> HttpRequest:
    """Return a request for a list's address that applies its filters and fetches nothing."""
    found = copy.copy(request)
    found.GET = QueryDict(query)
    found._rmq_filters_only = True  # type: ignore[attr-defined]
    return found


def filters_only(request: HttpRequest) -> bool:
    """Whether the request comes from `only_filters`."""
    return hasattr(request, "_rmq_filters_only")


class ChoiceFilter(admin.SimpleListFilter):
    """A filter that accepts any value in the address, not only its own choices."""

    template = f"{TEMPLATES}/filter.html"

    def current(self) -> str:
        """Return the chosen value in words."""
        value = self.value()
        if value is None:
            return _("all")
        return str(dict(self.lookup_choices).get(value) or formatting.visible(value))

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the rows that match the chosen value."""
        del request
        value = self.value()
        if value is None:
            return queryset
        if "\0" in value:  # PostgreSQL raises an error on it
            raise IncorrectLookupParameters("NUL")
        return self.chosen(queryset, value)

    def chosen(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        """Return the rows with this value."""
        raise NotImplementedError


class ConnectionFilter(ChoiceFilter):
    """The RabbitMQ connection."""

    title = gettext_lazy("connection")
    parameter_name = "using"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Return the configured connections and the chosen one."""
        del model_admin
        known = {*loader.aliases(), *request.GET.getlist(self.parameter_name)[-1:]}
        return [(name, formatting.visible(name)) for name in sorted(known)]

    def chosen(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        """Return the rows of this connection."""
        return queryset.filter(using=value)
