"""axe-core finds no serious fault in the pages: light and dark, wide and on a phone."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.db import connection
from playwright.sync_api import Page

from rmq_publisher.db.clock import DatabaseNow
from rmq_publisher.models import PublishCount, RelaySeen
from rmq_publisher.monitoring import broker_status
from tests.support.admin_rows import PERMISSIONS, client, failure, url

from .conftest import Look, sign_in

pytestmark = pytest.mark.usefixtures("memory")

SERIOUS = ("serious", "critical")
VIEWS = {
    "light": {},
    "dark": {"dark": True},
    "phone": {"phone": True},
    "dark phone": {"phone": True, "dark": True},
}


def faults(page: Page) -> list[str]:
    """What axe-core calls serious or critical, with the elements; rules of best practice as well."""
    found = Axe().run(page).response["violations"]
    return [
        f"{fault['id']} ({fault['impact']}): {node['html'][:200]} {node['failureSummary']}"
        for fault in found
        if fault["impact"] in SERIOUS
        for node in fault["nodes"]
    ]


@pytest.fixture
def outage(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Every state and every sign of trouble at once."""
    queues = (
        broker_status.QueueDepth("orders", 3, 1),
        broker_status.QueueDepth("gone", error="404 NOT_FOUND"),
    )
    found = [
        broker_status.BrokerStatus(
            "default", "up", "h:5672", "/", "RabbitMQ 4.0.5", 12.4, queues=queues
        ),
        broker_status.BrokerStatus("audit", "down", "h:1", "/", error="connection refused"),
        broker_status.BrokerStatus("slow", "blocked", "h:2", "/", error="low on memory"),
        broker_status.BrokerStatus("new"),
    ]
    monkeypatch.setattr(broker_status, "statuses", lambda: found)
    RelaySeen.objects.create(name="r", started_at=DatabaseNow(-900), seen_at=DatabaseNow(-600))
    PublishCount.objects.create(minute=DatabaseNow(-60), using="default", published=90, failed=12)
    for state in ("dead", "delivered", "discarded"):
        failure(state=state, exchange="shop")
    failure(token=5, available_at=DatabaseNow(3000))
    return failure(message_id="m-1", error=("Rejected", 403, "ACCESS_REFUSED"))


def opened(page: Page) -> Page:
    """With all that can be unfolded."""
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    return page


def test_a_fault_would_be_found(look: Look) -> None:
    page = look().open(url("changelist"))
    page.evaluate("""
        document.getElementById("rmq-pause").textContent = "";
        document.querySelector("#content").append(document.createElement("img"));
    """)
    told = " ".join(faults(page))
    assert "image-alt" in told
    assert "button-name" in told


@pytest.mark.parametrize(
    "view",
    [pytest.param(v, marks=[pytest.mark.thorough] * (v != "dark phone")) for v in VIEWS],
)
def test_with_failures(look: Look, outage: Any, view: str) -> None:
    window = look(**VIEWS[view])
    for address in (
        url("changelist"), f"{url('changelist')}?state=unresolved&q=m", url("change", outage.pk),
        url("retry_all"), url("history", outage.pk),
    ):  # fmt: skip
        assert faults(opened(window.open(address))) == [], address
    window.open(url("changelist"))
    window.page.locator("#action-toggle").check()
    assert faults(window.page) == [], "rows selected"


@pytest.mark.parametrize("view", ["light", "dark phone"])
def test_empty_and_told(look: Look, view: str) -> None:
    window = look(**VIEWS[view])
    assert faults(window.open(url("changelist"))) == []
    assert faults(window.open(url("retry_all"))) == []
    row = failure()
    window.open(url("change", row.pk))
    window.page.get_by_role("button", name="Discard").click()
    assert faults(window.page) == [], "asked before discarding"
    window.open(url("change", row.pk))
    window.page.get_by_role("button", name="Retry now").click()
    window.page.locator(".messagelist").wait_for()
    assert faults(window.page) == [], "what became of it, buttons off"


@pytest.mark.parametrize("view", ["light", "dark"])
def test_without_the_permission_for_payloads(look: Look, site: str, view: str) -> None:
    row = failure()
    window = look(signed_in=False, **VIEWS[view])
    sign_in(window.context, site, client(*(set(PERMISSIONS) - {"view_payload"})))
    assert faults(window.open(url("change", row.pk))) == []


@pytest.mark.parametrize("view", ["light", "dark phone"])
def test_a_database_without_the_table(look: Look, view: str) -> None:
    window = look(**VIEWS[view])
    rename = "ALTER TABLE {} RENAME TO {}"
    names = ("rmq_publisher_relayseen", "away")
    with connection.cursor() as cursor:
        cursor.execute(rename.format(*names))
    try:
        window.open(url("changelist"))
        window.page.locator(".rmq-command").wait_for()
        assert faults(window.page) == []
    finally:
        with connection.cursor() as cursor:
            cursor.execute(rename.format(*reversed(names)))
    # The browser tells of the answer's status.
    assert all("503" in complaint for complaint in window.complaints)
    window.complaints.clear()
