"""The numbers above a list, and what it warns of: shared by the pages of stored messages."""

from collections.abc import Sequence
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from rmq_publisher.modeladmin import formatting
from rmq_publisher.monitoring import outbox_stats
from rmq_publisher.outbox import heartbeats, scheduled

COUNTED_MAX = 3000  # rows of a state; counting more would make the page slower as the table grows
LATE_SECONDS = 60.0  # after which a scheduled message is overdue

Tile = dict[str, Any]


def relay_missing(database: str) -> str:
    """Return a warning that no relay is running, with what to do; empty if one is."""
    return _relay_missing(heartbeats.last_seen(database))


def _relay_missing(seen: float | None) -> str:
    if seen is None:
        return _(
            "No relay has ever run on this database, so messages that failed or are scheduled are not "
            "sent automatically. Start one: “python manage.py rmq_relay”."
        )
    if seen > heartbeats.ALIVE_SECONDS:
        text = _(
            "No relay is running (last seen %s), so messages that failed or are scheduled are not sent "
            "automatically. Start one: “python manage.py rmq_relay”."
        )
        return text % formatting.ago(seen)
    return ""


def trouble(database: str, summary: outbox_stats.Summary) -> dict[str, list[str]]:
    """Return what to warn of, and what is wrong already: scheduled messages that nobody sends.

    Raises:
        DatabaseError, InterfaceError: from Django.
    """
    missing = _relay_missing(summary.relay_seen)
    if not missing:
        return {"warnings": [], "errors": []}
    late = scheduled.overdue(database, LATE_SECONDS, COUNTED_MAX)
    text = ngettext(
        "%d scheduled message should have been sent more than a minute ago.",
        "%d scheduled messages should have been sent more than a minute ago.",
        late,
    )
    return {"warnings": [missing], "errors": [text % late] if late else []}


def number(summary: outbox_stats.Summary, name: str) -> str:
    """Return one of the summary's numbers, or that there are no less."""
    more = name in summary.at_least
    if name == "unresolved":
        more = bool({"failed", "dead"} & summary.at_least)
    return shown(getattr(summary, name), more=more)


def shown(count: int, *, more: bool) -> str:
    """Return a number, or that there are no less."""
    text = f"{count:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return _("%s or more") % text if more else text


def relay(summary: outbox_stats.Summary) -> Tile:
    """Return how many relays are running."""
    seen = summary.relay_seen
    return {
        "label": _("Relay"),
        "value": ngettext("%d running", "%d running", summary.relays) % summary.relays,
        "tone": "bad" if _relay_missing(seen) else "good",
        "note": _("never seen") if seen is None else _("seen %s") % formatting.ago(seen),
    }


def brokers(statuses: Sequence[Any], query: str = "") -> Tile:
    """Return how many brokers can be reached, with a link."""
    states = {status.state for status in statuses}
    up = sum(status.state == "up" for status in statuses)
    tone = "good" if states == {"up"} else ""
    return {
        "label": _("RabbitMQ up"),
        "value": _("%(up)d of %(all)d") % {"up": up, "all": len(statuses)},
        "tone": "bad" if states & {"down", "blocked"} else tone,
        "query": query,
    }
