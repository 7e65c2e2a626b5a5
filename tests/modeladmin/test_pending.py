"""The page of pending and scheduled messages: what it shows, who may do what, and what that does."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry

from rmq_publisher import signals
from rmq_publisher.db.clock import DatabaseNow
from rmq_publisher.models import OutboxMessage, PendingMessage, PublishFailure, RelaySeen
from rmq_publisher.monitoring import broker_status
from rmq_publisher.testing import MemoryBroker
from tests.support.admin_rows import QUEUE, client, failure, fresh_broker, hidden, text, told
from tests.support.admin_rows import url as failures_url
from tests.support.pending_rows import (
    PENDING_PERMISSIONS,
    act_on,
    pending,
    pending_url,
    scheduler,
)

pytestmark = pytest.mark.django_db

VIEW, SEND, CANCEL, PAYLOAD = PENDING_PERMISSIONS
HOUR = 3600.0


@pytest.fixture(autouse=True)
def broker(settings: Any) -> MemoryBroker:
    settings.RMQ_URL = "memory://"
    return fresh_broker()


@pytest.fixture
def relay() -> None:
    RelaySeen.objects.create(name="r", started_at=DatabaseNow(-900), seen_at=DatabaseNow(-4))


def shown(query: str = "") -> str:
    return text(scheduler().get(pending_url("changelist") + query))


def listed(query: str = "") -> list[str]:
    """The message ids of the list, in its order."""
    page = shown(query)
    return re.findall(r'<th class="field-message">.*?<bdi [^>]*>([^<]*)</bdi>', page, re.DOTALL)


def waits_for(page: str) -> list[str]:
    cells = re.findall(r'<td class="field-waits_shown">(.*?)</td>', page, re.DOTALL)
    return [re.sub(r"<[^>]*>", "", cell) for cell in cells]


# -- what it shows -----------------------------------------------------------------------------------


def test_it_lists_what_is_still_to_be_sent_and_never_failed(relay: None) -> None:
    failure(message_id="failed")
    pending(message_id="later", ahead=2 * HOUR)
    pending(message_id="keyed", ordering_key="a")
    pending(message_id="due", age=60)
    pending(message_id="soon", ahead=HOUR)
    assert listed() == ["due", "soon", "later", "keyed"]
    assert listed("?time=due") == ["due", "keyed"]
    assert listed("?time=scheduled") == ["soon", "later"]
    assert listed("?key=a") == ["keyed"]
    assert listed("?using=other") == []
    assert listed("?q=later") == ["later"]
    assert "in 1 hour" in shown() or "in 59 minutes" in shown()


def test_a_search_finds_what_a_process_has_taken() -> None:
    pending(message_id="taken", held=True)
    pending(message_id="other", correlation_id="c")
    assert listed("?q=taken") == ["taken"]
    assert listed("?q=c") == ["other"]
    assert listed(f"?q={QUEUE[1:4]}") != []


def test_a_filter_that_does_not_exist_is_refused() -> None:
    answer = scheduler().get(pending_url("changelist") + "?time=never")
    assert answer.status_code == 302
    answer = scheduler().get(pending_url("changelist") + "?body__contains=1")
    assert answer.status_code in (302, 400)


def test_each_row_says_what_it_waits_for(relay: None, monkeypatch: pytest.MonkeyPatch) -> None:
    down = broker_status.BrokerStatus("default", "down")
    pending(message_id="1", ahead=HOUR)
    pending(message_id="2", held=True)
    pending(message_id="3", using="gone")
    pending(message_id="4", ordering_key="a")
    pending(message_id="5", ordering_key="a")
    failure(message_id="dead-one", state="dead", ordering_key="b")
    pending(message_id="6", ordering_key="b")
    by_id = dict(zip(listed(), waits_for(shown()), strict=True))
    assert by_id == {
        "1": "its time",
        "2": "the process that has taken it",
        "3": "its RabbitMQ connection, which is not configured on this server",
        "4": "a relay, which sends it next",
        "5": "message 4 with the same key",
        "6": "dead message dead-one with the same key, which needs a decision",
    }
    monkeypatch.setattr(broker_status, "statuses", lambda: [down])
    assert "RabbitMQ, which is down" in waits_for(shown("?key=a"))
    blocked = broker_status.BrokerStatus("default", "blocked")
    monkeypatch.setattr(broker_status, "statuses", lambda: [blocked])
    assert "RabbitMQ, which blocks publishing" in waits_for(shown("?key=a"))


def test_what_holds_a_row_is_linked_where_one_may_see_it() -> None:
    dead = failure(state="dead", ordering_key="b")
    row = pending(ordering_key="b")
    link = failures_url("change", dead.pk)
    assert link in shown()
    assert link in text(scheduler().get(pending_url("change", row.pk)))
    page = text(client(VIEW).get(pending_url("changelist")))
    assert link not in page
    assert "needs a decision" in page


def test_without_a_relay_it_says_so_and_what_is_overdue() -> None:
    pending()
    assert "a relay: none is running" in waits_for(shown())
    assert "No relay has ever run" in shown()
    assert "should have been sent" not in shown()
    pending(ahead=-90)
    assert "1 scheduled message should have been sent more than a minute ago" in shown()
    failures = client("view_publishfailure").get(failures_url("changelist"))
    assert "1 scheduled message should have been sent" in text(failures)


def test_the_next_one_is_scheduled_and_not_leased(relay: None) -> None:
    pending(held=True)  # for an hour
    pending(ahead=3 * HOUR + 60)
    assert "next in 3 hours" in shown()


def test_with_a_relay_nothing_is_overdue(relay: None) -> None:
    pending(ahead=-90)
    assert "should have been sent" not in shown()


def test_the_numbers_lead_to_the_lists(relay: None) -> None:
    pending()
    pending(ahead=HOUR)
    failures = text(client("view_publishfailure", VIEW).get(failures_url("changelist")))
    for query in ("?time=due", "?time=scheduled"):
        assert pending_url("changelist") + query in failures
    without = text(client("view_publishfailure").get(failures_url("changelist")))
    assert pending_url("changelist") not in without
    assert failures_url("changelist") in shown()
    assert failures_url("changelist") not in text(client(VIEW).get(pending_url("changelist")))


def test_the_empty_list_says_why() -> None:
    assert "Nothing is pending or scheduled" in shown()
    pending()
    assert "No message matches the filters" in shown("?time=scheduled")


def test_hostile_names_are_escaped() -> None:
    bad = "<script>x</script>"
    row = pending(message_id=bad, routing_key=bad, exchange=bad, ordering_key=bad)
    pending(message_id="behind", ordering_key=bad)
    for page in (shown(), text(scheduler().get(pending_url("change", row.pk)))):
        assert bad not in page
        assert "&lt;script&gt;" in page


def test_only_who_may_sees_the_payload() -> None:
    row = pending()
    page = text(scheduler().get(pending_url("change", row.pk)))
    assert "value-of-a-header" in page
    page = text(client(VIEW).get(pending_url("change", row.pk)))
    assert "value-of-a-header" not in page
    assert "&quot;id&quot;" not in page


# -- sending -----------------------------------------------------------------------------------------


def test_a_scheduled_message_is_sent_now(broker: MemoryBroker) -> None:
    rows = [pending(ahead=HOUR), pending(ahead=HOUR)]
    answer = act_on(scheduler(), "send_selected", rows[0])
    assert told(answer)[0].startswith("Sent 1.")
    answer = scheduler().post(pending_url("send", rows[1].pk), follow=True)
    assert answer.redirect_chain[-1][0].startswith(pending_url("changelist"))
    assert broker.depth(QUEUE) == 2
    assert not OutboxMessage.objects.exists()
    logged = set(LogEntry.objects.values_list("change_message", flat=True))
    assert logged == {"Sent by hand: sent and confirmed by RabbitMQ."}


def test_what_fails_is_a_publish_failure_from_then_on() -> None:
    row = pending(routing_key="nowhere")
    said = told(act_on(scheduler(), "send_selected", row))[0]
    assert said.startswith("Failed: 1, now listed under publish failures.")
    assert not PendingMessage.objects.exists()
    assert PublishFailure.objects.get().last_error_type == "Unroutable"


def test_what_may_not_be_sent_is_skipped(broker: MemoryBroker) -> None:
    taken = pending(held=True)
    pending(ordering_key="a", message_id="first")
    behind = pending(ordering_key="a")
    gone = pending()
    OutboxMessage.objects.filter(pk=gone.pk).update(state="failed")
    page = text(scheduler().get(pending_url("change", behind.pk)))
    assert "Message first must be sent first" in page
    said = told(act_on(scheduler(), "send_selected", taken, behind))[0]
    assert "already being sent by another process" in said
    assert "an earlier message with the same ordering key" in said
    assert broker.depth(QUEUE) == 0
    assert scheduler().post(pending_url("send", gone.pk)).status_code == 302
    assert broker.depth(QUEUE) == 0


# -- cancelling --------------------------------------------------------------------------------------


def test_cancelling_asks_first_and_deletes() -> None:
    heard: list[str] = []

    def listen(message_id: str, **_: Any) -> None:
        heard.append(message_id)

    signals.message_cancelled.connect(listen)
    try:
        rows = [pending(ahead=HOUR) for _ in range(3)]
        taken = pending(held=True)
        asked = act_on(scheduler(), "cancel_selected", *rows[:2], taken)
        assert "<strong>2</strong> messages will be deleted" in text(asked)
        assert "1 more selected message is not counted" in text(asked)
        assert OutboxMessage.objects.count() == 4
        fields = {name: values[-1] for name, values in hidden(asked).items()}
        answer = scheduler().post(pending_url("changelist"), fields, follow=True)
        assert told(answer)[0].startswith("Cancelled 2.")
        asked = scheduler().post(pending_url("cancel", rows[2].pk))
        assert "<strong>1</strong> message will be deleted" in text(asked)
        answer = scheduler().post(
            pending_url("cancel", rows[2].pk), {"confirmed": "1"}, follow=True
        )
        assert answer.redirect_chain[-1][0].startswith(pending_url("changelist"))
    finally:
        signals.message_cancelled.disconnect(listen)
    assert set(heard) == {row.message_id for row in rows}
    assert list(OutboxMessage.objects.values_list("pk", flat=True)) == [taken.pk]


def test_what_was_taken_is_not_cancelled() -> None:
    taken, row = pending(held=True), pending()
    answer = act_on(scheduler(), "cancel_selected", taken)
    assert told(answer) == [
        "Nothing to cancel: every message has been taken, and may have been sent."
    ]
    OutboxMessage.objects.filter(pk=row.pk).update(token=5)
    answer = act_on(scheduler(), "cancel_selected", row, confirmed="1")
    assert "a process has taken it" in told(answer)[0]
    assert OutboxMessage.objects.count() == 2
    page = text(scheduler().get(pending_url("change", taken.pk)))
    assert "A process has taken it, so it may have been sent." in page


# -- permissions -------------------------------------------------------------------------------------

SETS = [
    set(chosen)
    for number in range(len(PENDING_PERMISSIONS) + 1)
    for chosen in itertools.combinations(PENDING_PERMISSIONS, number)
]
# Address, whether it takes a row, method, and what it needs besides `VIEW`; None: nobody may.
ADDRESSES: list[tuple[str, bool, str, set[str] | None]] = [
    ("changelist", False, "get", set()),
    ("live", False, "get", set()),
    ("change", True, "get", set()),
    ("change", True, "post", None),
    ("history", True, "get", set()),
    ("body", True, "get", {PAYLOAD}),
    ("send", True, "post", {SEND}),
    ("send", True, "get", None),
    ("cancel", True, "post", {CANCEL}),
    ("cancel", True, "get", None),
    ("add", False, "get", None),
    ("delete", True, "post", None),
]


@pytest.mark.parametrize("permissions", SETS, ids=lambda each: "+".join(sorted(each)) or "none")
def test_who_may_do_what(permissions: set[str]) -> None:
    row = pending()
    for what, takes_row, method, needed in ADDRESSES:
        address = pending_url(what, *([row.pk] if takes_row else []))
        answer = getattr(client(*permissions), method)(address)
        may = needed is not None and VIEW in permissions and needed <= permissions
        assert (answer.status_code in (200, 302)) is may, (what, method, answer.status_code)
        if what == "send" and may:
            row = pending()
    for action, needs in (("send_selected", SEND), ("cancel_selected", CANCEL)):
        page = text(client(*permissions).get(pending_url("changelist")))
        assert (action in page) is ({VIEW, needs} <= permissions)
        if VIEW in permissions and needs not in permissions:
            act_on(client(*permissions), action, row, confirmed="1")
            assert PendingMessage.objects.filter(pk=row.pk).exists()


def test_a_form_of_another_site_does_nothing() -> None:
    row = pending()
    browser = client(*PENDING_PERMISSIONS, csrf=True)
    for what in ("send", "cancel"):
        assert browser.post(pending_url(what, row.pk), {"confirmed": "1"}).status_code == 403
    assert PendingMessage.objects.exists()
