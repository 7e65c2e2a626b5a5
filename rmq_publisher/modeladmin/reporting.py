"""Tells a user what an action did to each row, and keeps it in the admin's log."""

from collections.abc import Iterable, Sequence
from typing import Any

from django.contrib.admin.models import CHANGE, LogEntry
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _

from rmq_publisher.modeladmin import formatting
from rmq_publisher.modeladmin.base import TOLD_MAX, PageBase
from rmq_publisher.modeladmin.outcomes import Told, summary


def finish(
    page: PageBase,
    request: HttpRequest,
    rows: Sequence[Any],
    results: Sequence[Told],
    level: int,
) -> None:
    """Log what was tried, and tell the user about each row.

    Args:
        page: the admin.
        request: the user's.
        rows: which were chosen.
        results: of each of them that still exists.
        level: of the message, as in `django.contrib.messages`.
    """
    by_id = {row.pk: row for row in rows}
    known = [(by_id[result.id], result) for result in results if result.id in by_id]
    by_text: dict[str, list[Any]] = {}
    for row, result in known:
        by_text.setdefault(result.logged(), []).append(row)
    for text, logged in by_text.items():
        if text:
            log(request, logged, text)
    # Not a list: Django 5.2 would draw each item like a message of its own.
    lines = format_html_join(
        "",
        '<span class="rmq-told">{}: {}</span>',
        ((formatting.name(page.name_of(row)), result.line()) for row, result in known[:TOLD_MAX]),
    )
    if len(known) > TOLD_MAX:
        rest = _("For the other messages, see each one's history.")
        lines += format_html('<span class="rmq-told">{}</span>', rest)
    page.message_user(request, format_html("{}{}", summary(results), lines), level)


def log(request: HttpRequest, rows: Iterable[Any], text: str) -> None:
    """Log what a user did with rows, as Django's own ``log_change`` does for one."""
    LogEntry.objects.log_actions(user_id(request), rows, CHANGE, text)


def user_id(request: HttpRequest) -> Any:
    """Return the id of the user, who has signed in."""
    return request.user.pk
