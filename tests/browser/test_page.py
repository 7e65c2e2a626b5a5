"""The page in a browser: under a strict policy, on a phone, without scripts, with hostile rows."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from rmq_publisher.models import PublishFailure
from tests.modeladmin.test_hostile import SEED, hostile_row
from tests.support.admin_rows import failure, url

from .chromium import NoBrowserError, program
from .conftest import Look

pytestmark = pytest.mark.usefixtures("memory")

WIDTHS = "[document.documentElement.scrollWidth, window.innerWidth]"


def rows(page: Page) -> Any:
    return page.locator("#result_list tbody tr")


# -- the browser -----------------------------------------------------------------------------------


def test_without_a_browser_the_suite_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("RMQ_TEST_BROWSER", raising=False)
    with pytest.raises(NoBrowserError, match="apt-get install chromium"):
        program()


# -- the policy ------------------------------------------------------------------------------------


def test_a_violation_would_be_seen(look: Look) -> None:
    window = look()
    page = window.open(url("changelist"))
    for rule, attribute in (("script-src-attr", "onclick"), ("style-src-attr", "style")):
        with page.expect_console_message(lambda told: f"violation of {rule}" in told.text):  # noqa: B023
            page.evaluate("name => document.body.setAttribute(name, 'color: red')", attribute)
    with pytest.raises(AssertionError, match="style-src-attr"):
        window.unhurt()
    window.complaints.clear()


def test_every_page_has_the_policy(look: Look) -> None:
    row = failure()
    window = look()
    for address in (url("changelist"), url("change", row.pk), url("retry_all")):
        answer = window.page.goto(window.address(address))
        assert answer is not None
        assert answer.headers["content-security-policy"].startswith("default-src 'self'")
        window.page.wait_for_load_state("networkidle")


# -- a phone ---------------------------------------------------------------------------------------


def long_names() -> PublishFailure:
    """What is most likely to be wider than a phone."""
    failure(ago=5)
    return failure(
        message_id="m" * 200, routing_key="orders." * 30, exchange="e" * 200,
        error=("Rejected", 403, "ACCESS_REFUSED_" * 30), body=b"x" * 3000,
        properties={"headers": {"h" * 200: "v" * 900}},
    )  # fmt: skip


def test_a_phone_never_scrolls_sideways(look: Look) -> None:
    page = look(phone=True).open(url("changelist"))
    assert page.evaluate(WIDTHS) == [375, 375], "empty"
    row = long_names()
    for address in (url("changelist"), url("change", row.pk), url("retry_all")):
        page.goto(page.url.partition("/admin")[0] + address)
        assert page.evaluate(WIDTHS) == [375, 375], address


ROOM = """() => {
    const list = document.querySelector("#rmq-results .results");
    return [list.scrollWidth - list.clientWidth, list.getBoundingClientRect().right];
}"""
DECIDES_BY = (
    "message",
    "state_shown",
    "failed_shown",
    "error_shown",
    "destination_shown",
    "next_shown",
)


def test_a_phone_shows_what_one_decides_by(look: Look) -> None:
    """Each row whole, without scrolling in the list, and no higher than what is in it."""
    failure(error=("Rejected", 403, "ACCESS_REFUSED - write access refused"), state="dead")
    page = look(phone=True).open(url("changelist"))
    assert page.evaluate(ROOM)[0] == 0
    for column in DECIDES_BY:
        inside(page, page.locator(f"#result_list .field-{column}"), 375)
    for column in ("using_shown", "attempts_shown", "size_shown"):
        expect(page.locator(f"#result_list .field-{column}")).to_be_hidden()
    assert rows(page).bounding_box()["height"] < 140
    message, state, error = (
        page.locator(f"#result_list .field-{column}").bounding_box()
        for column in ("message", "state_shown", "error_shown")
    )
    assert state["x"] > message["x"]
    assert state["y"] == message["y"]
    assert error["y"] >= message["y"] + message["height"]
    assert error["width"] > 250
    expect(page.locator("#action-toggle")).to_be_visible()


@pytest.mark.parametrize(
    "width", [1280, *(pytest.param(width, marks=pytest.mark.thorough) for width in (1440, 1920))]
)
def test_a_screen_shows_all_columns(look: Look, width: int) -> None:
    """With the sidebar open, as it is at first."""
    failure(
        message_id="0197f3c2-8a4e-7c1b-9d5f-000000000001", routing_key="payments.refunded",
        exchange="payments", using="reporting", state="dead", ago=14 * 60,
        error=("Rejected", 403, "ACCESS_REFUSED - write access to exchange 'audit' refused"),
    )  # fmt: skip
    page = look(viewport={"width": width, "height": 900}).open(url("changelist"))
    expect(page.locator("#nav-sidebar")).to_be_visible()
    over, right = page.evaluate(ROOM)
    assert over == 0
    assert right <= width
    for column in (*DECIDES_BY, "attempts_shown"):
        inside(page, page.locator(f"#result_list .field-{column}"), width)
    for column in ("using_shown", "size_shown"):
        cell = page.locator(f"#result_list .field-{column}")
        expect(cell).to_be_visible(visible=width >= 1400)
    assert rows(page).bounding_box()["height"] < 50, "more than two lines"
    name = page.locator("#result_list .field-message bdi")
    assert name.evaluate("each => getComputedStyle(each).whiteSpace") == "nowrap"


def test_the_list_is_seen_before_one_scrolls(look: Look) -> None:
    for state in ("failed", "dead"):
        failure(state=state, error=("Rejected", 403, "ACCESS_REFUSED"))
    failure(error=("BrokerUnavailable", None, "refused"))
    page = look().open(url("changelist"))
    assert page.locator("#result_list tbody tr").nth(2).bounding_box()["y"] < 700
    chart, brokers = (page.locator(f"#rmq-{each}-heading") for each in ("chart", "brokers"))
    for below in (chart, brokers):
        assert below.bounding_box()["y"] > page.locator("#result_list").bounding_box()["y"]


def test_what_is_told_of_each_message_is_one_box(look: Look) -> None:
    """On Django 5.2, too, whose look of messages reaches into lists within them."""
    for number in range(2):
        failure(message_id=f"m{number}", using="not-configured", state="dead")
    page = look().open(url("changelist"))
    page.locator("#action-toggle").check()
    page.get_by_label("Action:").select_option("retry_selected")
    page.get_by_role("button", name=re.compile("^(Go|Run)")).click()
    expect(page.locator(".messagelist li")).to_have_count(1)
    expect(page.locator(".messagelist .rmq-told")).to_have_count(2)
    assert (
        page.locator(".rmq-told").first.evaluate("each => getComputedStyle(each).backgroundImage")
        == "none"
    )


def inside(page: Page, what: Any, width: int) -> None:
    """It is seen, and nothing of it is beside the screen."""
    expect(what).to_be_visible()
    box = what.bounding_box()
    assert box["width"] > 20
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width


@pytest.mark.parametrize("phone", [False, True])
def test_the_button_for_all_is_drawn_over_nothing(look: Look, phone: bool) -> None:
    failure()
    page = look(phone=phone).open(url("changelist"))
    button = page.get_by_role("link", name="Retry all matching messages").bounding_box()
    for other in ("#rmq-strip", "#rmq-pause", ".rmq-filters", "#toolbar"):
        box = page.locator(other).bounding_box()
        assert button
        assert box
        beside = (
            button["x"] + button["width"] <= box["x"] or box["x"] + box["width"] <= button["x"]
        )
        above = button["y"] + button["height"] <= box["y"]
        below = box["y"] + box["height"] <= button["y"]
        assert beside or above or below, other


def test_everything_can_be_done_on_a_phone(look: Look) -> None:
    for number in range(3):
        failure(message_id=f"m{number}", state="dead")
    page = look(phone=True).open(url("changelist"))
    page.get_by_role("link", name="Retry all matching messages").tap()
    page.get_by_role("button", name="Retry 3 messages").tap()
    expect(page.locator(".messagelist")).to_contain_text("3 messages are due")
    page.locator("#searchbar").fill("m1")
    page.locator("#changelist-search [type=submit]").tap()
    expect(rows(page)).to_have_count(1)
    page.locator(".action-select").tap()
    page.get_by_label("Action:").select_option("retry_selected")
    within(page, page.get_by_role("button", name=re.compile("^(Go|Run)")))
    page.get_by_role("button", name=re.compile("^(Go|Run)")).tap()
    expect(page.locator(".messagelist")).to_contain_text("Sent 1.")
    page.goto(page.url.partition("?")[0])
    page.get_by_role("link", name="m2").tap()
    for name in ("Retry now", "Discard"):
        within(page, page.get_by_role("button", name=name))
    page.get_by_role("button", name="Retry now").tap()
    expect(page.locator(".rmq-head")).to_contain_text("delivered")


def within(page: Page, what: Any) -> None:
    """It is on the phone's screen, whole, once one has scrolled down to it."""
    what.scroll_into_view_if_needed()
    box = what.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 375
    assert box["height"] >= 24, "too small for a finger"


