"""Which rows an action is for: what was ticked, what the list offers, and what somebody made up."""

import json

import pytest
from django.contrib.admin.models import LogEntry

from rmq_publisher.modeladmin import bounded_list, changelist
from rmq_publisher.models import OutboxMessage, PublishFailure
from rmq_publisher.testing import memory_broker
from tests.support.admin_rows import (
    QUEUE,
    act,
    failure,
    fresh_broker,
    hidden,
    operator,
    text,
    told,
    url,
)

pytestmark = pytest.mark.django_db

ACTIONS = ["retry_selected", "discard_selected", "export_json"]


@pytest.fixture(autouse=True)
def _memory(settings):
    settings.RMQ_URL = "memory://"
    fresh_broker()


def states():
    return dict(PublishFailure.objects.values_list("message_id", "state"))


def across(browser, action, row, query="", **fields):
    """All of the list, as its form asks for them: with the rows of the page that are ticked."""
    data = {"action": action, "_selected_action": [row.pk], "select_across": "1", "index": "0"}
    return browser.post(url("changelist") + query, {**data, **fields})


def exported(answer):
    return {row["message_id"] for row in json.loads(b"".join(answer.streaming_content))}


# -- no more than the page named ----------------------------------------------------------------


def test_no_more_are_discarded_than_were_named():
    named = [failure(message_id=f"named{number}", state="dead") for number in range(3)]
    browser = operator()
    page = across(browser, "discard_selected", named[0], "?state=dead")
    assert page.context["count"] == 3
    for number in range(4):
        failure(message_id=f"later{number}", state="dead")
    answer = browser.post(url("changelist") + "?state=dead", hidden(page), follow=True)
    assert told(answer)[0].startswith("Discarded 3.")
    assert {name for name, state in states().items() if state == "discarded"} == {
        "named0", "named1", "named2",
    }  # fmt: skip


def test_what_left_the_list_before_it_was_confirmed_is_told():
    rows = [failure(message_id=f"m{number}", state="dead") for number in range(3)]
    browser = operator()
    page = across(browser, "discard_selected", rows[0], "?state=dead")
    PublishFailure.objects.filter(pk=rows[1].pk).update(state="delivered")
    answer = browser.post(url("changelist") + "?state=dead", hidden(page), follow=True)
    left, done = told(answer)
    assert left.startswith("Left out 1 selected message")
    assert done.startswith("Discarded 2.")
    assert states()["m1"] == "delivered"


def test_all_of_the_list_are_not_discarded_unasked():
    """A form that says yes and names no rows: it is asked which."""
    row = failure(message_id="m", state="dead")
    page = across(operator(), "discard_selected", row, confirmed="1")
    assert page.context["count"] == 1
    assert states() == {"m": "dead"}


def test_more_than_a_form_has_fields_for(settings):
    settings.DATA_UPLOAD_MAX_NUMBER_FIELDS = 1000
    row = failure(state="dead")
    columns = OutboxMessage.objects.values().get()
    copies = [
        OutboxMessage(**{**columns, "id": None, "message_id": f"m{at}"}) for at in range(1200)
    ]
    OutboxMessage.objects.bulk_create(copies)
    browser = operator()
    page = across(browser, "discard_selected", row)
    assert page.context["count"] == 1201
    answer = browser.post(url("changelist"), hidden(page), follow=True)
    assert told(answer)[0].startswith("Discarded 1201.")


def test_what_the_list_offers_is_accepted(monkeypatch):
    monkeypatch.setattr(bounded_list, "LISTED_MAX", 7)
    monkeypatch.setattr(changelist.FailureListMixin, "list_per_page", 5)
    rows = [failure(message_id=f"m{number}", ago=number) for number in range(9)]
    browser = operator()
    assert "Select all 7 " in text(browser.get(url("changelist")))
    listed = {f"m{number}" for number in range(7)}
    assert exported(across(browser, "export_json", rows[0])) == listed
    page = across(browser, "discard_selected", rows[0])
    assert page.context["count"] == 7
    answer = browser.post(url("changelist"), hidden(page), follow=True)
    assert told(answer)[0].startswith("Discarded 7.")
    assert {name for name, state in states().items() if state == "discarded"} == listed


# -- what left the list meanwhile ---------------------------------------------------------------


@pytest.mark.parametrize("action", ACTIONS)
def test_selected_rows_that_are_there_no_more_are_told_of(action):
    stays, settled, gone = (failure(message_id=name, state="dead") for name in "abc")
    PublishFailure.objects.filter(pk=settled.pk).update(state="delivered")
    OutboxMessage.objects.filter(pk=gone.pk).delete()
    browser = operator()
    answer = act(browser, action, stays, settled, gone, settled, query="?state=dead")
    if action == "export_json":
        assert exported(answer) == {"a"}
        answer = browser.get(url("changelist"))
    assert told(answer)[0] == (
        "Left out 2 selected messages: they no longer match the filters, or were deleted."
    )
    assert states()["b"] == "delivered"


@pytest.mark.parametrize("action", ACTIONS)
def test_nothing_that_was_selected_may_be_left(action):
    row = failure(message_id="m", state="delivered")
    browser = operator()
    answer = browser.post(
        url("changelist") + "?state=dead",
        {"action": action, "_selected_action": [row.pk], "index": "0"},
        follow=True,
    )
    [message] = told(answer)
    assert message.startswith("Left out 1 selected message")
    answer = across(browser, action, row, "?state=dead")
    assert told(answer) == ["No message matches the filters any more. Nothing was changed."]
    assert LogEntry.objects.count() == 0


# -- forms that somebody made up ----------------------------------------------------------------


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("across", ["0", "1"])
@pytest.mark.parametrize(
    "made_up", ["x", "9" * 40, str(2**63), "9" * 5000, "\0", "", "-1", "1,,2", "1,x", "1 ", "٣"]
)
def test_ids_that_are_none(action, across, made_up):
    row = failure(message_id="m", state="dead")
    data = {
        "action": action, "_selected_action": [row.pk, made_up], "index": "0", "confirmed": "1",
        "select_across": across,
    }  # fmt: skip
    answer = operator().post(url("changelist"), data, follow=True)
    assert answer.status_code == 200
    [message] = told(answer)
    assert message == "The selection is not valid. Nothing was changed."
    assert states() == {"m": "dead"}
    assert memory_broker().depth(QUEUE) == 0
    assert LogEntry.objects.count() == 0


def test_more_ids_than_a_list_has(monkeypatch):
    monkeypatch.setattr(bounded_list, "LISTED_MAX", 2)
    rows = [failure(state="dead") for _ in range(3)]
    data = {"action": "discard_selected", "confirmed": "1"}
    browser = operator()
    for ids in ([row.pk for row in rows], [",".join(str(row.pk) for row in rows)]):
        answer = browser.post(url("changelist"), {**data, "_selected_action": ids}, follow=True)
        assert told(answer) == ["The selection is not valid. Nothing was changed."]
    assert set(states().values()) == {"dead"}


def test_the_largest_id_is_no_row():
    row = failure(message_id="m", state="dead")
    data = {"action": "retry_selected", "_selected_action": [f"{row.pk},{2**63 - 1}"]}
    left, done = told(operator().post(url("changelist"), data, follow=True))
    assert left.startswith("Left out 1 selected message")
    assert done.startswith("Sent 1.")
