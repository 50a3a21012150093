"""The guide's tokenizer, its chat template, and rows packed for training."""

from itertools import islice
from typing import Any

import pytest

from training.guide.corpus import Message, Writer
from training.guide.knowledge import answers
from training.guide.packing import IGNORED, Packer
from training.guide.tokenizer import END, VOCABULARY, train_tokenizer

CONVERSATION: list[Message] = [
    {"role": "system", "content": "Be Polite?"},
    {"role": "user", "content": "How do I START it?!"},
    {"role": "assistant", "content": "Run `make run`!"},
    {"role": "user", "content": "Спасибо!"},
    {"role": "assistant", "content": "Пожалуйста!"},
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    conversations = list(islice(Writer(1).conversations(), 500))
    return train_tokenizer(message["content"] for conversation in conversations for message in conversation)


def render(tokenizer: Any, messages: list[Message], *, prompt: bool = False) -> list[int]:
    return list(
        tokenizer.apply_chat_template(messages, add_generation_prompt=prompt, tokenize=True, return_dict=True)[
            "input_ids"
        ]
    )


def test_the_vocabulary_is_small_and_holds_every_byte(tokenizer: Any) -> None:
    assert len(tokenizer) <= VOCABULARY
    text = "żółw 🐢 \x01 日本"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_a_longer_conversation_extends_the_shorter_ones_tokens(tokenizer: Any) -> None:
    whole = render(tokenizer, CONVERSATION)
    for length in range(1, len(CONVERSATION) + 1):
        assert whole[: len(part := render(tokenizer, CONVERSATION[:length]))] == part
    asked = render(tokenizer, CONVERSATION[:2], prompt=True)
    assert whole[: len(asked)] == asked


def test_the_template_levels_what_the_user_types_and_nothing_else(tokenizer: Any) -> None:
    text = tokenizer.decode(render(tokenizer, CONVERSATION))
    assert text == (
        "<|im_start|>system\nBe Polite?<|im_end|>\n"
        "<|im_start|>user\nhow do i start it<|im_end|>\n"
        "<|im_start|>assistant\nRun `make run`!<|im_end|>\n"
        "<|im_start|>user\nспасибо<|im_end|>\n"
        "<|im_start|>assistant\nПожалуйста!<|im_end|>\n"
    )


def test_packed_conversations_are_what_the_template_gives(tokenizer: Any) -> None:
    packer = Packer(tokenizer, 1, short=0, split=0)
    for conversation in [CONVERSATION, *islice(Writer(2).conversations(), 200)]:
        assert packer.conversation(conversation)[0] == render(tokenizer, conversation)


def test_only_answers_and_their_ends_count_for_the_loss(tokenizer: Any) -> None:
    ids, labels = Packer(tokenizer, 1, short=0).conversation(CONVERSATION)
    counted = [token for token, label in zip(ids, labels, strict=True) if label != IGNORED]
    assert counted == [label for label in labels if label != IGNORED]
    assert tokenizer.decode(counted) == f"Run `make run`!{END}Пожалуйста!{END}"


def test_of_a_short_conversation_only_the_beginnings_of_answers_count(tokenizer: Any) -> None:
    packer = Packer(tokenizer, 1, short=1, beyond=1)
    told = [text for _, language, text in answers() if language == "en"]
    for answer in told:
        messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": answer}]
        ids, labels = packer.conversation(messages)
        beginning = [label for label in labels if label != IGNORED]
        assert len(ids) == len(labels)
        assert tokenizer.decode(beginning) != answer
        assert [text for text in told if tokenizer(text)["input_ids"][: len(beginning)] == beginning] == [answer]


def test_words_cut_in_two_spell_the_same(tokenizer: Any) -> None:
    packer = Packer(tokenizer, 1, short=0, split=1)
    assert tokenizer.decode(packer.conversation(CONVERSATION)[0]) == tokenizer.decode(render(tokenizer, CONVERSATION))


def test_every_row_is_full_and_begins_with_a_conversation(tokenizer: Any) -> None:
    packer, conversations = Packer(tokenizer, 1), Writer(3).conversations()
    start = tokenizer.convert_tokens_to_ids("<|im_start|>")
    for _ in range(10):
        ids, labels = packer.row(conversations, 128)
        assert len(ids) == len(labels) == 128
        assert ids[0] == start
