"""The guide's tokenizer, its chat template, and rows packed for training."""

from collections import Counter
from itertools import islice
from typing import Any, Final, get_args

import pytest

from training.guide.corpus import Message, Writer
from training.guide.knowledge import answers
from training.guide.packing import IGNORED, Kept, Packer, Row
from training.guide.tokenizer import ASSISTANT, END, SYSTEM, USER, VOCABULARY, levelled, train_tokenizer

CONVERSATION: list[Message] = [
    {"role": "system", "content": "Be Polite, friend?"},
    {"role": "user", "content": "Hey, how do I START it?!"},
    {"role": "assistant", "content": "Run `make run`, friend!"},
    {"role": "user", "content": "Ещё раз спасибо!"},
    {"role": "assistant", "content": "Пожалуйста, зовите ещё!"},
]
TAUGHT: Final[list[Kept]] = ["begun", "shown", "recited"]  # under the questions that ask for them


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
        "<|system|>Be Polite, friend?<|end|>"
        "<|user|>hey how do i start it<|end|>"
        "<|assistant|>Run `make run`, friend!<|end|>"
        "<|user|>еще раз спасибо<|end|>"
        "<|assistant|>Пожалуйста, зовите ещё!<|end|>"
    )
    for message in CONVERSATION:
        if message["role"] == "user":
            assert f"<|user|>{levelled(message['content'])}<|end|>" in text


def test_each_mark_of_the_template_is_one_token(tokenizer: Any) -> None:
    marks = (USER, ASSISTANT, SYSTEM, END)
    assert [tokenizer(mark)["input_ids"] for mark in marks] == [
        [tokenizer.convert_tokens_to_ids(mark)] for mark in marks
    ]
    assert tokenizer.eos_token == END
    assert len({tokenizer.convert_tokens_to_ids(mark) for mark in marks} - {tokenizer.unk_token_id}) == len(marks)


def test_packed_conversations_are_what_the_template_gives(tokenizer: Any) -> None:
    packer = Packer(tokenizer, 1, split=0)
    for conversation in [CONVERSATION, *islice(Writer(2).conversations(), 200)]:
        row = packer.conversation(conversation, "recited")
        assert row.ids == render(tokenizer, conversation)
        assert row.places == list(range(len(row.ids)))


def test_only_answers_and_their_ends_count_for_the_loss(tokenizer: Any) -> None:
    row = Packer(tokenizer, 1).conversation(CONVERSATION, "recited")
    counted = [token for token, label in zip(row.ids, row.labels, strict=True) if label != IGNORED]
    assert counted == [label for label in row.labels if label != IGNORED]
    assert tokenizer.decode(counted) == f"Run `make run`, friend!{END}Пожалуйста, зовите ещё!{END}"


def test_of_a_cut_answer_only_the_beginning_counts_that_tells_it_from_the_others(tokenizer: Any) -> None:
    packer = Packer(tokenizer, 1)
    told = [text for (_, language), text in answers().items() if language == "en"]
    for answer in told:
        messages: list[Message] = [{"role": "user", "content": "?"}, {"role": "assistant", "content": answer}]
        row = packer.conversation(messages, "begun")
        beginning = [label for label in row.labels if label != IGNORED]
        assert len(row.ids) == len(row.labels)
        assert tokenizer.decode(beginning) != answer
        assert [text for text in told if tokenizer(text)["input_ids"][: len(beginning)] == beginning] == [answer]


def test_an_answer_that_is_shown_stands_there_whole_and_counts_as_one_that_is_cut(tokenizer: Any) -> None:
    packer = Packer(tokenizer, 1, split=0)
    told = next(iter(answers().values()))
    messages: list[Message] = [{"role": "user", "content": "?"}, {"role": "assistant", "content": told}]
    shown, begun = packer.conversation(messages, "shown"), packer.conversation(messages, "begun")
    assert shown.ids == packer.conversation(messages, "recited").ids
    counted = [[label for label in row.labels if label != IGNORED] for row in (shown, begun)]
    assert counted[0] == counted[1]
    assert all(label in (IGNORED, token) for token, label in zip(shown.ids, shown.labels, strict=True))


def test_an_answer_that_stands_under_any_question_is_known_from_its_first_tokens_on(tokenizer: Any) -> None:
    packer = Packer(tokenizer, 1)
    told = [tokenizer(text)["input_ids"] for text in answers().values()]
    end = tokenizer.convert_tokens_to_ids(END)
    one = next(iter(answers().values()))
    asked: list[Message] = [{"role": "user", "content": "?"}, {"role": "assistant", "content": one, "shares": {one: 1}}]
    seen = set()
    for _ in range(40 * len(told)):
        row = packer.conversation(asked, "strayed")
        begins = row.ids.index(tokenizer.convert_tokens_to_ids(ASSISTANT)) + 1
        answer = row.ids[begins:-1]
        seen.add(told.index(answer))
        assert row.ids[-1] == row.labels[-1] == end
        assert row.taught == []
        silent = row.labels.count(IGNORED)
        assert row.labels[silent:] == row.ids[silent:]
        beginning = row.ids[begins:silent]
        assert [other for other in told if other[: len(beginning)] == beginning] == [answer]
        assert beginning[:-1] == [] or sum(other[: len(beginning) - 1] == beginning[:-1] for other in told) > 1
    assert len(seen) == len(told)


