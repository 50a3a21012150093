"""HISTORY=off: where a page's conversation would be kept, there is nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from chainlit.element import Element
from chainlit.step import StepDict


class ForgetfulStore:
    """In place of `ChatDataLayer`: Chainlit gets no data layer, so it shows no list and writes nothing either."""

    data_layer = None
    unsaved = None
    failed_writes = 0

    def __init__(self) -> None:
        self.on_deleted: Callable[[str], None] = lambda _: None

    def keep(self, step_dict: StepDict, element: Element | None = None) -> Awaitable[object]:
        return asyncio.sleep(0)

    def forget_steps(self, step_ids: Iterable[str]) -> None: ...

    def save_tokens(self, step_id: str, tokens: Mapping[str, int]) -> None: ...

    def save_settings(self, thread_id: str, settings: Mapping[str, Any]) -> None: ...

    async def save_preferences(self, identifier: str, preferences: Mapping[str, Any]) -> None: ...

    async def load_preferences(self, identifier: str) -> dict[str, Any]:
        return {}

    async def step_author(self, step_id: str) -> str:
        return ""

    async def feedback_author(self, feedback_id: str) -> str:
        return ""
