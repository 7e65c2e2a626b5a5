"""The periods that a chart can show, chosen in the list's address."""

from typing import get_args

from django.http import HttpRequest
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy

from rmq_publisher.modeladmin.bounded_list import PERIOD
from rmq_publisher.monitoring import outbox_stats

PERIODS: dict[outbox_stats.Period, str | Promise] = {
    "60m": gettext_lazy("60 minutes"),
    "24h": gettext_lazy("24 hours"),
    "7d": gettext_lazy("7 days"),
}


def chosen(request: HttpRequest) -> outbox_stats.Period:
    """Return the chosen period; an hour if there is none."""
    name = request.GET.get(PERIOD, "")
    return name if name in get_args(outbox_stats.Period) else "60m"  # type: ignore[return-value]


def links(
    request: HttpRequest, period: outbox_stats.Period
) -> list[tuple[str, str | Promise, bool]]:
    """Return each period's link in the list, its words, and whether it is the shown one."""
    found = []
    for key, words in PERIODS.items():
        query = request.GET.copy()
        query[PERIOD] = key
        found.append((f"?{query.urlencode()}", words, key == period))
    return found
