"""One reply on its way onto the page: what it waits for, its text and reasoning as they come, how it ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing
from time import monotonic
from typing import Any, Final

from chainlit.element import ElementDict
from chainlit.emitter import BaseChainlitEmitter
from chainlit.step import StepDict
from chainlit.utils import utc_now

from app.engines.base import Delta, Loading, Reading
from app.errors import ChatError, Language
from app.page.status import Phase, StatusLine, ended
from app.page.steps import answer_step, in_run, is_notice, new_id, reasoning_step
from app.page.store import Store
from app.page.stream import GatheredStream
from app.page.texts import text
from app.transcript import LEFT_OUT, MODEL, NOTICE, QUESTION, TOKENS
from app.turn import ChatTurn, Event, Waiting

log = logging.getLogger(__name__)

# An engine that answers faster than this shows no status before its text: it would only flicker. In seconds.
_STATUS_AFTER: Final = 0.3


class ReplyView:
    """Shows one turn.

    Args:
        emitter: of the visitor's session.
        store: keeps the steps once they are complete.
        turn: not yet begun; its `answer_id` is the id of the message on the page.
        thread_id: the conversation.
        author: whose name stands above the reply.
        language: of the page.
        on_first_text: called once, when the first piece of the reply is about to be shown.
        keeps_old: a reply without text leaves what it was to replace.
        is_edit: a refusal changes nothing, so it is told beside the conversation, not in it.
        store_seconds: while it is written, the reply is stored this often.
        status: the line under the answer that is gone on with, as it is; None: a new answer.
    """

    def __init__(
        self,
        emitter: BaseChainlitEmitter,
        store: Store,
        turn: ChatTurn,
        *,
        thread_id: str,
        author: str,
        language: Language,
        on_first_text: Callable[[], Awaitable[None]],
        keeps_old: bool = False,
        is_edit: bool = False,
        store_seconds: float = 5.0,
        status: ElementDict | None = None,
    ) -> None:
        self._emitter = emitter
        self._store = store
        self._turn = turn
        self._thread_id = thread_id
        self._author = author
        self._language = language
        self._on_first_text = on_first_text
        self._keeps_old = keeps_old
        self._is_edit = is_edit
        self._elements: dict[str, ElementDict] = {}
        self._store_seconds = store_seconds
        self._stored = len(turn.text)
        self._message = answer_step(thread_id, turn.answer_id, author)
        self._reasoning: StepDict | None = None
        self._failure: StepDict | None = None
        # What is gone on with is on the page already.
        self._goes_on = turn.begun is not None
        self._message["output"] = turn.text
        self._shown = self._run_sent = self._goes_on
        self._began = False
        self._line = StatusLine(turn, thread_id, language, status)
        self._phase: dict[str, Any] = {}
        self._phase_began = 0.0
        self._pending: asyncio.Task[None] | None = None
        self._answer_stream = GatheredStream(self._send_answer)
        self._reasoning_stream = GatheredStream(self._send_reasoning)
        self.step_ids: list[str] = []

    @property
    def unfinished(self) -> set[str]:
        """The steps that are still being written: what the database has of them is older than what is here."""
        if self._turn.metrics is not None:
            return set()
        return {self._message["id"], *([] if self._reasoning is None else [self._reasoning["id"]])}

    def is_in(self, steps: Iterable[StepDict]) -> bool:
        """Whether what has been stored of it is among `steps`, as it was stored last."""
        found = {step["id"]: step["output"] for step in steps}
        kept = [step for step in (self._reasoning, self._message, self._failure) if step is not None]
        return all(found.get(step["id"]) == step["output"] for step in kept if step["id"] in self.step_ids)

    @property
    def status(self) -> ElementDict | None:
        """The line under the message, once it is complete."""
        return self._elements.get(self._message["id"])

    def waits_for(self, message_id: str) -> bool:
        """Whether nothing of that reply has come yet, and it has not ended either."""
        turn = self._turn
        return turn.answer_id == message_id and turn.metrics is None and not (turn.came or turn.reasoning)

    def keep_thumb(self, stored: StepDict) -> None:
        """A page that is loaded anew gets the answer that is gone on with from here: with the thumb that it has."""
        if stored["id"] == self._message["id"] and "feedback" in stored:
            self._message["feedback"] = stored["feedback"]

    async def move_to(self, emitter: BaseChainlitEmitter) -> None:
        """Go on on a page that was loaded anew, or whose connection broke: it draws all that has come, then what
        follows."""
        self._emitter = emitter
        self._run_sent = False
        shown = self._message if self._shown else None
        for step in filter(None, (self._reasoning, shown, self._failure)):
            streaming = step["end"] is None and bool(step["output"])
            placed = await self._in_run() if step is self._message and not is_notice(step) else step
            await emitter.send_step(placed | {"streaming": streaming})
            if element := self._elements.get(step["id"]):
                await emitter.send_element(element)
        if shown is not None and self._phase and shown["id"] not in self._elements:
            await self._send_status()

    async def show(self) -> None:
        """Run the turn to its end. A cancelled task means Stop: the reply is kept as far as it came."""
        failure = ""
        storing = asyncio.create_task(self._store_now_and_then())
        try:
            async with aclosing(self._turn.events()) as events:
                async for event in events:
                    await self._on(event)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
        except ChatError as problem:
            failure = problem.sentence(self._language)
        except Exception:
            log.exception("CHAT the turn broke")
            failure = text(self._language, "internal")
        storing.cancel()
        ending = asyncio.ensure_future(self._end(failure))
        while not ending.done():
            # A second Stop, or the next message, must not keep the reply from being stored.
            try:
                await asyncio.shield(ending)
            except asyncio.CancelledError:
                if (task := asyncio.current_task()) is not None:
                    task.uncancel()
        ending.result()

    async def _on(self, event: Event) -> None:
        if isinstance(event, Delta):
            self._hold_status()
            if event.kind == "reasoning":
                await self._reasoning_stream.add(event.text)
            else:
                await self._answer_stream.add(event.text)
        elif isinstance(event, Waiting):
            await self._show_phase(
                "waiting", position=event.ahead, seconds_left=event.seconds_left, message_id=self._message["id"]
            )
        elif isinstance(event, Loading):
            await self._show_phase("loading", seconds_left=event.seconds_left)
        elif isinstance(event, Reading):
            await self._show_phase(
                "reading", seconds_left=event.seconds_left, processed=event.processed, total=event.total
            )

    async def _show_phase(self, phase: Phase, **facts: Any) -> None:
        """Show what the visitor waits for; the first time only after a moment, see _STATUS_AFTER."""
        self._phase, self._phase_began = self._line.props(phase, **facts), monotonic()
        if self._shown:
            await self._send_status()
        elif self._pending is None:
            self._pending = asyncio.create_task(self._show_status_later())

    async def _show_status_later(self) -> None:
        await asyncio.sleep(_STATUS_AFTER)
        self._pending = None
        await self._show_message()
        await self._send_status()

    def _hold_status(self) -> None:
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None

    async def _show_message(self) -> None:
        if not self._shown:
            self._shown = True
            await self._emitter.send_step(await self._in_run())

    async def _in_run(self) -> StepDict:
        """The reply as the page gets it, which gets what is around it first."""
        if not self._run_sent:
            self._run_sent = True
            await self._emitter.send_step(in_run(self._message)[0])
        # Only now: meanwhile more may have been written, which the page was told before it had the message.
        return in_run(self._message)[1]

    async def _send_status(self) -> None:
        # A page that was loaded anew goes on counting where the one before was.
        props = self._phase | {"passed": round(monotonic() - self._phase_began, 1)}
        await self._emitter.send_element(self._line.element(self._message["id"], props).to_dict())

    async def _send_answer(self, piece: str) -> None:
        first, self._began = not self._began, True
        if first:
            self._message["output"] = self._turn.text.removesuffix(self._turn.came)  # its end may have been trimmed
        self._message["output"] += piece
        if first:
            await self._on_first_text()
            if self._shown:
                await self._show_phase("writing")
            self._shown = True
            await self._emitter.stream_start(await self._in_run() | {"streaming": True})
        else:
            await self._emitter.send_token(self._message["id"], piece)

    async def _send_reasoning(self, piece: str) -> None:
        if self._reasoning is None:
            await self._on_first_text()
            if self._shown:  # the reply comes below its reasoning
                await self._emitter.delete_step(in_run(self._message)[0])
                self._shown = self._run_sent = False
            self._reasoning = reasoning_step(self._thread_id, new_id(), text(self._language, "reasoning"))
            self._reasoning["output"] = piece
            await self._emitter.stream_start(self._reasoning | {"streaming": True})
        else:
            self._reasoning["output"] += piece
            await self._emitter.send_token(self._reasoning["id"], piece)

    async def _end(self, failure: str) -> None:
        self._hold_status()
        await self._reasoning_stream.end()
        await self._answer_stream.end()
        turn, phase = self._turn, ended(self._turn)
        if self._is_edit and turn.refused:
            if self._shown:
                self._shown = False
                await self._emitter.delete_step(in_run(self._message)[0])
            await self._emitter.send_toast(failure, "error")
            return
        if self._reasoning is not None:
            self._reasoning["end"] = utc_now()
            await self._keep(self._reasoning)
        if self._line.before is not None and not turn.came:
            await self._show_as_before(self._line.before, failure)
        elif turn.text:
            self._message["output"] = turn.text
            self._message["metadata"] = self._metadata()
            await self._keep(self._message, self._line.final(phase, retry=not failure))
            if failure:
                self._failure = answer_step(self._thread_id, new_id(), self._author)
                await self._notice(self._failure, failure, "failed", True)
        else:
            words = failure or text(self._language, "stopped")
            await self._notice(self._message, words, phase, bool(failure))

    async def _show_as_before(self, status: ElementDict, failure: str) -> None:
        """No more has come: the answer stands as it was, and can be gone on with again."""
        self._message["end"] = utc_now()
        self._elements[self._message["id"]] = status
        await self._emitter.send_step(await self._in_run())
        await self._emitter.send_element(status)
        if failure:
            await self._emitter.send_toast(failure, "error")

    async def _notice(self, step: StepDict, words: str, phase: Phase, is_error: bool) -> None:
        """A message of the page's own, which the model never reads."""
        step["output"] = words
        step["isError"] = is_error
        step["metadata"] = {NOTICE: True}
        await self._keep(step, self._line.final(phase, retry=True, is_reply=step is self._message))

    async def _store_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(self._store_seconds)
            self.checkpoint()

    def checkpoint(self) -> None:
        """Store what has come so far, as if it had been stopped here: the process may be killed before its end."""
        size = len(self._turn.text) + len(self._turn.reasoning)
        if self._turn.metrics is not None or size == self._stored:  # it is being stored whole, or nothing is new
            return
        self._stored = size
        if self._reasoning is not None:
            self._store.keep(self._so_far(self._reasoning, self._turn.reasoning))
        if self._turn.text:
            props = self._line.final("stopped", retry=True) | {"message_id": self._message["id"]}
            message = self._so_far(self._message, self._turn.text)
            self._store.keep(message, self._line.element(message["id"], props))

    def _so_far(self, step: StepDict, output: str) -> StepDict:
        metadata = step["metadata"] | {QUESTION: self._turn.question.id}
        return StepDict(**(step | {"output": output, "end": utc_now(), "metadata": metadata}))

    async def _keep(self, step: StepDict, status: dict[str, Any] | None = None) -> None:
        """Store a step with its status line, and show it as complete once it is stored, or known to wait."""
        step["end"] = step["end"] or utc_now()
        step["metadata"][QUESTION] = self._turn.question.id
        self.step_ids.append(step["id"])
        if step is self._message and not self._shown and (self._turn.text or not self._keeps_old):
            await self._on_first_text()
        element = self._line.element(step["id"], status | {"message_id": step["id"]}) if status else None
        await self._store.keep(step, element)
        self._shown = self._shown or step is self._message
        is_reply = step is self._message and not is_notice(step)
        if step is self._message and not is_reply and self._run_sent:
            # What stood there while it was awaited is no answer now, and has no thumbs.
            self._run_sent = False
            await self._emitter.delete_step(in_run(step)[0])
        await self._emitter.send_step(await self._in_run() if is_reply else step)
        if element is not None:
            shown = self._elements[step["id"]] = element.to_dict()
            await self._emitter.send_element(shown)

    def _metadata(self) -> dict[str, Any]:
        turn = self._turn
        return {
            TOKENS: turn.answer.tokens if turn.answer else {},
            LEFT_OUT: turn.left_out,
            MODEL: turn.model.id if turn.model else None,
            "finish_reason": turn.finish_reason,
            "metrics": turn.metrics.as_dict() if turn.metrics else None,
        }
