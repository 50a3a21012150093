"""One visit: a browser's open page with its conversation, preferences and the reply that is being written."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from chainlit.config import config
from chainlit.context import init_ws_context
from chainlit.element import ElementDict
from chainlit.emitter import BaseChainlitEmitter
from chainlit.message import Message
from chainlit.session import WebsocketSession
from chainlit.step import StepDict
from chainlit.types import ThreadDict

from app.asker import Asker, visitor_hash
from app.chat import Chat
from app.engines.base import ModelInfo
from app.errors import Language
from app.history import SessionHistory, StoredMessage
from app.page.preferences import Preferences, widgets
from app.page.reply import ReplyView
from app.page.status import interrupted
from app.page.steps import TurnSteps, answer_step, conversation_of, new_id, run_of, with_runs
from app.page.store import PageStore
from app.page.texts import language_of, text
from app.request_ids import REQUEST_ID
from app.storage.problems import DatabaseAway
from app.storage.unsaved import Fate
from app.transcript import ANSWER_TYPE, SETTINGS
from app.turn import ChatTurn

# Longest wait for a reply to wind up after Stop, in seconds; then the next one may begin all the same.
_STOP_WAIT: Final = 5.0


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
        # Reads what its visitor has set before.
        self.loading: asyncio.Task[None] | None = None
        self.history = SessionHistory(session.thread_id)
        self._chat = chat
        self._store = store
        self._store_seconds = store_seconds
        self._turns: list[TurnSteps] = []
        self._answering: asyncio.Task[Any] | None = None
        self._told: set[str] = set()
        # The line under the last answer.
        self._status: ElementDict | None = None
        self._view: ReplyView | None = None
        self._panel: list[Any] | None = None
        # What the conversation is kept with.
        self._settings: dict[str, Any] | None = None

    @property
    def emitter(self) -> BaseChainlitEmitter:
        """The way to this page, whatever the calling task is about."""
        return init_ws_context(self.session).emitter

    def resume(self, thread: ThreadDict, *, answering: bool) -> None:
        """Take up a stored conversation, with the settings that it is kept with.

        Args:
            thread: is given what the page shows under a last message without a reply: the server was killed then.
            answering: another page of it waits for that reply.
        """
        self.history, self._turns = conversation_of(thread["id"], thread["steps"])
        self._view = None  # it is among the steps, which the page gets
        answer_id = last.answer.id if (last := self.history.last) is not None and last.answer is not None else None
        self._status = next((shown for shown in thread["elements"] or [] if shown.get("forId") == answer_id), None)
        self._settings = (thread.get("metadata") or {}).get(SETTINGS)
        if self._settings is not None:
            self.preferences, _ = self.preferences.changed(self._settings, self.language)
        if answering or not self._turns or any(step["type"] == ANSWER_TYPE for step in self._last_replies(thread)):
            return
        step, element = interrupted(thread["id"], self._turns[-1].question_id, config.ui.name, self.language)
        self._turns[-1].replies.append(step["id"])
        thread["steps"] = [*thread["steps"], step]
        thread["elements"] = [*(thread["elements"] or []), element.to_dict()]

    def _last_replies(self, thread: ThreadDict) -> list[StepDict]:
        return [step for step in thread["steps"] if step["id"] in self._turns[-1].replies]

    def is_in(self, thread: ThreadDict) -> bool:
        """Whether the last reply here, if it has ended, is in what was read of the conversation."""
        return self._view is None or self._view.is_in(thread["steps"])

    def move_to(self, session: WebsocketSession, thread: ThreadDict) -> None:
        """The page was loaded anew in the middle of a reply: the rest of it goes to the new one.

        Args:
            session: the new page's.
            thread: what it is given first; what is being written is taken out, see `show_again`.
        """
        unfinished = self._view.unfinished if self._view is not None else set()
        for step in thread["steps"]:
            if self._view is not None and step["id"] in unfinished:
                self._view.keep_thumb(step)
        thread["steps"] = [step for step in thread["steps"] if step["id"] not in unfinished]
        thread["elements"] = [shown for shown in thread["elements"] or [] if shown.get("forId") not in unfinished]
        before, self.session = self.session, session
        if before is not session:
            # What is still told to the page that is gone goes to whichever page it is then.
            before.emit = self._emit

    async def _emit(self, event: str, data: Any) -> None:
        await self.session.emit(event, data)

    def read_ahead(self, default: ModelInfo | None) -> None:
        """Let the engine read, while nobody is served, what the next message here will need.

        Args:
            default: answers, if the visitor has chosen no model.
        """
        if self.answering in (None, asyncio.current_task()):
            options = self.preferences.options(default.id if default else "")
            may_load = default is not None and options.model == default.id
            self._chat.ahead.want(self, self.history, options, may_load=may_load)

    async def show_again(self) -> None:
        """The page is new, or missed what came while its connection was broken: it gets the last reply as it stands,
        and Stop while that is being written."""
        if self.answering is not None:
            await self.emitter.task_start()
        if self._view is not None:
            await self._view.move_to(self.emitter)

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
        if self._turns:
            self._keep_settings()
        if self.session.user is not None:
            await self._store.save_preferences(self.session.user.identifier, self.preferences.as_dict())

    def _asker(self) -> Asker:
        """Who reads this page; each message of it is a request of its own."""
        user = self.session.user
        # What the ASGI server knows of the page's socket, as of every request.
        client = self.session.environ.get("asgi.scope", {}).get("client")
        asker = Asker(
            "page",
            visitor_hash(user.identifier) if user is not None else None,
            address=client[0] if client else None,
        )
        REQUEST_ID.set(asker.request_id)
        return asker

    def _keep_settings(self) -> None:
        """Keep the settings with the conversation, if they are not those that it is kept with."""
        settings = self.preferences.as_dict()
        if settings != self._settings:
            self._settings = settings
            init_ws_context(self.session)
            self._store.save_settings(self.session.thread_id, settings)

    async def tell_waiting(self) -> None:
        """Tell the visitor, once, that what is said here is not stored now and will be."""
        if "not_kept" not in self._told:
            self._told.add("not_kept")
            await self.emitter.send_toast(text(self.language, "not_kept"), "warning")

    async def tell_lost(self, fate: Fate) -> None:
        """Tell the visitor, once and below what was said, that something of it will never be stored, and why."""
        if fate not in self._told:
            self._told.add(fate)
            notice = answer_step(self.session.thread_id, new_id(), config.ui.name)
            notice["output"], notice["isError"] = text(self.language, fate), True
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
        """Answer a message; one with a known id has been edited."""
        await self._wind_up()
        question = StoredMessage(message.id, message.content)
        if self.knows(message.id):
            await self._ask_edited(question, message.to_dict(), default)
        else:
            self._turns.append(TurnSteps(message.id))
            await self._answer(question, default, replaces=[])

    async def _ask_edited(self, question: StoredMessage, step: StepDict, default: ModelInfo | None) -> None:
        """All that came after the message goes when its reply begins, or fails. If the message is refused, all stays
        as it was, its old text too."""
        place = next(i for i, turn in enumerate(self._turns) if turn.question_id == question.id)
        replaced = self._turns[place:]
        gone = [step_id for turn in replaced for step_id in turn.replies]
        gone += [turn.question_id for turn in replaced[1:]]
        old = self.history.question(question.id)
        self._turns[place:] = [TurnSteps(question.id)]
        await self.emitter.update_step(step)
        turn = await self._answer(question, default, replaces=gone, edited=step)
        if turn.refused:
            self._turns[place:] = replaced
            step["output"] = old.text if old else ""
            await self.emitter.update_step(step)
            await self._show_after(question.id)

    async def _show_after(self, question_id: str) -> None:
        """Show again what came after a message: the page takes it away as soon as that is edited."""
        layer = self._store.data_layer
        try:
            thread = await layer.get_thread(self.session.thread_id) if layer is not None else None
        except DatabaseAway:  # it is there when the page is loaded anew
            return
        if thread is None:
            return
        steps = with_runs(thread["steps"])
        place = next((number for number, step in enumerate(steps) if step["id"] == question_id), len(steps))
        shown = steps[place + 1 :]
        ids = {step["id"] for step in shown}
        for step in shown:
            await self.emitter.send_step(step)
        for element in thread["elements"] or []:
            if element.get("forId") in ids:
                await self.emitter.send_element(element)

    async def retry(self, message_id: str, default: ModelInfo | None) -> None:
        """Answer the last message again. The old reply goes when the new one begins, so nothing is lost before."""
        if self.answering is not None:
            await self.emitter.send_toast(text(self.language, "still_answering"), "info")
            return
        last = self.history.last
        # An empty message never came into the history: the last there is the one before it.
        asked = self._turns[-1] if self._turns else None
        if last is None or asked is None or message_id not in asked.replies or last.question.id != asked.question_id:
            await self.emitter.send_toast(text(self.language, "only_last"), "info")
            return
        replaces, self._turns[-1].replies = self._turns[-1].replies, []
        old = last.answer
        question = StoredMessage(last.question.id, last.question.text)
        turn = await self._answer(question, default, replaces=replaces, keeps_old=old is not None)
        if old is not None and turn.answer is None:
            self.history.answer(question.id, old)
            question.tokens = last.question.tokens

    async def go_on(self, message_id: str, default: ModelInfo | None) -> None:
        """Go on with the last answer, which was cut off. It stands as it is until more of it comes."""
        if self.answering is not None:
            await self.emitter.send_toast(text(self.language, "still_answering"), "info")
            return
        last = self.history.last
        asked = self._turns[-1] if self._turns else None
        answer = last.answer if last is not None and asked and last.question.id == asked.question_id else None
        if (
            last is None
            or asked is None
            or answer is None
            or message_id != answer.id
            or message_id not in asked.replies
            or self._status is None
        ):
            await self.emitter.send_toast(text(self.language, "only_last_goes_on"), "info")
            return
        place = asked.replies.index(message_id) + 1
        asked.replies, notices = asked.replies[:place], asked.replies[place:]
        await self._answer(last.question, default, replaces=notices, begun=answer)

    async def _answer(
        self,
        question: StoredMessage,
        default: ModelInfo | None,
        replaces: list[str],
        *,
        keeps_old: bool = False,
        edited: StepDict | None = None,
        begun: StoredMessage | None = None,
    ) -> ChatTurn:
        """Show a reply.

        Args:
            question: the message.
            default: answers, if the visitor has chosen no model.
            replaces: steps that go when the reply begins; those that stay, because none came, are still the turn's.
            keeps_old: see ReplyView.
            edited: the message's step, to be stored when the reply begins; None: it is stored already.
            begun: the answer that is gone on with; it keeps its place, and what stands before it.

        Returns:
            The turn, which has ended.
        """
        self._answering = self.session.current_task = asyncio.current_task()
        emitter = self.emitter
        turn_steps = self._turns[-1]
        options = self.preferences.options(default.id if default else "")
        answer_id = new_id() if begun is None else begun.id
        stay = turn_steps.replies if begun is not None else []
        turn = self._chat.turn(self.history, question, answer_id, options, asker=self._asker(), begun=begun)

        async def first_text() -> None:
            gone, replaces[:] = list(replaces), []
            emitter = self.emitter
            if edited is not None:
                self._store.keep(edited)
            if edited is not None or (gone and begun is None):
                self._store.save_tokens(question.id, {})  # it is counted anew
            self._store.forget_steps(gone)
            for step_id in gone:
                for shown in (step_id, run_of(step_id)):
                    await emitter.delete_step(StepDict(id=shown, threadId=self.session.thread_id))

        self._keep_settings()
        view = self._view = ReplyView(
            emitter,
            self._store,
            turn,
            thread_id=self.session.thread_id,
            author=config.ui.name,
            language=self.language,
            on_first_text=first_text,
            keeps_old=keeps_old,
            is_edit=edited is not None,
            store_seconds=self._store_seconds,
            status=self._status if begun is not None else None,
        )
        try:
            await view.show()
        finally:
            turn_steps.replies = list(dict.fromkeys([*stay, *replaces, *view.step_ids]))
        if turn.answer is not None:
            self._status = view.status
        for message in turn.counted.values():
            if not (turn.refused and message is question):
                self._store.save_tokens(message.id, message.tokens)
        return turn

    @property
    def answering(self) -> asyncio.Task[Any] | None:
        """The task that writes a reply now."""
        return None if self._answering is None or self._answering.done() else self._answering

    def stop(self) -> None:
        """End the reply that is being written; what has come is kept."""
        if self.answering is not None:
            self.answering.cancel()

    def cancel(self, message_id: str) -> None:
        """End a reply that has not begun; one that has begun meanwhile goes on."""
        if self._view is not None and self._view.waits_for(message_id):
            self.stop()

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
