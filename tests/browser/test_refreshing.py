"""The page refreshes itself, and stands still while somebody is at work in it, and says so."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from rmq_publisher.monitoring import broker_status
from tests.support.admin_rows import failure, url

from .chromium import Window
from .conftest import Look

# tests/browser/test_pending.py looks at the same script in every run of the suite.
pytestmark = [pytest.mark.usefixtures("memory"), pytest.mark.thorough]

TICKED = "Paused while rows are selected."
TYPING = "Paused while you are typing or choosing."
MARKED = "Paused while text is selected."
FOCUSED = "Paused while a link or table has the focus."
PAUSED = "Paused until you resume."
HIDE = """
(hidden) => Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden })
"""
MARK = "getSelection().selectAllChildren(document.getElementById('rmq-brokers-heading'))"


def rows(page: Page) -> Any:
    return page.locator("#result_list tbody tr")


def opened(look: Look, query: str = "") -> Window:
    """A window on the list whose clock is ours."""
    window = look()
    window.page.clock.install()
    window.open(url("changelist") + query)
    return window


def refreshed(page: Page) -> None:
    """Let the time come to refresh, and await the answer."""
    with page.expect_response(lambda answer: "/live/" in answer.url):
        page.clock.fast_forward(6000)


def stands_still(page: Page, note: str) -> None:
    """Let the time come, more than once: nothing is asked for, and the page says why."""
    asked: list[str] = []

    def listen(request: Any) -> None:
        asked.append(request.url)

    page.on("request", listen)
    for _ in range(3):
        page.clock.fast_forward(6000)
    # What was asked for before this is known once this is answered.
    page.evaluate("fetch(document.location.href).then((answer) => answer.text())")
    page.remove_listener("request", listen)
    assert len(asked) == 1, asked
    expect(page.locator("#rmq-note")).to_have_text(note)


def test_it_refreshes_itself_and_stands_still_while_rows_are_ticked(look: Look) -> None:
    failure(message_id="first")
    page = opened(look).page
    failure(message_id="second")
    refreshed(page)
    expect(rows(page)).to_have_count(2)
    expect(page.locator("#rmq-said")).to_have_text("2 unresolved, including 0 dead")

    # Rows that came with a refresh are known to the admin's own script.
    page.locator("#action-toggle").click()
    expect(page.locator("#result_list tr.selected")).to_have_count(2)
    expect(page.locator(".action-counter")).to_have_text(re.compile("2 of 2 selected"))
    stands_still(page, TICKED)
    page.locator("#action-toggle").click()
    expect(page.locator("#result_list tr.selected")).to_have_count(0)

    # An attentive reader: paused, and on again.
    page.get_by_role("button", name="Pause refreshing").click()
    expect(page.locator("#rmq-note")).to_have_text(PAUSED)
    stands_still(page, PAUSED)
    failure(message_id="third")
    page.get_by_role("button", name="Resume refreshing").click()
    expect(page.locator("#rmq-note")).to_have_text("")
    refreshed(page)
    expect(rows(page)).to_have_count(3)
    page.get_by_role("link", name="third").wait_for()


def test_it_stands_still_while_somebody_types(look: Look) -> None:
    failure(message_id="first")
    page = opened(look).page
    failure(message_id="second")
    page.locator("#searchbar").press_sequentially("fir")
    stands_still(page, TYPING)
    expect(page.locator("#searchbar")).to_be_focused()
    page.locator("#searchbar").blur()
    refreshed(page)
    expect(rows(page)).to_have_count(2)
    expect(page.locator("#rmq-note")).to_have_text("")
    expect(page.locator("#searchbar")).to_have_value("fir")


def test_it_stands_still_while_text_is_selected(look: Look) -> None:
    failure(message_id="first")
    page = opened(look).page
    failure(message_id="second")
    page.evaluate(MARK)
    stands_still(page, MARKED)
    assert page.evaluate("getSelection().toString()") == "RabbitMQ"
    page.evaluate("getSelection().removeAllRanges()")
    refreshed(page)
    expect(rows(page)).to_have_count(2)


def test_it_stands_still_while_somebody_is_in_the_list_by_the_keyboard(look: Look) -> None:
    failure(message_id="first")
    page = opened(look).page
    for focused in (page.get_by_role("link", name="first"), page.locator(".rmq-tile a").first):
        focused.focus()
        stands_still(page, FOCUSED)
        expect(focused).to_be_focused()


def test_it_stands_still_while_its_tab_is_hidden(look: Look) -> None:
    failure(message_id="first")
    page = opened(look).page
    failure(message_id="second")
    page.evaluate(HIDE, True)
    stands_still(page, "")
    expect(rows(page)).to_have_count(1)
    page.evaluate(HIDE, False)
    refreshed(page)
    expect(rows(page)).to_have_count(2)


@pytest.mark.parametrize(
    ("begin", "note"),
    [
        ("document.getElementById('searchbar').focus()", TYPING),
        (MARK, MARKED),
        ("document.querySelector('.action-select').click()", TICKED),
        ("document.getElementById('rmq-pause').click()", PAUSED),
    ],
)
def test_whoever_begins_before_the_answer_comes_is_not_disturbed(
    look: Look, begin: str, note: str
) -> None:
    failure(message_id="first")
    page = opened(look).page
    failure(message_id="second")
    held: list[Any] = []
    page.route("**/live/**", lambda route: held.append(route))
    with page.expect_request("**/live/**"):
        page.clock.fast_forward(6000)
    page.evaluate(begin)
    with page.expect_response("**/live/**") as answered:
        held.pop().continue_()
    answered.value.finished()
    expect(page.locator("#rmq-note")).to_have_text(note)
    expect(rows(page)).to_have_count(1)


def test_what_is_filtered_stays_filtered(look: Look) -> None:
    failure(message_id="first", state="dead")
    page = opened(look, "?state=dead&period=24h").page
    failure(message_id="second", state="dead")
    failure(message_id="third")
    refreshed(page)
    expect(page.get_by_role("link", name="second")).to_be_visible()
    expect(rows(page)).to_have_count(2)
    expect(page.locator(".rmq-periods strong")).to_have_text("24 hours")


def test_what_is_unfolded_stays_so_and_stops_nothing(
    look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    queues = [broker_status.QueueDepth("orders", 3, 1)]
    seen = [broker_status.BrokerStatus("default", "up", "h:5672", "/", queues=tuple(queues))]
    monkeypatch.setattr(broker_status, "statuses", lambda: seen)
    failure(message_id="first")
    page = opened(look).page
    summary = page.get_by_text("1 declared queue")
    summary.click()
    for messages in (4, 5):
        queue = broker_status.QueueDepth("orders", messages, 1)
        seen[:] = [broker_status.BrokerStatus("default", "up", "h:5672", "/", queues=(queue,))]
        refreshed(page)
        cell = page.locator(".rmq-brokers td").first
        expect(cell).to_have_text(str(messages))
        expect(cell).to_be_visible()
        expect(summary).to_be_focused()
        expect(page.locator("#rmq-note")).to_have_text("")


# -- with a theme's own script ---------------------------------------------------------------------


def test_a_themes_script_gets_the_parent_that_it_asks_for(look: Look) -> None:
    """As that of django-unfold, which finds all else within it."""
    failure(message_id="first")
    page = opened(look).page
    page.evaluate("""() => {
        window.Actions = (boxes, options) => {
            const toggles = options.parent.querySelectorAll("#action-toggle");
            const rows = options.parent.querySelector("#result_list").tBodies;
            const button = options.parent.querySelector("button[name=index]");
            window.known = [boxes.length, toggles.length, rows.length, button.name];
        };
    }""")
    failure(message_id="second")
    refreshed(page)
    expect(rows(page)).to_have_count(2)
    page.locator("#action-toggle").click()
    assert page.evaluate("window.known") == [2, 1, 1, "index"]


def test_where_a_themes_script_fails_all_can_still_be_selected(look: Look) -> None:
    failure(message_id="first")
    window = opened(look)
    page = window.page
    page.evaluate("() => { window.Actions = () => { throw new Error('asks for more'); }; }")
    failure(message_id="second")
    refreshed(page)
    expect(rows(page)).to_have_count(2)
    page.locator("#action-toggle").click()
    expect(page.locator(".action-select:checked")).to_have_count(2)
    page.locator("#action-toggle").click()
    expect(page.locator(".action-select:checked")).to_have_count(0)
    assert all("asks for more" in complaint for complaint in window.complaints)
    window.complaints.clear()


# -- when it cannot --------------------------------------------------------------------------------


def test_it_says_when_it_cannot_refresh(look: Look) -> None:
    failure()
    window = opened(look)
    page = window.page
    page.route("**/live/**", lambda route: route.abort())
    page.clock.fast_forward(6000)
    expect(page.locator("#rmq-note")).to_contain_text("Trying again")
    page.unroute("**/live/**")
    refreshed(page)
    expect(page.locator("#rmq-note")).to_have_text("")
    window.context.clear_cookies()
    refreshed(page)
    expect(page.locator("#rmq-note")).to_contain_text("No longer refreshed")
    expect(page.get_by_role("button", name="Pause refreshing")).to_have_count(0)
    # What the browser itself says of the address that we made fail.
    assert all("ERR_FAILED" in complaint for complaint in window.complaints)
    window.complaints.clear()
