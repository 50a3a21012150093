"""One model in this process: its weights, its tokenizer, and the key-value caches of the conversations it has.

Everything here blocks and runs on the engine's worker thread, where torch is imported.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from app.engines.base import Completion, CompletionRequest, Delta, Done, FinishReason, Reading, Usage
from app.engines.local_batch import Cancelled, generate_together
from app.engines.local_cache import Conversation, ConversationCaches
from app.engines.local_errors import LABEL, words, work_failure
from app.engines.local_reply import ReplyText
from app.engines.local_sampling import Sampling, seeded
from app.engines.local_text import TextStream
from app.errors import EngineError, EngineRefused, PromptTooLong, Unsupported

# Tokens of the prompt read at once: Stop takes effect in between, and the page sees how far it is.
PREFILL: Final = 64
# Parameters up to which a CPU works with one thread: a step of so small a model is shorter than two threads take to
# meet. Measured with the guide on 2 cores that had other work too: 180 to 350 tokens a second, 50 to 60 with two.
_TINY: Final = 20_000_000
_THINK: Final = "<think>"
# Tokens of a text that are decoded again with what goes on with it.
_BEFORE: Final = 6

Emit = Callable[[Reading | Delta], None]


class LocalModel:
    """A causal chat model, loaded. Made by `local_loading.load_model`.

    Attributes:
        device: where it is: `cpu`, `cuda` or `mps`.
        load_seconds: what loading it took.
        stops: texts that end a reply, where a plain chat template stands in for the model's own.
        context_length: the most tokens that it was made for, None where it does not say.
    """

    def __init__(
        self,
        name: str,
        model: Any,
        tokenizer: Any,
        *,
        device: str,
        caches: int,
        load_seconds: float,
        stops: Sequence[str] = (),
    ) -> None:
        from transformers import DynamicCache, GenerationConfig

        self.name = name
        self.device = device
        self.load_seconds = load_seconds
        self.stops = tuple(stops)
        config = model.config.get_text_config()
        self.context_length: int | None = getattr(config, "max_position_embeddings", None)
        self._model = model
        self._tokenizer = tokenizer
        # Fast tokenizers refuse a second thread with an error ("Already borrowed").
        self._tokenizing = threading.Lock()
        self._caches = ConversationCaches(lambda: DynamicCache(config=model.config), caches)
        self._sampling = Sampling.of(model.generation_config, tokenizer)
        self._one_thread = device == "cpu" and model.num_parameters() <= _TINY
        # What is not asked for stays off, whatever the file says: several beams, for one, can't be streamed.
        model.generation_config = GenerationConfig()

    def count(self, text: str) -> int:
        """Tokens of `text`. May be called from any thread."""
        return len(self._tokenize(text))

    def _tokenize(self, text: str, *, raw: bool = False) -> list[int]:
        """Raw text gets what the tokenizer puts around any text, such as a token for its beginning."""
        with self._tokenizing:
            return list(self._tokenizer(text, add_special_tokens=raw, verbose=False)["input_ids"])

    def complete(self, request: CompletionRequest, *, cancel: threading.Event, emit: Emit) -> Done:
        """Answer a request.

        Args:
            request: what was asked.
            cancel: set by the reader to give it up.
            emit: called with the progress of reading, then with the reply's pieces.

        Raises:
            Cancelled: it was given up.
            PromptTooLong: the prompt leaves no room for a reply.
            EngineRefused: the chat template does not take these messages.
            Unsupported: there are functions among them.
        """
        with _threads(1 if self._one_thread else None):
            return self._complete(request, cancel, emit)

    def _complete(self, request: CompletionRequest, cancel: threading.Event, emit: Emit) -> Done:
        prompt = request.messages[-1].content if request.raw else self._render(request)
        ids = self._tokenize(prompt, raw=request.raw)
        max_tokens = self._room(request, ids)
        conversation = self._caches.take(request.conversation, ids)
        cached = len(conversation.ids)
        began = time.monotonic()
        try:
            self._read(conversation, ids, cancel, emit)
        except Cancelled:
            self._caches.keep(request.conversation, conversation)
            raise
        read = time.monotonic()
        text = ReplyText(request, emit, inside=prompt.rstrip().endswith(_THINK), stops=self.stops)
        reply, reason = self._write(conversation, ids, max_tokens, request, cancel, text)
        ended = time.monotonic()
        # The last token was sampled, but not read any more.
        conversation.ids = ids + reply[:-1]
        self._caches.keep(request.conversation, conversation)
        if cancel.is_set():
            raise Cancelled
        text.flush()
        return Done(reason, Usage(len(ids), len(reply), 0.0, read - began, ended - read, cached))

    def complete_batch(
        self, requests: Sequence[CompletionRequest], *, cancel: threading.Event, tick: Callable[[], None]
    ) -> list[Completion | EngineError]:
        """Generate what follows several raw prompts; see `BatchEngine.complete_batch`.

        Args:
            tick: called after each step.

        Raises:
            Cancelled: it was given up.
        """
        results: dict[int, Completion | EngineError] = {}
        wanted: dict[int, tuple[CompletionRequest, Sequence[int], int]] = {}
        for number, request in enumerate(requests):
            ids = self._tokenize(request.messages[-1].content, raw=True)
            try:
                wanted[number] = request, ids, self._room(request, ids)
            except EngineError as problem:
                results[number] = problem
        if wanted:
            results.update(zip(wanted, self._together(list(wanted.values()), cancel, tick), strict=True))
        return [results[number] for number in range(len(requests))]

    def _together(
        self,
        wanted: Sequence[tuple[CompletionRequest, Sequence[int], int]],
        cancel: threading.Event,
        tick: Callable[[], None],
    ) -> Sequence[Completion | EngineError]:
        try:
            with _threads(1 if self._one_thread else None):
                return generate_together(
                    self._model,
                    self._tokenizer,
                    self._sampling,
                    wanted,
                    device=self.device,
                    piece=PREFILL,
                    cancel=cancel,
                    tick=tick,
                )
        except Cancelled:
            raise
        except Exception as problem:  # noqa: BLE001 - torch and transformers raise whatever they like
            return [work_failure(self.name, problem)] * len(wanted)

    def _room(self, request: CompletionRequest, ids: Sequence[int]) -> int:
        """The most tokens that the reply to these may have.

        Raises:
            PromptTooLong: none.
            EngineRefused: there is nothing to read.
        """
        limit = min(request.context_length, self.context_length or request.context_length)
        if len(ids) + 1 > limit:
            raise PromptTooLong(engine=LABEL, tokens=len(ids), limit=limit)
        if not ids:
            raise EngineRefused(engine=LABEL, detail="the text has no tokens")
        return min(request.options.max_tokens, limit - len(ids))

    def _render(self, request: CompletionRequest) -> str:
        if request.uses_tools:
            raise Unsupported(parameter="tools", model=self.name, engine=LABEL)
        messages = [{"role": message.role, "content": message.content} for message in request.messages]
        try:
            text = self._tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                add_generation_prompt=not request.continues,
                continue_final_message=request.continues,
                enable_thinking=request.options.think,
            )
        except Exception as problem:  # noqa: BLE001 - templates raise what they like, e.g. for a system message
            raise EngineRefused(engine=LABEL, detail=words(problem)) from None
        return str(text)

    def _read(self, conversation: Conversation, ids: list[int], cancel: threading.Event, emit: Emit) -> None:
        """Read all of the prompt but its last token, piece by piece."""
        import torch

        end = len(ids) - 1
        with torch.inference_mode():
            while True:
                at = len(conversation.ids)
                emit(Reading(at, len(ids)))
                if cancel.is_set():
                    raise Cancelled
                if at == end:
                    return
                piece = ids[at : min(at + PREFILL, end)]
                self._model(
                    input_ids=torch.tensor([piece], device=self.device),
                    attention_mask=torch.ones(1, at + len(piece), dtype=torch.long, device=self.device),
                    past_key_values=conversation.cache,
                    use_cache=True,
                    logits_to_keep=1,
                )
                conversation.ids = ids[: at + len(piece)]

    def _write(
        self,
        conversation: Conversation,
        ids: list[int],
        max_tokens: int,
        request: CompletionRequest,
        cancel: threading.Event,
        text: ReplyText,
    ) -> tuple[list[int], FinishReason]:
        """Read the prompt's last token and write the reply.

        Returns:
            The reply's tokens, at least one, the one that ended it included; and why it ended.
        """
        import torch
        from transformers import StoppingCriteriaList

        own = self._sampling

        def ended(input_ids: Any, scores: Any, **_: Any) -> Any:
            end = cancel.is_set() or text.stopped
            return torch.full((input_ids.shape[0],), end, dtype=torch.bool, device=input_ids.device)

        with torch.inference_mode(), seeded(request.options.seed, self.device):
            output = self._model.generate(
                input_ids=torch.tensor([ids], device=self.device),
                attention_mask=torch.ones(1, len(ids), dtype=torch.long, device=self.device),
                past_key_values=conversation.cache,
                stopping_criteria=StoppingCriteriaList([ended]),
                streamer=TextStream(self._tokenizer, text.feed, ids[-_BEFORE:] if request.continues else ()),
                **own.arguments(request.options, max_tokens, len(ids)),
            )
        reply = output[0, len(ids) :].tolist()
        return reply, "stop" if text.stopped or reply[-1] in own.end_ids else "length"

    def forget(self) -> None:
        """Drop the caches of all conversations."""
        self._caches.clear()


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Let torch work with so many threads; None: with as many as it does."""
    import torch

    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
