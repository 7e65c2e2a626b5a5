"""What people do with failures in the admin, and that it is safe beside a relay and a second click."""

import json
import re

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.db import OperationalError, connection
from django.db import connections as databases
from django.test.utils import CaptureQueriesContext
from django.utils.text import capfirst

from rmq_publisher import BrokerUnavailable, QueueConfig, Rejected
from rmq_publisher.db.clock import DatabaseNow
from rmq_publisher.modeladmin import export, operations
from rmq_publisher.modeladmin.filters import SinceFilter
from rmq_publisher.models import PublishFailure
from rmq_publisher.outbox import claims, manual_retry, transitions
from rmq_publisher.outbox.row import encoded
from rmq_publisher.signals import message_published, publish_failed
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
from tests.support.rig.ports import closed_port

pytestmark = pytest.mark.django_db

LEASED = {"token": 77, "available_at": DatabaseNow(60)}


@pytest.fixture(autouse=True)
def _memory(settings):
    settings.RMQ_URL = "memory://"
    fresh_broker()


def states():
    return dict(PublishFailure.objects.values_list("message_id", "state"))


def logged():
    """What the admin's log says, by message id."""
    entries = LogEntry.objects.filter(action_flag=CHANGE)
    return {entry.object_repr.partition(" (")[0]: entry.change_message for entry in entries}


# -- sending again ------------------------------------------------------------------------------


def test_messages_are_sent_by_this_process_at_once_with_the_same_id():
    first, second = failure(message_id="m1"), failure(message_id="m2", state="dead")
    page = act(operator(), "retry_selected", first, second)
    assert states() == {"m1": "delivered", "m2": "delivered"}
    received = memory_broker().drain(QUEUE)
    assert sorted(message.message_id for message in received) == ["m1", "m2"]
    assert {message.body for message in received} == {b'{"id": 1}'}
    [message] = told(page)
    assert message.startswith("Sent 2.")
    assert message.count("sent and confirmed by RabbitMQ") == 2
    assert logged() == {
        "m1": "Retried: sent and confirmed by RabbitMQ.",
        "m2": "Retried: sent and confirmed by RabbitMQ.",
    }


def test_what_became_of_each_is_told():
    rows = {
        "sent": failure(message_id="sent"),
        "busy": failure(message_id="busy", **LEASED),
        "back": failure(message_id="back", exchange="nowhere", topology=b""),
        "done": failure(message_id="done", state="delivered"),
        "gone": failure(message_id="gone", state="discarded"),
        "head": failure(message_id="head", ordering_key="k", **LEASED),
        "next": failure(message_id="next", ordering_key="k"),
        "else": failure(message_id="else", using="not-configured"),
    }
    before = states()
    [message] = told(act(operator(), "retry_selected", *rows.values()))
    assert message.startswith(
        "Sent 1. Failed again: 1. Skipped 2: already being sent by another process. "
        "Skipped 1: an earlier message with the same ordering key must be sent first. "
        "Skipped 2: already delivered or discarded. "
        "Skipped 1: RabbitMQ connection not configured on this server."
    )
    assert "failed again: Rejected by RabbitMQ (404): NOT_FOUND" in message
    assert "its RabbitMQ connection is not configured on this server" in message
    assert states() == {**before, "sent": "delivered"}
    assert logged()["back"] == "Retried: failed, Rejected 404"
    assert logged()["busy"] == "Not retried: already being sent by another process."
    back = PublishFailure.objects.get(message_id="back")
    assert (back.attempts, back.token, len(back.history)) == (2, 0, 2)


def test_what_can_never_be_sent_is_dead_afterwards(monkeypatch):
    row = failure(message_id="m")
    with capture(error=Rejected(403, "ACCESS_REFUSED")):
        act(operator(), "retry_selected", row)
    assert states() == {"m": "dead"}


def test_a_key_is_sent_in_its_order():
    rows = [failure(message_id=f"m{number}", ordering_key="k") for number in range(5)]
    act(operator(), "retry_selected", *rows[::-1])
    received = [message.message_id for message in memory_broker().drain(QUEUE)]
    assert received == [f"m{number}" for number in range(5)]


