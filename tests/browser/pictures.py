"""Makes the pictures of docs/how-to/admin.md: ``make pictures``. A test only in that pytest runs it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Page

from rmq_publisher.db.clock import DatabaseNow
from rmq_publisher.models import PublishCount, PublishFailure, RelaySeen
from rmq_publisher.monitoring import broker_status
from tests.support.admin_rows import failure, url

from .conftest import Look, sign_in

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
BYTES_MAX = 1_000_000
OUTAGE = range(14, 24)  # minutes ago


@pytest.fixture
def shop(memory: None, monkeypatch: pytest.MonkeyPatch) -> PublishFailure:
    """A shop whose broker was away for ten minutes, and to which one exchange is forbidden."""
    queues = (broker_status.QueueDepth("orders", 3, 4), broker_status.QueueDepth("invoices", 0, 2))
    seen = [
        broker_status.BrokerStatus(
            "default", "up", "rabbit-1:5672", "shop", "RabbitMQ 4.0.5", 8, queues=queues, age=3
        ),
        broker_status.BrokerStatus(
            "audit", "down", "rabbit-2:5672", "audit", error="Connection refused", age=4
        ),
    ]
    monkeypatch.setattr(broker_status, "statuses", lambda: seen)
    RelaySeen.objects.create(
        name="relay-1", started_at=DatabaseNow(-90_000), seen_at=DatabaseNow(-4)
    )
    for minute in range(1, 59):
        away = minute in OUTAGE
        PublishCount.objects.create(
            minute=DatabaseNow(-60 * minute),
            using="default",
            published=8 if away else 180 + minute * 37 % 50 + (240 if minute in (12, 13) else 0),
            failed=190 + minute % 3 * 20 if away else int(minute in (5, 30)),
        )
    for number in range(9):
        failure(
            message_id=f"0197f3c2-8a4e-7c1b-9d5f-{number * 7919 + 40_000_000:012x}",
            exchange="shop", routing_key="orders.placed", ago=14 * 60 + number * 47,
            error=("BrokerUnavailable", None, "no connection: Connection refused"),
            body=b'{"order": %d, "total": "19.90"}' % (7100 + number), available_at=DatabaseNow(170),
            state="delivered" if number > 2 else "failed",
        )  # fmt: skip
    for number in range(2):
        failure(
            message_id=f"0197f3c2-91d0-7a33-8e02-{number * 104729 + 90_000_000:012x}", using="audit",
            exchange="audit", routing_key="payments.refunded", ago=200 + number * 61, attempts=20,
            error=("Rejected", 403, "ACCESS_REFUSED - write access to exchange 'audit' refused"),
            state="dead",
        )  # fmt: skip
    row = failure(
        message_id="0197f3c2-9b7a-7e44-a3c9-5d1f20c4b8aa", exchange="shop", ago=95, attempts=3,
        routing_key="invoices.created", available_at=DatabaseNow(44),
        error=("Unroutable", 312, "NO_ROUTE"),
        body=b'{"invoice": "2026-00815", "customer": {"id": 42, "country": "DE"}, "total": "119.00", '
        b'"lines": [{"sku": "A-1", "count": 2}]}',
        properties={
            "content_type": "application/json", "delivery_mode": 2, "app_id": "shop",
            "headers": {"tenant": "acme", "trace": "4bf92f3577b34da6"},
        },
    )  # fmt: skip
    now = timezone.now()
    row.history = [
        {
            "at": (now - timedelta(seconds=ago)).isoformat(),
            "type": "Unroutable",
            "code": 312,
            "text": "NO_ROUTE",
        }
        for ago in (230, 180, 95)
    ]
    row.save()
    return row


def take(page: Page, name: str, height: int = 0) -> None:
    """Write a picture of the page, from its top to its end or as far as told."""
    page.evaluate("document.activeElement.blur()")
    size = page.viewport_size
    assert size is not None
    whole = page.evaluate("document.documentElement.scrollHeight")
    page.set_viewport_size({"width": size["width"], "height": min(height or whole, whole)})
    IMAGES.mkdir(exist_ok=True)
    page.screenshot(path=IMAGES / f"{name}.png", animations="disabled")
    page.set_viewport_size(size)


def test_pictures(look: Look, site: str, shop: PublishFailure, person: User) -> None:
    browser = Client()
    browser.force_login(person)

    wide = {"width": 1440, "height": 900}

    def picture(address: str, name: str, height: int = 0, **options: Any) -> None:
        window = look(signed_in=False, **options)
        sign_in(window.context, site, browser)
        take(window.open(address), name, height)

    picture(url("changelist"), "admin-list-light", viewport=wide)
    picture(url("changelist"), "admin-list-dark", viewport=wide, dark=True)
    picture(url("changelist"), "admin-list-phone", 1900, phone=True)
    picture(url("change", shop.pk), "admin-detail")
    picture(f"{url('retry_all')}?state=dead", "admin-retry-all", 320)
    together: Any = sum(path.stat().st_size for path in IMAGES.glob("admin-*.png"))
    assert together < BYTES_MAX, "too heavy for a repository"