# -- discarding -------------------------------------------------------------------------------------


@pytest.mark.parametrize("scripts", [pytest.param(True, marks=pytest.mark.thorough), False])
def test_discarding_asks_first(look: Look, scripts: bool) -> None:
    for number in range(3):
        failure(message_id=f"m{number}", state="dead")
    page = look(java_script_enabled=scripts).open(f"{url('changelist')}?state=dead")
    for number in range(2):
        page.locator(".action-select").nth(number).check()
    page.get_by_label("Action:").select_option("discard_selected")
    page.get_by_role("button", name=re.compile("^(Go|Run)")).click()
    page.get_by_role("link", name="Back", exact=True).click()
    expect(rows(page)).to_have_count(3)
    for number in range(2):
        page.locator(".action-select").nth(number).check()
    page.get_by_label("Action:").select_option("discard_selected")
    page.get_by_role("button", name=re.compile("^(Go|Run)")).click()
    page.get_by_role("button", name="Discard 2 messages").click()
    expect(page.locator(".messagelist")).to_contain_text("Discarded 2.")
    expect(rows(page)).to_have_count(1)
    page.locator("#result_list a").filter(has_text="m").first.click()
    page.get_by_role("button", name="Discard").click()
    page.get_by_role("button", name="Discard 1 message").click()
    expect(page.locator(".rmq-head")).to_contain_text("discarded")
    expect(page.get_by_role("button", name="Discard")).to_have_count(0)


