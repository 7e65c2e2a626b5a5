"""The chart of published and failed messages: the numbers of an SVG that a template draws."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy

# In units of the drawing.
WIDTH = 960
HEIGHT = 100  # of both halves, which share one scale
LEAST = 3  # height of the smallest bar: a few failures among thousands must be seen


@dataclass(frozen=True, slots=True)
class Bar:
    """One bucket as two bars, up and down from a common line."""

    x: int
    width: int
    up_y: int
    up: int
    down: int
    title: str


@dataclass(frozen=True, slots=True)
class Words:
    """What a chart is of.

    Attributes:
        up, down: headings of what is drawn above and below the line.
        bar: of one bar: time, ``published`` above and ``failed`` below.
    """

    up: str | Promise
    down: str | Promise
    bar: str | Promise


PUBLISHED = Words(
    gettext_lazy("Published"),
    gettext_lazy("Failed"),
    gettext_lazy("%(time)s: %(published)d published, %(failed)d failed"),
)


@dataclass(frozen=True, slots=True)
class Chart:
    """The drawing.

    Attributes:
        words: what it is of.
        bars: of all buckets.
        rows: time, published and failed of each bucket that is not empty, the latest first.
        published, failed: of the whole period.
        most_published, most_failed: in one bucket.
        begins: the first bucket's time.
        times: labels beneath the drawing: position, SVG's text-anchor, and time.
        width: of the drawing, which the buckets fill.
        line: height of the published half, which is above the line.
        height: of the drawing.
    """

    words: Words
    bars: list[Bar]
    rows: list[tuple[str, int, int]]
    published: int
    failed: int
    most_published: int
    most_failed: int
    begins: str
    times: list[tuple[str, str, str]]
    width: int
    line: int
    height: int = HEIGHT

    @property
    def title(self) -> str:
        """When the period begins, and the numbers of all of it."""
        return str(self.words.bar) % {
            "time": self.begins,
            "published": self.published,
            "failed": self.failed,
        }


def chart(buckets: Sequence[Any], words: Words = PUBLISHED) -> Chart:
    """Return the chart of buckets (``start``, ``published``, ``failed``), the oldest first."""
    most_published = max((bucket.published for bucket in buckets), default=0)
    most_failed = max((bucket.failed for bucket in buckets), default=0)
    step = WIDTH // max(1, len(buckets))
    line = _line(most_published, most_failed)
    most = max(1, most_published + most_failed)
    bars, rows = [], []
    for index, bucket in enumerate(buckets):
        label = _label(bucket.start)
        up = min(line, _height(bucket.published, most))
        down = min(HEIGHT - line, _height(bucket.failed, most))
        title = str(words.bar) % {
            "time": label,
            "published": bucket.published,
            "failed": bucket.failed,
        }
        if up or down:
            bars.append(Bar(index * step, max(1, step - 2), line - up, up, down, title))
            rows.append((label, bucket.published, bucket.failed))
    return Chart(
        words=words,
        bars=bars,
        rows=rows[::-1],
        published=sum(bucket.published for bucket in buckets),
        failed=sum(bucket.failed for bucket in buckets),
        most_published=most_published,
        most_failed=most_failed,
        begins=_label(buckets[0].start) if buckets else "",
        times=_times([bucket.start for bucket in buckets]),
        width=step * max(1, len(buckets)),
        line=line,
    )


def _line(most_published: int, most_failed: int) -> int:
    """Return the height of the published half, so that one message is as tall in both halves."""
    if not most_failed:
        return HEIGHT - LEAST
    exact = HEIGHT * most_published // (most_published + most_failed)
    return min(HEIGHT - LEAST, max(LEAST, exact))


def _height(number: int, most: int) -> int:
    return max(LEAST, number * HEIGHT // most) if number else 0


def _label(moment: datetime) -> str:
    local = _local(moment)
    return f"{date_format(local, 'MONTH_DAY_FORMAT')}, {local:%H:%M}"


def _local(moment: datetime) -> datetime:
    return timezone.localtime(moment) if timezone.is_aware(moment) else moment


def _times(starts: Sequence[datetime]) -> list[tuple[str, str, str]]:
    """Return the times of the first, middle and last bucket; as dates if they span days."""
    if not starts:
        return []
    days = starts[-1] - starts[0] >= timedelta(days=1)
    shown = [
        date_format(local, "MONTH_DAY_FORMAT") if days else f"{local:%H:%M}"
        for local in map(_local, (starts[0], starts[len(starts) // 2], starts[-1]))
    ]
    return list(zip(("0", "50%", "100%"), ("start", "middle", "end"), shown, strict=True))
