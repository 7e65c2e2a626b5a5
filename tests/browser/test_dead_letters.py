"""The pages of dead letters and of the inbox in a browser: the policy, a phone, dark, hostile rows."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect

from rmq_publisher.models import DeadLetter
from tests.support.admin_rows import client
from tests.support.dead_letter_rows import (
    PERMISSIONS,
    dead_letter,
    handled,
    inbox_url,
    letters_url,
)

from .chromium import Window
from .conftest import Look, sign_in

pytestmark = pytest.mark.usefixtures("memory")

WIDTHS = "[document.documentElement.scrollWidth, window.innerWidth]"


@pytest.fixture
def window(look: Look, site: str) -> Any:
    def opened(**options: Any) -> Window:
        found = look(signed_in=False, **options)
        sign_in(found.context, site, client(*PERMISSIONS, "view_inboxmessage"))
        return found

    return opened


def long_names() -> DeadLetter:
    """What is most likely to be wider than a phone, and hostile."""
    death = {
        "queue": "q" * 200, "reason": "r" * 50, "exchange": "e" * 200, "routing_keys": ["k" * 200] * 3,
        "count": 9, "time": "2026-01-02T03:04:05+00:00",
    }  # fmt: skip
    return dead_letter(
        message_id="<img src=x onerror=alert(1)>" + "m" * 200, queue="orders." * 30,
        dead_letter_queue="d" * 200, error="failed: " + "E" * 190, handler="h" * 100,
        reason="failed", exchange="e" * 200, routing_key="order." * 40, body=b"x" * 3000,
        deaths=[death, death],
    )  # fmt: skip


@pytest.mark.parametrize("dark", [pytest.param(False, marks=pytest.mark.thorough), True])
def test_a_phone_never_scrolls_sideways(window: Any, dark: bool) -> None:
    phone = window(phone=True, dark=dark)
    page = phone.open(letters_url("changelist"))
    assert page.evaluate(WIDTHS) == [375, 375], "empty"
    row = long_names()
    handled("m" * 200, "h" * 100)
    for address in (
        letters_url("changelist"),
        letters_url("change", row.pk),
        inbox_url("changelist"),
    ):
        page.goto(phone.address(address))
        assert page.evaluate(WIDTHS) == [375, 375], address
        page.wait_for_load_state("networkidle")
    page.goto(phone.address(letters_url("changelist")))
    for column in ("message", "state_shown", "failed_shown", "error_shown", "destination_shown"):
        box = page.locator(f"#result_list .field-{column}").bounding_box()
        assert box["x"] >= 0, column
        assert box["x"] + box["width"] <= 375, column


def test_a_letter_goes_back_by_a_click(window: Any) -> None:
    row = dead_letter()
    screen = window()
    page = screen.open(letters_url("change", row.pk))
    page.get_by_role("button", name="Send back").click()
    expect(page.locator(".messagelist")).to_contain_text("Sent back 1.")
    expect(page.get_by_role("button", name="Send back")).to_have_count(0)
    assert DeadLetter.objects.get(pk=row.pk).state == "sent_back"
