"""Times on the admin's pages: in the reader's zone, and readable whatever a row holds."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone

from rmq_publisher.modeladmin.chart import chart
from rmq_publisher.monitoring import outbox_stats
from tests.support.admin_rows import failure, fresh_broker, operator, text, url

pytestmark = pytest.mark.django_db

KATHMANDU = "Asia/Kathmandu"  # 5 hours and 45 minutes before UTC: no other mistake gives that
BEGIN = datetime(2026, 1, 2, 20, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _memory(settings):
    settings.RMQ_URL = "memory://"
    settings.TIME_ZONE = KATHMANDU
    fresh_broker()


def attempts(*history):
    """What is said of each attempt: when, exactly when, outcome and text."""
    row = failure()
    row.history = list(history)
    row.save()
    page = operator().get(url("change", row.pk))
    assert page.status_code == 200
    table = text(page).partition('id="rmq-attempts"')[2].partition("</section>")[0]
    found = []
    for line in re.findall(r"<tr><td>(.*?)</tr>", table, re.DOTALL):
        when, outcome, words = line.split("</td><td>")
        exact = re.search(r'title="([^"]*)"', when)
        plain = [re.sub("<[^>]*>", "", each) for each in (when, outcome, words)]
        found.append((plain[0], exact and exact[1], *plain[1:]))
    return found


# -- attempts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("use_tz", "written", "shown"),
    [
        (True, "2026-01-02T03:04:05+00:00", "2026-01-02 08:49:05.000+05:45"),
        (True, "2026-01-02T08:49:05", "2026-01-02 08:49:05.000+05:45"),
        (False, "2026-01-02T08:49:05.250", "2026-01-02 08:49:05.250"),
        (False, "2026-01-02T03:04:05+00:00", "2026-01-02 08:49:05.000"),
    ],
)
def test_attempts_are_told_in_local_time_however_they_were_written(
    settings, use_tz, written, shown
):
    """USE_TZ may have been switched since."""
    settings.USE_TZ = use_tz
    entry = {"at": written, "type": "Nacked", "code": None, "text": "full"}
    [(when, exact, outcome, words)] = attempts(entry)
    assert "days ago" in when
    assert (exact, outcome, words) == (shown, "Refused by a queue", "full")


@pytest.mark.parametrize("use_tz", [True, False])
@pytest.mark.parametrize(
    "damage",
    [{"at": None}, {"at": ""}, {"at": "yesterday"}, {"at": 5}, {"at": "9999-12-31T23:59:59-12:00"}, {}],
)  # fmt: skip
def test_a_time_that_cannot_be_read_hides_nothing_else(settings, damage, use_tz):
    settings.USE_TZ = use_tz
    whole = {"at": "2026-01-02T03:04:05", "type": "Nacked", "code": None, "text": "full"}
    damaged = {"type": "Rejected", "code": 404, "text": "none", **damage}
    latest, first = attempts(whole, damaged)
    assert latest == ("time unknown", None, "Rejected by RabbitMQ (404)", "none")
    assert first[2:] == ("Refused by a queue", "full")


@pytest.mark.parametrize("entry", [{}, "x", None, 5, {"type": 5, "text": None, "code": "<b>"}])
def test_an_attempt_that_is_none_breaks_nothing(entry):
    [(when, _exact, _outcome, _words)] = attempts(entry)
    assert when == "time unknown"


# -- the property -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(1_795_251_709, "1795251709 (2026-11-21 14:46:49.000+05:45)"), (2**60, str(2**60))],
)
def test_a_timestamp_is_told_as_a_time_too(seconds, shown):
    row = failure(properties={"timestamp": seconds})
    page = text(operator().get(url("change", row.pk)))
    assert f"<code>timestamp</code></th><td><bdi>{shown}</bdi>" in page


# -- tooltips and the chart ---------------------------------------------------------------------


def test_tooltips_are_in_local_time():
    row = failure()
    local = row.last_failed_at.astimezone(ZoneInfo(KATHMANDU))
    expected = f'title="{local.isoformat(sep=" ", timespec="milliseconds")}"'
    assert expected.endswith('+05:45"')
    browser = operator()
    assert expected in text(browser.get(url("changelist")))
    assert expected in text(browser.get(url("change", row.pk)))


def buckets(length, number):
    return [outbox_stats.Bucket(BEGIN + at * length, 1, 1) for at in range(number)]


def test_the_charts_times_are_local():
    drawn = chart(buckets(timedelta(minutes=1), 60))
    assert drawn.begins == "January 3, 01:45"
    assert drawn.bars[1].title == "January 3, 01:46: 1 published, 1 failed"
    assert drawn.rows[-1][0] == "January 3, 01:45"
    with timezone.override("UTC"):
        assert chart(buckets(timedelta(minutes=1), 60)).begins == "January 2, 20:00"


@pytest.mark.parametrize(
    ("minutes", "number", "labels"),
    [
        (1, 60, ["01:45", "02:15", "02:44"]),
        (15, 96, ["01:45", "13:45", "01:30"]),
        (120, 84, ["January 3", "January 6", "January 9"]),
    ],
)
def test_the_chart_says_when_it_begins_and_ends(minutes, number, labels, monkeypatch):
    found = buckets(timedelta(minutes=minutes), number)
    drawn = chart(found)
    assert [label for _place, _anchor, label in drawn.times] == labels
    # The drawing is as wide as its buckets: the middle one begins in its middle.
    assert drawn.bars[number // 2].x * 2 == drawn.width
    monkeypatch.setattr(outbox_stats, "series", lambda *_: found)
    page = text(operator().get(url("changelist")))
    axis = re.search(r'<svg class="rmq-axis".*?</svg>', page, re.DOTALL)[0]
    assert re.findall(r">([^<>]+)</text>", axis) == labels
    assert "style=" not in axis


def test_no_buckets_no_times():
    assert chart([]).times == []
