"""The filters of the list of failures."""

from collections.abc import Iterator
from typing import Any

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import SEARCH_VAR
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from rmq_publisher.conf import loader
from rmq_publisher.db.clock import DatabaseNow
from rmq_publisher.modeladmin import formatting
from rmq_publisher.modeladmin.choice_filter import ALL, ChoiceFilter, Choices, filters_only
from rmq_publisher.models import OutboxMessage, PublishFailure

Rows = QuerySet[PublishFailure]

RECENT = 1000  # failures whose exchanges are offered; finding all of them would scan the table
HOUR = 3600.0  # seconds
HOURS = {"hour": 1, "day": 24, "week": 168}
UNRESOLVED = ("failed", "dead")
STATE = "state"
REPLY_CODE_DIGITS = 3


def default_state(request: HttpRequest) -> str:
    """Return the state filter's default: a search finds what was delivered or discarded, too."""
    return ALL if request.GET.get(SEARCH_VAR, "").strip() else "unresolved"


class StateFilter(ChoiceFilter):
    """The message's state."""

    title = gettext_lazy("state")
    parameter_name = STATE

    def __init__(self, request: HttpRequest, *args: Any) -> None:
        super().__init__(request, *args)
        self._default = default_state(request)

    def value(self) -> str:
        """Return the chosen state; by default what is unresolved, and all when searching."""
        chosen: str | None = super().value()
        return self._default if chosen is None else chosen

    def choices(self, changelist: Any) -> Iterator[Any]:
        """Yield the choices, of which "all" is an ordinary one."""
        for value, shown in self.lookup_choices:
            query = changelist.get_query_string({self.parameter_name: value})
            yield {"selected": self.value() == value, "query_string": query, "display": shown}

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Return the states that a failure can be in."""
        del request, model_admin
        states = [choice for choice in OutboxMessage.State.choices if choice[0] != "pending"]
        return [("unresolved", _("unresolved (failed or dead)")), *states, (ALL, _("all"))]

    def chosen(self, queryset: Rows, value: str) -> Rows:
        """Return the rows in this state."""
        if value == ALL:
            return queryset
        return queryset.filter(state__in=UNRESOLVED if value == "unresolved" else (value,))


class ErrorFilter(ChoiceFilter):
    """The last error."""

    title = gettext_lazy("error")
    parameter_name = "error"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Return the kinds of errors, and the chosen one with its reply code."""
        del model_admin
        kinds: Choices = list(formatting.ERRORS.items())
        value = request.GET.get(self.parameter_name, "")
        kind, code = self._parts(value)
        return [*kinds, (value, formatting.error(kind, code))] if code else kinds

    def chosen(self, queryset: Rows, value: str) -> Rows:
        """Return the rows with this error: a kind, or a kind and a reply code as ``Rejected:404``."""
        kind, code = self._parts(value)
        found = queryset.filter(last_error_type=kind)
        return found.filter(last_error_code=code) if code else found

    @staticmethod
    def _parts(value: str) -> tuple[str, int | None]:
        kind, _colon, code = value.partition(":")
        known = code.isascii() and code.isdigit() and len(code) == REPLY_CODE_DIGITS
        return (kind, int(code)) if known else (value, None)


class UsingFilter(ChoiceFilter):
    """The RabbitMQ connection."""

    title = gettext_lazy("connection")
    parameter_name = "using"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Return the configured connections and those of recent failures."""
        known = {*loader.aliases(), *(using for using, _exchange in recent(request, model_admin))}
        known.update(request.GET.getlist(self.parameter_name)[-1:])
        return [(alias, formatting.visible(alias)) for alias in sorted(known)]

    def chosen(self, queryset: Rows, value: str) -> Rows:
        """Return the rows of this connection."""
        return queryset.filter(using=value)


class ExchangeFilter(ChoiceFilter):
    """The exchange."""

    title = gettext_lazy("exchange")
    parameter_name = "exchange"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Return the exchanges of recent failures and the chosen one."""
        found = {exchange for _using, exchange in recent(request, model_admin)}
        found.update(request.GET.getlist(self.parameter_name)[-1:])
        return [(name, formatting.visible(name) or _("(default)")) for name in sorted(found)]

    def chosen(self, queryset: Rows, value: str) -> Rows:
        """Return the rows of this exchange."""
        return queryset.filter(exchange=value)


class SinceFilter(ChoiceFilter):
    """When it last failed, by the database's clock."""

    title = gettext_lazy("time of failure")
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
        return queryset.filter(last_failed_at__gte=DatabaseNow(-HOUR * HOURS[value]))


FILTERS = (StateFilter, ErrorFilter, UsingFilter, ExchangeFilter, SinceFilter)


def recent(request: HttpRequest, model_admin: Any) -> set[tuple[str, str]]:
    """Return connections and exchanges of recent failures, with one query a request."""
    if filters_only(request):
        return set()
    found: set[tuple[str, str]] | None = getattr(request, "_rmq_recent", None)
    if found is None:
        rows = model_admin.rows().order_by("-last_failed_at", "-id")
        found = set(rows.values_list("using", "exchange")[:RECENT])
        request._rmq_recent = found  # type: ignore[attr-defined]
    return found
