"""Chainlit's data layer over our storage."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from chainlit.context import context, context_var
from chainlit.data.base import BaseDataLayer
from chainlit.data.utils import queue_until_user_message
from chainlit.element import Element, ElementDict
from chainlit.step import StepDict
from chainlit.types import Feedback, PageInfo, PaginatedResponse, Pagination, ThreadDict, ThreadFilter
from chainlit.user import PersistedUser, User
from fastapi import HTTPException

from app.page.stored import conversation_dict, element_dict, element_of, step_of, thread_dict
from app.storage.problems import DatabaseAway
from app.storage.records import ThreadDeleted, Visitor
from app.storage.threads import Threads
from app.storage.visitors import Visitors
from app.transcript import TOKENS

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

# A method of the data layer, without and with what happens when it fails.
Write = Callable[Concatenate["ChatDataLayer", P], Awaitable[R]]
ToldWrite = Callable[Concatenate["ChatDataLayer", P], Coroutine[Any, Any, R | None]]


def _write(*, reported: bool) -> Callable[[Write[P, R]], ToldWrite[P, R]]:
    """A write that fails is logged, counted and told.

    Args:
        reported: the error then goes on, to somebody who can tell what was asked for and not done. The others are
            writes of the conversation, most of them tasks that Chainlit starts and forgets: the chat goes on.
    """

    def decorator(method: Write[P, R]) -> ToldWrite[P, R]:
        @wraps(method)
        async def told(self: ChatDataLayer, /, *args: P.args, **kwargs: P.kwargs) -> R | None:
            try:
                return await method(self, *args, **kwargs)
            except ThreadDeleted:
                log.info("CHAT not kept by %s, its conversation was deleted", method.__name__)
            except Exception as problem:
                self.failed_writes += 1
                if isinstance(problem, DatabaseAway):
                    log.error("CHAT not kept, %s failed: %s", method.__name__, problem)
                else:
                    log.exception("CHAT not kept, %s failed", method.__name__)
                await self.on_write_failed()
                if reported:
                    raise
            return None

        return told

    return decorator


async def _nothing() -> None:
    return None


class ChatDataLayer(BaseDataLayer):
    """What Chainlit asks of a data layer, and what our page asks besides.

    Args:
        threads: the conversations.
        visitors: who has them.
        login: visitors are made by signing in only: a token of somebody who was removed makes nobody anew.

    Attributes:
        failed_writes: how many writes have failed since the start.
        on_write_failed: awaited after each of them, in the context of the page or the request that wrote. What comes
            too late for a conversation that its visitor has deleted is no failure.
    """

    def __init__(self, threads: Threads, visitors: Visitors, *, login: bool = False) -> None:
        self._threads = threads
        self._visitors = visitors
        self._login = login
        self.failed_writes = 0
        self.on_write_failed: Callable[[], Awaitable[None]] = _nothing

    async def get_user(self, identifier: str) -> PersistedUser | None:
        visitor = await self._visitors.get(identifier)
        return _user(visitor) if visitor else None

    @_write(reported=True)
    async def create_user(self, user: User) -> PersistedUser | None:
        if self._login:
            return await self.get_user(user.identifier)
        return _user(await self._visitors.add(user.identifier, user.metadata))

    async def load_preferences(self, identifier: str) -> dict[str, Any]:
        """What the visitor has set; empty if nothing, or if it cannot be read: the chat goes on."""
        try:
            return await self._visitors.preferences(identifier)
        except DatabaseAway as problem:
            log.error("CHAT the visitor's settings cannot be read: %s", problem)
            return {}

    @_write(reported=False)
    async def save_preferences(self, identifier: str, preferences: Mapping[str, Any]) -> None:
        """Keep what the visitor has set."""
        await self._visitors.save_preferences(identifier, preferences)

    async def step_author(self, step_id: str) -> str:
        """The identifier of the visitor who has that step; empty if there is none."""
        return await self._threads.step_author(step_id)

    async def feedback_author(self, feedback_id: str) -> str:
        """The identifier of the visitor who has the step with that feedback; empty if there is none."""
        return await self._threads.thumb_author(feedback_id)

    @_write(reported=True)
    async def upsert_feedback(self, feedback: Feedback) -> str:
        return await self._threads.save_thumb(feedback.forId, feedback.value, feedback.comment)

    @_write(reported=True)
    async def delete_feedback(self, feedback_id: str) -> bool:
        return await self._threads.delete_thumb(feedback_id)

    @queue_until_user_message()
    @_write(reported=False)
    async def create_element(self, element: Element) -> None:
        await self._threads.save_element(element_of(element.to_dict()), await self._user_id())

    async def get_element(self, thread_id: str, element_id: str) -> ElementDict | None:
        element = await self._threads.element(thread_id, element_id)
        return element_dict(element) if element else None

    @queue_until_user_message()
    @_write(reported=True)
    async def delete_element(self, element_id: str, thread_id: str | None = None) -> None:
        await self._threads.delete_element(thread_id or context.session.thread_id, element_id, await self._user_id())

    @queue_until_user_message()
    @_write(reported=False)
    async def create_step(self, step_dict: StepDict) -> None:
        await self._threads.save_step(step_of(step_dict), await self._user_id())

    @queue_until_user_message()
    @_write(reported=False)
    async def update_step(self, step_dict: StepDict) -> None:
        await self._threads.save_step(step_of(step_dict), await self._user_id())

    @_write(reported=False)
    async def save_tokens(self, step_id: str, tokens: Mapping[str, int]) -> None:
        """Keep a message's size with it, by model."""
        await self._threads.save_step_metadata(step_id, {TOKENS: dict(tokens)}, await self._user_id())

    @queue_until_user_message()
    @_write(reported=False)
    async def delete_step(self, step_id: str) -> None:
        await self._threads.delete_step(step_id, await self._user_id())

    async def get_thread_author(self, thread_id: str) -> str:
        return await self._threads.author(thread_id)

    @_write(reported=True)
    async def delete_thread(self, thread_id: str) -> None:
        await self._threads.delete(thread_id)

    async def list_threads(self, pagination: Pagination, filters: ThreadFilter) -> PaginatedResponse[ThreadDict]:
        if not filters.userId:
            raise ValueError("threads are listed for one visitor")
        try:
            page = await self._threads.list(
                filters.userId,
                first=pagination.first,
                cursor=pagination.cursor,
                search=filters.search,
                thumb=filters.feedback,
            )
        except ValueError as problem:
            raise HTTPException(400, str(problem)) from problem
        info = PageInfo(
            hasNextPage=page.next_cursor is not None, startCursor=pagination.cursor, endCursor=page.next_cursor
        )
        return PaginatedResponse(pageInfo=info, data=[thread_dict(thread) for thread in page.threads])

    async def get_thread(self, thread_id: str) -> ThreadDict | None:
        conversation = await self._threads.get(thread_id)
        return conversation_dict(conversation) if conversation else None

    @_write(reported=True)
    async def update_thread(
        self,
        thread_id: str,
        name: str | None = None,
        user_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        tags: list[str] | None = None,
    ) -> None:
        make = user_id is not None
        page = context_var.get(None)
        if not make and page is not None:
            # A page that ends. It has named its thread itself, and that may have become another visitor's since.
            if not isinstance(page.session.user, PersistedUser):
                return
            user_id = page.session.user.id
        await self._threads.save(thread_id, user_id, make=make, name=name, metadata=metadata, tags=tags)

    async def get_favorite_steps(self, user_id: str) -> list[StepDict]:
        """None: favourites are off in .chainlit/config.toml."""
        return []

    async def build_debug_url(self) -> str:
        return ""

    async def close(self) -> None:
        """Nothing of its own: whoever opened the database closes it."""

    async def _user_id(self) -> str:
        """Of the visitor whose page it is."""
        user = context.session.user
        if user is not None and not isinstance(user, PersistedUser):
            # The database was away when the page was opened, or Chainlit would have found the visitor in it.
            user = context.session.user = await self.get_user(user.identifier) or user
        if not isinstance(user, PersistedUser):
            raise PermissionError("a conversation without a visitor is not kept")
        return str(user.id)


def _user(visitor: Visitor) -> PersistedUser:
    # What a visitor has set is ours; Chainlit would send it to the browser with each page.
    return PersistedUser(
        id=visitor.id, identifier=visitor.identifier, createdAt=visitor.created_at, metadata={}, display_name=None
    )
