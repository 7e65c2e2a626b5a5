"""Finds the browser, and what an operator's page in it has complained of."""

from __future__ import annotations

import os
import shutil
from typing import Any

from playwright.sync_api import BrowserContext, Page, Playwright, expect

# Without a window and what draws it, the same pages take half the processor time.
PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
PHONE = {"width": 375, "height": 812}
SCREEN = {"width": 1280, "height": 900}
PATIENCE_MS = 30_000.0  # generous: it proves "does come", and nothing about speed

expect.set_options(timeout=PATIENCE_MS)

# Whatever the policy forbids is told to the console, together with which rule.
TELL_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) => console.error(
    `violation of ${event.effectiveDirective}: ${event.blockedURI} ${event.sourceFile}`));
"""
# The page's own clock goes so many times faster: it refreshes itself as it does, and nobody waits.
FASTER = 10
HURRY = f"""
const set = window.setTimeout;
window.setTimeout = (action, delay, ...rest) => set(action, delay / {FASTER}, ...rest);
"""


class NoBrowserError(Exception):
    """There is no Chromium; the text says what to install."""


def program() -> str:
    """The path of the browser; `RMQ_TEST_BROWSER` names another one.

    Raises:
        NoBrowserError: there is none. A run without it would not have tested the page.
    """
    names = (os.environ.get("RMQ_TEST_BROWSER") or "", *PROGRAMS)
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    if found is None:
        raise NoBrowserError(
            "The tests of the admin's page need Chromium and found none. Install it (on Debian and "
            "Ubuntu: apt-get install chromium), or name one by RMQ_TEST_BROWSER=/path/to/it."
        )
    return found


def launch(playwright: Playwright) -> Any:
    """Start the browser; root's has no sandbox, which Chromium refuses to root."""
    return playwright.chromium.launch(
        executable_path=program(), chromium_sandbox=os.geteuid() != 0
    )


class Window:
    """A page in a browser of its own, and what went wrong in it."""

    def __init__(self, context: BrowserContext, base: str) -> None:
        self.context = context
        self.complaints: list[str] = []
        self._base = base
        context.set_default_timeout(PATIENCE_MS)
        context.add_init_script(TELL_VIOLATIONS)
        # The browser asks for it by itself, and no page of ours names one.
        context.route("**/favicon.ico", lambda route: route.fulfill(status=204))
        self.page: Page = context.new_page()
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.on("dialog", self._dialog)

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def _dialog(self, dialog: Any) -> None:
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def address(self, path: str) -> str:
        """A whole address of the site."""
        return self._base + path

    def open(self, path: str) -> Page:
        """Go to an address of the site."""
        self.page.goto(self.address(path))
        return self.page

    def unhurt(self) -> None:
        """Nothing was forbidden by the policy, no script failed, none asked anything."""
        assert not self.complaints, self.complaints
