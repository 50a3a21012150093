"""The browser for the tests that need one, and the order of all."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["tests.browser"]

_BROWSER = [Path(__file__).parent / folder for folder in ("page", "container")]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests with a browser last: Playwright's synchronous interface keeps an event loop running in this
    thread until the session ends, and asynchronous tests could not start their own beside it."""
    items.sort(key=lambda item: any(folder in item.path.parents for folder in _BROWSER))
