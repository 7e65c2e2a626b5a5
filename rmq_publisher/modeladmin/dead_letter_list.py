"""The list of dead letters: its filters, columns, search, and the numbers above it."""

from collections.abc import Mapping
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import SEARCH_VAR
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from rmq_publisher.modeladmin import formatting, tiles
from rmq_publisher.modeladmin.bounded_list import BoundedListMixin
from rmq_publisher.modeladmin.choice_filter import (
    ALL,
    ChoiceFilter,
    Choices,
    ConnectionFilter,
    filters_only,
)
from rmq_publisher.modeladmin.filters import STATE, StateFilter
from rmq_publisher.modeladmin.permissions import MessagePageBase
from rmq_publisher.models import DeadLetter, PublishFailure
from rmq_publisher.monitoring import broker_status, outbox_stats

RECENT = 1000  # rows whose queues are offered; finding all of them would scan the table
NAME_SHOWN = 40  # characters of a name in a cell
ID_SHOWN = 20
WAITING = "waiting"

REASONS: Mapping[str, str | Promise] = {
    "rejected": gettext_lazy("Rejected"),
    "expired": gettext_lazy("Expired"),
    "maxlen": gettext_lazy("Queue was full"),
    "delivery_limit": gettext_lazy("Delivered too often"),
    "failed": gettext_lazy("Attempts used up"),
    "crashed": gettext_lazy("Worker crashed"),
}

Rows = QuerySet[DeadLetter]


def reason(row: Any) -> str:
    """Say why a message died."""
    return str(REASONS.get(row.reason) or formatting.visible(row.reason) or _("unknown"))


class DeadLetterStateFilter(StateFilter):
    """The dead letter's state."""

    def __init__(self, request: HttpRequest, *args: Any) -> None:
        super().__init__(request, *args)
        self._default = ALL if request.GET.get(SEARCH_VAR, "").strip() else WAITING

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Return all states."""
        del request, model_admin
        return [*DeadLetter.State.choices, (ALL, _("all"))]

    def chosen(self, queryset: Any, value: str) -> Any:
        """Return the rows in this state."""
        return queryset if value == ALL else queryset.filter(state=value)


class ReasonFilter(ChoiceFilter):
    """Why it died."""

    title = gettext_lazy("reason")
    parameter_name = "reason"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Return the broker's reasons and a worker's."""
        del request, model_admin
        return list(REASONS.items())

    def chosen(self, queryset: Rows, value: str) -> Rows:
        """Return the rows with this reason."""
        return queryset.filter(reason=value)


