"""One visit: a browser's open page with its conversation, preferences and the reply that is being written."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Final

from chainlit.config import config
from chainlit.context import init_ws_context
from chainlit.emitter import BaseChainlitEmitter
from chainlit.message import Message
from chainlit.session import WebsocketSession
from chainlit.step import StepDict
from chainlit.types import ThreadDict

from app.chat import Chat
from app.engines.base import ModelInfo
from app.errors import Language
from app.history import SessionHistory, StoredMessage
from app.page.preferences import Preferences, widgets
from app.page.reply import ReplyView, Store, interrupted
from app.page.steps import ANSWER_TYPE, TurnSteps, answer_step, conversation_of, new_id
from app.page.texts import language_of, text

# Longest wait for a reply to wind up after Stop, in seconds; then the next one may begin all the same.
_STOP_WAIT: Final = 5.0


class PageStore(Store):
    """What a visit needs of Chainlit's data layer."""

    def forget_steps(self, step_ids: Iterable[str]) -> None: ...

    def save_tokens(self, step_id: str, tokens: Mapping[str, int]) -> None: ...

    async def save_preferences(self, identifier: str, preferences: Mapping[str, Any]) -> None: ...


class Visit:
    """What happens on one page.

    Args:
        session: Chainlit's.
        chat: answers.
        store: keeps conversations and preferences.
        preferences: what a new chat starts with.
        store_seconds: while it is written, a reply is stored this often.
    """

    def __init__(
        self,
        session: WebsocketSession,
        chat: Chat,
        store: PageStore,
        preferences: Preferences,
        store_seconds: float = 5.0,
    ) -> None:
        self.session = session
        self.language: Language = language_of(session.language)
        self.preferences = preferences
        self.history = SessionHistory(session.thread_id)
        self._chat = chat
        self._store = store
        self._store_seconds = store_seconds
        self._turns: list[TurnSteps] = []
        self._answering: asyncio.Task[Any] | None = None
        self._told: set[str] = set()
        self._view: ReplyView | None = None
        self._panel: list[Any] | None = None

    @property
    def emitter(self) -> BaseChainlitEmitter:
        """The way to this page, whatever the calling task is about."""
        return init_ws_context(self.session).emitter

    def resume(self, thread: ThreadDict, *, answering: bool) -> None:
        """Take up a stored conversation.

        Args:
            thread: is given what the page shows under a last message without a reply: the server was killed then.
            answering: another page of it waits for that reply.
        """
        self.history, self._turns = conversation_of(thread["id"], thread["steps"])
        if answering or not self._turns or any(step["type"] == ANSWER_TYPE for step in self._last_replies(thread)):
            return
        step, element = interrupted(thread["id"], self._turns[-1].question_id, config.ui.name, self.language)
        self._turns[-1].replies.append(step["id"])
        thread["steps"] = [*thread["steps"], step]
        thread["elements"] = [*(thread["elements"] or []), element.to_dict()]

    def _last_replies(self, thread: ThreadDict) -> list[StepDict]:
        return [step for step in thread["steps"] if step["id"] in self._turns[-1].replies]

    async def move_to(self, session: WebsocketSession) -> list[StepDict]:
        """The page was loaded anew in the middle of a reply: the rest of it goes to the new one.

        Returns:
            The steps of the reply so far, which are not stored yet.
        """
        self.session.emit, self.session = session.emit, session
        await self.emitter.task_start()  # the new page shows Stop
        return self._view.unfinished if self._view is not None else []

    async def show_settings(
        self, models: tuple[ModelInfo, ...], default: ModelInfo | None, *, anew: bool = False
    ) -> None:
        """Send the settings panel, with the models that there are now.

        The page's form forgets what is being typed in it, so what it has already is not sent again.

        Args:
            models: to choose from.
            default: answers who chooses none.
            anew: send it in any case.
        """
        inputs = [widget.to_dict() for widget in widgets(self.preferences, models, default, self.language)]
        if anew or inputs != self._panel:
            self._panel = inputs
            await self.emitter.emit("chat_settings", inputs)

    async def change_settings(self, values: Mapping[str, object]) -> None:
        """Take new settings for the next message; what is not allowed is said and left as it was."""
        self.preferences, problems = self.preferences.changed(values, self.language)
        for problem in problems:
            await self.emitter.send_toast(problem, "warning")
        if self.session.user is not None:
            await self._store.save_preferences(self.session.user.identifier, self.preferences.as_dict())

    async def tell_waiting(self) -> None:
        """Tell the visitor, once, that what is said here is not stored now and will be."""
        if "not_kept" not in self._told:
            self._told.add("not_kept")
            await self.emitter.send_toast(text(self.language, "not_kept"), "warning")

    async def tell_lost(self) -> None:
        """Tell the visitor, once and below what was said, that something of it will never be stored."""
        if "lost" not in self._told:
            self._told.add("lost")
            notice = answer_step(self.session.thread_id, new_id(), config.ui.name)
            notice["output"], notice["isError"] = text(self.language, "lost"), True
            await self.emitter.send_step(notice)

    async def tell_kept(self) -> None:
        """Tell the visitor who was told that something waits that all is stored; what was lost stays said."""
        if "not_kept" in self._told:
            self._told.discard("not_kept")
            if "lost" not in self._told:
                await self.emitter.send_toast(text(self.language, "kept_again"), "success")

    def knows(self, message_id: str) -> bool:
        """Whether the visitor's message of that id stands in this conversation."""
        return any(turn.question_id == message_id for turn in self._turns)

    async def ask(self, message: Message, default: ModelInfo | None) -> None:
        """Answer a message; one with a known id has been edited, and all after it goes."""
        await self._wind_up()
        known = next((i for i, turn in enumerate(self._turns) if turn.question_id == message.id), None)
        if known is not None:
            gone = [step for turn in self._turns[known:] for step in turn.replies]
            gone += [turn.question_id for turn in self._turns[known + 1 :]]
            await self._remove(gone)
            self._store.save_tokens(message.id, {})  # its size was that of the old text
            del self._turns[known:]
        self._turns.append(TurnSteps(message.id))
        await self._answer(StoredMessage(message.id, message.content), default, replaces=[])

    async def retry(self, message_id: str, default: ModelInfo | None) -> None:
        """Answer the last message again. The old reply goes when the new one begins, so nothing is lost before."""
        if self.answering is not None:
            await self.emitter.send_toast(text(self.language, "still_answering"), "info")
            return
        last = self.history.last
        # A message that was refused never came into the history: the last there is the one before it.
        asked = self._turns[-1] if self._turns else None
        if last is None or asked is None or message_id not in asked.replies or last.question.id != asked.question_id:
            await self.emitter.send_toast(text(self.language, "only_last"), "info")
            return
        replaces, self._turns[-1].replies = self._turns[-1].replies, []
        old = last.answer
        question = StoredMessage(last.question.id, last.question.text)
        answered = await self._answer(question, default, replaces=replaces, keeps_old=old is not None)
        if old is not None and not answered:
            self.history.answer(question.id, old)

    async def _answer(
        self, question: StoredMessage, default: ModelInfo | None, replaces: list[str], *, keeps_old: bool = False
    ) -> bool:
        """Show a reply; returns whether anything of it came."""
        self._answering = self.session.current_task = asyncio.current_task()
        emitter = self.emitter
        turn_steps = self._turns[-1]
        options = self.preferences.options(default.id if default else "")
        turn = self._chat.turn(self.history, question, new_id(), options)

        async def first_text() -> None:
            gone, replaces[:] = list(replaces), []
            await self._remove(gone)

        view = self._view = ReplyView(
            emitter,
            self._store,
            turn,
            thread_id=self.session.thread_id,
            author=config.ui.name,
            language=self.language,
            on_first_text=first_text,
            keeps_old=keeps_old,
            store_seconds=self._store_seconds,
        )
        try:
            await view.show()
        finally:
            self._view = None
            turn_steps.replies = replaces + view.step_ids
        for message in turn.counted.values():
            self._store.save_tokens(message.id, message.tokens)
        return turn.answer is not None

    @property
    def answering(self) -> asyncio.Task[Any] | None:
        """The task that writes a reply now."""
        return None if self._answering is None or self._answering.done() else self._answering

    def stop(self) -> None:
        """End the reply that is being written; what has come is kept."""
        if self.answering is not None:
            self.answering.cancel()

    def checkpoint(self) -> None:
        """Store the reply that is being written as far as it has come."""
        if self._view is not None:
            init_ws_context(self.session)
            self._view.checkpoint()

    async def _wind_up(self) -> None:
        """A message that comes while a reply is being written ends that reply first."""
        writing = self.answering
        if writing is not None and writing is not asyncio.current_task():
            writing.cancel()
            await asyncio.wait({writing}, timeout=_STOP_WAIT)

    async def _remove(self, step_ids: list[str]) -> None:
        emitter = self.emitter
        self._store.forget_steps(step_ids)
        for step_id in step_ids:
            await emitter.delete_step(StepDict(id=step_id, threadId=self.session.thread_id))
