"""A site with the admin on loopback, and windows of a browser that look at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import django
import pytest
from django.conf import settings as current
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import Browser, sync_playwright
from pytest_django.live_server_helper import LiveServer

from rmq_publisher.monitoring import broker_status
from tests.support.admin_rows import PERMISSIONS, client, fresh_broker

from .chromium import HURRY, PHONE, SCREEN, NoBrowserError, Window, launch

Look = Callable[..., Window]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One for a file. Playwright's loop runs in this thread while it lives: so not for longer."""
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        # Nothing here is asynchronous; Django cannot know.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        try:
            browser = launch(playwright)
        except NoBrowserError as error:
            pytest.fail(str(error), pytrace=False)
        yield browser
        browser.close()


def _policy(settings: Any) -> str:
    if django.VERSION >= (6, 0):
        settings.SECURE_CSP = {"default-src": ["'self'"]}
        return "django.middleware.csp.ContentSecurityPolicyMiddleware"
    return "tests.browser.policy.SelfOnly"


@pytest.fixture
def site(chromium: Browser, settings: Any, transactional_db: None) -> Iterator[str]:
    """The address of a server of our own, under a policy that forbids all that is inline."""
    settings.MIDDLEWARE = [_policy(settings), *settings.MIDDLEWARE]
    settings.ALLOWED_HOSTS = ["127.0.0.1"]
    server = LiveServer("127.0.0.1")
    yield server.url
    server.stop()
    broker_status.join(30)


@pytest.fixture
def memory(settings: Any) -> None:
    """No broker: for what a page shows, and not what becomes of a message."""
    settings.RMQ_URL = "memory://"
    fresh_broker()


@pytest.fixture
def look(chromium: Browser, site: str) -> Iterator[Look]:
    """Open windows: signed in, unless told otherwise. Afterwards none may have complained."""
    windows: list[Window] = []

    def looking(
        *,
        signed_in: bool = True,
        phone: bool = False,
        dark: bool = False,
        hurried: bool = False,
        **options: Any,
    ) -> Window:
        size = {"viewport": PHONE, "has_touch": True, "is_mobile": True} if phone else {}
        context = chromium.new_context(
            **{
                "viewport": SCREEN,
                "color_scheme": "dark" if dark else "light",
                "reduced_motion": "reduce",
                **size,
                **options,
            }
        )
        if hurried:
            context.add_init_script(HURRY)
        if signed_in:
            sign_in(context, site, client(*PERMISSIONS))
        windows.append(Window(context, site))
        return windows[-1]

    yield looking
    for window in windows:
        window.context.close()
    for window in windows:
        window.unhurt()


def sign_in(context: Any, site: str, browser: Client) -> None:
    """Give a browser the session of Django's test client."""
    name = current.SESSION_COOKIE_NAME
    context.add_cookies([{"name": name, "value": browser.cookies[name].value, "url": site}])


@pytest.fixture
def person(transactional_db: None) -> User:
    """Somebody who may do everything here, and signs in by the form."""
    return User.objects.create_superuser("operator", password="secret-of-tests")