def test_a_key_stops_at_the_first_that_fails():
    good = failure(message_id="good", ordering_key="k")
    bad = failure(message_id="bad", ordering_key="k", exchange="nowhere", topology=b"")
    behind = failure(message_id="behind", ordering_key="k")
    [message] = told(act(operator(), "retry_selected", good, bad, behind))
    assert "Sent 1. Failed again: 1. Skipped 1: an earlier message" in message
    assert states() == {"good": "delivered", "bad": "failed", "behind": "failed"}


def test_a_second_click_sends_nothing_twice():
    row = failure()
    browser = operator()
    act(browser, "retry_selected", row)
    [message] = told(act(browser, "retry_selected", row))
    assert message.startswith("Skipped 1: already delivered or discarded.")
    assert memory_broker().depth(QUEUE) == 1


def test_a_click_while_another_is_at_work_sends_nothing(monkeypatch):
    """The second request comes when the first has claimed and not yet sent."""
    row = failure()
    browser, messages = operator(), []
    send = manual_retry._send

    def slow(*args):
        if not messages:
            messages.append("")
            messages[0] = told(browser.post(url("retry", row.pk), follow=True))[0]
        send(*args)

    monkeypatch.setattr(manual_retry, "_send", slow)
    act(browser, "retry_selected", row)
    assert messages[0].startswith("Skipped 1: already being sent by another process.")
    assert memory_broker().depth(QUEUE) == 1


def test_one_that_a_relay_took_over_is_not_settled(monkeypatch):
    """Its lease ran out while we sent: what we know of it must not overwrite what the relay does."""
    row = failure(message_id="m")
    claim = claims.claim_rows

    def overtaken(database, ids, **options):
        rows = claim(database, ids, **options)
        PublishFailure.objects.filter(pk=row.pk).update(token=99, available_at=DatabaseNow(60))
        return rows

    monkeypatch.setattr(manual_retry, "claim_rows", overtaken)
    act(operator(), "retry_selected", row)
    row.refresh_from_db()
    assert (row.state, row.token) == ("failed", 99)


def test_listeners_are_told(django_capture_on_commit_callbacks):
    heard = []

    def published(**arguments):
        heard.append(("published", arguments["message_id"]))

    def failed(**arguments):
        heard.append(("failed", arguments["message_id"], arguments["will_retry"]))

    message_published.connect(published)
    publish_failed.connect(failed)
    try:
        rows = failure(message_id="a"), failure(message_id="b", exchange="no", topology=b"")
        act(operator(), "retry_selected", *rows)
    finally:
        message_published.disconnect(published)
        publish_failed.disconnect(failed)
    assert sorted(heard) == [("failed", "b", True), ("published", "a")]


def test_many_are_sent_in_portions_that_fit_into_memory(monkeypatch):
    monkeypatch.setattr(manual_retry, "ROWS_AT_ONCE", 2)
    monkeypatch.setattr(manual_retry, "BYTES_AT_ONCE", 100)
    sizes = [10, 10, 10, 95, 95, 10]
    rows = [failure(message_id=f"m{at}", body=b"x" * size) for at, size in enumerate(sizes)]
    portions = []
    send = manual_retry._send
    monkeypatch.setattr(
        manual_retry, "_send", lambda database, some, result: (
            portions.append([row.envelope.message_id for row in some]), send(database, some, result)
        ),
    )  # fmt: skip
    act(operator(), "retry_selected", *rows)
    assert portions == [["m0", "m1"], ["m2"], ["m3"], ["m4"], ["m5"]]
    assert set(states().values()) == {"delivered"}


def test_when_time_is_up_no_more_are_begun(monkeypatch):
    monkeypatch.setattr(manual_retry, "SECONDS", 0.0)
    row = failure(message_id="m")
    [message] = told(act(operator(), "retry_selected", row))
    assert message.startswith("Not tried: 1, because the time limit was reached.")
    assert states() == {"m": "failed"}


def test_too_many_are_refused(monkeypatch):
    monkeypatch.setattr(operations, "SENT_MAX", 1)
    rows = [failure(message_id="a"), failure(message_id="b")]
    [message] = told(act(operator(), "retry_selected", *rows))
    assert "at most 1 messages" in message
    assert "use “Retry all matching messages”" in message
    assert set(states().values()) == {"failed"}


