"""Chainlit's callbacks, each a translation into a `Visit`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

import chainlit as cl
from chainlit.action import Action
from chainlit.config import config
from chainlit.context import context, init_ws_context
from chainlit.server import sio
from chainlit.session import WebsocketSession
from chainlit.socket import connection_successful
from chainlit.types import MessagePayload, Starter, ThreadDict
from chainlit.utils import wrap_user_function

from app.chat import Chat
from app.default_model import GUIDE, DefaultModelFinder
from app.page.banner import banner
from app.page.preferences import Preferences
from app.page.sockets import connect
from app.page.steps import with_runs
from app.page.store import PageStore
from app.page.texts import language_of, starters, text
from app.page.visit import Visit
from app.page.visits import all_visits, give, stop, visit_of, visitor_of, visits_to
from app.storage.problems import DatabaseAway
from app.storage.unsaved import Fate
from app.storage.writes import Write, Writer

log = logging.getLogger(__name__)

# While the server ends, running replies are stored this often, in seconds.
_CHECKPOINT: Final = 3.0


class Page:
    """All open pages of this server.

    Args:
        chat: answers.
        finder: knows which model answers those who have picked none.
        store: where conversations and preferences are kept, if they are.
        preferences: what a new visitor starts with.
        away_seconds: a reply is stopped when its reader is away this long.
        store_seconds: while it is written, a reply is stored this often.
    """

    def __init__(
        self,
        chat: Chat,
        finder: DefaultModelFinder,
        store: PageStore,
        preferences: Preferences,
        away_seconds: float,
        store_seconds: float = 5.0,
    ) -> None:
        self._chat = chat
        self._finder = finder
        self._store = store
        self._preferences = preferences
        self._away_seconds = away_seconds
        self._store_seconds = store_seconds
        self._tasks: set[asyncio.Task[None]] = set()

    def register(self) -> None:
        """Tell Chainlit what to call."""
        code = config.code
        code.data_layer = lambda: self._store.data_layer
        code.set_starters = wrap_user_function(self._starters)
        code.on_chat_start = wrap_user_function(self._on_chat_start)
        if self._store.data_layer is not None:
            code.on_chat_resume = wrap_user_function(self._on_chat_resume)
        code.on_chat_end = wrap_user_function(self._on_disconnect)
        code.on_message = wrap_user_function(self._on_message)
        code.on_settings_update = wrap_user_function(self._on_settings)
        code.action_callbacks["retry"] = wrap_user_function(self._on_retry)
        code.action_callbacks["cancel"] = wrap_user_function(self._on_cancel)
        code.action_callbacks["continue"] = wrap_user_function(self._on_continue)
        sio.on("connect", handler=connect)
        sio.on("connection_successful", handler=self._on_connected)
        # Chainlit's own Stop adds an English message to the conversation, and its own edit cannot be stopped.
        sio.on("stop", handler=self._on_stop)
        sio.on("edit_message", handler=self._on_edit)
        if self._store.unsaved is not None:
            self._store.unsaved.on_fate = self._on_fate
            self._store.unsaved.on_all_kept = lambda: self._for_all(Visit.tell_kept)
        self._store.on_deleted = self.gone
        self._finder.on_change(lambda: self._for_all(self._show_state))
        self._chat.catalog.on_change(lambda: self._for_all(self._show_state))

    async def wind_up(self, seconds: float) -> None:
        """Begin no reply any more; let those that are being written finish, then stop and store them.

        They are stored every few seconds on the way: whoever asked for the end may lose patience and kill the process,
        as `docker stop` does after 10 s.

        Args:
            seconds: that they have.
        """
        self._chat.stopping = True
        deadline = time.monotonic() + seconds
        while writing := [visit for visit in all_visits() if visit.answering is not None]:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            log.info("HEALTH ending, %d replies have %.0f s to finish", len(writing), left)
            for visit in writing:
                visit.checkpoint()
            tasks = {visit.answering for visit in writing if visit.answering is not None}
            if tasks:
                await asyncio.wait(tasks, timeout=min(left, _CHECKPOINT))
        await self.close()

    async def close(self) -> None:
        """Stop what is being written, and wait until it is stored."""
        await stop(all_visits())

    async def stop_replies(self, identifier: str) -> None:
        """The same, for one visitor, for whom nothing is read ahead any more either."""
        visits = [visit for visit in all_visits() if visitor_of(visit) == identifier]
        await stop(visits)
        for visit in visits:
            self._chat.ahead.forget(visit)

    def gone(self, thread_id: str) -> None:
        """A conversation was deleted."""
        self._chat.ahead.forget_conversation(thread_id)

    def answering(self) -> set[str]:
        """The ids of the threads in which a reply is being written."""
        return {visit.session.thread_id for visit in all_visits() if visit.answering is not None}

    def present(self) -> set[str]:
        """The identifiers of the visitors whose page is open."""
        return {visitor_of(visit) for visit in all_visits()}

    def end(self, session: WebsocketSession) -> None:
        """Stop what is being written for a page whose visitor may read it no more."""
        visit = visit_of(session)
        if visit is not None:
            visit.stop()

    async def _visit(self, session: WebsocketSession) -> Visit:
        """The visit of a session, with what its visitor has set before."""
        visit = visit_of(session)
        if visit is None:
            visit = Visit(session, self._chat, self._store, self._preferences, self._store_seconds)
            give(session, visit)
            visit.loading = asyncio.create_task(self._load(visit))
        # What comes meanwhile, a message or other settings, waits for them too.
        if visit.loading is not None:
            await asyncio.shield(visit.loading)
        return visit

    async def _load(self, visit: Visit) -> None:
        if visit.session.user is not None:
            kept = await self._store.load_preferences(visit.session.user.identifier)
            visit.preferences, _ = visit.preferences.changed(kept, visit.language)

    async def _starters(self, user: cl.User | None, language: str | None) -> list[Starter]:
        current = self._finder.current.model
        known = starters(language_of(language), guide=current is not None and current.name == GUIDE)
        return [Starter(label=label, message=message) for label, message in known]

    async def _on_chat_start(self) -> None:
        await self._show_state(await self._visit(_session()), anew=True)

    async def _on_chat_resume(self, thread: ThreadDict) -> None:
        session = _session()
        session.thread_id = thread["id"]
        visit = self._still_answering(session, thread["id"])
        if visit is not None:
            give(session, visit)
            visit.move_to(session, thread)
        else:
            visit = await self._visit(session)
            elsewhere = visits_to(thread["id"], visitor_of(visit))
            if not all(other.is_in(thread) for other in elsewhere):
                await self._read_again(thread)
            visit.resume(thread, answering=any(other.answering is not None for other in elsewhere))
        thread["steps"] = with_runs(thread["steps"])
        await self._show_state(visit, anew=True)
        self._read_ahead(visit)
        unsaved, user = self._store.unsaved, session.user
        if unsaved is not None and user is not None and unsaved.of(thread["id"], user.identifier):
            await visit.tell_waiting()

    async def _read_again(self, thread: ThreadDict) -> None:
        """A reply of it ended while it was read: the page would lack that, and the model too."""
        layer = self._store.data_layer
        newer = await layer.get_thread(thread["id"]) if layer is not None else None
        if newer is not None:
            thread.update(newer)

    def _still_answering(self, session: WebsocketSession, thread_id: str) -> Visit | None:
        """A visit of this visitor's to that conversation whose reply is still being written: this session's own, where
        only its connection broke, or one whose page is gone. Another visitor's page may have named the same thread."""
        if session.user is None:
            return None
        for visit in visits_to(thread_id, session.user.identifier):
            if visit.answering is None:
                continue
            if visit.session is session or not sio.manager.is_connected(visit.session.socket_id, "/"):
                return visit
        return None

    async def _on_message(self, message: cl.Message) -> None:
        visit = await self._visit(_session())
        await visit.ask(message, await self._finder.model())
        self._read_ahead(visit)

    async def _on_settings(self, settings: dict[str, Any]) -> None:
        visit = await self._visit(_session())
        await visit.change_settings(settings)
        self._read_ahead(visit)
        await self._show_settings(visit, anew=True)

    async def _on_retry(self, action: Action) -> None:
        visit = await self._visit(_session())
        message_id = str(action.payload.get("message_id", ""))
        self._start(self._stoppable(visit, visit.retry(message_id, await self._finder.model())))

    async def _on_cancel(self, action: Action) -> None:
        visit = await self._visit(_session())
        visit.cancel(str(action.payload.get("message_id", "")))

    async def _on_continue(self, action: Action) -> None:
        visit = await self._visit(_session())
        message_id = str(action.payload.get("message_id", ""))
        self._start(self._stoppable(visit, visit.go_on(message_id, await self._finder.model())))

    async def _on_stop(self, sid: str) -> None:
        session = WebsocketSession.get(sid)
        visit = visit_of(session)
        if visit is not None:
            visit.stop()

    async def _on_edit(self, sid: str, payload: MessagePayload) -> None:
        """An edited message is asked anew, as a task of its own so that it can be stopped."""
        session = WebsocketSession.require(sid)
        init_ws_context(session)
        visit = await self._visit(session)
        message = cl.Message.from_dict(payload["message"])
        if not visit.knows(message.id):
            return
        self._start(self._stoppable(visit, visit.ask(message, await self._finder.model())))

    def _on_fate(self, write: Write, writer: Writer, fate: Fate) -> None:
        """Tell the pages of a conversation that something of it waits or will not be stored: the chat goes on."""
        for visit in all_visits():
            user = visit.session.user
            if user is None or user.identifier != writer.identifier:
                continue
            if write.thread_id in ("", visit.session.thread_id):
                self._start(visit.tell_waiting() if fate == "waiting" else visit.tell_lost(fate))

    async def _on_connected(self, sid: str) -> None:
        """Chainlit's, which would leave the page waiting where the conversation to open cannot be read, and takes Stop
        away from a page whose connection broke in the middle of a reply."""
        try:
            await connection_successful(sid)
        except DatabaseAway as problem:
            session = WebsocketSession.require(sid)
            if not session.restored:  # else only the connection broke: the page still shows all
                log.error("STORE a conversation cannot be opened: %s", problem)
                visit = await self._visit(session)
                await visit.emitter.send_resume_thread_error(text(visit.language, "away"))
                session.thread_id_to_resume = None
                await connection_successful(sid)
        else:
            session = WebsocketSession.require(sid)
            if session.thread_id_to_resume != session.thread_id:  # not found: the page begins one of its own
                session.thread_id_to_resume = None
        known = visit_of(WebsocketSession.get(sid))
        if known is not None:
            await known.show_again()
            self._read_ahead(known)

    async def _on_disconnect(self) -> None:
        session = _session()
        visit = visit_of(session)
        if visit is not None:
            self._chat.ahead.forget(visit)
        if visit is not None and visit.answering is not None:
            self._start(self._stop_when_away(visit, session.socket_id))

    async def _stop_when_away(self, visit: Visit, socket_id: str) -> None:
        await asyncio.sleep(self._away_seconds)
        if visit.session.socket_id == socket_id:
            log.info("CHAT reader away for %g s, the reply is stopped", self._away_seconds)
            visit.stop()

    def _read_ahead(self, visit: Visit) -> None:
        """Have read what the next message of a page will need, if it is there."""
        if sio.manager.is_connected(visit.session.socket_id, "/"):
            visit.read_ahead(self._finder.current.model)

    async def _stoppable(self, visit: Visit, work: Coroutine[Any, Any, None]) -> None:
        """Show Stop while `work`, a reply, goes on, as Chainlit does for a message."""
        await visit.emitter.task_start()
        try:
            await work
            self._read_ahead(visit)
        finally:
            if visit.answering in (None, asyncio.current_task()):  # else another reply is being written there
                await visit.emitter.task_end()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _for_all(self, show: Callable[[Visit], Coroutine[Any, Any, None]]) -> None:
        for visit in all_visits():
            self._start(show(visit))

    async def _show_state(self, visit: Visit, *, anew: bool = False) -> None:
        """The settings panel and the banner, as things are now."""
        await self._show_settings(visit, anew=anew)
        kept = self._store.data_layer is not None
        status = banner(self._finder.current, self._finder.wishes, visit.language, kept=kept)
        await visit.emitter.send_window_message(status)

    async def _show_settings(self, visit: Visit, *, anew: bool) -> None:
        await visit.show_settings(self._chat.catalog.known, self._finder.current.model, anew=anew)


def _session() -> WebsocketSession:
    session = context.session
    if not isinstance(session, WebsocketSession):
        raise TypeError("this callback belongs to a page")
    return session
