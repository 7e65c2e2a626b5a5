"""How a task's status and the time that it takes are shown."""

from typing import Any

from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from rmq_publisher.contrib.django_tasks.models import TaskRecord
from rmq_publisher.modeladmin import formatting

SECOND = 1.0


def status(row: Any) -> SafeString:
    """Return a task's status as HTML, or that it is scheduled or waits for its next attempt."""
    shown = row.get_status_display()
    if row.status == TaskRecord.Status.READY:
        if row.retry_at is not None and row.retry_at > row.now:
            shown = _("to be retried")
        elif row.run_after is not None and row.run_after > row.now:
            shown = _("scheduled")
    return format_html('<span class="rmq-state rmq-{}">{}</span>', row.status.lower(), shown)


def duration(row: Any) -> str:
    """Return how long a task's last run took, or takes already; "-" if none has begun."""
    began, ended = row.last_attempted_at, row.finished_at
    if began is None or row.status == TaskRecord.Status.READY:
        return "-"
    seconds = ((ended or row.now) - began).total_seconds()
    if 0 <= seconds < SECOND:
        return str(_("%d ms") % (1000 * seconds))
    return formatting.duration(max(0.0, seconds))
