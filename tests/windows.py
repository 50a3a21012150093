"""The windows over the page for a visitor's data, devices and account, in the words of a visitor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from playwright.sync_api import Locator, Page, expect

# Language of the browser: what the window is called.
MY_DATA: Final = {"en-US": "My data", "ru-RU": "Мои данные"}

# A field scrolls what is in it; a node without a width of its own has none to be larger than.
_FITS: Final = """() => [document.documentElement, ...document.querySelectorAll('.box, .box *')].every((node) => {
    const { left, right } = node.getBoundingClientRect();
    const whole = node.matches('input') || !node.clientWidth || node.scrollWidth <= node.clientWidth;
    return whole && left >= 0 && right <= window.innerWidth;
})"""


@dataclass
class MyData:
    """The window "My data", open."""

    page: Page
    window: Locator

    def section(self, title: str) -> Locator:
        return self.window.get_by_role("region", name=title)

    def press(self, label: str) -> None:
        self.window.get_by_role("button", name=label, exact=True).click()

    def says(self, text: str) -> None:
        expect(self.window.get_by_role("status").filter(has_text=text)).to_be_visible()

    def close(self) -> None:
        self.window.get_by_role("button", name="Close").click()
        expect(self.window).to_have_count(0)


def my_data(page: Page, locale: str = "en-US") -> MyData:
    """Open it, as far as the server has answered."""
    page.get_by_role("button", name=MY_DATA[locale]).click()
    window = page.get_by_role("dialog", name=MY_DATA[locale])
    expect(window.locator(".box-section").first).to_be_visible()
    return MyData(page, window)


def question(page: Page, title: str) -> Locator:
    """The window with a question, once it is there; `title`: what it begins with or has in it."""
    window = page.get_by_role("dialog").filter(has=page.get_by_role("heading", name=title))
    expect(window).to_be_visible()
    return window


def answer(page: Page, title: str, label: str) -> None:
    question(page, title).get_by_role("button", name=label, exact=True).click()


def fits(page: Page) -> bool:
    """Whether nothing on the page or in its windows is cut off at the side or stands outside of the screen."""
    return bool(page.evaluate(_FITS))