def test_a_dead_broker_fails_them_again(monkeypatch):
    row = failure(message_id="m", state="dead")
    with capture(error=BrokerUnavailable("no connection")):
        [message] = told(act(operator(), "retry_selected", row))
    assert "Failed again: 1." in message
    row.refresh_from_db()
    assert (row.state, row.unanswered) == ("failed", 1)


def test_an_interrupted_call_leaves_nothing_on_its_way(monkeypatch):
    """An error between claim and outcome: the row is settled or free, nothing is sent later."""
    row = failure(message_id="m")
    note, calls = manual_retry._note, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 1:
            raise KeyboardInterrupt
        note(*args)

    monkeypatch.setattr(manual_retry, "_note", interrupted)
    with pytest.raises(KeyboardInterrupt):
        manual_retry.resend("default", [row.pk])
    row.refresh_from_db()
    assert len(calls) == 2
    assert row.token == 0


@pytest.mark.django_db(transaction=True)
def test_no_transaction_is_held_while_it_sends(monkeypatch):
    """Also with ATOMIC_REQUESTS: an error afterwards must not take the settling back."""
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    atomic = []
    send = manual_retry._send
    monkeypatch.setattr(
        manual_retry, "_send",
        lambda *args: (atomic.append(databases["default"].in_atomic_block), send(*args)),
    )  # fmt: skip
    browser = operator()
    act(browser, "retry_selected", failure())
    browser.post(url("retry", failure().pk))
    assert atomic == [False, False]


