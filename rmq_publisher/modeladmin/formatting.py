"""What the admin's pages say of a message, in words: times, errors, sizes, and hostile text made plain.

Everything here that comes out of a message is escaped, set apart from the text around it (``<bdi>``), and
shows the characters that would otherwise be unseen, or turn the line around.
"""

import re
import unicodedata
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.template.defaultfilters import filesizeformat
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, pgettext

from rmq_publisher.outbox.claims import being_sent

_ODD = re.compile(r"[^\x20-\x7e]")
_UNSEEN = ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")  # Unicode's categories

ERRORS: Mapping[str, str | Promise] = {
    "Unroutable": gettext_lazy("No queue took it"),
    "Nacked": gettext_lazy("A queue refused it"),
    "Rejected": gettext_lazy("RabbitMQ rejected it"),
    "ConfirmTimeout": gettext_lazy("No confirm in time"),
    "BrokerUnavailable": gettext_lazy("RabbitMQ could not be reached"),
    "InvalidMessage": gettext_lazy("Not a valid message"),
}


def visible(text: str, keep: str = "") -> str:
    """Return a text whose control and direction characters can be seen.

    Args:
        text: any.
        keep: characters that stay as they are.
    """

    def seen(match: re.Match[str]) -> str:
        character = match[0]
        if character in keep or unicodedata.category(character) not in _UNSEEN:
            return character
        number = ord(character)
        if number < 0x20:
            return chr(0x2400 + number)  # Unicode has pictures of these
        return f"⟨U+{number:04X}⟩"

    return _ODD.sub(seen, text)


def name(text: str, longest: int = 0) -> SafeString:
    """Return a name out of a message as HTML.

    Args:
        text: any.
        longest: characters; the rest is left to the tooltip.
    """
    shown = visible(text)
    if not longest or len(shown) <= longest:
        return format_html('<bdi class="rmq-name">{}</bdi>', shown)
    return format_html('<bdi class="rmq-name" title="{}">{}…</bdi>', shown, shown[: longest - 1])


def exchange(text: str, longest: int = 0) -> SafeString | str:
    """Return an exchange's name; the default exchange has none."""
    return name(text, longest) if text else _("(default)")


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
    count, unit = _unit(seconds)
    return {
        "seconds": ngettext("%(count)d second ago", "%(count)d seconds ago", count),
        "minutes": ngettext("%(count)d minute ago", "%(count)d minutes ago", count),
        "hours": ngettext("%(count)d hour ago", "%(count)d hours ago", count),
        "days": ngettext("%(count)d day ago", "%(count)d days ago", count),
    }[unit] % {"count": count}


def ahead(seconds: float) -> str:
    """Return when something will be, such as "in 5 minutes"."""
    count, unit = _unit(seconds)
    return {
        "seconds": ngettext("in %(count)d second", "in %(count)d seconds", count),
        "minutes": ngettext("in %(count)d minute", "in %(count)d minutes", count),
        "hours": ngettext("in %(count)d hour", "in %(count)d hours", count),
        "days": ngettext("in %(count)d day", "in %(count)d days", count),
    }[unit] % {"count": count}


def exact(moment: datetime) -> str:
    """Return a time to the millisecond, with its zone."""
    local = timezone.localtime(moment) if timezone.is_aware(moment) else moment
    return local.isoformat(sep=" ", timespec="milliseconds")


def written(text: Any, now: datetime) -> datetime | None:
    """Return a time that was written as text, with a zone or without one, just as ``now`` has.

    Args:
        text: of ISO 8601; the project's ``USE_TZ`` may have been another one when it was written.
        now: what it is to be compared with.

    Returns:
        None where it cannot be read: the row is damaged.
    """
    try:
        then = datetime.fromisoformat(text)
        if timezone.is_naive(now):
            return timezone.make_naive(then) if timezone.is_aware(then) else then
        return timezone.localtime(then if timezone.is_aware(then) else timezone.make_aware(then))
    except (TypeError, ValueError, OverflowError):
        return None


def moment(then: datetime | None, now: datetime) -> SafeString | str:
    """Return a time as HTML: in words, exact in its tooltip.

    Args:
        then: the time.
        now: the database's, which the time is of as well.
    """
    if then is None:
        return pgettext("no time", "never")
    seconds = (now - then).total_seconds()
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        then.isoformat(),
        exact(then),
        ago(seconds) if seconds >= 0 else ahead(-seconds),
    )


# ---- what becomes of a row -------------------------------------------------------------------------


def next_attempt(row: Any) -> SafeString | str:
    """Say when a row is sent again."""
    if being_sent(row):
        return _("being sent")
    if row.state == "dead":
        return _("waits for a person")
    if row.available_at is None:
        return "-"
    if row.available_at <= row.now:
        return pgettext("next attempt", "due")
    return moment(row.available_at, row.now)
