"""An outage, as its operator goes through it: from the first failures to "all delivered"."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connections as databases
from playwright.sync_api import Locator, Page, expect

from rmq_publisher import QueueConfig, connections, publish
from rmq_publisher.monitoring import broker_status
from rmq_publisher.outbox import after_commit, retry_policy
from rmq_publisher.outbox.relay import Relay
from tests.support.admin_rows import url
from tests.support.calls import PATIENCE, Call, eventually
from tests.support.rig.amqp import Amqp
from tests.support.rig.node import PrivateNode

from .conftest import Look
from .hands import HANDS, Keyboard

MESSAGES = 6
SELECTED = 2


@pytest.fixture
def queue(settings: Any, monkeypatch: pytest.MonkeyPatch, node: PrivateNode) -> str:
    """A declared queue on a node that may be killed, and an outage that has lasted for some time."""
    name = "orders"
    settings.RMQ_URL = node.url()
    settings.RMQ_QUEUES = [QueueConfig(name)]
    # What failed is not tried again for minutes: the operator is faster than the relay.
    monkeypatch.setattr(retry_policy, "RETRY_FIRST", 3600.0)
    monkeypatch.setattr(broker_status, "EVERY_SECONDS", 0.2)
    return name


@pytest.fixture
def relay(site: str, queue: str) -> Iterator[Relay]:
    running = Relay("default", poll_interval=0.05)
    call = Call(running.run)
    yield running
    running.stop()
    call.value()
    connections.close()
    assert after_commit.flush(PATIENCE)


def placed(queue: str) -> list[str]:
    """Messages of the project's own views, each after its commit; they know of no broker."""

    def place() -> list[str]:
        try:
            body = '{"order": 1}'
            return [
                publish(body, queue=QueueConfig(queue), delivery="on_commit")
                for _ in range(MESSAGES)
            ]
        finally:
            databases.close_all()

    return Call(place).value()  # type: ignore[no-any-return]


def tile(page: Page, label: str) -> Locator:
    """The value of a tile."""
    within = page.locator(".rmq-tile").filter(has=page.get_by_text(label, exact=True))
    return within.locator(".rmq-value")


def listed(page: Page, state: str = "") -> Locator:
    """The rows of the list, or their states."""
    return page.locator(f"#result_list tbody .rmq-state{state and f'.rmq-{state}'}")


def sign_in(page: Page, hands: Any) -> None:
    hands.write(page.get_by_label("Username:"), "operator")
    hands.write(page.get_by_label("Password:"), "secret-of-tests")
    hands.press(page.get_by_role("button", name="Log in"))


@pytest.mark.disturbs
@pytest.mark.parametrize(
    "by", [pytest.param(by, marks=[pytest.mark.thorough] * (by != "mouse")) for by in HANDS]
)
def test_from_outage_to_all_delivered(
    by: str, look: Look, person: User, node: PrivateNode, node_amqp: Amqp, relay: Relay, queue: str
) -> None:
    page = look(signed_in=False, hurried=True).open(url("changelist"))
    hands = HANDS[by](page)
    sign_in(page, hands)
    broker = page.locator(".rmq-broker")
    expect(broker).to_have_text("up")
    expect(page.locator(".rmq-warning")).to_have_count(0)  # a relay is at work
    expect(page.locator(".rmq-empty")).to_contain_text("Nothing has failed yet")

    # The broker goes down; the page says so by itself.
    node.kill()
    ids = placed(queue)
    expect(tile(page, "Unresolved")).to_have_text(str(MESSAGES))
    expect(broker).to_have_text("down")
    expect(listed(page, "failed")).to_have_count(MESSAGES)

    # What is it? Only those that failed because of the broker; one of them, whole.
    for title, choice in (("Error", "RabbitMQ unavailable"), ("State", "failed")):
        menu = page.locator(".rmq-filter").filter(has_text=f"{title}:")
        hands.press(menu.locator("summary"))
        hands.press(menu.get_by_role("link", name=choice, exact=True))
    expect(page).to_have_url(re.compile("state=failed"))
    filtered = page.url
    hands.press(page.get_by_role("link", name=ids[0][:8]))
    expect(page.locator("#rmq-body + p + pre")).to_contain_text('"order": 1')
    expect(page.get_by_role("button", name="Retry now")).to_be_enabled()

    # It is back: the list says so, and some are sent at once, the others by the relay.
    node.restart()
    page.goto(filtered)
    expect(broker).to_have_text("up")
    eventually(lambda: connections["default"].status().state == "open")
    for number in range(SELECTED):
        hands.tick(page.locator(".action-select").nth(number))
    hands.choose(page.get_by_label("Action:"), "Retry selected messages now")
    hands.press(page.get_by_role("button", name=re.compile("^(Go|Run)")))
    expect(page.locator(".messagelist")).to_contain_text(f"Sent {SELECTED}.")
    expect(listed(page)).to_have_count(MESSAGES - SELECTED)
    hands.press(page.get_by_role("link", name="Retry all matching messages"))
    expect(page.locator("#content")).to_contain_text("messages match the filters")
    hands.press(page.get_by_role("button", name=f"Retry {MESSAGES - SELECTED} messages"))
    expect(page.locator(".messagelist")).to_contain_text(f"{MESSAGES - SELECTED} messages are due")

    # All delivered, says the page, again by itself; and so it is.
    expect(tile(page, "Unresolved")).to_have_text("0")
    hands.press(page.locator(".rmq-tile a").first)
    expect(page.locator(".rmq-empty")).to_contain_text("No failure matches")
    hands.press(page.get_by_role("link", name="Clear all filters"))
    hands.press(page.get_by_role("link", name="Show delivered and discarded messages"))
    expect(listed(page, "delivered")).to_have_count(MESSAGES)
    received = [message.properties.message_id for message in node_amqp.drain(queue, MESSAGES)]
    assert sorted(received) == sorted(ids)


def test_the_keyboard_can_skip_what_is_before_the_content(
    look: Look, settings: Any, site: str
) -> None:
    settings.RMQ_URL = "memory://"
    page = look().open(url("changelist"))
    hands = Keyboard(page)
    skip = page.get_by_role("link", name="Skip to main content")
    hands.press(skip)
    assert page.evaluate("document.activeElement.id") == "content-start"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('#content') !== null")


def test_a_focus_that_cannot_be_seen_would_be_noticed(
    look: Look, settings: Any, site: str
) -> None:
    settings.RMQ_URL = "memory://"
    window = look()
    page = window.open(url("changelist"))
    page.evaluate("""
        const sheet = new CSSStyleSheet();
        sheet.replaceSync("* { outline: none !important; transition: none !important }" +
            "a, a:focus { color: inherit !important; text-decoration: none !important }");
        document.adoptedStyleSheets = [sheet];
    """)
    with pytest.raises(AssertionError, match="the focus cannot be seen"):
        Keyboard(page).reach(page.locator("#rmq-pause"))
