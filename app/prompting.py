"""What is asked of an engine: a conversation, cut to the model's context, with how the reply is to be made."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from app.context import Budget
from app.engines.base import CompletionRequest, Engine, GenerationOptions, ModelInfo
from app.engines.catalog import Catalog
from app.history import Prompt, SessionHistory, StoredMessage
from app.tokens import MESSAGE_OVERHEAD, TokenEstimator


@dataclass(frozen=True, slots=True)
class ReplyOptions:
    """What a visitor or a program can choose for a reply.

    Attributes:
        model: a model's id, name or alias.
        system: the system prompt; empty: none.
        generation: how the reply is sampled.
        strict: the model reads the whole conversation; one that does not fit is refused, not cut.
        raw: the question is the prompt as it stands, without the model's chat template.
    """

    model: str
    system: str = ""
    generation: GenerationOptions = field(default_factory=GenerationOptions)
    strict: bool = False
    raw: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, and how it was made.

    Attributes:
        estimate: tokens of a text that the model has not counted yet, as they were taken for the prompt.
    """

    prompt: Prompt
    request: CompletionRequest
    estimate: Callable[[str], int]


class Prompting:
    """Makes requests of conversations.

    Args:
        catalog: knows the models' contexts.
        estimator: token counts of what no engine has seen.
        window_low: share of the conversation's room that stays after a cut.
    """

    def __init__(self, catalog: Catalog, estimator: TokenEstimator, window_low: float) -> None:
        self._catalog = catalog
        self._estimator = estimator
        self._window_low = window_low

    async def request(
        self,
        engine: Engine,
        model: ModelInfo,
        history: SessionHistory,
        options: ReplyOptions,
        begun: StoredMessage | None = None,
    ) -> Asked:
        """The request for the last question of a conversation, which has no answer yet, or only its beginning.

        Args:
            engine, model: who is asked.
            history: the conversation.
            options: how the reply is made.
            begun: the answer so far, to be gone on with. A model thinks before an answer, not within it.

        Raises:
            MessageTooLong, SystemPromptTooLong, ConversationTooLong, ReplyTooLong: as `SessionHistory.prompt`.
            EngineError: the engine could not count.
        """
        question = history.last.question.text if history.last is not None else ""
        counts = await _counts(engine, model, options.system, question, "" if begun is None else begun.text)
        return self._asked(model, history, options, counts, begun)

    async def ahead(self, engine: Engine, model: ModelInfo, history: SessionHistory, options: ReplyOptions) -> Asked:
        """The request that the next question will make, as far as it can be known before: an empty question ends it.

        Raises:
            SystemPromptTooLong: there is no room for a question at all.
            EngineError: the engine could not count.
        """
        counts = await _counts(engine, model, options.system)
        with history.next_question():
            return self._asked(model, history, options, counts)

    def _asked(
        self,
        model: ModelInfo,
        history: SessionHistory,
        options: ReplyOptions,
        counts: Mapping[str, int],
        begun: StoredMessage | None = None,
    ) -> Asked:
        """`counts`: tokens of texts that are known."""
        scale = history.scale(model.id, self._estimator.count)

        def estimate(text: str) -> int:
            return counts.get(text) or self._estimator.estimate(model.id, text, scale)

        budget = self._budget(model, options, estimate)
        prompt = history.prompt(options.system, model.id, budget, estimate, strict=options.strict, begun=begun)
        generation = options.generation
        request = CompletionRequest(
            model=model.name,
            messages=prompt.messages,
            options=replace(
                generation,
                max_tokens=min(generation.max_tokens, prompt.window.reply),
                think=generation.think and model.can_think and begun is None,
            ),
            context_length=budget.context,
            conversation=None if options.raw else history.conversation,  # such a text does not come back
            expected_prompt_tokens=prompt.window.tokens,
            raw=options.raw,
        )
        return Asked(prompt, request, estimate)

    def _budget(self, model: ModelInfo, options: ReplyOptions, estimate: Callable[[str], int]) -> Budget:
        generation = options.generation
        base = estimate(options.system) if options.system else MESSAGE_OVERHEAD
        if generation.tools:
            base += estimate(json.dumps(generation.tools, ensure_ascii=False))
        return Budget.of(self._catalog.context_length(model), generation.max_tokens, base, self._window_low)


async def _counts(engine: Engine, model: ModelInfo, *texts: str) -> dict[str, int]:
    """What texts take by the model's own tokenizer, where the engine offers it."""
    counts = {}
    for text in filter(None, texts):
        count = await engine.count_tokens(model.name, text)
        if count is not None:
            counts[text] = count + MESSAGE_OVERHEAD
    return counts
