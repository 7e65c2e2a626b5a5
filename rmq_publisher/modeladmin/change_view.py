"""The page of one failure: the message, its attempts, and the buttons to retry or discard it."""

import shlex
from collections.abc import Mapping
from typing import Any

from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import SuspiciousOperation
from django.db import DEFAULT_DB_ALIAS
from django.db.models import Q, Subquery
from django.http import HttpRequest
from django.utils.translation import gettext as _

from rmq_publisher.conf import loader
from rmq_publisher.exceptions import Nacked, Rejected, Unroutable
from rmq_publisher.modeladmin import formatting
from rmq_publisher.modeladmin.base import TEMPLATES
from rmq_publisher.modeladmin.choice_filter import only_filters
from rmq_publisher.modeladmin.message_view import MessageViewMixin
from rmq_publisher.modeladmin.permissions import FailureAdminBase
from rmq_publisher.models import OutboxMessage

OPEN = ("pending", "failed", "dead")
# Names of the errors by which the broker answered about the message, as a row's history has them.
ANSWERED = frozenset(each.__name__ for each in (Nacked, Rejected, Unroutable) if each.answered)


class FailureDetailMixin(MessageViewMixin, FailureAdminBase):
    """One failure's page."""

    detail_template = f"{TEMPLATES}/publishfailure/detail.html"

    def detail_context(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """Return what is shown of a failure."""
        return {
            "title": _("Publish failure"),
            "state": formatting.state(row),
            "facts": self._facts(row),
            "attempts": _attempts(row),
            "buttons": self._buttons(request, row),
            "closed": closed(row),
            "neighbours": self._neighbours(request, row),
            "command": self._command(row),
        }

    def _facts(self, row: Any) -> list[tuple[str, Any]]:
        facts: list[tuple[str, Any]] = [
            (_("Connection"), formatting.name(row.using)),
            (_("Exchange"), formatting.exchange(row.exchange)),
            (_("Routing key"), formatting.name(row.routing_key)),
            (_("Last error"), formatting.error(row.last_error_type, row.last_error_code)),
            (_("Error message"), formatting.name(row.last_error_text)),
            (_("Created"), formatting.moment(row.created_at, row.now)),
            (_("First failed"), formatting.moment(row.failed_at, row.now)),
            (_("Last failed"), formatting.moment(row.last_failed_at, row.now)),
            (_("Attempts"), _attempts_counted(row)),
            (_("Refusals since the last retry of all"), _refusals(row)),
            (_("Next attempt"), formatting.next_attempt(row)),
        ]
        if row.finished_at is not None:
            facts.append((_("Finished"), formatting.moment(row.finished_at, row.now)))
        if row.ordering_key:
            facts.insert(3, (_("Ordering key"), formatting.name(row.ordering_key)))
        return facts

    def _buttons(self, request: HttpRequest, row: Any) -> list[dict[str, Any]]:
        """Return the buttons that this user may press, each with the reason if it is disabled."""
        buttons: list[dict[str, Any]] = []
        if row.state in ("delivered", "discarded"):
            return buttons
        if self.has_retry_permission(request):
            reason = closed(row) or self._behind(row)
            buttons.append(self.button(request, row, "retry", _("Retry now"), reason))
        if self.has_discard_permission(request):
            button = self.button(request, row, "discard", _("Discard"), closed(row), final=True)
            buttons.append(button)
        return buttons

    def _neighbours(self, request: HttpRequest, row: Any) -> dict[str, str]:
        """Return the addresses of the messages before and after this one in the user's list."""
        listing = only_filters(request, request.GET.get("_changelist_filters", ""))
        try:
            rows = self.get_changelist_instance(listing).queryset
        except (IncorrectLookupParameters, SuspiciousOperation):
            return {}
        # Read by the database itself: SQLite compares times as text, which may differ in precision.
        when = Subquery(self.rows().filter(pk=row.pk).values("last_failed_at")[:1])
        later = Q(last_failed_at__gt=when) | Q(last_failed_at=when, pk__gt=row.pk)
        earlier = Q(last_failed_at__lt=when) | Q(last_failed_at=when, pk__lt=row.pk)
        return {
            "previous": self._neighbour(request, rows.filter(later), "last_failed_at", "pk"),
            "next": self._neighbour(request, rows.filter(earlier), "-last_failed_at", "-pk"),
        }

    def _neighbour(self, request: HttpRequest, rows: Any, *order: str) -> str:
        found = rows.order_by(*order).values_list("pk", flat=True)[:1]
        return self.with_filters(request, self.address("change", *found)) if found else ""

    def _behind(self, row: Any) -> str:
        """Return which message with the same ordering key must be sent first; empty if none."""
        if not row.ordering_key:
            return ""
        rows = OutboxMessage.objects.using(self.get_database()).order_by("pk")
        first = rows.filter(ordering_key=row.ordering_key, state__in=OPEN, pk__lt=row.pk).only(
            "message_id"
        )[:1]
        if not first:
            return ""
        text = _("Retry or discard message %s first: it has the same ordering key.")
        return text % formatting.visible(first[0].message_id)

    def _command(self, row: Any) -> str:
        """Return the shell command that retries it; empty if the id cannot be pasted."""
        if formatting.visible(row.message_id) != row.message_id:
            return ""
        database = self.get_database()
        options = [] if database == DEFAULT_DB_ALIAS else ["--database", database]
        end = ["--"] if row.message_id.startswith("-") else []
        return shlex.join(["python", "manage.py", "rmq_retry", *options, *end, row.message_id])


def _attempts_counted(row: Any) -> str:
    """Return how many attempts the table below lists, by outcome."""
    kinds = [str(each.get("type", "")) for each in row.history if isinstance(each, Mapping)]
    refused = sum(kind in ANSWERED for kind in kinds)
    delivered = row.state == "delivered"
    parts = [
        (refused, _("refused by the broker: %d")),
        (len(row.history) - refused, _("no response: %d")),
        (int(delivered), _("confirmed: %d")),
    ]
    counted = ", ".join(text % number for number, text in parts if number)
    return f"{len(row.history) + delivered} ({counted})" if counted else "0"


def _refusals(row: Any) -> str:
    """Return how close a message is to being dead."""
    return _("%(number)d of %(most)d") % {
        "number": row.attempts,
        "most": loader.outbox().max_attempts,
    }


def closed(row: Any) -> str:
    """Return why a row can be neither retried nor discarded; empty if it can."""
    if held := formatting.held(row):
        return held
    if row.state == "delivered":
        return _("It has been delivered.")
    if row.state == "discarded":
        return _("It was discarded.")
    return ""


def _attempts(row: Any) -> list[dict[str, Any]]:
    """Return what is known of each attempt, the latest first, ending with the delivery."""
    attempts = []
    for each in row.history:
        entry = each if isinstance(each, Mapping) else {}
        then = formatting.written(entry.get("at"), row.now)
        attempts.append(
            {
                "when": _("time unknown") if then is None else formatting.moment(then, row.now),
                "outcome": formatting.error(str(entry.get("type", "")), entry.get("code")),
                "text": formatting.name(str(entry.get("text", ""))),
            }
        )
    if row.state == "delivered":
        attempts.append(
            {"when": formatting.moment(row.finished_at, row.now), "outcome": _("Confirmed")}
        )
    return attempts[::-1]
