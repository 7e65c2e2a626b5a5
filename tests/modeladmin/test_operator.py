"""What an operator needs on a bad day: what failed, how often, why, and what can be done about it."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.utils import timezone

from rmq_publisher import BrokerUnavailable
from rmq_publisher.db.clock import DatabaseNow
from rmq_publisher.modeladmin import formatting, operations
from rmq_publisher.modeladmin.chart import HEIGHT, LEAST, chart
from rmq_publisher.models import PublishFailure, RelaySeen
from rmq_publisher.monitoring import outbox_stats
from rmq_publisher.testing import capture, memory_broker
from tests.support.admin_rows import (
    QUEUE,
    act,
    client,
    failure,
    fresh_broker,
    hidden,
    operator,
    text,
    told,
    url,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _memory(settings):
    settings.RMQ_URL = "memory://"
    fresh_broker()


def listed(browser, query=""):
    page = browser.get(url("changelist") + query)
    return {row.message_id for row in page.context["cl"].result_list}


# -- what an action tells ---------------------------------------------------------------------------


def level(page):
    [message] = page.context["messages"]
    return message.level_tag


def test_a_failed_retry_is_told_as_an_error():
    with capture(error=BrokerUnavailable("no connection")):
        page = act(operator(), "retry_selected", failure(), failure())
    assert level(page) == "error"


def test_a_retry_of_which_some_failed_is_a_warning():
    page = act(operator(), "retry_selected", failure(), failure(exchange="none", topology=b""))
    assert level(page) == "warning"


def test_no_list_is_nested_in_the_list_of_messages():
    """Django 5.2 draws every item below it as a message of its own, with a green tick."""
    page = text(act(operator(), "retry_selected", failure(), failure()))
    messages = page.partition('<ul class="messagelist">')[2].partition("</ul>")[0]
    assert messages.count("<li") == 1
    assert messages.count('class="rmq-told"') == 2


# -- the chart --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("published", "failed"), [(50, 120), (120, 50), (300, 300), (70, 0), (0, 70)]
)
def test_both_halves_of_the_chart_have_one_scale(published, failed):
    now = timezone.now()
    numbers = [(published, 0), (0, failed), (published // 2, failed // 2)]
    drawn = chart([outbox_stats.Bucket(now, *each) for each in numbers if sum(each)])
    tall = HEIGHT / (published + failed)  # of one message
    for bar, (up, down) in zip(drawn.bars, [each for each in numbers if sum(each)], strict=True):
        assert abs(bar.up - up * tall) <= LEAST
        assert abs(bar.down - down * tall) <= LEAST
        assert bar.up_y >= 0
        assert drawn.line + bar.down <= HEIGHT


# -- the list ---------------------------------------------------------------------------------------


def test_the_list_begins_with_what_is_unresolved():
    for state in ("failed", "dead", "delivered", "discarded"):
        failure(message_id=state, state=state)
    browser = operator()
    assert listed(browser) == {"failed", "dead"}
    assert listed(browser, "?state=all") == {"failed", "dead", "delivered", "discarded"}
    page = text(browser.get(url("changelist")))
    assert "State: <strong><bdi>unresolved (failed or dead)</bdi></strong>" in page


def test_a_search_finds_what_is_resolved():
    failure(message_id="m1", state="delivered")
    browser = operator()
    assert listed(browser, "?q=m1") == {"m1"}
    assert listed(browser, "?q=m1&state=dead") == set()


def test_an_empty_list_says_where_the_rest_is():
    failure(state="delivered")
    page = text(operator().get(url("changelist")))
    assert "No unresolved failures." in page
    assert 'href="?state=all"' in page


@pytest.mark.parametrize(
    ("query", "current"), [("", "Unresolved"), ("?state=dead", "Dead"), ("?state=all", None)]
)
def test_the_tile_that_filters_the_list_is_marked(query, current):
    failure(state="dead")
    page = operator().get(url("changelist") + query)
    marked = [tile["label"] for tile in page.context["strip"]["tiles"] if tile.get("current")]
    assert marked == ([current] if current else [])
    tiles = text(page).partition('<dl class="rmq-tiles">')[2].partition("</dl>")[0]
    assert tiles.count('aria-current="true"') == len(marked)


def test_a_name_is_whole_in_its_tooltip():
    failure(message_id="m" * 90, routing_key="orders.created", exchange="shop")
    page = text(operator().get(url("changelist")))
    assert f'title="{"m" * 90}"' in page
    assert 'title="orders.created"' in page


# -- groups -----------------------------------------------------------------------------------------


def test_failures_are_grouped_by_error():
    for _ in range(2):
        failure(error=("Rejected", 404, "NOT_FOUND"), state="dead")
    failure(error=("Rejected", 403, "ACCESS_REFUSED"))
    failure(error=("BrokerUnavailable", None, "refused"), state="delivered")
    browser = operator()
    page = browser.get(url("changelist"))
    groups = {group.error: group for group in page.context["groups"]}
    assert {error: group.count for error, group in groups.items()} == {
        "Rejected by RabbitMQ (404)": 2, "Rejected by RabbitMQ (403)": 1,
    }  # fmt: skip
    group = groups["Rejected by RabbitMQ (404)"]
    assert f'href="{group.retry_url}"' in text(page)
    assert len(listed(browser, group.list_url)) == 2
    browser.post(group.retry_url)
    assert PublishFailure.objects.filter(attempts=0).count() == 2
    assert not PublishFailure.objects.filter(attempts=0, last_error_code=403).exists()


def test_groups_are_retried_by_those_only_who_may():
    failure(state="dead")
    page = text(client("view_publishfailure").get(url("changelist")))
    assert "No matching queue (312)" in page
    assert "Retry this group" not in page


# -- retrying all without a relay -------------------------------------------------------------------


def test_without_a_relay_the_page_says_so_before_and_sends_itself(monkeypatch):
    monkeypatch.setattr(operations, "SENT_MAX", 2)
    for number in range(3):
        failure(message_id=f"m{number}", state="dead")
    browser = operator()
    page = text(browser.get(url("retry_all")))
    assert "No relay has ever run" in page
    assert 'name="now"' in page
    assert "Send up to 2 now" in page
    answer = browser.post(url("retry_all"), {"now": "1"}, follow=True)
    assert told(answer)[0].startswith("Sent 2.")
    assert memory_broker().depth(QUEUE) == 2
    assert PublishFailure.objects.filter(state="dead").count() == 1


def test_with_a_relay_it_is_left_to_it():
    RelaySeen.objects.create(name="r", started_at=DatabaseNow(-90), seen_at=DatabaseNow(-5))
    failure(state="dead")
    assert 'name="now"' not in text(operator().get(url("retry_all")))


# -- discarding -------------------------------------------------------------------------------------


def test_the_question_counts_only_what_can_be_discarded():
    rows = [
        failure(message_id="dead", state="dead"),
        failure(message_id="done", state="delivered"),
        failure(message_id="old", state="discarded"),
        failure(message_id="busy", token=77, available_at=DatabaseNow(60)),
    ]
    browser = operator()
    data = {
        "action": "discard_selected",
        "_selected_action": [row.pk for row in rows],
        "index": "0",
    }
    page = browser.post(url("changelist") + "?state=all", data)
    assert (page.context["count"], page.context["skipped"]) == (1, 3)
    assert hidden(page)["_selected_action"] == [str(rows[0].pk)]
    assert "3 more selected messages are not counted" in text(page)
    shown = text(page).partition('<ul class="rmq-list">')[2].partition("</ul>")[0]
    assert "dead" in shown
    assert "done" not in shown


def test_nothing_is_asked_where_nothing_can_be_discarded():
    row = failure(state="delivered")
    browser = operator()
    data = {"action": "discard_selected", "_selected_action": [row.pk], "index": "0"}
    address = url("changelist") + "?state=all"
    for answer in (
        browser.post(address, data, follow=True),
        browser.post(url("discard", row.pk), follow=True),
    ):
        assert told(answer) == ["Nothing to discard: already delivered, discarded or being sent."]


# -- one message ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "words"),
    [("delivered", "It has been delivered."), ("discarded", "It was discarded.")],
)
def test_what_is_closed_offers_nothing(state, words):
    row = failure(state=state)
    page = text(operator().get(url("change", row.pk)))
    assert words in page
    assert "Retry now" not in page
    assert "Discard</button>" not in page
    assert "rmq_retry" not in page


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        ("failed", "3 (refused by the broker: 2, no response: 1)"),
        ("delivered", "4 (refused by the broker: 2, no response: 1, confirmed: 1)"),
    ],
)
def test_attempts_agree_with_the_table_under_them(state, shown):
    """Also after all were retried, which counts from zero again towards the limit."""
    row = failure(state=state, attempts=0, unanswered=0)
    kinds = [("Nacked", None), ("BrokerUnavailable", None), ("Rejected", 404)]
    row.history = [
        {"at": "2026-01-02T03:04:05+00:00", "type": kind, "code": code, "text": "x"}
        for kind, code in kinds
    ]
    row.save()
    page = operator().get(url("change", row.pk))
    facts = dict(page.context["facts"])
    assert facts["Attempts"] == shown
    assert shown.startswith(str(len(page.context["attempts"])))
    assert facts["Refusals since the last retry of all"] == "0 of 20"


def test_the_next_and_the_previous_of_the_same_list():
    rows = {
        name: failure(message_id=name, state=state, ago=ago)
        for name, state, ago in (
            ("new", "dead", 10), ("other", "failed", 20), ("middle", "dead", 30), ("old", "dead", 40),
        )
    }  # fmt: skip
    browser = operator()
    page = text(browser.get(f"{url('changelist')}?state=dead"))
    [address] = re.findall(rf'href="({url("change", rows["middle"].pk)}[^"]*)"', page)
    page = browser.get(address.replace("&amp;", "&"))
    found = page.context["neighbours"]
    assert found["previous"].startswith(url("change", rows["new"].pk))
    assert found["next"].startswith(url("change", rows["old"].pk))
    assert page.context["list_url"] == f"{url('changelist')}?state=dead"
    end = browser.get(found["next"])
    assert end.context["neighbours"]["next"] == ""
    # What leaves the list by being discarded still leads on.
    [form] = re.findall(rf'action="({url("discard", rows["middle"].pk)}[^"]*)"', text(page))
    answer = browser.post(form.replace("&amp;", "&"), {"confirmed": "1"}, follow=True)
    assert answer.context["neighbours"]["next"] == found["next"]


@pytest.mark.parametrize(
    "filters", ["state=dead%26exchange%3D%2500", "body__contains%3Dx", "p%3Dx"]
)
def test_filters_that_are_none_hide_the_neighbours_only(filters):
    row = failure()
    page = operator().get(f"{url('change', row.pk)}?_changelist_filters={filters}")
    assert page.status_code == 200


# -- times ------------------------------------------------------------------------------------------


def test_no_time_is_zero_seconds_away():
    assert formatting.ago(0.4) == "just now"
    assert formatting.ahead(0.4) == "now"
    assert formatting.ago(1) == "1 second ago"


def test_the_time_of_day_stands_beside_the_relative_time():
    now = timezone.now().replace(hour=12, minute=30, second=15)
    with timezone.override("UTC"):
        assert formatting.clock_time(now, now) == "12:30:15"
        earlier = (now - timedelta(days=1)).replace(year=now.year)
        assert formatting.clock_time(earlier, now).endswith(", 12:30")
        assert "1999" in formatting.clock_time(now.replace(year=1999), now)
        shown = formatting.moment(now - timedelta(minutes=5), now)
    assert re.search(r">5 minutes ago <span [^>]*>12:25:15</span></time>$", shown)
