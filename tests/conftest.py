"""The order of the tests."""

from __future__ import annotations

from pathlib import Path

import pytest

_PAGE = Path(__file__).parent / "page"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of the page last: Playwright's synchronous interface keeps an event loop running in this
    thread until the session ends, and asynchronous tests could not start their own beside it."""
    items.sort(key=lambda item: _PAGE in item.path.parents)