@pytest.mark.django_db(transaction=True)
def test_a_real_broker_has_them_once(rmq, amqp, names):
    queue = names.queue()
    amqp.declare_queue(queue)
    rows = [
        failure(message_id=f"m{number}", routing_key=queue, topology=b"", **columns)
        for number, columns in enumerate([{}, {"ordering_key": "k"}, {"ordering_key": "k"}])
    ]
    lost = failure(message_id="lost", routing_key=names.queue(), topology=b"")
    [message] = told(act(operator(), "retry_selected", *rows, lost))
    assert message.startswith("Sent 3. Failed again: 1.")
    assert "No matching queue (312): NO_ROUTE" in message
    received = amqp.drain(queue, 3)
    assert sorted(each.properties.message_id for each in received) == ["m0", "m1", "m2"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.timeout(30)
def test_a_real_broker_that_is_away(settings):
    settings.RMQ_URL = f"amqp://guest:guest@127.0.0.1:{closed_port()}/"
    rows = [failure(message_id=f"m{number}") for number in range(3)]
    [message] = told(act(operator(), "retry_selected", *rows))
    assert message.startswith("Failed again: 3.")
    assert "RabbitMQ unavailable" in message
    assert set(states().values()) == {"failed"}


# -- discarding ---------------------------------------------------------------------------------


def test_messages_are_discarded():
    rows = [
        failure(message_id="a"),
        failure(message_id="b", state="dead"),
        failure(message_id="busy", **LEASED),
        failure(message_id="done", state="delivered"),
        failure(message_id="old", state="discarded"),
    ]
    [message] = told(act(operator(), "discard_selected", *rows))
    assert message.startswith(
        "Discarded 2. Skipped 3: already delivered, discarded or being sent."
    )
    assert states() == {
        "a": "discarded", "b": "discarded", "busy": "failed", "done": "delivered", "old": "discarded",
    }  # fmt: skip
    assert logged() == {"a": "Discarded.", "b": "Discarded."}


def test_nothing_is_discarded_before_it_is_confirmed():
    """The question repeats what is to be done, and with which rows."""
    rows = [failure(message_id=f"m{number}", state="dead", ago=number) for number in range(25)]
    browser = operator()
    pks = [row.pk for row in rows]
    data = {"action": "discard_selected", "_selected_action": pks[:3], "index": "0"}
    address = f"{url('changelist')}?state=dead"
    for across, count in (("0", 3), ("1", 25)):
        page = browser.post(address, {**data, "select_across": across})
        assert page.context["count"] == count
        assert page.context["more"] is (count > 20)
        assert page.context["back"] == address
        form = hidden(page)
        assert form.pop("csrfmiddlewaretoken")
        assert form == {
            "confirmed": ["1"], "action": ["discard_selected"], "index": ["0"],
            "_selected_action": [",".join(map(str, pks[:count]))],
        }  # fmt: skip
    page = browser.post(url("discard", pks[0]))
    assert page.context["count"] == 1
    assert page.context["back"] == url("change", pks[0])
    assert set(states().values()) == {"dead"}
    assert logged() == {}


def test_buttons_of_the_page_do_the_same():
    a, b = failure(message_id="a"), failure(message_id="b")
    browser = operator()
    page = browser.post(url("retry", a.pk), follow=True)
    assert page.redirect_chain == [(url("change", a.pk), 302)]
    assert told(page)[0].startswith("Sent 1.")
    assert told(browser.post(url("discard", b.pk), {"confirmed": "1"}, follow=True))[0].startswith(
        "Discarded 1."
    )
    assert states() == {"a": "delivered", "b": "discarded"}
    assert set(logged()) == {"a", "b"}


# -- all that match -----------------------------------------------------------------------------


def test_all_that_match_are_made_due_and_left_to_the_relay():
    failure(message_id="match", state="dead", attempts=20, error=("Nacked", None, "full"))
    failure(message_id="busy", state="dead", error=("Nacked", None, "full"), **LEASED)
    failure(message_id="other", state="dead")
    failure(message_id="done", state="delivered", error=("Nacked", None, "full"))
    browser = operator()
    address = f"{url('retry_all')}?error=Nacked"
    page = browser.get(address)
    assert page.context["count"] == 1
    assert page.context["left_alone"] == 1
    assert "a relay sends them" in text(page)
    answer = browser.post(address, follow=True)
    assert answer.redirect_chain == [(f"{url('changelist')}?error=Nacked", 302)]
    assert told(answer)[0].startswith(
        "1 message is due: a relay will send it now. No relay has ever"
    )
    assert states() == {"match": "failed", "busy": "dead", "other": "dead", "done": "delivered"}
    row = PublishFailure.objects.annotate(now=DatabaseNow()).get(message_id="match")
    assert (row.attempts, row.token) == (0, 0)
    assert row.available_at <= row.now
    assert memory_broker().depth(QUEUE) == 0
    entry = LogEntry.objects.get()
    assert entry.object_repr == "1 publish failures (error=Nacked)"
    assert entry.change_message == "Made 1 due."


def test_all_that_match_in_portions(monkeypatch):
    monkeypatch.setattr(operations, "DUE_AT_ONCE", 2)
    monkeypatch.setattr(operations, "DUE_MAX", 5)
    for number in range(7):
        failure(message_id=f"m{number}", state="dead")
    browser = operator()
    assert "At most 5 are marked at a time" in text(browser.get(url("retry_all")))
    message = told(browser.post(url("retry_all"), follow=True))[0]
    assert message.startswith("5 messages are due")
    assert "More messages match: repeat this." in message
    assert sorted(states().values()) == ["dead"] * 2 + ["failed"] * 5
    browser.post(url("retry_all"))
    assert set(states().values()) == {"failed"}


def test_all_that_match_may_be_none():
    page = operator().get(url("retry_all"))
    assert "there is nothing to retry" in text(page)
    assert '<button type="submit" class="button default"' not in text(page)


def test_all_that_match_may_be_due_already():
    failure(available_at=DatabaseNow(-1))
    failure(state="dead", **LEASED)
    page = operator().get(url("retry_all"))
    assert "All 2 matching messages are already due or being sent" in text(page)
    assert "No failed or dead message matches" not in text(page)
    assert "No relay has ever run" in text(page)
    assert "Retry 2 messages" not in text(page)


def test_all_that_match_twice_makes_nothing_due_the_second_time():
    failure(state="dead")
    browser = operator()
    browser.post(url("retry_all"), follow=True)
    page = browser.post(url("retry_all"), follow=True)
    [message] = page.context["messages"]
    assert str(message).startswith("Nothing to retry")
    assert message.level_tag == "warning"
    assert LogEntry.objects.get().object_repr == "1 publish failures"


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("", []),
        ("period=24h&p=2&o=3&e=1&all=", []),
        ("q=+", []),
        ("state=unresolved", [("State", "unresolved (failed or dead)")]),
        ("state=dead&error=Nacked&since=week&using=default", [
            ("State", "dead"), ("Error", "Refused by a queue"), ("Connection", "default"),
            (str(capfirst(SinceFilter.title)), "the last 7 days"),
        ]),
        ("exchange=", [("Exchange", "(default)")]),
        ("exchange=%3Cb%3E&period=7d", [("Exchange", "&lt;b&gt;")]),
        ("error=%E2%80%AEx", [("Error", "⟨U+202E⟩x")]),
        ("q=+orders+", [("Search", "orders")]),
    ],
)  # fmt: skip
def test_the_question_names_what_the_list_is_narrowed_by(query, named):
    failure(state="dead", error=("Nacked", None, "full"))
    browser = operator()
    page = browser.get(f"{url('retry_all')}?{query}")
    shown = re.findall(r'<li>(.*?): <bdi class="rmq-name">(.*?)</bdi></li>', text(page))
    assert shown == named
    if page.context["count"]:
        assert ("these are all" in text(page) or "the only failed" in text(page)) is not named
        assert ("matches the filters" in text(page)) is bool(named)
    browser.post(f"{url('retry_all')}?{query}")
    entries = {entry.object_repr for entry in LogEntry.objects.all()}
    assert entries <= {f"1 publish failures ({query})" if named else "1 publish failures"}


