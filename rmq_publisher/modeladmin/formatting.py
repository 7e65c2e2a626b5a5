"""How the admin's pages show a message: states, times, errors, sizes, and text that may be hostile.

Text out of a message is escaped, isolated from the text around it (``<bdi>``), and shown with a visible
sign for each character that is invisible or changes the direction of writing.
"""

import re
import unicodedata
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.template.defaultfilters import filesizeformat
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, pgettext

from rmq_publisher.outbox.claims import being_sent

_ODD = re.compile(r"[^\x20-\x7e]")
_INVISIBLE = ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")  # Unicode's categories

ERRORS: Mapping[str, str | Promise] = {
    "Unroutable": gettext_lazy("No matching queue"),
    "Nacked": gettext_lazy("Refused by a queue"),
    "Rejected": gettext_lazy("Rejected by RabbitMQ"),
    "ConfirmTimeout": gettext_lazy("No confirmation in time"),
    "BrokerUnavailable": gettext_lazy("RabbitMQ unavailable"),
    "InvalidMessage": gettext_lazy("Invalid message"),
}


def visible(text: str, keep: str = "") -> str:
    """Return a text with visible signs for control and direction characters.

    Args:
        text: any.
        keep: characters that stay as they are.
    """

    def shown(match: re.Match[str]) -> str:
        character = match[0]
        if character in keep or unicodedata.category(character) not in _INVISIBLE:
            return character
        number = ord(character)
        if number < 0x20:
            return chr(0x2400 + number)  # Unicode's symbol for it
        return f"⟨U+{number:04X}⟩"

    return _ODD.sub(shown, text)


def name(text: str, longest: int = 0) -> SafeString:
    """Return a name out of a message as HTML.

    Args:
        text: any.
        longest: characters; the tooltip has the whole name.
    """
    shown = visible(text)
    if not longest:
        return format_html('<bdi class="rmq-name">{}</bdi>', shown)
    # The page may cut it further, so that the tooltip is there for short names as well.
    short = shown if len(shown) <= longest else f"{shown[: longest - 1]}…"
    return format_html('<bdi class="rmq-cut" title="{}">{}</bdi>', shown, short)


def two_lines(first: SafeString | str, second: SafeString | str) -> SafeString:
    """Return a cell's content: what matters first, and details below."""
    markup = '<span class="rmq-cut">{}</span><span class="rmq-below">{}</span>'
    return format_html(markup, first, second)


def exchange(text: str, longest: int = 0) -> SafeString | str:
    """Return an exchange's name; the default exchange has none."""
    return name(text, longest) if text else _("(default)")


def destination(row: Any, longest: int) -> SafeString:
    """Return a row's exchange, with the routing key below."""
    return two_lines(exchange(row.exchange, longest), name(row.routing_key, longest))


def filter_link(parameter: str, value: str, longest: int) -> SafeString:
    """Return a name that leads to the list's rows with it."""
    query = urlencode({parameter: value})
    return format_html('<a href="?{}">{}</a>', query, name(value, longest))


def error(kind: str, code: int | None) -> str:
    """Say what went wrong."""
    words = str(ERRORS.get(kind, visible(kind)))
    return f"{words} ({code})" if code else words


def size(number: int) -> str:
    """Return a number of bytes for people."""
    return filesizeformat(number)


# ---- times -----------------------------------------------------------------------------------------

