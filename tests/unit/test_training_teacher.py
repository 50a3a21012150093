"""The teacher of the guide: what it says of questions, and what becomes of conversations under it."""

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from zlib import crc32

import pytest
import torch

from training.guide import source
from training.guide.corpus import Mix, Question, Writer, bag, held_out, spliced
from training.guide.knowledge import FOREIGN, LANGUAGES, Language, answers, intents
from training.guide.teacher import Teacher
from training.guide.teacher import teacher as guides
from training.guide.tokenizer import levelled

from .training_runs import TINY_GUIDE, tiny_model

PORT = ["which port does it use", "change the port", "another port please", "the port is taken", "port number"]
PRICE = ["what does it cost", "is it free", "how much money", "the price please", "do i pay for it"]


@pytest.fixture(scope="module")
def small() -> Teacher:
    rest = [("hello there", "hello"), ("good morning", "hello"), ("hi", "hello")]
    either = [("what now", "port"), ("what now", "price")]
    return Teacher({"en": [*((text, "port") for text in PORT), *((text, "price") for text in PRICE), *rest, *either]})


def likeliest(shares: dict[str, float]) -> str:
    return max(shares, key=shares.__getitem__)


def test_what_it_never_read_it_knows_by_its_words_and_their_parts(small: Teacher) -> None:
    asked = ["use some other PORT?", "prot number", "is it expensive, the price", "how mcuh does it cost"]
    assert [likeliest(shares) for shares in small.shares(asked, "en")] == ["port", "port", "price", "price"]


def test_where_it_is_not_sure_it_says_all_that_may_be_meant(small: Teacher) -> None:
    (shares,) = small.shares(["what now"], "en")
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["port"] > 0.2
    assert shares["price"] > 0.2


def test_what_is_hardly_likely_it_leaves_out(small: Teacher) -> None:
    (shares,) = small.shares(["change the port, another port please, which port number"], "en")
    assert likeliest(shares) == "port"
    assert all(share > 0.005 for share in shares.values())


def test_of_nothing_it_says_nothing(small: Teacher) -> None:
    assert small.shares([], "en") == []


KEYS = [intent.key for intent in intents()]


class Says(Teacher):
    """Says of each question something that its letters alone decide, and keeps the language in which it was asked."""

    def __init__(self) -> None:
        self.asked: dict[str, Language] = {}

    def shares(self, texts: Sequence[str], language: Language) -> list[dict[str, float]]:
        self.asked |= dict.fromkeys(texts, language)
        return [{self.of(text): 1.0} for text in texts]

    def of(self, text: str) -> str:
        return KEYS[crc32(text.encode()) % len(KEYS)]


def test_under_a_teacher_each_question_has_the_answer_that_it_says_in_the_questions_language() -> None:
    known = answers()
    says = Says()
    for talk in islice(Writer(1, teacher=says).conversations(), 64):
        turns = [message for message in talk if message["role"] != "system"]
        for question, answer in zip(turns[::2], turns[1::2], strict=True):
            text = question["content"]
            assert answer["content"] == known[says.of(text), says.asked[text]]


class Torn(Says):
    """Is torn between two answers, the second three times as likely."""

    def shares(self, texts: Sequence[str], language: Language) -> list[dict[str, float]]:
        return [{KEYS[0]: 0.25, KEYS[1]: 0.75} for _ in texts]


def test_an_answer_is_drawn_from_what_the_teacher_thinks_and_tells_all_of_it() -> None:
    known = answers()
    languages: dict[str, Language] = {known[key, language]: language for key in KEYS[:2] for language in LANGUAGES}
    drawn = []
    for talk in islice(Writer(1, teacher=Torn()).conversations(), 500):
        for message in talk:
            if message["role"] == "assistant":
                drawn.append(message["content"])
                language = languages[message["content"]]
                assert message["shares"] == {known[KEYS[0], language]: 0.25, known[KEYS[1], language]: 0.75}
    seconds = sum(text in {known[KEYS[1], language] for language in LANGUAGES} for text in drawn)
    assert 0.68 < seconds / len(drawn) < 0.82


@pytest.mark.parametrize("most", [0, 1, 2, 50])
def test_beginnings_of_a_question_have_what_the_teacher_says_of_them(most: int) -> None:
    known, says = answers(), Says()
    many = 0
    for talk in islice(Writer(1, Mix(foreseen=most), says).conversations(), 256):
        for message in talk:
            if message["role"] == "user":
                words = levelled(message["content"]).split(" ")
                foreseen = message["foreseen"]
                assert len(foreseen) == min(most, max(len(words) - 2, 0))
                many += len(foreseen)
                for size, shares in foreseen.items():
                    assert 2 <= size < len(words)
                    text = " ".join(words[:size])
                    assert shares == {known[says.of(text), says.asked[text]]: 1.0}
    assert (many > 0) == (most > 0)


