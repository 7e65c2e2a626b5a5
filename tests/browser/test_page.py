"""The page in a browser: under a strict policy, on a phone, without scripts, with hostile rows."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from rmq_publisher.models import PublishFailure
from tests.admin_rows import failure, url
from tests.test_admin_hostile import SEED, hostile_row

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


def test_everything_can_be_done_on_a_phone(look: Look) -> None:
    for number in range(3):
        failure(message_id=f"m{number}", state="dead")
    page = look(phone=True).open(url("changelist"))
    page.get_by_role("link", name="Send all that match again").tap()
    page.get_by_role("button", name="Send 3 messages again").tap()
    expect(page.locator(".messagelist")).to_contain_text("3 messages are due")
    page.locator("#searchbar").fill("m1")
    page.locator("#changelist-search [type=submit]").tap()
    expect(rows(page)).to_have_count(1)
    page.locator(".action-select").tap()
    page.get_by_label("Action:").select_option("retry_selected")
    within(page, page.get_by_role("button", name=re.compile("^(Go|Run)")))
    page.get_by_role("button", name=re.compile("^(Go|Run)")).tap()
    expect(page.locator(".messagelist")).to_contain_text("1 sent.")
    page.goto(page.url.partition("?")[0])
    page.get_by_role("link", name="m2").tap()
    for name in ("Send again, now", "Discard"):
        within(page, page.get_by_role("button", name=name))
    page.get_by_role("button", name="Send again, now").tap()
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


@pytest.mark.parametrize("scripts", [True, False])
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
    expect(page.locator(".messagelist")).to_contain_text("2 discarded.")
    expect(rows(page)).to_have_count(1)
    page.locator("#result_list a").filter(has_text="m").first.click()
    page.get_by_role("button", name="Discard").click()
    page.get_by_role("button", name="Discard 1 message").click()
    expect(page.locator(".rmq-head")).to_contain_text("discarded")
    expect(page.get_by_role("button", name="Discard")).to_be_disabled()


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
    expect(page.locator(".messagelist")).to_contain_text("1 sent.")
    page.goto(page.url.partition("?")[0])
    page.get_by_role("link", name="dead", exact=True).first.click()
    page.get_by_role("link", name="Send all that match again").click()
    page.get_by_role("button", name="Send 2 messages again").click()
    expect(page.locator(".messagelist")).to_contain_text("2 messages are due")
    page.goto(page.url.partition("?")[0])
    page.get_by_text("The same as a table").click() if page.locator(".rmq-chart").count() else None
    page.get_by_role("link", name="m1").click()
    expect(page.get_by_role("button", name="Copy")).to_have_count(0)
    page.get_by_role("button", name="Send again, now").click()
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


def refreshed(page: Page) -> None:
    """Let the time come to refresh, and await the answer."""
    with page.expect_response(lambda answer: "/live/" in answer.url):
        page.clock.fast_forward(6000)


def test_it_refreshes_itself_and_stands_still_while_somebody_is_at_work(look: Look) -> None:
    failure(message_id="first")
    window = look()
    window.page.clock.install()
    page = window.open(url("changelist"))
    failure(message_id="second")
    refreshed(page)
    expect(rows(page)).to_have_count(2)
    expect(page.locator("#rmq-said")).to_have_text("2 unresolved, 0 of them dead")

    # Rows that came with a refresh are known to the admin's own script.
    page.locator("#action-toggle").click()
    expect(page.locator("#result_list tr.selected")).to_have_count(2)
    expect(page.locator(".action-counter")).to_have_text(re.compile("2 of 2 selected"))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.clock.fast_forward(20_000)
    assert not asked, "it refreshes under ticked rows"
    page.locator("#action-toggle").click()
    expect(page.locator("#result_list tr.selected")).to_have_count(0)

    # An attentive reader: paused, and on again.
    page.get_by_role("button", name="Pause refreshing").click()
    page.clock.fast_forward(20_000)
    assert not asked
    failure(message_id="third")
    page.get_by_role("button", name="Resume refreshing").click()
    refreshed(page)
    expect(rows(page)).to_have_count(3)
    page.get_by_role("link", name="third").wait_for()


def test_it_says_when_it_cannot_refresh(look: Look) -> None:
    failure()
    window = look()
    window.page.clock.install()
    page = window.open(url("changelist"))
    page.route("**/live/**", lambda route: route.abort())
    page.clock.fast_forward(6000)
    expect(page.locator("#rmq-note")).to_contain_text("tried again")
    page.unroute("**/live/**")
    refreshed(page)
    expect(page.locator("#rmq-note")).to_have_text("")
    window.context.clear_cookies()
    refreshed(page)
    expect(page.locator("#rmq-note")).to_contain_text("Not refreshed any more")
    expect(page.get_by_role("button", name="Pause refreshing")).to_have_count(0)
    # What the browser itself says of the address that we made fail.
    assert all("ERR_FAILED" in complaint for complaint in window.complaints)
    window.complaints.clear()


def test_the_command_is_copied(look: Look) -> None:
    row = failure(message_id="m-1")
    window = look(permissions=["clipboard-read", "clipboard-write"])
    page = window.open(url("change", row.pk))
    page.get_by_role("button", name="Copy").click()
    page.get_by_role("button", name="Copied").wait_for()
    text = page.evaluate("navigator.clipboard.readText()")
    assert text == "python manage.py rmq_retry m-1"
