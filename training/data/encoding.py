"""Documents as token ids, and which of them are learnt: all of a text, of a conversation the assistant's words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from training.data.documents import Document, Message
from training.data.errors import DataError

# Characters that are made to tokens at once: enough for the tokenizer's threads.
_BATCH: Final = 1_000_000

Tokens = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Rendered:
    """A text for the tokenizer; of a conversation `spans` are where the learnt parts begin and end."""

    text: str
    spans: tuple[tuple[int, int], ...] | None = None
    continues: bool = False


class Encoder:
    """Makes tokens of documents.

    A learnt token is its id; one that is only read is its id's complement, `~id`, which is negative: one number says
    both, in a file and in memory.

    A text gets the tokens that its tokenizer puts around a text, and one that ends it. A conversation is what the
    chat template makes of it. A template that shows an earlier answer otherwise than the last (as Qwen3's, which
    takes out its reasoning) makes one example of each answer, since a reader sees each as the last one once.

    Args:
        tokenizer: a fast one of `transformers`.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        bare, dressed = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
        at = next(at for at in range(len(dressed)) if dressed[at : at + len(bare)] == bare)
        self._before: list[int] = dressed[:at]
        known = tokenizer.get_vocab()
        self._after: list[int] = dressed[at + len(bare) :] or [known.get("<|endoftext|>", tokenizer.eos_token_id)]
        self._end = tokenizer.eos_token or ""

    def encode(self, documents: Iterable[Document]) -> Iterator[tuple[Tokens, int]]:
        """Each example's tokens, and how many bytes of text the learnt ones are.

        A passage that continues the one before it in this very iteration has no token of an end between them.

        Raises:
            DataError: the template cannot show a conversation.
        """
        batch: list[Rendered] = []
        size = 0
        began = False  # a text has begun whose end has not been written
        for document in documents:
            new = list(self.render(document))
            batch += new
            size += sum(len(one.text) for one in new)
            if size >= _BATCH:
                for tokens, bytes_ in self._encode(batch, began):
                    yield tokens, bytes_
                began, batch, size = batch[-1].spans is None, [], 0
        for tokens, bytes_ in self._encode(batch, began):
            yield tokens, bytes_
        began = batch[-1].spans is None if batch else began
        if began:
            yield np.array(self._after, np.int32), 0

    def beginning(self) -> Tokens:
        """What stands before the first document where one is to be foretold from its first token on."""
        return ~np.array(self._after, np.int32)

    def render(self, document: Document) -> Iterator[Rendered]:
        """A document as one text or several, with what is learnt of them.

        Raises:
            DataError: the template refuses the conversation, or does not end with its answer.
        """
        if not document.messages:
            yield Rendered(document.text, continues=document.continues)
            return
        messages = list(document.messages)
        answers = [at for at, message in enumerate(messages) if message["role"] == "assistant"]
        if document.last_only:
            answers = answers[-1:]
        parts = [self._answer(messages[: at + 1]) for at in answers]
        whole = parts[-1][0]
        if all(whole.startswith(text) for text, _ in parts):
            yield Rendered(whole, tuple(span for _, span in parts))
        else:
            yield from (Rendered(text, (span,)) for text, span in parts)

    def _answer(self, messages: list[Message]) -> tuple[str, tuple[int, int]]:
        """A conversation that ends with an answer, and where that is, its end included."""
        whole = self._show(messages)
        # Without reasoning first: an answer of a corpus that has none teaches a model that reasons to answer at once
        # where it is asked to.
        for options in ({"enable_thinking": False}, {}):
            before = self._show(messages[:-1], add_generation_prompt=True, **options)
            if whole.startswith(before) and whole != before:
                end = whole.rfind(self._end, len(before)) if self._end else -1
                return whole, (len(before), end + len(self._end) if end >= 0 else len(whole))
        raise DataError(
            f"the chat template of {self._tokenizer.name_or_path or 'the tokenizer'} does not show an answer after the "
            "prompt for it; give the tokenizer another template (chat_template.jinja)"
        )

    def _show(self, messages: list[Message], **options: Any) -> str:
        try:
            return str(self._tokenizer.apply_chat_template(messages, tokenize=False, **options))
        except Exception as problem:  # noqa: BLE001 - a template raises what it likes
            roles = ", ".join(message["role"] for message in messages)
            raise DataError(f"the chat template cannot show a conversation of {roles}: {problem}") from None

    def _encode(self, batch: list[Rendered], began: bool) -> Iterator[tuple[Tokens, int]]:
        if not batch:
            return
        chats = any(one.spans is not None for one in batch)
        encoded = self._tokenizer(
            [one.text for one in batch],
            add_special_tokens=False,
            return_attention_mask=False,
            return_offsets_mapping=chats,
            verbose=False,
        )
        places = encoded["offset_mapping"] if chats else [()] * len(batch)
        for one, ids, offsets in zip(batch, encoded["input_ids"], places, strict=True):
            tokens = np.array(ids, np.int32)
            around: list[int] = []
            if began and not one.continues:
                around += self._after
            if one.spans is None:
                if not (began and one.continues):
                    around += self._before
                yield np.concatenate([np.array(around, np.int32), tokens]), len(one.text.encode())
            else:
                starts = np.array([start for start, _ in offsets], np.int64)
                learnt = np.zeros(len(tokens), bool)
                for begin, end in one.spans:
                    learnt |= (starts >= begin) & (starts < end)
                bytes_ = sum(len(one.text[begin:end].removesuffix(self._end).encode()) for begin, end in one.spans)
                yield np.concatenate([np.array(around, np.int32), np.where(learnt, tokens, ~tokens)]), bytes_
            began = one.spans is None
