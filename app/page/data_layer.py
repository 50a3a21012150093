"""Chainlit's data layer over our storage."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

from chainlit.context import context
from chainlit.data.base import BaseDataLayer
from chainlit.data.utils import queue_until_user_message
from chainlit.element import Element, ElementDict
from chainlit.step import StepDict
from chainlit.types import Feedback, PageInfo, PaginatedResponse, Pagination, ThreadDict, ThreadFilter
from chainlit.user import PersistedUser, User

from app.page.steps import TOKENS
from app.storage.threads import Threads
from app.storage.visitors import Visitor, Visitors

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


def _write(method: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """A write that fails is counted and told before its error goes on: Chainlit calls writes as tasks of their own."""

    @wraps(method)
    async def told(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await method(*args, **kwargs)
        except Exception as problem:
            layer = cast("ChatDataLayer", args[0])
            layer.failed_writes += 1
            log.error("CHAT not kept, %s failed: %s", method.__name__, problem)
            await layer.on_write_failed()
            raise

    return told


async def _nothing() -> None:
    return None


class ChatDataLayer(BaseDataLayer):
    """What Chainlit asks of a data layer, and what our page asks besides.

    Attributes:
        failed_writes: how many writes have failed since the start.
        on_write_failed: awaited after each of them, in the context of the page that wrote.
    """

    def __init__(self, threads: Threads, visitors: Visitors) -> None:
        self._threads = threads
        self._visitors = visitors
        self.failed_writes = 0
        self.on_write_failed: Callable[[], Awaitable[None]] = _nothing

    async def get_user(self, identifier: str) -> PersistedUser | None:
        visitor = await self._visitors.get(identifier)
        return _user(visitor) if visitor else None

    @_write
    async def create_user(self, user: User) -> PersistedUser | None:
        return _user(await self._visitors.add(user.identifier, user.metadata))

    async def load_preferences(self, identifier: str) -> dict[str, Any]:
        """What the visitor has set; empty if nothing."""
        return await self._visitors.preferences(identifier)

    @_write
    async def save_preferences(self, identifier: str, preferences: Mapping[str, Any]) -> None:
        """Keep what the visitor has set."""
        await self._visitors.save_preferences(identifier, preferences)

    @_write
    async def upsert_feedback(self, feedback: Feedback) -> str:
        return await self._threads.save_feedback(feedback.forId, feedback.value, feedback.comment, feedback.id)

    @_write
    async def delete_feedback(self, feedback_id: str) -> bool:
        return await self._threads.delete_feedback(feedback_id)

    @queue_until_user_message()
    @_write
    async def create_element(self, element: Element) -> None:
        await self._threads.save_element(element.to_dict(), _user_id())

    async def get_element(self, thread_id: str, element_id: str) -> ElementDict | None:
        return cast("ElementDict | None", await self._threads.element(thread_id, element_id))

    @queue_until_user_message()
    @_write
    async def delete_element(self, element_id: str, thread_id: str | None = None) -> None:
        await self._threads.delete_element(thread_id or context.session.thread_id, element_id)

    @queue_until_user_message()
    @_write
    async def create_step(self, step_dict: StepDict) -> None:
        await self._threads.save_step(step_dict, _user_id())

    @queue_until_user_message()
    @_write
    async def update_step(self, step_dict: StepDict) -> None:
        await self._threads.save_step(step_dict, _user_id())

    @_write
    async def save_tokens(self, step_id: str, tokens: Mapping[str, int]) -> None:
        """Keep a message's size with it, by model."""
        await self._threads.save_step_metadata(step_id, {TOKENS: dict(tokens)})

    @queue_until_user_message()
    @_write
    async def delete_step(self, step_id: str) -> None:
        await self._threads.delete_step(step_id)

    async def get_thread_author(self, thread_id: str) -> str:
        return await self._threads.author(thread_id)

    @_write
    async def delete_thread(self, thread_id: str) -> None:
        await self._threads.delete(thread_id)

    async def list_threads(self, pagination: Pagination, filters: ThreadFilter) -> PaginatedResponse[ThreadDict]:
        if not filters.userId:
            raise ValueError("threads are listed for one visitor")
        page = await self._threads.list(
            filters.userId, first=pagination.first, cursor=pagination.cursor, search=filters.search
        )
        info = PageInfo(
            hasNextPage=page.next_cursor is not None, startCursor=pagination.cursor, endCursor=page.next_cursor
        )
        return PaginatedResponse(pageInfo=info, data=[cast(ThreadDict, thread) for thread in page.threads])

    async def get_thread(self, thread_id: str) -> ThreadDict | None:
        return cast("ThreadDict | None", await self._threads.get(thread_id))

    @_write
    async def update_thread(
        self,
        thread_id: str,
        name: str | None = None,
        user_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        tags: list[str] | None = None,
    ) -> None:
        await self._threads.save(thread_id, user_id, name=name, metadata=metadata, tags=tags)

    async def get_favorite_steps(self, user_id: str) -> list[StepDict]:
        """None: favourites are off in .chainlit/config.toml."""
        return []

    async def build_debug_url(self) -> str:
        return ""

    async def close(self) -> None:
        """Nothing of its own: whoever opened the database closes it."""


def _user_id() -> str | None:
    user = context.session.user
    return user.id if isinstance(user, PersistedUser) else None


def _user(visitor: Visitor) -> PersistedUser:
    # What a visitor has set is ours; Chainlit would send it to the browser with each page.
    return PersistedUser(
        id=visitor.id, identifier=visitor.identifier, createdAt=visitor.created_at, metadata={}, display_name=None
    )
