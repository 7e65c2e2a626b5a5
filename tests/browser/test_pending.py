"""The page of pending and scheduled messages in a browser: strict policy, phone, without scripts."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from rmq_publisher.models import PendingMessage
from tests.support.admin_rows import client, failure
from tests.support.pending_rows import PENDING_PERMISSIONS, pending, pending_url

from .conftest import Look, sign_in
from .test_accessibility import faults, opened
from .test_page import WIDTHS, within

pytestmark = pytest.mark.usefixtures("memory")

HOUR = 3600.0
VIEWS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1280, "height": 900}},
    "dark": {"dark": True, "viewport": {"width": 812, "height": 900}},
    "phone": {"phone": True},
    "dark phone": {"phone": True, "dark": True},
}
EACH_VIEW = [
    pytest.param(view, id=name, marks=[pytest.mark.thorough] * (name != "dark phone"))
    for name, view in VIEWS.items()
]


def waiting() -> PendingMessage:
    """Every reason to wait, with names that are too long for a phone."""
    failure(state="dead", ordering_key="k" * 200, message_id="d" * 200)
    pending(message_id="later", ahead=HOUR)
    pending(message_id="overdue", ahead=-HOUR)
    pending(message_id="taken", held=True)
    return pending(ordering_key="k" * 200, message_id="m" * 200, routing_key="orders." * 30)


@pytest.fixture
def window(look: Look, site: str, request: Any) -> Any:
    """A window of somebody who may do everything on this page."""
    found = look(signed_in=False, **request.param)
    browser = client(*PENDING_PERMISSIONS, "view_publishfailure")
    sign_in(found.context, site, browser)
    return found


def rows(page: Page) -> Any:
    return page.locator("#result_list tbody tr")


@pytest.mark.parametrize("window", EACH_VIEW, indirect=True)
def test_nothing_is_wrong_with_its_looks(window: Any) -> None:
    """No complaint of the policy or of axe, and nothing is wider than the screen."""
    row = waiting()
    for address in (
        pending_url("changelist"), f"{pending_url('changelist')}?time=scheduled&q=x",
        pending_url("change", row.pk),
    ):  # fmt: skip
        page = window.open(address)
        assert page.evaluate(WIDTHS)[0] == page.evaluate(WIDTHS)[1], address
        assert faults(opened(page)) == [], address


PHONE = {"phone": True, "java_script_enabled": False}


@pytest.mark.parametrize("window", [PHONE], indirect=True)
def test_everything_can_be_done_on_a_phone_without_scripts(window: Any) -> None:
    for number in range(3):
        pending(message_id=f"m{number}", ahead=HOUR + number)
    page = window.open(pending_url("changelist"))
    page.locator(".action-select").first.check()
    page.get_by_label("Action:").select_option("send_selected")
    page.get_by_role("button", name=re.compile("^(Go|Run)")).tap()
    expect(page.locator(".messagelist")).to_contain_text("Sent 1.")
    page.locator(".rmq-filter summary").first.tap()
    page.get_by_role("link", name="scheduled", exact=True).tap()
    expect(rows(page)).to_have_count(2)
    page.get_by_role("link", name="m1").tap()
    for name in ("Send now", "Cancel"):
        within(page, page.get_by_role("button", name=name))
    page.get_by_role("button", name="Cancel").tap()
    page.get_by_role("button", name="Cancel 1 message").tap()
    expect(page.locator(".messagelist")).to_contain_text("Cancelled 1.")
    expect(rows(page)).to_have_count(1)


@pytest.mark.parametrize("window", [{"hurried": True}], indirect=True)
def test_it_refreshes_itself(window: Any) -> None:
    pending(message_id="first", ahead=HOUR)
    page = window.open(pending_url("changelist"))
    expect(rows(page)).to_have_count(1)
    pending(message_id="second", ahead=HOUR)
    expect(rows(page)).to_have_count(2)
    expect(page.locator("#rmq-strip")).to_contain_text("Scheduled")