def test_relays_are_woken_when_all_that_match_are_due(monkeypatch):
    due = []
    monkeypatch.setattr(
        operations.notifier, "notify", lambda database: due.append((database, states()))
    )  # fmt: skip
    failure(message_id="m", state="dead")
    operator().post(url("retry_all"))
    assert due == [("default", {"m": "failed"})]


# -- exporting ----------------------------------------------------------------------------------


def exported(browser, *rows):
    answer = act(browser, "export_json", *rows)
    assert answer.status_code == 200
    assert answer["Content-Disposition"].startswith("attachment")
    assert answer["X-Content-Type-Options"] == "nosniff"
    return json.loads(b"".join(answer.streaming_content))


def test_export():
    text_row = failure(message_id="text", body="ü\x00".encode())
    bytes_row = failure(message_id="bytes", body=b"\xff\xfe")
    found = {row["message_id"]: row for row in exported(operator(), text_row, bytes_row)}
    assert (found["text"]["body"], found["text"]["body_encoding"]) == ("ü\0", "utf-8")
    assert (found["bytes"]["body"], found["bytes"]["body_encoding"]) == ("//4=", "base64")
    assert found["text"]["headers"] == {"h": "value-of-a-header"}
    assert found["text"]["properties"]["content_type"] == "application/json"
    assert found["text"]["last_error_code"] == 312
    assert found["text"]["failed_at"] == text_row.failed_at.isoformat()
    assert logged() == {"text": "Exported as JSON.", "bytes": "Exported as JSON."}


def test_export_without_the_permission_for_payload():
    row = failure(body=b"secret-body")
    [found] = exported(client("view_publishfailure", "export_publishfailure"), row)
    assert {"body", "headers"} & set(found) == set()
    assert "secret-body" not in str(found)
    assert "value-of-a-header" not in str(found)


def test_an_export_holds_few_bodies_at_a_time(monkeypatch):
    monkeypatch.setattr(export, "BYTES_AT_ONCE", 100)
    rows = [failure(body=b"x" * 60) for _ in range(4)]
    answer = act(operator(), "export_json", *rows)
    with CaptureQueriesContext(connection) as queries:
        assert len(json.loads(b"".join(answer.streaming_content))) == 4
    assert len(queries) == 4


def test_a_damaged_row_is_exported_and_sent_like_any_other():
    row = failure(message_id="m", header=b"\xff\xff\x01")
    [found] = exported(operator(), row)
    assert (found["properties"], found["headers"]) == (None, None)
    assert "cannot be read" in text(operator().get(url("change", row.pk)))


def test_what_is_declared_travels_with_the_row():
    """The queue does not exist yet: the row's declarations make it."""
    row = failure(topology=encoded((QueueConfig("made-by-retry"),)), routing_key="made-by-retry")
    act(operator(), "retry_selected", row)
    assert memory_broker().depth("made-by-retry") == 1


def test_errors_of_the_database_are_not_swallowed(monkeypatch):
    def gone(*args, **options):
        raise OperationalError("gone")

    monkeypatch.setattr(transitions, "discard", gone)
    browser = operator()
    browser.raise_request_exception = False
    row = failure()
    assert act(browser, "discard_selected", row).status_code == 500
