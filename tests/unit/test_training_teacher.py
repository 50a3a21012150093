"""The teacher of the guide: what it says of questions, and what becomes of conversations under it."""

import random
from collections import Counter
from collections.abc import Sequence
from itertools import islice

import pytest

from training.guide.corpus import Mix, Writer
from training.guide.knowledge import FOREIGN, Language, answers
from training.guide.teacher import Teacher

PORT = ["which port does it use", "change the port", "another port please", "the port is taken", "port number"]
PRICE = ["what does it cost", "is it free", "how much money", "the price please", "do i pay for it"]


@pytest.fixture(scope="module")
def small() -> Teacher:
    rest = [("hello there", "hello"), ("good morning", "hello"), ("hi", "hello")]
    either = [("what now", "port"), ("what now", "price")]
    return Teacher({"en": [*((text, "port") for text in PORT), *((text, "price") for text in PRICE), *rest, *either]})


def test_what_it_never_read_it_knows_by_its_words_and_their_parts(small: Teacher) -> None:
    asked = ["use some other PORT?", "prot number", "is it expensive, the price", "how mcuh does it cost"]
    assert small.keys(asked, "en", random.Random(1)) == ["port", "port", "price", "price"]


def test_where_it_is_not_sure_it_says_now_the_one_and_now_the_other(small: Teacher) -> None:
    said = Counter(small.keys(["what now"] * 100, "en", random.Random(1)))
    assert said.keys() == {"port", "price"}


def test_it_says_the_same_for_the_same_chance_and_nothing_for_nothing(small: Teacher) -> None:
    first, again = (small.keys(["what now"] * 50, "en", random.Random(3)) for _ in range(2))
    assert first == again
    assert small.keys([], "en", random.Random(1)) == []


class Says(Teacher):
    """Says of every question in a language the same, and keeps what it was asked."""

    def __init__(self, key: str) -> None:
        self.key, self.asked = key, list[str]()

    def keys(self, texts: Sequence[str], language: Language, chance: random.Random) -> list[str]:
        self.asked += texts
        return [self.key for _ in texts]


def test_under_a_teacher_every_question_has_the_answer_that_it_says() -> None:
    known = {text for key, _, text in answers() if key == FOREIGN}
    conversations = list(islice(Writer(1, teacher=Says(FOREIGN)).conversations(), 40))
    told = {message["content"] for talk in conversations for message in talk if message["role"] == "assistant"}
    assert told == known


def test_questions_are_spliced_of_two_only_where_a_teacher_says_what_they_ask_for() -> None:
    def asked(spliced: float, teacher: Teacher | None) -> set[str]:
        talks = islice(Writer(1, Mix(spliced=spliced), teacher).conversations(), 64)
        return {message["content"] for talk in talks for message in talk if message["role"] == "user"}

    assert asked(1.0, None) == asked(0.0, None)
    assert not asked(1.0, Says("run")) & asked(0.0, Says("run"))
