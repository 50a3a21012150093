"""Chainlit's data layer over our storage."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextvars import ContextVar
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from chainlit.context import context, context_var
from chainlit.data.base import BaseDataLayer
from chainlit.data.utils import queue_until_user_message
from chainlit.element import Element, ElementDict
from chainlit.step import StepDict
from chainlit.types import Feedback, PageInfo, PaginatedResponse, Pagination, ThreadDict, ThreadFilter
from chainlit.user import PersistedUser, User
from fastapi import HTTPException

from app.page.steps import in_turns
from app.page.stored import conversation_dict, element_dict, element_of, step_of, thread_dict
from app.storage.problems import DatabaseAway
from app.storage.records import Visitor
from app.storage.threads import Threads
from app.storage.unsaved import Fate, Unsaved
from app.storage.visitors import Visitors
from app.storage.writes import (
    DeleteStep,
    SaveElement,
    SavePreferences,
    SaveStep,
    SaveStepMetadata,
    SaveThread,
    Write,
    Writer,
    with_writes,
)
from app.transcript import SETTINGS, TOKENS

log = logging.getLogger(__name__)

# Whether a conversation is looked up only to see whose it is, as Chainlit does for each connection of a page. It asks
# for the whole of it then, and again to open it.
ONLY_OWNER: ContextVar[bool] = ContextVar("only_owner", default=False)

P = ParamSpec("P")
R = TypeVar("R")

# A method of the data layer.
AskedWrite = Callable[Concatenate["ChatDataLayer", P], Coroutine[Any, Any, R]]


def _asked(method: AskedWrite[P, R]) -> AskedWrite[P, R]:
    """A write that somebody has asked for in so many words, and is told of: if it fails, it is logged, counted and
    raised. What a conversation writes by itself goes into the line instead, see `Unsaved`."""

    @wraps(method)
    async def told(self: ChatDataLayer, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            result = await method(self, *args, **kwargs)
        except DatabaseAway as problem:
            self.failed_requests += 1
            log.error("CHAT not kept, %s failed: %s", method.__name__, problem)
            raise
        except Exception:
            self.failed_requests += 1
            log.exception("CHAT not kept, %s failed", method.__name__)
            raise
        self.unsaved.hurry()
        return result

    return told


class ChatDataLayer(BaseDataLayer):
    """What Chainlit asks of a data layer, and what our page asks besides.

    What is said in a conversation is put into a line of writes, in its order; a method that does that ends when it is
    stored, or is known to wait or to be lost. What is read has the waiting writes in it.

    Args:
        threads, visitors: the database's.
        unsaved: the line in front of them.
        login: visitors are made by signing in only: a token of somebody who was removed makes nobody anew.

    Attributes:
        unsaved: the same.
        failed_requests: how many writes have failed that somebody asked for and was told of.
        on_deleted: see `PageStore`.
    """

    def __init__(
        self, threads: Threads, visitors: Visitors, unsaved: Unsaved | None = None, *, login: bool = False
    ) -> None:
        self._threads = threads
        self._visitors = visitors
        self._login = login
        self.unsaved = unsaved or Unsaved(threads, visitors)
        self.failed_requests = 0
        self.on_deleted: Callable[[str], None] = lambda _: None

    @property
    def failed_writes(self) -> int:
        """How many writes were not kept since the start. What comes too late for a conversation that its visitor has
        deleted is none of them."""
        return self.unsaved.lost + self.failed_requests

    @property
    def data_layer(self) -> ChatDataLayer:
        """For Chainlit, which is given none where nothing is kept."""
        return self

    async def get_user(self, identifier: str) -> PersistedUser | None:
        visitor = await self._visitors.get(identifier)
        return _user(visitor) if visitor else None

    async def create_user(self, user: User) -> PersistedUser | None:
        """Where that fails nothing is lost: a visitor is made with what is said first, too."""
        if self._login:
            return await self.get_user(user.identifier)
        return _user(await self._visitors.add(user.identifier, user.metadata))

    async def load_preferences(self, identifier: str) -> dict[str, Any]:
        """What the visitor has set; empty if nothing, or if it cannot be read: the chat goes on."""
        for write in self.unsaved.of("", identifier):
            if isinstance(write, SavePreferences):
                return dict(write.preferences)
        try:
            return await self._visitors.preferences(identifier)
        except DatabaseAway as problem:
            log.error("CHAT the visitor's settings cannot be read: %s", problem)
            return {}

    async def save_preferences(self, identifier: str, preferences: Mapping[str, Any]) -> None:
        """Keep what the visitor has set."""
        await self.unsaved.add(SavePreferences(identifier, dict(preferences)), Writer(identifier))

    async def step_author(self, step_id: str) -> str:
        """The identifier of the visitor who has that step; empty if there is none."""
        return await self._threads.step_author(step_id)

    async def feedback_author(self, feedback_id: str) -> str:
        """The identifier of the visitor who has the step with that feedback; empty if there is none."""
        return await self._threads.thumb_author(feedback_id)

    @_asked
    async def upsert_feedback(self, feedback: Feedback) -> str:
        return await self._threads.save_thumb(feedback.forId, feedback.value, feedback.comment)

    @_asked
    async def delete_feedback(self, feedback_id: str) -> bool:
        return await self._threads.delete_thumb(feedback_id)

    @queue_until_user_message()
    async def create_element(self, element: Element) -> None:
        await self._add(SaveElement(element_of(element.to_dict())))

    async def get_element(self, thread_id: str, element_id: str) -> ElementDict | None:
        element = await self._threads.element(thread_id, element_id)
        return element_dict(element) if element else None

    @queue_until_user_message()
    @_asked
    async def delete_element(self, element_id: str, thread_id: str | None = None) -> None:
        await self._threads.delete_element(thread_id or context.session.thread_id, element_id, await self._user_id())

    @queue_until_user_message()
    async def create_step(self, step_dict: StepDict) -> None:
        await self._add(SaveStep(step_of(step_dict)))

    @queue_until_user_message()
    async def update_step(self, step_dict: StepDict) -> None:
        await self._add(SaveStep(step_of(step_dict)))

    @queue_until_user_message()
    async def delete_step(self, step_id: str) -> None:
        await self._add(DeleteStep(context.session.thread_id, step_id))

    def keep(self, step_dict: StepDict, element: Element | None = None) -> Awaitable[object]:
        """Store a step and its element. They are in the line when this returns; who awaits the result waits until they
        are stored, or known to wait or to be lost."""
        return self._add(SaveStep(step_of(step_dict), element_of(element.to_dict()) if element is not None else None))

    def forget_steps(self, step_ids: Iterable[str]) -> None:
        """Delete steps, without waiting until it is done."""
        for step_id in step_ids:
            self._add(DeleteStep(context.session.thread_id, step_id))

    def save_tokens(self, step_id: str, tokens: Mapping[str, int]) -> None:
        """Keep a message's size with it, by model, without waiting until it is done."""
        self._add(SaveStepMetadata(context.session.thread_id, step_id, {TOKENS: dict(tokens)}))

    def save_settings(self, thread_id: str, settings: Mapping[str, Any]) -> None:
        """Keep what a conversation is asked with (model, sampling, system prompt), without waiting until it is done."""
        self._add(SaveThread(thread_id, True, metadata={SETTINGS: dict(settings)}))

    async def get_thread_author(self, thread_id: str) -> str:
        writer = self.unsaved.writer_of(thread_id)
        try:
            author = await self._threads.author(thread_id)
        except DatabaseAway:
            if writer is None or not self.unsaved.has_all_of(thread_id, writer.identifier):
                raise
            author = ""
        return author or (writer.identifier if writer else "")

    @_asked
    async def delete_thread(self, thread_id: str) -> None:
        await self._threads.delete(thread_id)
        self.unsaved.forget(thread_id)
        self.on_deleted(thread_id)

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
        """A conversation, with what is still to be written of it; its owner alone where no more is asked, see
        ONLY_OWNER.

        Raises:
            DatabaseAway: it cannot be read, and not all of it is in memory.
        """
        if ONLY_OWNER.get():
            owner = await self.get_thread_author(thread_id)
            return cast(ThreadDict, {"id": thread_id, "userIdentifier": owner}) if owner else None
        # What waits comes first: what is made meanwhile is then in both, which does no harm, instead of in neither.
        waits = self.unsaved.copy_of(thread_id)
        writer = self.unsaved.writer_of(thread_id)
        try:
            conversation = await self._threads.get(thread_id)
        except DatabaseAway:
            if writer is None or not self.unsaved.has_all_of(thread_id, writer.identifier):
                raise
            conversation = None
        if conversation is not None:
            writer = Writer(conversation.thread.visitor, conversation.thread.user_id)
        if writer is not None:
            conversation = with_writes(conversation, waits.get(writer.identifier, []), writer)
        return _in_turns(conversation_dict(conversation)) if conversation else None

    async def update_thread(
        self,
        thread_id: str,
        name: str | None = None,
        user_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        tags: list[str] | None = None,
    ) -> None:
        if context_var.get(None) is None:  # a request
            await self._change_thread(thread_id, name, user_id, metadata, tags)
            return
        # A page that begins, whose visitor has no id if the database was away when it was opened; or one that ends. It
        # has named its thread itself, and that may have become another visitor's since.
        begins = user_id is not None or name is not None
        if metadata is not None:
            # Chainlit gives back what it read when the page was opened; ours may be newer.
            metadata = {key: value for key, value in metadata.items() if key != SETTINGS}
        await self._add(SaveThread(thread_id, begins, name, metadata, tags))

    @_asked
    async def _change_thread(
        self,
        thread_id: str,
        name: str | None,
        user_id: str | None,
        metadata: dict[str, Any] | None,
        tags: list[str] | None,
    ) -> None:
        await self._threads.save(thread_id, user_id, make=user_id is not None, name=name, metadata=metadata, tags=tags)

    async def get_favorite_steps(self, user_id: str) -> list[StepDict]:
        """None: favourites are off in .chainlit/config.toml."""
        return []

    async def build_debug_url(self) -> str:
        return ""

    async def close(self) -> None:
        """Nothing of its own: whoever opened the database closes it."""

    def _add(self, write: Write) -> asyncio.Future[Fate]:
        """Into the line, for the visitor whose page it is."""
        user = context.session.user
        if user is None:
            return self.unsaved.refuse(write, Writer(""), "a conversation without a visitor is not kept")
        user_id = str(user.id) if isinstance(user, PersistedUser) else None
        return self.unsaved.add(write, Writer(str(user.identifier), user_id))

    async def _user_id(self) -> str:
        """Of the visitor whose page it is."""
        user = context.session.user
        if user is not None and not isinstance(user, PersistedUser):
            # The database was away when the page was opened, or Chainlit would have found the visitor in it.
            user = context.session.user = await self.get_user(user.identifier) or user
        if not isinstance(user, PersistedUser):
            raise PermissionError("a conversation without a visitor is not kept")
        return str(user.id)


def _in_turns(thread: ThreadDict) -> ThreadDict:
    thread["steps"] = in_turns(thread["steps"])
    return thread


def _user(visitor: Visitor) -> PersistedUser:
    # What a visitor has set is ours; Chainlit would send it to the browser with each page.
    return PersistedUser(
        id=visitor.id, identifier=visitor.identifier, createdAt=visitor.created_at, metadata={}, display_name=None
    )