class QueueFilter(ChoiceFilter):
    """Where it died."""

    title = gettext_lazy("queue")
    parameter_name = "queue"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Return the queues of recent dead letters and the chosen one."""
        found = set(request.GET.getlist(self.parameter_name)[-1:])
        if not filters_only(request):
            recent = model_admin.rows().order_by("-pk").values_list("queue", flat=True)
            found.update(recent[:RECENT])
        return [(name, formatting.visible(name) or _("unknown")) for name in sorted(found)]

    def chosen(self, queryset: Rows, value: str) -> Rows:
        """Return the rows of this queue."""
        return queryset.filter(queue=value)


class DeadLetterListMixin(BoundedListMixin, MessagePageBase):
    """Columns, filters and search."""

    heavy = ("body", "header", "deaths")
    unread = ()
    list_display = (
        "message", "state_shown", "failed_shown", "error_shown", "destination_shown", "using_shown",
        "attempts_shown", "size_shown",
    )  # fmt: skip
    list_filter = (DeadLetterStateFilter, ReasonFilter, QueueFilter, ConnectionFilter)
    ordering = ("-id",)
    sortable_by = ()
    search_fields = ("message_id", "correlation_id", "queue", "error")
    search_help_text = gettext_lazy("Message id, correlation id, or part of a queue or error")

    def list_context(self, request: HttpRequest) -> dict[str, Any]:
        """Return the numbers above the list."""
        return {
            "strip": self._dashboard(request),
            "nothing_yet": self._nothing_yet,  # the template asks only if the list is empty
            "all_states_url": f"?{STATE}={ALL}",
        }

    def _nothing_yet(self) -> bool:
        return not self.rows().values_list("pk")[:1]

    def _dashboard(self, request: HttpRequest) -> dict[str, Any]:
        database = self.get_database()
        summary = outbox_stats.summary(database, at_most=tiles.COUNTED_MAX)
        waiting = self.rows().filter(state=WAITING)[: tiles.COUNTED_MAX].count()
        number = tiles.shown(waiting, more=waiting == tiles.COUNTED_MAX)
        failures = self.address_of(request, PublishFailure, "changelist")
        state = request.GET.get(STATE, "" if request.GET.get(SEARCH_VAR) else WAITING)
        return {
            **tiles.trouble(database, summary),
            "announcement": _("%s waiting") % number,
            "tiles": [
                {
                    "label": _("Waiting"),
                    "value": number,
                    "tone": "bad" if waiting else "good",
                    "query": f"?{STATE}={WAITING}",
                    "current": state == WAITING,
                },
                {
                    "label": _("Unresolved failures"),
                    "value": tiles.number(summary, "unresolved"),
                    "tone": "bad" if summary.unresolved else "good",
                    "query": failures,
                },
                tiles.relay(summary),
                tiles.brokers(
                    broker_status.statuses(), f"{failures}#rmq-brokers-heading" if failures else ""
                ),
            ],
        }

    def get_search_results(
        self, request: HttpRequest, queryset: Rows, search_term: str
    ) -> tuple[Rows, bool]:
        """Search for a message id by its index; only if there is none, search all rows."""
        del request
        term = search_term.strip()
        if not term:
            return queryset, False
        by_id = queryset.filter(message_id=term)
        if by_id.exists():
            return by_id, False
        found = Q(correlation_id=term) | Q(queue__icontains=term) | Q(error__icontains=term)
        return queryset.filter(found), False

    # ---- columns ----

    @admin.display(description=gettext_lazy("message"))
    def message(self, row: Any) -> SafeString | str:
        """The message's id, linked to its page."""
        return formatting.name(row.message_id, ID_SHOWN) if row.message_id else _("(no id)")

    @admin.display(description=gettext_lazy("state"))
    def state_shown(self, row: Any) -> SafeString:
        """What was decided about it."""
        return state(row)

    @admin.display(description=gettext_lazy("died"))
    def failed_shown(self, row: Any) -> SafeString | str:
        """When it died, by the broker's clock."""
        return formatting.moment(row.died_at, row.now)

    @admin.display(description=gettext_lazy("reason"))
    def error_shown(self, row: Any) -> SafeString:
        """Why it died, with what the worker said below."""
        words = reason(row)
        return formatting.two_lines(
            format_html('<span title="{}">{}</span>', words, words),
            formatting.name(row.error, 2 * NAME_SHOWN),
        )

    @admin.display(description=gettext_lazy("queue"))
    def destination_shown(self, row: Any) -> SafeString:
        """Where it died, with the dead-letter queue or the handler below."""
        return formatting.two_lines(
            formatting.name(row.queue, NAME_SHOWN) if row.queue else _("unknown"),
            formatting.name(row.dead_letter_queue or row.handler, NAME_SHOWN),
        )

    @admin.display(description=gettext_lazy("connection"))
    def using_shown(self, row: Any) -> SafeString:
        """The RabbitMQ alias."""
        return formatting.name(row.using, NAME_SHOWN)

    @admin.display(description=gettext_lazy("attempts"))
    def attempts_shown(self, row: Any) -> str:
        """How often a handler had it, as far as is known."""
        return str(row.attempts)

    @admin.display(description=gettext_lazy("size"))
    def size_shown(self, row: Any) -> str:
        """The body's size."""
        return formatting.size(row.size)


def state(row: Any) -> SafeString:
    """Return a dead letter's state as HTML."""
    markup = '<span class="rmq-state rmq-{}">{}</span>'
    return format_html(markup, row.state, row.get_state_display())
