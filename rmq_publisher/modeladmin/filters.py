"""The list's filters. None of them scans the table to find its choices."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from rmq_publisher.conf import loader
from rmq_publisher.db.clock import After
from rmq_publisher.modeladmin import formatting
from rmq_publisher.models import OutboxMessage, PublishFailure

Rows = QuerySet[PublishFailure]
Choices = list[tuple[str, Any]]

RECENT = 1000  # failures whose exchanges are offered; finding all of them would scan the table
HOUR = 3600.0  # seconds
HOURS = {"hour": 1, "day": 24, "week": 168}
UNRESOLVED = ("failed", "dead")


class _Filter(admin.SimpleListFilter):
    """A filter that accepts any value in the address, not only its own choices."""

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        """Return the rows that match the chosen value."""
        del request
        value = self.value()
        if value is None:
            return queryset
        if "\0" in value:  # PostgreSQL raises an error on it
            raise IncorrectLookupParameters("NUL")
        return self.chosen(queryset, value)

    def chosen(self, queryset: Rows, value: str) -> Rows:
        """Return the rows with this value."""
        raise NotImplementedError


class StateFilter(_Filter):
    """The message's state."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Return the states that a failure can be in."""
        del request, model_admin
        states = [choice for choice in OutboxMessage.State.choices if choice[0] != "pending"]
        return [("unresolved", _("unresolved (failed or dead)")), *states]

    def chosen(self, queryset: Rows, value: str) -> Rows:
        """Return the rows in this state."""
        return queryset.filter(state__in=UNRESOLVED if value == "unresolved" else (value,))


class ErrorFilter(_Filter):
    """The last error."""

    title = _("error")
    parameter_name = "error"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Return the kinds of errors."""
        del request, model_admin
        return list(formatting.ERRORS.items())

    def chosen(self, queryset: Rows, value: str) -> Rows:
        """Return the rows with this error."""
        return queryset.filter(last_error_type=value)


class UsingFilter(_Filter):
    """The RabbitMQ connection."""

    title = _("connection")
    parameter_name = "using"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Return the configured connections and those of recent failures."""
        known = {*loader.aliases(), *(using for using, _exchange in recent(request, model_admin))}
        return [(alias, formatting.visible(alias)) for alias in sorted(known)]

    def chosen(self, queryset: Rows, value: str) -> Rows:
        """Return the rows of this connection."""
        return queryset.filter(using=value)


class ExchangeFilter(_Filter):
    """The exchange."""

    title = _("exchange")
    parameter_name = "exchange"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Return the exchanges of recent failures and the chosen one."""
        found = {exchange for _using, exchange in recent(request, model_admin)}
        found.update(request.GET.getlist(self.parameter_name)[-1:])
        return [(name, formatting.visible(name) or _("(default)")) for name in sorted(found)]

    def chosen(self, queryset: Rows, value: str) -> Rows:
        """Return the rows of this exchange."""
        return queryset.filter(exchange=value)


class SinceFilter(_Filter):
    """When it last failed, by the database's clock."""

    title = _("time of failure")
    parameter_name = "since"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Return hour, day and week."""
        del request, model_admin
        return [
            ("hour", _("the last hour")),
            ("day", _("the last 24 hours")),
            ("week", _("the last 7 days")),
        ]

    def chosen(self, queryset: Rows, value: str) -> Rows:
        """Return the rows that failed since."""
        if value not in HOURS:
            raise IncorrectLookupParameters(self.parameter_name)
        return queryset.filter(last_failed_at__gte=After(-HOUR * HOURS[value]))


FILTERS = (StateFilter, ErrorFilter, UsingFilter, ExchangeFilter, SinceFilter)


def recent(request: HttpRequest, model_admin: Any) -> set[tuple[str, str]]:
    """Return connections and exchanges of recent failures, with one query a request."""
    found: set[tuple[str, str]] | None = getattr(request, "_rmq_recent", None)
    if found is None:
        rows = model_admin.rows().order_by("-last_failed_at", "-id")
        found = set(rows.values_list("using", "exchange")[:RECENT])
        request._rmq_recent = found  # type: ignore[attr-defined]
    return found