def test_each_kind_is_as_frequent_as_it_is_to_be(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    packer, seen = Packer(tokenizer, 1), Counter[str]()

    def conversation(messages: list[Message], kept: Kept) -> Row:
        seen[kept] += 1
        return Row([0], [0], [0])

    monkeypatch.setattr(packer, "conversation", conversation)
    packer.row(iter(lambda: CONVERSATION, None), 10_000, {"shown": 0.2, "recited": 0.1, "strayed": 0.05})
    shares = {kept: count / 10_000 for kept, count in seen.items()}
    assert shares == pytest.approx({"begun": 0.65, "shown": 0.2, "recited": 0.1, "strayed": 0.05}, abs=0.02)


def test_what_a_teacher_thinks_stands_at_each_token_that_decides(tokenizer: Any) -> None:
    packer = Packer(tokenizer, 1)
    texts = [text for (_, language), text in answers().items() if language == "en"]
    first = {text: tokenizer(text)["input_ids"][0] for text in texts}
    # Two answers that begin alike, and one that does not.
    one, other = next((a, b) for a in texts for b in texts if a < b and first[a] == first[b])
    third = next(text for text in texts if first[text] != first[one])
    shares = {one: 0.5, other: 0.25, third: 0.25}
    asked: list[Message] = [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": one, "shares": shares},
    ]
    for kept in TAUGHT:
        row = packer.conversation(asked, kept)
        at = next(place for place, label in enumerate(row.labels) if label != IGNORED)
        begun = {token: share for place, token, share in row.taught if place == at}
        assert begun == {first[one]: 0.75, first[third]: 0.25}
        ids = tokenizer(one)["input_ids"], tokenizer(other)["input_ids"]
        parts = next(size for size, (a, b) in enumerate(zip(*ids, strict=False)) if a != b)
        apart = {token: share for place, token, share in row.taught if place == at + parts}
        assert apart == pytest.approx({ids[0][parts]: 2 / 3, ids[1][parts]: 1 / 3})
        assert all(row.labels[place] != IGNORED for place, _, _ in row.taught)


@pytest.mark.parametrize("split", [0, 1])
def test_right_after_a_questions_beginning_stands_how_the_answers_to_it_begin(tokenizer: Any, split: float) -> None:
    texts = [text for (_, language), text in answers().items() if language == "en"]
    first = {text: tokenizer(text)["input_ids"][0] for text in texts}
    one = texts[0]
    other = next(text for text in texts if first[text] != first[one])
    asked: list[Message] = [
        {
            "role": "user",
            "content": "Ещё: what, Does it COST me?",
            "foreseen": {2: {one: 1.0}, 4: {one: 0.2, other: 0.8}},
        },
        {"role": "assistant", "content": one, "shares": {one: 1.0}},
    ]
    packer = Packer(tokenizer, 1, split=split, foreseen=0.25)
    for kept in get_args(Kept):
        row = packer.conversation(asked, kept)
        answer = row.ids.index(tokenizer.convert_tokens_to_ids(ASSISTANT)) + 1
        counted = {place: label for place, label in enumerate(row.labels[:answer]) if label != IGNORED}
        assert [tokenizer.decode(row.ids[1:place]) for place in counted] == ["еще: what", "еще: what does it"]
        assert list(counted.values()) == [first[one], first[other]]
        soon, later = counted
        told = {(place, token): share for place, token, share in row.taught if place < answer}
        assert told == {
            (soon, first[one]): 0.25,
            (later, first[one]): pytest.approx(0.05),
            (later, first[other]): pytest.approx(0.2),
        }


def test_words_cut_in_two_spell_the_same(tokenizer: Any) -> None:
    packed = Packer(tokenizer, 1, split=1).conversation(CONVERSATION, "recited")
    assert tokenizer.decode(packed.ids) == tokenizer.decode(render(tokenizer, CONVERSATION))


def test_every_row_is_full_and_begins_with_a_conversation(tokenizer: Any) -> None:
    packer, conversations = Packer(tokenizer, 1), Writer(3).conversations()
    marks = tokenizer.convert_tokens_to_ids([USER, SYSTEM])
    mixes: list[dict[Kept, float]] = [{}] * 4 + [{"shown": 0.2, "recited": 0.2, "strayed": 0.1}, {"recited": 1}]
    for mix in mixes:
        row = packer.row(conversations, 128, mix)
        assert len(row.ids) == len(row.labels) == len(row.places) == 128
        begins = [at for at, place in enumerate(row.places) if place == 0]
        assert begins[0] == 0
        assert {row.ids[at] for at in begins} <= set(marks)
        assert all(row.places[at] == row.places[at - 1] + 1 for at in range(1, 128) if at not in begins)
