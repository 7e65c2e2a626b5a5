"""Two ways to work with a page: by mouse, and by the keyboard alone."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Locator, Page

STOPS_MAX = 400  # of Tab: more than any page has

# How elements look, as far as the focus may change it; and what of that the one in focus shows.
LOOKS = """
window.looksOf = (element) => {
    const style = getComputedStyle(element);
    const outline = style.outlineStyle === "none" ? "none" : style.outlineStyle + style.outlineWidth;
    return [outline, style.boxShadow, style.borderColor, style.backgroundColor, style.color,
            style.textDecorationLine].join("|");
};
window.unfocused = new WeakMap();
const focusable = "a, button, input, select, textarea, summary, [tabindex]";
document.querySelectorAll(focusable).forEach((each) => {
    if (each !== document.activeElement) {
        window.unfocused.set(each, looksOf(each));
    }
});
"""
STOP = """
(wanted) => {
    const element = document.activeElement;
    const box = element.getBoundingClientRect();
    const seen = box.width > 1 && box.height > 1 && looksOf(element) !== unfocused.get(element);
    const unseen = seen || element === document.body ? "" : element.outerHTML.slice(0, 200);
    return [element === wanted, unseen, wanted.isConnected];
}
"""


class Mouse:
    """Clicks."""

    def __init__(self, page: Page) -> None:
        self._page = page

    def press(self, what: Locator) -> None:
        """A link or a button."""
        what.click()

    def tick(self, what: Locator) -> None:
        what.check()

    def write(self, what: Locator, text: str) -> None:
        what.fill(text)

    def choose(self, what: Locator, label: str) -> None:
        """Out of a list of options."""
        what.select_option(label=label)


class Keyboard:
    """Tab, Enter, Space and letters; wherever the focus comes to, it must be seen."""

    def __init__(self, page: Page) -> None:
        self._keys = page.keyboard
        self._page = page

    def reach(self, what: Locator) -> None:
        """Go on with Tab until it has the focus."""
        what.wait_for()
        self._page.evaluate(LOOKS)
        wanted = what.element_handle()  # looked for once: that takes longer than all the rest
        for _ in range(STOPS_MAX):
            self._keys.press("Tab")
            there, unseen, still_there = self._page.evaluate(STOP, wanted)
            if not still_there:  # the page has exchanged it meanwhile
                wanted = what.element_handle()
                there, unseen, _ = self._page.evaluate(STOP, wanted)
            assert not unseen, f"the focus cannot be seen on {unseen}"
            if there:
                return
        raise AssertionError(f"no way to {what} by Tab")

    def press(self, what: Locator) -> None:
        self.reach(what)
        self._keys.press("Enter")

    def tick(self, what: Locator) -> None:
        self.reach(what)
        self._keys.press("Space")

    def write(self, what: Locator, text: str) -> None:
        self.reach(what)
        self._keys.type(text)

    def choose(self, what: Locator, label: str) -> None:
        self.reach(what)
        self._keys.type(label)


HANDS: dict[str, Any] = {"mouse": Mouse, "keyboard": Keyboard}