# -- without scripts -------------------------------------------------------------------------------


def test_without_scripts_everything_works(look: Look) -> None:
    for number in range(3):
        failure(message_id=f"m{number}", state="dead")
    page = look(java_script_enabled=False).open(url("changelist"))
    expect(page.get_by_role("button", name="Pause refreshing")).to_have_count(0)
    page.locator("#searchbar").fill("m0")
    page.locator("#changelist-search [type=submit]").click()
    expect(rows(page)).to_have_count(1)
    page.locator(".action-select").check()
    page.get_by_label("Action:").select_option("retry_selected")
    page.get_by_role("button", name=re.compile("^(Go|Run)")).click()
    expect(page.locator(".messagelist")).to_contain_text("Sent 1.")
    page.goto(page.url.partition("?")[0])
    page.locator(".rmq-filter summary").first.click()
    page.get_by_role("link", name="dead", exact=True).click()
    page.get_by_role("link", name="Retry all matching messages").click()
    page.get_by_role("button", name="Retry 2 messages").click()
    expect(page.locator(".messagelist")).to_contain_text("2 messages are due")
    page.goto(page.url.partition("?")[0])
    page.get_by_text("Show as a table").click() if page.locator(".rmq-chart").count() else None
    page.get_by_role("link", name="m1").click()
    expect(page.get_by_role("button", name="Copy")).to_have_count(0)
    page.get_by_role("button", name="Retry now").click()
    expect(page.locator(".rmq-head")).to_contain_text("delivered")


# -- hostile rows ----------------------------------------------------------------------------------


def test_hostile_rows_run_nothing(look: Look) -> None:
    print("seed", SEED)
    chance = random.Random(SEED)
    template = failure(state="dead")
    PublishFailure.objects.bulk_create(hostile_row(template, chance) for _ in range(12))
    window = look()
    page = window.open(url("changelist"))
    expect(rows(page)).to_have_count(13)
    # What would be elements of theirs in the page.
    theirs = "img[src='x'], svg[onload], [onerror], #result_list script"
    assert page.locator(theirs).count() == 0
    for row in PublishFailure.objects.all():
        window.open(url("change", row.pk))
        assert page.locator(theirs).count() == 0
    window.open(url("changelist"))
    page.locator("#action-toggle").check()
    page.get_by_label("Action:").select_option("retry_selected")
    page.get_by_role("button", name=re.compile("^(Go|Run)")).click()
    expect(page.locator(".messagelist")).to_be_visible()
    assert page.locator(theirs).count() == 0


# -- the page's own script -------------------------------------------------------------------------


def test_the_command_is_copied(look: Look) -> None:
    row = failure(message_id="m-1")
    window = look(permissions=["clipboard-read", "clipboard-write"])
    page = window.open(url("change", row.pk))
    page.get_by_role("button", name="Copy").click()
    page.get_by_role("button", name="Copied").wait_for()
    text = page.evaluate("navigator.clipboard.readText()")
    assert text == "python manage.py rmq_retry m-1"
