"""One model in this process: its weights, its tokenizer, and the key-value caches of the conversations it has.

Everything here blocks and runs on the engine's worker thread; torch is imported when the first model is loaded.
"""

from __future__ import annotations

import gc
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from app.engines.base import CompletionRequest, FinishReason, Usage
from app.errors import EngineError, LocalModelsNotInstalled, ModelBroken, OutOfMemory, PromptTooLong

LABEL: Final = "transformers"
# Tokens of the prompt read at once: Stop takes effect in between, and the page sees how far it is.
_PREFILL: Final = 64
# Weights above this size in parameters are kept in 16 bits also on a CPU, for the sake of memory.
_SMALL: Final = 300_000_000
_MEMORY_WORDS: Final = ("out of memory", "not enough memory", "can't allocate memory")


class Cancelled(Exception):
    """The completion was given up by its reader."""


@dataclass(slots=True)
class Conversation:
    """A key-value cache, and the token ids whose keys and values it holds."""

    cache: Any
    ids: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Completion:
    """How a completion ended."""

    finish_reason: FinishReason
    usage: Usage


class LocalModel:
    """A causal chat model, loaded.

    Args:
        name: what users call it.
        folder: with config, weights and tokenizer; nothing is fetched.
        device: auto, cpu, cuda or mps.
        caches: conversations whose cache is kept, the one unused longest goes first.

    Raises:
        LocalModelsNotInstalled: torch or transformers is missing.
        ModelBroken: the folder holds no model that can be loaded.
        OutOfMemory: there is not enough memory for it.
    """

    def __init__(self, name: str, folder: Path, *, device: str, caches: int) -> None:
        try:
            import torch
            from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig
        except ImportError as problem:
            raise LocalModelsNotInstalled(engine=LABEL, detail=str(problem)) from None
        self.name = name
        self.device = _device(device)
        self._caches = caches
        self._conversations: OrderedDict[str, Conversation] = OrderedDict()
        began = time.monotonic()
        try:
            self._config = AutoConfig.from_pretrained(folder, local_files_only=True)
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self._model = AutoModelForCausalLM.from_pretrained(
                folder, local_files_only=True, dtype=self._dtype(folder)
            ).to(self.device)
            self._model.eval()
            self._defaults = self._model.generation_config
        except Exception as problem:  # noqa: BLE001 - each library on the way has its own errors for a broken file
            raise self.error(problem) from None
        self._generation_config = GenerationConfig
        self._torch = torch
        self._end_ids = _end_ids(self._defaults.eos_token_id, self._tokenizer.eos_token_id)
        self.load_seconds = time.monotonic() - began
        self.context_length = int(getattr(self._config, "max_position_embeddings", 0) or 0)

    def _dtype(self, folder: Path) -> Any:
        """float32 for a small model on a CPU, where it is faster; what the files say elsewhere."""
        import torch

        bytes_on_disk = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        return torch.float32 if self.device == "cpu" and bytes_on_disk < 2 * _SMALL else "auto"

    def error(self, problem: Exception) -> EngineError:
        """The typed error for what torch or transformers has raised."""
        if isinstance(problem, EngineError):
            return problem
        words = " ".join(str(problem).split())
        if isinstance(problem, MemoryError) or any(sign in words.lower() for sign in _MEMORY_WORDS):
            return OutOfMemory(engine=LABEL, model=self.name)
        return ModelBroken(engine=LABEL, model=self.name, detail=words[:200] or type(problem).__name__)

    def count(self, text: str) -> int:
        """Tokens of `text`."""
        return len(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def complete(
        self,
        request: CompletionRequest,
        *,
        cancel: threading.Event,
        on_progress: Callable[[int, int], None],
        on_text: Callable[[str], None],
    ) -> Completion:
        """Answer a request.

        Args:
            request: what was asked.
            cancel: set by the reader to give it up.
            on_progress: called with tokens read and tokens in all while the prompt is read.
            on_text: called with each piece of the reply.

        Raises:
            Cancelled: it was given up.
            PromptTooLong: the prompt leaves no room for a reply.
        """
        ids = self._render(request)
        limit = min(request.context_length, self.context_length or request.context_length)
        if len(ids) >= limit:
            raise PromptTooLong(engine=LABEL, tokens=len(ids), limit=limit)
        conversation, cached = self._conversation(request.conversation, ids)
        began = time.monotonic()
        try:
            self._read(conversation, ids, cancel, on_progress)
            read = time.monotonic()
            reply, reason = self._write(
                conversation, ids, min(request.options.max_tokens, limit - len(ids)), request, cancel, on_text
            )
        except Cancelled:
            raise  # in between two pieces: the cache holds what `conversation.ids` says
        except BaseException:
            # Whether the cache and the ids agree is not known any more, and a wrong cache gives wrong text in silence.
            self._conversations.pop(request.conversation or "", None)
            raise
        now = time.monotonic()
        held = conversation.cache.get_seq_length()
        conversation.ids = (ids + reply)[:held]
        if cancel.is_set():
            raise Cancelled
        return Completion(reason, Usage(len(ids), len(reply), 0.0, read - began, now - read, cached_tokens=cached))

    def _render(self, request: CompletionRequest) -> list[int]:
        messages = [{"role": message.role, "content": message.content} for message in request.messages]
        rendered = self._tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True, enable_thinking=request.options.think
        )
        return list(rendered["input_ids"])

    def _conversation(self, name: str | None, ids: Sequence[int]) -> tuple[Conversation, int]:
        """The cache for a conversation, cut back to what it shares with the new prompt, and how many tokens that is."""
        from transformers import DynamicCache

        known = self._conversations.pop(name, None) if name is not None else None
        if known is not None:
            shared = 0
            for have, want in zip(known.ids, ids[:-1], strict=False):  # the last token is always read anew
                if have != want:
                    break
                shared += 1
            extra = known.cache.get_seq_length() - shared
            if extra > 0:
                known.cache.crop(-extra)  # a negative number of tokens to remove
            known.ids = list(ids[:shared])
            if known.cache.get_seq_length() != shared:  # a cache that cannot be cut (sliding attention) starts anew
                known = None
        conversation = known or Conversation(DynamicCache(config=self._config))
        if name is not None:
            self._conversations[name] = conversation
            while len(self._conversations) > self._caches:
                self._conversations.popitem(last=False)
        return conversation, len(conversation.ids)

    def _read(
        self,
        conversation: Conversation,
        ids: list[int],
        cancel: threading.Event,
        on_progress: Callable[[int, int], None],
    ) -> None:
        """Read all of the prompt but its last token, piece by piece."""
        torch = self._torch
        at, end = len(conversation.ids), len(ids) - 1
        with torch.inference_mode():
            while at < end:
                if cancel.is_set():
                    raise Cancelled
                on_progress(at, len(ids))
                piece = ids[at : min(at + _PREFILL, end)]
                self._model(
                    input_ids=torch.tensor([piece], device=self.device),
                    attention_mask=torch.ones(1, at + len(piece), dtype=torch.long, device=self.device),
                    past_key_values=conversation.cache,
                    use_cache=True,
                    logits_to_keep=1,
                )
                at += len(piece)
                conversation.ids = ids[:at]

    def _write(
        self,
        conversation: Conversation,
        ids: list[int],
        max_tokens: int,
        request: CompletionRequest,
        cancel: threading.Event,
        on_text: Callable[[str], None],
    ) -> tuple[list[int], FinishReason]:
        from transformers import StoppingCriteriaList

        torch = self._torch
        text = _TextStream(self._tokenizer, self._end_ids, on_text)
        options = request.options
        sampled = options.temperature > 0
        sampling = {"temperature": options.temperature, "top_p": options.top_p, "top_k": 0} if sampled else {}
        config = self._generation_config(
            max_new_tokens=max_tokens,
            do_sample=sampled,
            eos_token_id=sorted(self._end_ids) or None,
            pad_token_id=self._tokenizer.pad_token_id or next(iter(sorted(self._end_ids)), 0),
            repetition_penalty=getattr(self._defaults, "repetition_penalty", None) or 1.0,
            **sampling,
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
                streamer=text,
            )
        reply = output[0, len(ids) :].tolist()
        return reply, "stop" if reply and reply[-1] in self._end_ids else "length"

    def forget(self) -> None:
        """Give back the memory of all caches."""
        self._conversations.clear()
        release(self.device)


