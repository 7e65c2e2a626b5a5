"""The dashboard around the list: how many failures, whether a relay runs, whether RabbitMQ answers."""

from collections.abc import Sequence
from typing import Any, get_args

from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, pgettext_lazy

from rmq_publisher.modeladmin import formatting
from rmq_publisher.modeladmin.bounded_list import PERIOD
from rmq_publisher.modeladmin.chart import chart
from rmq_publisher.modeladmin.filters import STATE, default_state
from rmq_publisher.monitoring import broker_status, outbox_stats
from rmq_publisher.outbox import heartbeats

COUNTED_MAX = 3000  # rows of a state; counting more would make the page slower as the table grows
PERIODS = {
    "60m": gettext_lazy("60 minutes"),
    "24h": gettext_lazy("24 hours"),
    "7d": gettext_lazy("7 days"),
}
BROKER_STATES = {
    "up": pgettext_lazy("state of a broker", "up"),
    "down": pgettext_lazy("state of a broker", "down"),
    "blocked": pgettext_lazy("state of a broker", "blocked"),
    "unknown": gettext_lazy("checking"),
}


def dashboard(request: HttpRequest, database: str) -> dict[str, Any]:
    """Return what the dashboard shows.

    Args:
        request: its address may name the chart's period.
        database: Django alias.

    Raises:
        DatabaseError, InterfaceError: from Django, such as for a missing table.
    """
    statuses = broker_status.statuses()
    summary = outbox_stats.summary(database, at_most=COUNTED_MAX)
    chosen = request.GET.get(PERIOD, "")
    period = chosen if chosen in get_args(outbox_stats.Period) else "60m"
    return {
        "tiles": _tiles(summary, request, statuses),
        "warnings": _warnings(summary),
        "announcement": _announcement(summary),
        "periods": [(_with_period(request, key), PERIODS[key], key == period) for key in PERIODS],
        "chart": chart(outbox_stats.series(database, period)),  # type: ignore[arg-type]
        "brokers": [_broker(status) for status in statuses],
    }


def _with_period(request: HttpRequest, period: str) -> str:
    """Return the list's address with another period for the chart."""
    query = request.GET.copy()
    query[PERIOD] = period
    return f"?{query.urlencode()}"


def relay_missing(database: str) -> str:
    """Return a warning that no relay is running, with what to do; empty if one is."""
    return _relay_missing(heartbeats.last_seen(database))


def _relay_missing(seen: float | None) -> str:
    if seen is None:
        return _(
            "No relay has ever run on this database, so failed messages are not retried automatically. "
            "Start one: “python manage.py rmq_relay”."
        )
    if seen > heartbeats.ALIVE_SECONDS:
        text = _(
            "No relay is running (last seen %s), so failed messages are not retried automatically. "
            "Start one: “python manage.py rmq_relay”."
        )
        return text % formatting.ago(seen)
    return ""


def _warnings(summary: outbox_stats.Summary) -> list[str]:
    missing = _relay_missing(summary.relay_seen)
    return [missing] if missing else []


def _number(summary: outbox_stats.Summary, name: str) -> str:
    more = name in summary.at_least
    if name == "unresolved":
        more = bool({"failed", "dead"} & summary.at_least)
    text = f"{getattr(summary, name):,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return _("%s or more") % text if more else text


def _tiles(
    summary: outbox_stats.Summary, request: HttpRequest, statuses: Sequence[Any]
) -> list[dict[str, Any]]:
    """Return the tiles; a tile's tone is a colour, which is never the only sign."""
    oldest, seen = summary.oldest_pending, summary.relay_seen
    state = request.GET.get(STATE, default_state(request))
    up = sum(status.state == "up" for status in statuses)
    return [
        {
            "label": _("Unresolved"),
            "value": _number(summary, "unresolved"),
            "tone": "bad" if summary.unresolved else "good",
            "query": "?state=unresolved",
            "current": state == "unresolved",
        },
        {
            "label": _("Dead"),
            "value": _number(summary, "dead"),
            "tone": "bad" if summary.dead else "good",
            "query": "?state=dead",
            "current": state == "dead",
        },
        {
            "label": _("Pending"),
            "value": _number(summary, "pending"),
            "note": "" if oldest is None else _("oldest: %s") % formatting.duration(oldest),
        },
        {"label": _("Published, 24 h"), "value": _number(summary, "published_24h")},
        {
            "label": _("Failed, 24 h"),
            "value": _number(summary, "failed_24h"),
            "tone": "bad" if summary.failed_24h else "",
        },
        {
            "label": _("Relay"),
            "value": ngettext("%d running", "%d running", summary.relays) % summary.relays,
            "tone": "bad" if _relay_missing(seen) else "good",
            "note": _("never seen") if seen is None else _("seen %s") % formatting.ago(seen),
        },
        {
            "label": _("RabbitMQ up"),
            "value": _("%(up)d of %(all)d") % {"up": up, "all": len(statuses)},
            "tone": _brokers_tone(statuses),
            "query": "#rmq-brokers-heading",
        },
    ]


def _brokers_tone(statuses: Sequence[Any]) -> str:
    states = {status.state for status in statuses}
    if states & {"down", "blocked"}:
        return "bad"
    return "good" if states == {"up"} else ""


def _announcement(summary: outbox_stats.Summary) -> str:
    """Return what a screen reader announces when it changes."""
    return _("%(unresolved)s unresolved, including %(dead)s dead") % {
        "unresolved": _number(summary, "unresolved"),
        "dead": _number(summary, "dead"),
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
