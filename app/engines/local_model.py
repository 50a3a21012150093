"""One model in this process: its weights, its tokenizer, and the key-value caches of the conversations it has.

Everything here blocks and runs on the engine's worker thread, where torch is imported.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from app.engines.base import CompletionRequest, Delta, Done, FinishReason, Reading, Usage
from app.engines.local_cache import Conversation, ConversationCaches
from app.engines.local_errors import LABEL, words
from app.engines.local_text import TextStream
from app.engines.reasoning import ThinkSplitter
from app.errors import EngineRefused, PromptTooLong

# Tokens of the prompt read at once: Stop takes effect in between, and the page sees how far it is.
PREFILL: Final = 64
# Parameters up to which a CPU works with one thread: a step of so small a model is shorter than two threads take to
# meet. Measured with the guide on 2 cores that had other work too: 180 to 350 tokens a second, 50 to 60 with two.
_TINY: Final = 20_000_000
_THINK: Final = "<think>"

Emit = Callable[[Reading | Delta], None]


class Cancelled(Exception):
    """The completion was given up by its reader."""


@dataclass(frozen=True, slots=True)
class _Sampling:
    """What the model's own generation_config.json says and a request does not."""

    end_ids: tuple[int, ...]
    pad_id: int
    top_k: int
    repetition_penalty: float


class LocalModel:
    """A causal chat model, loaded. Made by `local_loading.load_model`.

    Attributes:
        device: where it is: `cpu`, `cuda` or `mps`.
        load_seconds: what loading it took.
        context_length: the most tokens that it was made for, None where it does not say.
    """

    def __init__(self, name: str, model: Any, tokenizer: Any, *, device: str, caches: int, load_seconds: float) -> None:
        from transformers import DynamicCache, GenerationConfig

        self.name = name
        self.device = device
        self.load_seconds = load_seconds
        config = model.config.get_text_config()
        self.context_length: int | None = getattr(config, "max_position_embeddings", None)
        self._model = model
        self._tokenizer = tokenizer
        # Fast tokenizers refuse a second thread with an error ("Already borrowed").
        self._tokenizing = threading.Lock()
        self._caches = ConversationCaches(lambda: DynamicCache(config=model.config), caches)
        self._sampling = _sampling(model.generation_config, tokenizer)
        self._one_thread = device == "cpu" and model.num_parameters() <= _TINY
        # What is not asked for stays off, whatever the file says: several beams, for one, can't be streamed.
        model.generation_config = GenerationConfig()

    def count(self, text: str) -> int:
        """Tokens of `text`. May be called from any thread."""
        return len(self._tokenize(text))

    def _tokenize(self, text: str) -> list[int]:
        with self._tokenizing:
            return list(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

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
        """
        with _threads(1 if self._one_thread else None):
            return self._complete(request, cancel, emit)

    def _complete(self, request: CompletionRequest, cancel: threading.Event, emit: Emit) -> Done:
        prompt = self._render(request)
        ids = self._tokenize(prompt)
        limit = min(request.context_length, self.context_length or request.context_length)
        if len(ids) + 1 > limit:
            raise PromptTooLong(engine=LABEL, tokens=len(ids), limit=limit)
        conversation = self._caches.take(request.conversation, ids)
        cached = len(conversation.ids)
        began = time.monotonic()
        try:
            self._read(conversation, ids, cancel, emit)
        except Cancelled:
            self._caches.keep(request.conversation, conversation)
            raise
        read = time.monotonic()
        splitter = ThinkSplitter(inside=prompt.rstrip().endswith(_THINK))

        def split(text: str) -> None:
            for delta in splitter.feed(text):
                emit(delta)

        max_tokens = min(request.options.max_tokens, limit - len(ids))
        reply, reason = self._write(conversation, ids, max_tokens, request, cancel, split)
        ended = time.monotonic()
        # The last token was sampled, but not read any more.
        conversation.ids = ids + reply[:-1]
        self._caches.keep(request.conversation, conversation)
        if cancel.is_set():
            raise Cancelled
        for delta in splitter.flush():
            emit(delta)
        return Done(reason, Usage(len(ids), len(reply), 0.0, read - began, ended - read, cached))

    def _render(self, request: CompletionRequest) -> str:
        messages = [{"role": message.role, "content": message.content} for message in request.messages]
        try:
            text = self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, enable_thinking=request.options.think
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
        on_text: Callable[[str], None],
    ) -> tuple[list[int], FinishReason]:
        """Read the prompt's last token and write the reply.

        Returns:
            The reply's tokens, at least one, the one that ended it included; and why it ended.
        """
        import torch
        from transformers import GenerationConfig, StoppingCriteriaList

        own, options = self._sampling, request.options
        sampled = options.temperature > 0
        config = GenerationConfig(
            max_new_tokens=max_tokens,
            do_sample=sampled,
            eos_token_id=list(own.end_ids) or None,
            pad_token_id=own.pad_id,
            repetition_penalty=own.repetition_penalty,
            **({"temperature": options.temperature, "top_p": options.top_p, "top_k": own.top_k} if sampled else {}),
        )

        def given_up(input_ids: Any, scores: Any, **_: Any) -> Any:
            return torch.full((input_ids.shape[0],), cancel.is_set(), dtype=torch.bool, device=input_ids.device)

        with torch.inference_mode():
            output = self._model.generate(
                input_ids=torch.tensor([ids], device=self.device),
                attention_mask=torch.ones(1, len(ids), dtype=torch.long, device=self.device),
                past_key_values=conversation.cache,
                generation_config=config,
                stopping_criteria=StoppingCriteriaList([given_up]),
                streamer=TextStream(self._tokenizer, on_text),
            )
        reply = output[0, len(ids) :].tolist()
        return reply, "stop" if reply[-1] in own.end_ids else "length"

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


def _sampling(defaults: Any, tokenizer: Any) -> _Sampling:
    ends = sorted({*_ids(defaults.eos_token_id), *_ids(tokenizer.eos_token_id)})
    pads = (*_ids(tokenizer.pad_token_id), *ends, 0)
    return _Sampling(
        end_ids=tuple(ends),
        pad_id=pads[0],
        top_k=getattr(defaults, "top_k", None) or 0,  # 0: off
        repetition_penalty=getattr(defaults, "repetition_penalty", None) or 1.0,
    )


def _ids(found: int | Sequence[int] | None) -> tuple[int, ...]:
    return () if found is None else (found,) if isinstance(found, int) else tuple(found)
