"""The page of the inbox: what was handled, by whom, and read only."""

from __future__ import annotations

import re
from typing import Any

import pytest

from rmq_publisher.models import InboxMessage
from tests.support.admin_rows import client, fresh_broker, text
from tests.support.dead_letter_rows import handled, inbox_url

pytestmark = pytest.mark.django_db

VIEW = "view_inboxmessage"


@pytest.fixture(autouse=True)
def _memory(settings: Any) -> None:
    settings.RMQ_URL = "memory://"
    fresh_broker()


def listed(query: str = "") -> list[str]:
    page = text(client(VIEW).get(inbox_url("changelist") + query))
    return re.findall(r'class="field-message"><bdi [^>]*>([^<]*)</bdi>', page)


def test_it_lists_what_was_handled_the_last_first() -> None:
    handled("first", ago=60)
    handled("second", ago=30)
    handled("other", "charge", ago=90)
    assert listed() == ["second", "first", "other"]
    assert listed("?handler=charge") == ["other"]


def test_a_search_finds_an_id_of_any_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    handled("same", "book")
    handled("same", "charge")
    handled("other", "book")
    assert listed("?q=same") == ["same", "same"]
    monkeypatch.setattr("rmq_publisher.modeladmin.inbox_page._handlers", lambda: {"book"})
    assert listed("?q=same") == ["same"]
    assert listed("?q=nothing") == []


def test_an_empty_inbox_says_what_fills_it() -> None:
    page = text(client(VIEW).get(inbox_url("changelist")))
    assert "once=True" in page


def test_it_is_read_only() -> None:
    row = handled("m<script>")
    everything = [f"{verb}_inboxmessage" for verb in ("add", "change", "delete", "view")]
    browser = client(*everything)
    page = browser.get(inbox_url("change", row.pk))
    assert page.status_code == 200
    assert "<script>" not in text(page).replace("<script src", "")
    assert 'name="_save"' not in text(page)
    assert browser.post(inbox_url("change", row.pk), {"name": "x"}).status_code == 403
    assert browser.post(inbox_url("delete", row.pk), {"post": "yes"}).status_code == 403
    assert browser.get(inbox_url("add")).status_code == 403
    data = {"action": "delete_selected", "_selected_action": [str(row.pk)], "post": "yes"}
    browser.post(inbox_url("changelist"), data)
    assert InboxMessage.objects.count() == 1
    assert client("view_deadletter").get(inbox_url("changelist")).status_code == 403


def test_the_list_counts_little(django_assert_max_num_queries: Any) -> None:
    for number in range(20):
        handled(f"m{number}")
    browser = client(VIEW)
    browser.get(inbox_url("changelist"))
    with django_assert_max_num_queries(15) as asked:
        browser.get(inbox_url("changelist"))
    counts = [each["sql"] for each in asked.captured_queries if "COUNT(" in each["sql"]]
    assert all("LIMIT" in sql for sql in counts)