class _TextStream:
    """A streamer for `generate`: passes on text as soon as it is whole, however its bytes fall on tokens."""

    def __init__(self, tokenizer: Any, end_ids: frozenset[int], on_text: Callable[[str], None]) -> None:
        self._tokenizer = tokenizer
        self._end_ids = end_ids
        self._on_text = on_text
        self._ids: list[int] = []
        self._said = 0
        self._prompt_seen = False

    def put(self, value: Any) -> None:
        """Take the next ids; the first call brings the prompt."""
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        self._ids += [token for token in value.flatten().tolist() if token not in self._end_ids]
        text = self._tokenizer.decode(self._ids, skip_special_tokens=True)
        # A character whose bytes are not all there yet is decoded as U+FFFD.
        if not text.endswith("\ufffd"):
            self._say(text)

    def end(self) -> None:
        self._say(self._tokenizer.decode(self._ids, skip_special_tokens=True))

    def _say(self, text: str) -> None:
        if len(text) > self._said:
            self._on_text(text[self._said :])
            self._said = len(text)
        # What stands before a line's end cannot change any more: keep the text short, or decoding is quadratic.
        if text.endswith("\n"):
            self._ids, self._said = [], 0


def release(device: str) -> None:
    """Give back memory that torch holds for later."""
    import torch

    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
    elif device == "mps":
        torch.mps.empty_cache()


def _device(wanted: str) -> str:
    import torch

    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _end_ids(*found: int | Sequence[int] | None) -> frozenset[int]:
    ids: set[int] = set()
    for some in found:
        ids |= set() if some is None else {some} if isinstance(some, int) else set(some)
    return frozenset(ids)
