"""The numbers above the list of pending and scheduled messages."""

from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext as _

from rmq_publisher.db.clock import DatabaseNow
from rmq_publisher.modeladmin import formatting, tiles
from rmq_publisher.modeladmin.base import PageBase
from rmq_publisher.models import PublishFailure
from rmq_publisher.monitoring import broker_status, outbox_stats


def pending_dashboard(page: PageBase, request: HttpRequest) -> dict[str, Any]:
    """Return what is shown above the list.

    Raises:
        DatabaseError, InterfaceError: from Django, such as for a missing table.
    """
    database = page.get_database()
    summary = outbox_stats.summary(database, at_most=tiles.COUNTED_MAX)
    oldest, following = summary.oldest_pending, _seconds_to_next(page)
    chosen = request.GET.get("time", "")
    failures = page.address_of(request, PublishFailure, "changelist")
    return {
        **tiles.trouble(database, summary),
        "announcement": _("%(pending)s pending, %(scheduled)s scheduled")
        % {
            "pending": tiles.number(summary, "pending"),
            "scheduled": tiles.number(summary, "scheduled"),
        },
        "tiles": [
            {
                "label": _("Pending"),
                "value": tiles.number(summary, "pending"),
                "note": "" if oldest is None else _("oldest: %s") % formatting.duration(oldest),
                "query": "?time=due",
                "current": chosen == "due",
            },
            {
                "label": _("Scheduled"),
                "value": tiles.number(summary, "scheduled"),
                "note": "" if following is None else _("next %s") % formatting.ahead(following),
                "query": "?time=scheduled",
                "current": chosen == "scheduled",
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


def _seconds_to_next(page: PageBase) -> float | None:
    """Return in how many seconds the next scheduled message is due; None if there is none."""
    later = {"available_at__gt": DatabaseNow(), "scheduled_at__gt": DatabaseNow()}
    rows = page.rows().filter(ordering_key="", **later).order_by("ordering_key", "available_at")
    row = rows.annotate(now=DatabaseNow()).only("scheduled_at").first()
    return None if row is None else (row.scheduled_at - row.now).total_seconds()
