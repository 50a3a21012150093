"""What the page needs of the place where conversations and settings are kept."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol

from chainlit.data.base import BaseDataLayer
from chainlit.element import Element
from chainlit.step import StepDict

from app.storage.unsaved import Unsaved


class Store(Protocol):
    """Where the page keeps what it shows; Chainlit's data layer."""

    def keep(self, step_dict: StepDict, element: Element | None = None) -> Awaitable[object]: ...


class PageStore(Store, Protocol):
    """Where a page's conversation and its visitor's settings are kept; Chainlit's data layer, or nowhere."""

    @property
    def data_layer(self) -> BaseDataLayer | None:
        """What Chainlit keeps and finds by itself; None: nothing is kept at all."""

    @property
    def unsaved(self) -> Unsaved | None:
        """The writes that wait, where there are any."""

    on_deleted: Callable[[str], None]
    """Called when a conversation was deleted, with its id."""

    def forget_steps(self, step_ids: Iterable[str]) -> None: ...

    def save_tokens(self, step_id: str, tokens: Mapping[str, int]) -> None: ...

    def save_settings(self, thread_id: str, settings: Mapping[str, Any]) -> None: ...

    async def save_preferences(self, identifier: str, preferences: Mapping[str, Any]) -> None: ...

    async def load_preferences(self, identifier: str) -> dict[str, Any]: ...