def test_without_a_teacher_no_beginning_has_an_answer() -> None:
    assert not any("foreseen" in message for talk in islice(Writer(1).conversations(), 50) for message in talk)


def test_a_spliced_question_is_the_beginning_of_one_and_the_end_of_another() -> None:
    chance, one, other = random.Random(1), "how do i start it", "what does this cost me"
    found = {spliced(one, other, chance) for _ in range(200)}
    for text in found:
        words = text.split()
        cuts = range(len(words) + 1)
        assert words
        assert any(one.startswith(" ".join(words[:cut])) and other.endswith(" ".join(words[cut:])) for cut in cuts)
    assert "how do i cost me" in found
    assert spliced(one, "", random.Random(2))


def test_questions_are_spliced_only_where_a_teacher_says_what_they_ask_for(monkeypatch: pytest.MonkeyPatch) -> None:
    joined = []

    def joining(one: str, other: str, chance: random.Random) -> str:
        joined.append(spliced(one, other, chance))
        return joined[-1]

    def asked(share: float, teacher: Teacher | None) -> list[str]:
        talks = islice(Writer(1, Mix(spliced=share), teacher).conversations(), 256)  # all that are written at once
        return [message["content"] for talk in talks for message in talk if message["role"] == "user"]

    monkeypatch.setattr("training.guide.corpus.spliced", joining)
    assert asked(1.0, None) == asked(0.0, None)
    whole_ones = asked(0.0, Says())
    assert not joined
    spliced_ones = asked(1.0, Says())
    assert spliced_ones != whole_ones
    assert len(joined) >= len(spliced_ones)


def test_a_beginning_that_is_a_question_for_evaluation_has_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def begun(*kept_apart: Question) -> list[str]:
        monkeypatch.setattr("training.guide.corpus.held_out", lambda: list(kept_apart))
        says = Says()
        talks = list(islice(Writer(1, Mix(foreseen=50), says).conversations(), 256))
        whole_ones = {message["content"] for talk in talks for message in talk if message["role"] == "user"}
        return sorted(set(says.asked) - whole_ones)

    texts = begun()
    kept_apart = " ".join(reversed(texts[0].split()))
    left = [text for text in texts if bag(text) != bag(kept_apart)]
    assert begun(Question("port", "en", kept_apart, "free")) == left != texts


def test_no_question_for_evaluation_is_written_where_questions_are_spliced() -> None:
    kept_apart = {bag(question.text) for question in held_out()}
    says = Says()
    list(islice(Writer(4, Mix(spliced=1.0), says).conversations(), 2000))
    assert len(says.asked) > 2000
    assert not {bag(text) for text in says.asked} & kept_apart


def test_the_teacher_of_the_guide_never_read_a_question_for_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    read: dict[Language, list[tuple[str, str]]] = {}

    def keep(self: Teacher, questions: dict[Language, list[tuple[str, str]]]) -> None:
        read.update(questions)

    monkeypatch.setattr(Teacher, "__init__", keep)
    guides.__wrapped__()
    assert set(read) == set(LANGUAGES)
    for language in LANGUAGES:
        assert {key for _, key in read[language]} == {*KEYS, FOREIGN}
        assert not {bag(text) for text, _ in read[language]} & {bag(question.text) for question in held_out()}


def test_two_teachers_of_the_same_questions_say_the_same(small: Teacher) -> None:
    questions: dict[Language, list[tuple[str, str]]] = {
        "en": [*((text, "port") for text in PORT), *((text, "price") for text in PRICE), ("hi", "hello")],
        "ru": [("какой порт", "port"), ("сколько стоит", "price"), ("привет", "hello")],
    }
    one, other = Teacher(questions), Teacher(questions)
    words = ["port", "cost", "порт", "hi"]
    assert one.views(words).tolist() == other.views(words).tolist()


def test_it_takes_a_word_for_what_its_parts_are_in_and_says_nothing_of_no_word(small: Teacher) -> None:
    nothing, port, ports, cost = small.views(["", "port", "ports", "cost"])
    assert not nothing.any()
    assert port @ port == pytest.approx(1)
    assert port @ ports > 0.9 > port @ cost


def test_embeddings_begin_with_it_and_batches_are_the_same_for_the_same_number(
    small: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught = replace(TINY_GUIDE, data=replace(TINY_GUIDE.data, teacher=True))
    tokenizer = tiny_model()[1]
    monkeypatch.setattr(source, "teacher", Says)
    monkeypatch.setattr(Says, "views", small.views, raising=False)
    weight = source.guide_model(taught, tokenizer).get_input_embeddings().weight
    assert weight.std().item() == pytest.approx(0.1, rel=0.1)
    feed, again = (source.guide_feed(taught, tokenizer) for _ in range(2))
    third = feed.train[3]["input_ids"]
    assert torch.equal(again.train[3]["input_ids"], third)
    assert not torch.equal(feed.train[4]["input_ids"], third)
    assert torch.equal(feed.train[3]["input_ids"], third)
