"""Who may do what in the admin: every permission with every address and action."""

import itertools
import re

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from rmq_publisher.models import OutboxMessage
from rmq_publisher.testing import memory_broker
from tests.support.admin_rows import PERMISSIONS, QUEUE, client, failure, fresh_broker, text, url

pytestmark = pytest.mark.django_db

VIEW, RETRY, DISCARD, EXPORT, PAYLOAD = PERMISSIONS
SETS = [
    set(chosen)
    for number in range(len(PERMISSIONS) + 1)
    for chosen in itertools.combinations(PERMISSIONS, number)
]
# None or one of them, one with the right to look, all but one, and all: the rest in `make thorough`.
EACH_SET = [
    pytest.param(
        chosen,
        id="+".join(sorted(chosen)) or "none",
        marks=[pytest.mark.thorough]
        * (len(chosen) == 3 or (len(chosen) == 2 and VIEW not in chosen)),
    )
    for chosen in SETS
]
ACTIONS = {"retry_selected": RETRY, "discard_selected": DISCARD, "export_json": EXPORT}
# Address, whether it takes a row, method, and what it needs besides `VIEW`; None: nobody may.
ADDRESSES = [
    ("changelist", False, "get", set()),
    ("live", False, "get", set()),
    ("live", False, "post", {"405"}),
    ("retry_all", False, "get", {RETRY}),
    ("retry_all", False, "post", {RETRY}),
    ("change", True, "get", set()),
    ("change", True, "post", None),
    ("history", True, "get", set()),
    ("body", True, "get", {PAYLOAD}),
    ("body", True, "post", None),
    ("retry", True, "get", {RETRY, "405"}),
    ("retry", True, "post", {RETRY}),
    ("discard", True, "get", {DISCARD, "405"}),
    ("discard", True, "post", {DISCARD}),
    ("add", False, "get", None),
    ("add", False, "post", None),
    ("delete", True, "get", None),
    ("delete", True, "post", None),
]


@pytest.fixture(autouse=True)
def _memory(settings):
    settings.RMQ_URL = "memory://"
    fresh_broker()


def everything():
    """All that an action could change."""
    rows = list(OutboxMessage.objects.order_by("pk").values())
    return rows, LogEntry.objects.count(), memory_broker().depth(QUEUE)


def allowed(permissions, needed):
    return needed is not None and VIEW in permissions and needed - {"405"} <= permissions


@pytest.mark.parametrize("permissions", EACH_SET)
def test_addresses(permissions):
    browser = client(*permissions)
    for what, of_row, method, needed in ADDRESSES:
        row = failure(state="dead")
        before = everything()
        data = {"confirmed": "1"} if (what, method) == ("discard", "post") else {}
        answer = getattr(browser, method)(url(what, *([row.pk] if of_row else [])), data)
        may = allowed(permissions, needed)
        case = (what, method, answer.status_code)
        if not may:
            # Where the method alone is wrong, either refusal is one.
            assert answer.status_code in ((403, 405) if method == "post" else (403,)), case
        elif "405" in needed:
            assert answer.status_code == 405, case
        else:
            assert answer.status_code == (200 if method == "get" else 302), case
        if not may or method == "get" or "405" in (needed or ()):
            assert everything() == before, case
        else:
            assert everything() != before, case
        row.delete()


@pytest.mark.parametrize("permissions", EACH_SET)
def test_actions(permissions):
    browser = client(*permissions)
    offered = text(browser.get(url("changelist")))
    for action, permission in ACTIONS.items():
        row = failure(state="dead")
        before = everything()
        data = {
            "action": action,
            "_selected_action": [row.pk],
            "index": "0",
            "confirmed": "1",
        }
        answer = browser.post(url("changelist"), data)
        may = {VIEW, permission} <= permissions
        assert (f'value="{action}"' in offered) is may
        if VIEW not in permissions:
            assert answer.status_code == 403
        assert (everything() != before) is may, action
        # An action is no address: a GET that looks like one only lists, or is refused.
        before = everything()
        assert browser.get(url("changelist"), data).status_code in (400, 403)
        assert everything() == before
        row.delete()


@pytest.mark.parametrize("permissions", EACH_SET)
def test_only_what_is_allowed_is_offered(permissions):
    if VIEW not in permissions:
        return
    row = failure(state="dead")
    browser = client(*permissions)
    page = text(browser.get(url("change", row.pk)))
    assert (url("retry", row.pk) in page) is (RETRY in permissions)
    assert (url("discard", row.pk) in page) is (DISCARD in permissions)
    assert (url("body", row.pk) in page) is (PAYLOAD in permissions)
    assert (url("retry_all") in text(browser.get(url("changelist")))) is (RETRY in permissions)


@pytest.mark.parametrize("who", ["anonymous", "no staff"])
def test_strangers_are_sent_to_the_login(who):
    row = failure(state="dead")
    browser = Client() if who == "anonymous" else client(*PERMISSIONS, staff=False)
    before = everything()
    for what, of_row, method, _ in ADDRESSES:
        data = {"confirmed": "1"} if (what, method) == ("discard", "post") else {}
        answer = getattr(browser, method)(url(what, *([row.pk] if of_row else [])), data)
        assert answer.status_code == 302
        assert "/login/" in answer.url
    assert everything() == before


def test_a_form_without_its_token_is_refused():
    row = failure(state="dead")
    browser = client(*PERMISSIONS, csrf=True)
    before = everything()
    for action in ACTIONS:
        data = {"action": action, "_selected_action": [row.pk], "index": "0"}
        assert browser.post(url("changelist"), data).status_code == 403
    for what in ("retry", "discard"):
        assert browser.post(url(what, row.pk)).status_code == 403
    assert browser.post(url("retry_all")).status_code == 403
    assert everything() == before


@pytest.mark.parametrize("what", ["changelist", "change", "retry_all"])
def test_the_pages_forms_hold_the_token(what):
    row = failure(state="dead")
    browser = client(*PERMISSIONS, csrf=True)
    page = text(browser.get(url(what, *([row.pk] if what == "change" else []))))
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[1]
    target = {
        "changelist": url("changelist"), "change": url("retry", row.pk), "retry_all": url("retry_all"),
    }[what]  # fmt: skip
    data = {
        "csrfmiddlewaretoken": token,
        "action": "discard_selected",
        "_selected_action": [row.pk],
        "confirmed": "1",
    }
    assert browser.post(target, data).status_code == 302
    row.refresh_from_db()
    assert row.state != "dead"


def test_a_page_that_refreshes_itself_leaves_messages_to_the_person():
    """They are for the page that the person opens next, not for one that a script fetches."""
    row = failure(state="dead")
    browser = client(*PERMISSIONS)
    browser.post(url("discard", row.pk), {"confirmed": "1"})
    assert "Discarded 1." not in text(browser.get(url("live")))
    assert "Discarded 1." in text(browser.get(url("changelist")))
