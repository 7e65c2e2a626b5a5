"""The numbers above the list of tasks, and the chart below it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connections as databases
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from rmq_publisher.contrib.django_tasks import workers
from rmq_publisher.contrib.django_tasks.models import TaskRecord
from rmq_publisher.db.clock import DatabaseNow, database_now
from rmq_publisher.modeladmin import periods, tiles
from rmq_publisher.modeladmin.base import PageBase
from rmq_publisher.modeladmin.chart import Words, chart
from rmq_publisher.monitoring import outbox_stats

STATUS = "status"  # the filter's parameter in the list's address
CHARTED_MAX = 10_000  # finished tasks that the chart counts: the latest ones

FINISHED = Words(
    gettext_lazy("Successful"),
    gettext_lazy("Failed"),
    gettext_lazy("%(time)s: %(published)d successful, %(failed)d failed"),
)


@dataclass
class Bucket:
    """A part of the chart's period; its names are the chart's."""

    start: datetime
    published: int = 0
    failed: int = 0


def dashboard(page: PageBase, request: HttpRequest) -> dict[str, Any]:
    """Return what is shown around the list.

    Raises:
        DatabaseError, InterfaceError: from Django, such as for a missing table.
    """
    chosen = request.GET.get(STATUS, "")
    numbers = {
        str(status): page.rows().filter(status=status).order_by()[: tiles.COUNTED_MAX].count()
        for status in TaskRecord.Status.values
    }
    period = periods.chosen(request)
    buckets, whole = _series(page, period)
    return {
        "warnings": _warnings(page, numbers),
        "announcement": _("%(ready)s ready, %(failed)s failed")
        % {"ready": numbers["READY"], "failed": numbers["FAILED"]},
        "tiles": [
            *(_tile(status, numbers[str(status)], chosen) for status in TaskRecord.Status),
            _workers(page),
        ],
        "periods": periods.links(request, period),
        "chart": chart(buckets, FINISHED),
        "chart_empty": _("No task finished in this period."),
        "chart_note": "" if whole else _("Only the latest %d tasks are counted.") % CHARTED_MAX,
    }


def _tile(status: Any, number: int, chosen: str) -> tiles.Tile:
    tone = ("bad" if number else "good") if status == TaskRecord.Status.FAILED else ""
    text = f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return {
        "label": str(status.label).capitalize(),
        "value": _("%s or more") % text if number == tiles.COUNTED_MAX else text,
        "tone": tone,
        "query": f"?{STATUS}={status}",
        "current": chosen == status,
    }


def _alive(page: PageBase) -> int:
    seen = DatabaseNow(-workers.ALIVE_SECONDS)
    return workers.rows(page.get_database()).filter(seen_at__gte=seen).count()


def _workers(page: PageBase) -> tiles.Tile:
    alive = _alive(page)
    return {
        "label": _("Workers"),
        "value": ngettext("%d running", "%d running", alive) % alive,
        "tone": "good" if alive else "bad",
    }


def _warnings(page: PageBase, numbers: dict[str, int]) -> list[str]:
    if not numbers["READY"] or _alive(page):
        return []
    return [
        _(
            "Tasks are ready, and no worker is running on this database. Start one: “python manage.py "
            "rmq_worker”."
        )
    ]


def _series(page: PageBase, period: outbox_stats.Period) -> tuple[list[Bucket], bool]:
    """Return the chart's buckets, and whether they count all tasks of the period."""
    minutes, number = outbox_stats.BUCKETS[period]
    length = timedelta(minutes=minutes)
    now = database_now(databases[page.get_database()])
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    first = midnight + (now - midnight) // length * length - (number - 1) * length
    buckets = [Bucket(first + at * length) for at in range(number)]
    rows = page.rows().filter(finished_at__isnull=False, finished_at__gte=first)
    found = rows.order_by("-finished_at").values_list("finished_at", "status")[:CHARTED_MAX]
    for finished, status in found:
        bucket = buckets[min((finished - first) // length, number - 1)]
        if status == TaskRecord.Status.FAILED:
            bucket.failed += 1
        else:
            bucket.published += 1
    return buckets, len(found) < CHARTED_MAX
