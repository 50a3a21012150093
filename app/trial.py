"""How fast a model is on this server, measured through its engine."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from statistics import median
from typing import Final

from app.engines.base import ChatMessage, CompletionRequest, Delta, Done, Engine, GenerationOptions, ModelInfo, Usage
from app.tokens import MESSAGE_OVERHEAD, bytes_estimate

# Common ones: about a token each. They are drawn anew for each prompt, so that no cache has what it begins with.
_TEXT: Final = (
    "the river house morning light over small garden people water stone road green before winter letter open table "
    "under bridge quiet market bread window summer paper hand story train cloud music north apple yellow doctor city "
    "field glass night horse island early paint silver wood corner simple number after second kitchen forest"
)
_WORDS: Final = tuple(_TEXT.split())
# Until the engine has counted; small vocabularies need more.
_TOKENS_A_WORD: Final = 3.0
# Prompts and replies in tokens: the first look, at most, and what is enough for a figure.
_FIRST_PROMPT: Final = 192
_LONGEST_PROMPT: Final = 2048
_SHORT_REPLY: Final = 8
_FIRST_REPLY: Final = 32
_LONGEST_REPLY: Final = 384
_ENOUGH: Final = 96
# Shares of the time for the two long parts, and how often the short message is sent.
_SHARE: Final = 0.25
_SHORT_TIMES: Final = 3
# Shares of the context that a prompt, and that the words of a story, may fill.
_ROOM: Final = 0.6
_STORY_ROOM: Final = 0.15
_STORY_WORDS: Final = 120
_STORY: Final = "Tell a long story in which these words come up, in this order: "


@dataclass(slots=True)
class Measured:
    """What is known so far; None: not measured (yet).

    Attributes:
        load_seconds: bringing the model into memory; None: it was there, or its engine does not tell.
        first_token_seconds: from a short question to the first piece of text, the median.
        prompt_speed, generation_speed: tokens per second, by the engine's own times.
        prompt_tokens, reply_tokens: so many were these measured with.
        estimated: the engine did not count its reply; the tokens are estimated from bytes.
    """

    load_seconds: float | None = None
    first_token_seconds: float | None = None
    prompt_speed: float | None = None
    generation_speed: float | None = None
    prompt_tokens: int = 0
    reply_tokens: int = 0
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class _Answer:
    first_seconds: float
    read: int
    written: int
    usage: Usage
    estimated: bool


class Trial:
    """Measures one model.

    Args:
        engine, model: which.
        context: tokens of prompt and reply together, the same as for all requests: another would load it anew.
        seconds: that it may take, about; whoever runs it bounds it.
        say: told what is being measured.
        clock: seconds, monotonic.

    Attributes:
        measured: filled on the way, so that what is there counts when time is up.
    """

    def __init__(
        self,
        engine: Engine,
        model: ModelInfo,
        context: int,
        seconds: float,
        say: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._model = model
        self._context = context
        self._seconds = seconds
        self._say = say
        self._clock = clock
        self._random = random.Random()
        self._tokens_a_word = _TOKENS_A_WORD
        self.measured = Measured()

    async def run(self) -> None:
        """Measure everything, the most telling first where the time may not be enough.

        Raises:
            EngineError: the engine fails.
        """
        if self._model.loaded is False:
            self._say("loading the model")
            began = self._clock()
            await self._engine.load(self._model.name, self._context)
            self.measured.load_seconds = self._clock() - began
        self._say("a first reply")
        first = await self._ask(self._text(_STORY, 16), _FIRST_REPLY)
        self._count_reply([first])
        if self._model.loaded is not None:
            self.measured.first_token_seconds = first.first_seconds
        await self._measure_prompt()
        await self._measure_generation(first)
        await self._measure_first_token()

    async def _measure_prompt(self) -> None:
        self._say("reading a prompt")
        most = min(_LONGEST_PROMPT, int(self._context * _ROOM))
        tokens = min(_FIRST_PROMPT, most)
        for _ in range(2):
            answer = await self._ask(self._text("", int(tokens / self._tokens_a_word)), 1)
            # What an engine cannot tell is not made up from the time that it took in all.
            if answer.read <= 0 or answer.usage.prompt_seconds <= 0:
                return
            self.measured.prompt_speed = answer.read / answer.usage.prompt_seconds
            self.measured.prompt_tokens = answer.read
            longer = min(most, int(self.measured.prompt_speed * self._seconds * _SHARE))
            if longer < 2 * tokens:
                return
            tokens = longer

    async def _measure_generation(self, first: _Answer) -> None:
        self._say("writing")
        speed = self.measured.generation_speed or 1.0
        bound = min(_LONGEST_REPLY, int(self._context * (1 - _ROOM)), int(speed * self._seconds * _SHARE))
        if bound <= first.written:
            return
        words = min(_STORY_WORDS, int(self._context * _STORY_ROOM / self._tokens_a_word))
        answers: list[_Answer] = []
        # Some models end early.
        while sum(answer.written for answer in answers) < min(bound, _ENOUGH) and len(answers) < 3:
            answers.append(await self._ask(self._text(_STORY, words), bound))
        self._count_reply(answers)

    async def _measure_first_token(self) -> None:
        self._say("short messages")
        times: list[float] = []
        for _ in range(_SHORT_TIMES):
            answer = await self._ask(self._text("Say hello to ", 3), _SHORT_REPLY)
            times.append(answer.first_seconds)
            self.measured.first_token_seconds = median(times)

    def _count_reply(self, answers: list[_Answer]) -> None:
        written = sum(answer.written for answer in answers)
        seconds = sum(answer.usage.generation_seconds for answer in answers)
        if written > 1 and seconds > 0:
            self.measured.generation_speed = written / seconds
            self.measured.reply_tokens = written
            self.measured.estimated = any(answer.estimated for answer in answers)

    def _text(self, beginning: str, words: int) -> str:
        # At the very beginning, or the engine has that in its cache.
        return " ".join([*self._random.choices(_WORDS, k=3), beginning, *self._random.choices(_WORDS, k=max(words, 1))])

    async def _ask(self, text: str, max_tokens: int) -> _Answer:
        request = CompletionRequest(
            model=self._model.name,
            messages=(ChatMessage("user", text),),
            options=GenerationOptions(temperature=0.7, max_tokens=max_tokens),
            context_length=self._context,
            expected_prompt_tokens=bytes_estimate(text) + MESSAGE_OVERHEAD,
        )
        began, first, said = self._clock(), None, []
        usage = Usage(None, None, 0, 0, 0)
        async with aclosing(self._engine.complete(request)) as events:
            async for event in events:
                if isinstance(event, Delta):
                    first = first or self._clock()
                    said.append(event.text)
                elif isinstance(event, Done):
                    usage = event.usage
        if usage.prompt_tokens is not None:
            self._tokens_a_word = max(usage.prompt_tokens / len(text.split()), 1.0)
        written = usage.reply_tokens if usage.reply_tokens is not None else bytes_estimate("".join(said))
        return _Answer(
            first_seconds=(first or self._clock()) - began,
            read=(usage.prompt_tokens or 0) - (usage.cached_tokens or 0),
            written=written,
            usage=usage,
            estimated=usage.reply_tokens is None,
        )
