"""The page of tasks in a browser: under a strict policy, on a phone, without scripts."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.support.task_rows import TASKS, task, task_operator, task_url

from .conftest import Look, sign_in
from .test_accessibility import faults, opened
from .test_page import WIDTHS, within
from .test_pending import EACH_VIEW, PHONE, rows

pytestmark = pytest.mark.usefixtures("memory")


@pytest.fixture
def window(look: Look, site: str, settings: Any, request: Any) -> Any:
    """A window of somebody who may do everything on this page."""
    settings.TASKS = TASKS
    found = look(signed_in=False, **request.param)
    sign_in(found.context, site, task_operator())
    return found


@pytest.mark.parametrize("window", EACH_VIEW, indirect=True)
def test_nothing_is_wrong_with_its_looks(window: Any) -> None:
    """No complaint of the policy or of axe, and nothing is wider than the screen."""
    for status in ("READY", "RUNNING", "SUCCESSFUL"):
        task(status)
    row = task("FAILED", task_path="shop.tasks." + "long_name_" * 20, args=f'["{"x" * 500}"]')
    for address in (task_url("changelist"), task_url("change", row.pk)):
        page = window.open(address)
        assert page.evaluate(WIDTHS)[0] == page.evaluate(WIDTHS)[1], address
        assert faults(opened(page)) == [], address


@pytest.mark.parametrize("window", [PHONE], indirect=True)
def test_everything_can_be_done_on_a_phone_without_scripts(window: Any) -> None:
    for number in range(2):
        task("FAILED", task_path=f"shop.failed_{number}", ago=60 + number)
    task("READY", task_path="shop.ready", ago=120)
    page = window.open(task_url("changelist"))
    page.locator(".action-select").first.check()
    page.get_by_label("Action:").select_option("retry_selected")
    page.get_by_role("button", name=re.compile("^(Go|Run)")).tap()
    expect(page.locator(".messagelist")).to_contain_text("To run again: 1.")
    page.get_by_role("link", name="Failed: 1").tap()
    expect(rows(page)).to_have_count(1)
    page.get_by_role("link", name="shop.failed_1").tap()
    for name in ("Run again", "Delete"):
        within(page, page.get_by_role("button", name=name))
    page.get_by_role("button", name="Delete").tap()
    page.get_by_role("button", name="Delete 1 task").tap()
    expect(page.locator(".messagelist")).to_contain_text("Deleted 1.")