_STEPS = ((86400, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds"))


def _unit(seconds: float) -> tuple[int, str]:
    for length, unit in _STEPS:
        if seconds >= length:
            return int(seconds // length), unit
    return 0, "seconds"


def duration(seconds: float) -> str:
    """Return a length of time in one unit, such as "5 minutes"."""
    count, unit = _unit(seconds)
    return {
        "seconds": ngettext("%(count)d second", "%(count)d seconds", count),
        "minutes": ngettext("%(count)d minute", "%(count)d minutes", count),
        "hours": ngettext("%(count)d hour", "%(count)d hours", count),
        "days": ngettext("%(count)d day", "%(count)d days", count),
    }[unit] % {"count": count}


def ago(seconds: float) -> str:
    """Return how long ago something was, such as "5 minutes ago"."""
    if seconds < 1:
        return _("just now")
    count, unit = _unit(seconds)
    return {
        "seconds": ngettext("%(count)d second ago", "%(count)d seconds ago", count),
        "minutes": ngettext("%(count)d minute ago", "%(count)d minutes ago", count),
        "hours": ngettext("%(count)d hour ago", "%(count)d hours ago", count),
        "days": ngettext("%(count)d day ago", "%(count)d days ago", count),
    }[unit] % {"count": count}


def ahead(seconds: float) -> str:
    """Return when something will be, such as "in 5 minutes"."""
    if seconds < 1:
        return _("now")
    count, unit = _unit(seconds)
    return {
        "seconds": ngettext("in %(count)d second", "in %(count)d seconds", count),
        "minutes": ngettext("in %(count)d minute", "in %(count)d minutes", count),
        "hours": ngettext("in %(count)d hour", "in %(count)d hours", count),
        "days": ngettext("in %(count)d day", "in %(count)d days", count),
    }[unit] % {"count": count}


def exact(moment: datetime) -> str:
    """Return a time to the millisecond, with its zone."""
    return _local(moment).isoformat(sep=" ", timespec="milliseconds")


def written(text: Any, now: datetime) -> datetime | None:
    """Return a time read from text, aware or naive as ``now`` is.

    Args:
        text: ISO 8601; the project's ``USE_TZ`` may have been different when it was written.
        now: the time that it will be compared with.

    Returns:
        None if the text is damaged.
    """
    try:
        then = datetime.fromisoformat(text)
        if timezone.is_naive(now):
            return timezone.make_naive(then) if timezone.is_aware(then) else then
        return timezone.localtime(then if timezone.is_aware(then) else timezone.make_aware(then))
    except (TypeError, ValueError, OverflowError):
        return None


def moment(then: datetime | None, now: datetime) -> SafeString | str:
    """Return a time as HTML: relative to now, then the time of day, and the exact time as tooltip.

    Args:
        then: the time, by the database's clock.
        now: the database's time.
    """
    if then is None:
        return pgettext("no time", "never")
    seconds = (now - then).total_seconds()
    relative = ago(seconds) if seconds >= 0 else ahead(-seconds)
    return format_html(
        '<time datetime="{}" title="{}">{} <span class="rmq-below">{}</span></time>',
        then.isoformat(),
        exact(then),
        relative,
        clock_time(then, now),
    )


def clock_time(then: datetime, now: datetime) -> str:
    """Return a time in the reader's zone, with the date unless it is today's."""
    local, today = _local(then), _local(now).date()
    if local.date() == today:
        return f"{local:%H:%M:%S}"
    form = "MONTH_DAY_FORMAT" if local.year == today.year else "SHORT_DATE_FORMAT"
    return f"{date_format(local, form)}, {local:%H:%M}"


def _local(moment: datetime) -> datetime:
    return timezone.localtime(moment) if timezone.is_aware(moment) else moment


# ---- a row ----------------------------------------------------------------------------------------


def state(row: Any) -> SafeString:
    """Return a row's state as HTML, or that it is being sent."""
    shown = _("being sent") if being_sent(row) else row.get_state_display()
    return format_html('<span class="rmq-state rmq-{}">{}</span>', row.state, shown)


def held(row: Any) -> str:
    """Return why nobody else may do something with a row; empty if somebody may."""
    return _("It is being sent right now, by a relay or another user.") if being_sent(row) else ""


def next_attempt(row: Any) -> SafeString | str:
    """Return when a row will be retried."""
    if being_sent(row):
        return _("being sent")
    if row.state == "dead":
        return _("needs a decision")
    if row.available_at is None:
        return "-"
    if row.available_at <= row.now:
        return pgettext("next attempt", "due")
    return moment(row.available_at, row.now)
