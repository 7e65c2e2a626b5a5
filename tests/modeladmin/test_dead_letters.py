"""The page of dead letters: what it shows, who may do what, and what that does."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection

from rmq_publisher.amqp.encoding import basic_properties
from rmq_publisher.models import DeadLetter, OutboxMessage
from rmq_publisher.testing import MemoryBroker
from tests.support.admin_rows import QUEUE, client, fresh_broker, hidden, text, told
from tests.support.dead_letter_rows import (
    DEATH,
    PERMISSIONS,
    act_on,
    dead_letter,
    letters_url,
    undertaker,
)

pytestmark = pytest.mark.django_db

VIEW, SEND_BACK, DISCARD, EXPORT, PAYLOAD = PERMISSIONS


@pytest.fixture(autouse=True)
def broker(settings: Any) -> MemoryBroker:
    settings.RMQ_URL = "memory://"
    return fresh_broker()


def shown(query: str = "") -> str:
    return text(undertaker().get(letters_url("changelist") + query))


def listed(query: str = "") -> list[str]:
    """The message ids of the list, in its order."""
    return re.findall(
        r'<th class="field-message">.*?<bdi [^>]*>([^<]*)</bdi>', shown(query), re.DOTALL
    )


def state(row: DeadLetter) -> str:
    return DeadLetter.objects.get(pk=row.pk).state


# -- what it shows -----------------------------------------------------------------------------------


def test_it_lists_what_waits_the_last_first() -> None:
    for name in ("first", "second"):
        dead_letter(message_id=name)
    dead_letter(message_id="back", state="sent_back")
    dead_letter(message_id="gone", state="discarded", reason="expired")
    assert listed() == ["second", "first"]
    assert listed("?state=sent_back") == ["back"]
    assert listed("?state=all") == ["gone", "back", "second", "first"]
    assert listed("?reason=expired&state=all") == ["gone"]
    assert listed("?using=other") == []


def test_each_row_says_where_and_why() -> None:
    dead_letter(reason="failed", error="failed: ValueError at shop.consumers:12", attempts=5)
    dead_letter(queue="", dead_letter_queue="", handler="book", reason="crashed")
    page = shown()
    for words in (
        "Attempts used up", "failed: ValueError at shop.consumers:12", "Worker crashed", "unknown",
        ">dead<", ">book<", f">{QUEUE}<",
    ):  # fmt: skip
        assert words in page


def test_a_search_finds_ids_and_parts_of_queues_and_errors() -> None:
    dead_letter(message_id="one", error="failed: ValueError", state="sent_back")
    dead_letter(message_id="two", queue="invoices", correlation_id="c2")
    assert listed("?q=one") == ["one"]
    assert listed("?q=valueerr") == ["one"]
    assert listed("?q=voice") == ["two"]
    assert listed("?q=c2") == ["two"]


def test_a_queue_of_recent_letters_is_a_choice() -> None:
    dead_letter(queue="invoices", message_id="one")
    dead_letter(message_id="two")
    assert "queue=invoices" in shown()
    assert listed("?queue=invoices") == ["one"]


def test_nothing_else_can_be_asked() -> None:
    for query in ("?body__contains=1", "?header__gt=a"):
        assert undertaker().get(letters_url("changelist") + query).status_code in (302, 400)


def test_an_empty_list_says_what_fills_it() -> None:
    assert "rmq_consume --dead-letters" in shown()
    dead_letter(state="discarded")
    assert "No dead letter needs a decision" in shown()


def test_one_letter_shows_its_deaths_and_its_content() -> None:
    row = dead_letter(deaths=[DEATH, {**DEATH, "reason": "expired", "queue": "first"}])
    page = text(undertaker().get(letters_url("change", row.pk)))
    for words in (
        "order.new", "Rejected", "Expired", ">first<", "value-of-a-header", "&quot;id&quot;: 1",
        "Send back", "Discard",
    ):  # fmt: skip
        assert words in page
    assert page.count("<tr><td><time") == 2


def test_bodies_and_headers_need_their_own_permission() -> None:
    row = dead_letter()
    browser = client(VIEW, SEND_BACK)
    page = text(browser.get(letters_url("change", row.pk)))
    assert "value-of-a-header" not in page
    assert "&quot;id&quot;" not in page
    assert "order.new" in page
    assert browser.get(letters_url("body", row.pk)).status_code == 403
    assert client(VIEW, PAYLOAD).get(letters_url("body", row.pk)).content == b'{"id": 1}'


HOSTILE = "<script>alert(1)</script>\u202e"


def test_hostile_rows_are_escaped() -> None:
    row = dead_letter(
        message_id=HOSTILE, queue=HOSTILE, dead_letter_queue=HOSTILE, error=HOSTILE, handler=HOSTILE,
        reason=HOSTILE[:50], exchange=HOSTILE, routing_key=HOSTILE, using=HOSTILE,
        correlation_id=HOSTILE, body=HOSTILE.encode(),
        header=basic_properties({"headers": {HOSTILE: HOSTILE}, "type": HOSTILE}),
        deaths=[
            {"queue": HOSTILE, "reason": HOSTILE, "exchange": HOSTILE, "routing_keys": [HOSTILE, 1],
             "count": HOSTILE, "time": HOSTILE},
            7, None, {}, {"routing_keys": HOSTILE, "time": 3},
        ],
    )  # fmt: skip
    for address in (letters_url("changelist") + "?state=all", letters_url("change", row.pk)):
        page = text(undertaker().get(address))
        assert "<script>alert" not in page
        assert "\u202e" not in page
        assert "&lt;script&gt;" in page


@pytest.mark.parametrize("damaged", [{"header": b"\xff"}, {"deaths": {}}, {"deaths": "x"}])
def test_a_damaged_row_has_a_page(damaged: dict[str, Any]) -> None:
    row = dead_letter(**damaged)
    assert undertaker().get(letters_url("change", row.pk)).status_code == 200


# -- sending back and discarding -----------------------------------------------------------------------


def test_send_back_publishes_through_the_outbox_and_says_so() -> None:
    rows = [dead_letter(message_id=f"m{number}") for number in range(2)]
    answer = act_on(undertaker(), "send_back_selected", *rows)
    assert "Sent back 2." in told(answer)[0]
    assert [state(row) for row in rows] == ["sent_back"] * 2
    found = OutboxMessage.objects.order_by("pk").values_list("message_id", "routing_key")
    assert list(found) == [("m0", QUEUE), ("m1", QUEUE)]
    assert [entry.change_message for entry in LogEntry.objects.all()] == ["Sent back."] * 2


def test_what_cannot_be_sent_back_waits_and_is_explained() -> None:
    homeless, gone = dead_letter(queue=""), dead_letter(using="nowhere")
    done = dead_letter(state="discarded")
    (message,) = told(act_on(undertaker(), "send_back_selected", homeless, gone, done))
    assert "Cannot be sent back: 1." in message
    assert "nowhere" in message
    assert "the queue in which it died is unknown" in message
    assert "already sent back or discarded" in message
    assert [state(row) for row in (homeless, gone, done)] == ["waiting", "waiting", "discarded"]
    page = text(undertaker().get(letters_url("change", homeless.pk)))
    assert "The queue in which it died is unknown." in page
    assert 'disabled aria-describedby="rmq-why-send_back"' in page


def test_the_buttons_of_one_letter() -> None:
    row, other = dead_letter(), dead_letter()
    browser = undertaker()
    answer = browser.post(letters_url("send_back", row.pk), follow=True)
    assert "Sent back 1." in told(answer)[0]
    assert "Send back" not in text(answer)
    question = browser.post(letters_url("discard", other.pk))
    assert "will never be sent back" in text(question)
    assert state(other) == "waiting"
    answer = browser.post(letters_url("discard", other.pk), {"confirmed": "1"}, follow=True)
    assert "Discarded 1." in told(answer)[0]
    assert state(other) == "discarded"
    assert "Discarded." in text(browser.get(letters_url("history", other.pk)))


def test_discarding_asks_first_and_names_what_waits() -> None:
    waiting, done = dead_letter(message_id="here"), dead_letter(message_id="x", state="sent_back")
    browser = undertaker()
    question = act_on(browser, "discard_selected", waiting, done)
    assert "1</strong> message will never be sent back" in text(question)
    assert "1 more selected message is not counted" in text(question)
    data = {name: values[-1] for name, values in hidden(question).items()}
    assert data["_selected_action"] == str(waiting.pk)
    assert state(waiting) == "waiting"
    browser.post(letters_url("changelist") + "?state=all", data)
    assert (state(waiting), state(done)) == ("discarded", "sent_back")
    assert "Nothing to discard" in told(act_on(browser, "discard_selected", done))[-1]


def test_an_export_holds_what_may_be_seen() -> None:
    row = dead_letter(message_id="m")
    answer = act_on(undertaker(), "export_json", row)
    assert 'filename="dead-letters.json"' in answer["Content-Disposition"]
    (found,) = json.loads(b"".join(answer.streaming_content))
    assert (found["queue"], found["deaths"], found["body"]) == (QUEUE, [DEATH], '{"id": 1}')
    (found,) = json.loads(
        b"".join(act_on(client(VIEW, EXPORT), "export_json", row).streaming_content)
    )
    assert not {"body", "headers"} & set(found)


def test_too_many_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rmq_publisher.modeladmin.operations.SENT_MAX", 1)
    rows = [dead_letter(), dead_letter()]
    assert "at most 1" in told(act_on(undertaker(), "send_back_selected", *rows))[0]
    assert [state(row) for row in rows] == ["waiting"] * 2


# -- permissions ---------------------------------------------------------------------------------------


def test_without_the_permission_to_view_there_is_no_page() -> None:
    row = dead_letter()
    for browser in (client(*PERMISSIONS[1:]), client("view_publishfailure", PAYLOAD)):
        for address in (letters_url("changelist"), letters_url("change", row.pk)):
            assert browser.get(address).status_code == 403
        for what in ("send_back", "discard"):
            assert browser.post(letters_url(what, row.pk)).status_code == 403
        assert browser.get(letters_url("body", row.pk)).status_code == 403


@pytest.mark.parametrize(
    ("action", "permission"),
    [("send_back", SEND_BACK), ("discard", DISCARD)],
)
def test_each_action_has_its_permission(action: str, permission: str) -> None:
    others = set(PERMISSIONS) - {permission}
    row = dead_letter()
    browser = client(*others)
    assert browser.post(letters_url(action, row.pk), {"confirmed": "1"}).status_code == 403
    act_on(browser, f"{action}_selected", row, confirmed="1")
    assert state(row) == "waiting"
    assert f"/{action.replace('_', '-')}/" not in text(browser.get(letters_url("change", row.pk)))
    assert browser.get(letters_url(action, row.pk)).status_code == 403
    assert client(VIEW, permission).get(letters_url(action, row.pk)).status_code == 405
    assert client(VIEW, permission, csrf=True).post(letters_url(action, row.pk)).status_code == 403


def test_nobody_adds_changes_or_deletes_one() -> None:
    row = dead_letter()
    browser = client("add_deadletter", "change_deadletter", "delete_deadletter", *PERMISSIONS)
    assert browser.get(letters_url("add")).status_code == 403
    assert browser.post(letters_url("change", row.pk), {"queue": "x"}).status_code == 403
    assert browser.post(letters_url("delete", row.pk), {"post": "yes"}).status_code == 403
    act_on(browser, "delete_selected", row)
    assert DeadLetter.objects.filter(pk=row.pk).exists()


def test_no_such_letter() -> None:
    for what in ("999999", "x", "9" * 40):
        answer = undertaker().get(letters_url("change", what))
        assert (answer.status_code, answer["Location"]) == (302, "/admin/")


# -- scale -------------------------------------------------------------------------------------------


def test_the_list_loads_no_bodies_and_asks_little(django_assert_max_num_queries: Any) -> None:
    for _ in range(30):
        dead_letter()
    browser = undertaker()
    browser.get(letters_url("changelist"))
    with django_assert_max_num_queries(20) as asked:
        browser.get(letters_url("changelist"))
    listing = [each["sql"] for each in asked.captured_queries if "died_at" in each["sql"]]
    assert listing
    assert not any(name in sql for sql in listing for name in ('"body"', '"header"', '"deaths"'))
    table = DeadLetter._meta.db_table
    counts = [
        each["sql"] for each in asked.captured_queries
        if "COUNT(" in each["sql"] and table in each["sql"]
    ]  # fmt: skip
    assert all("LIMIT" in sql for sql in counts)


def test_what_waits_is_found_by_an_index() -> None:
    plan = DeadLetter.objects.filter(state="waiting").order_by("-id")[:100].explain()
    assert connection.vendor == "sqlite"
    assert "rmq_dead_state" in plan
    assert "TEMP B-TREE" not in plan
