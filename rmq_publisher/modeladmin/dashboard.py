"""The dashboard around the list: how many failures, whether a relay runs, whether RabbitMQ answers."""

from collections.abc import Sequence
from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext_lazy

from rmq_publisher.modeladmin import formatting, periods, tiles
from rmq_publisher.modeladmin.base import PageBase
from rmq_publisher.modeladmin.chart import chart
from rmq_publisher.modeladmin.filters import STATE, default_state
from rmq_publisher.models import PendingMessage
from rmq_publisher.monitoring import broker_status, outbox_stats

BROKER_STATES = {
    "up": pgettext_lazy("state of a broker", "up"),
    "down": pgettext_lazy("state of a broker", "down"),
    "blocked": pgettext_lazy("state of a broker", "blocked"),
    "unknown": gettext_lazy("checking"),
}


def dashboard(page: PageBase, request: HttpRequest) -> dict[str, Any]:
    """Return what the dashboard shows.

    Args:
        page: the admin, for its database.
        request: its address may name the chart's period.

    Raises:
        DatabaseError, InterfaceError: from Django, such as for a missing table.
    """
    database = page.get_database()
    statuses = broker_status.statuses()
    summary = outbox_stats.summary(database, at_most=tiles.COUNTED_MAX)
    period = periods.chosen(request)
    return {
        "tiles": _tiles(page, request, summary, statuses),
        **tiles.trouble(database, summary),
        "announcement": _announcement(summary),
        "periods": periods.links(request, period),
        "chart": chart(outbox_stats.series(database, period)),
        "brokers": [_broker(status) for status in statuses],
    }


def _tiles(
    page: PageBase, request: HttpRequest, summary: outbox_stats.Summary, statuses: Sequence[Any]
) -> list[tiles.Tile]:
    """Return the tiles; a tile's tone is a colour, which is never the only sign."""
    oldest = summary.oldest_pending
    pending = page.address_of(request, PendingMessage, "changelist")
    state = request.GET.get(STATE, default_state(request))
    return [
        {
            "label": _("Unresolved"),
            "value": tiles.number(summary, "unresolved"),
            "tone": "bad" if summary.unresolved else "good",
            "query": "?state=unresolved",
            "current": state == "unresolved",
        },
        {
            "label": _("Dead"),
            "value": tiles.number(summary, "dead"),
            "tone": "bad" if summary.dead else "good",
            "query": "?state=dead",
            "current": state == "dead",
        },
        {
            "label": _("Pending"),
            "value": tiles.number(summary, "pending"),
            "note": "" if oldest is None else _("oldest: %s") % formatting.duration(oldest),
            "query": f"{pending}?time=due" if pending else "",
        },
        {
            "label": _("Scheduled"),
            "value": tiles.number(summary, "scheduled"),
            "query": f"{pending}?time=scheduled" if pending else "",
        },
        {
            "label": _("Published, 24\N{NO-BREAK SPACE}h"),
            "value": tiles.number(summary, "published_24h"),
        },
        {
            "label": _("Failed, 24\N{NO-BREAK SPACE}h"),
            "value": tiles.number(summary, "failed_24h"),
            "tone": "bad" if summary.failed_24h else "",
        },
        tiles.relay(summary),
        tiles.brokers(statuses, "#rmq-brokers-heading"),
    ]


def _announcement(summary: outbox_stats.Summary) -> str:
    """Return what a screen reader announces when it changes."""
    return _("%(unresolved)s unresolved, including %(dead)s dead") % {
        "unresolved": tiles.number(summary, "unresolved"),
        "dead": tiles.number(summary, "dead"),
    }


def _broker(status: Any) -> dict[str, Any]:
    return {
        "alias": formatting.name(status.alias),
        "state": status.state,
        "state_shown": BROKER_STATES.get(status.state, status.state),
        "where": formatting.name(f"{status.host}, {status.vhost}" if status.host else ""),
        "product": formatting.visible(status.product),
        "connect_ms": None if status.connect_ms is None else round(status.connect_ms),
        "error": formatting.name(status.error or ""),
        "age": formatting.ago(status.age) if status.state != "unknown" else "",
        "queues": [
            {
                "name": formatting.name(queue.name),
                "messages": queue.messages,
                "consumers": queue.consumers,
                "error": formatting.name(queue.error or ""),
            }
            for queue in status.queues
        ],
    }
