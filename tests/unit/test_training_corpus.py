"""What the guide learns from: its knowledge, the noise in questions, the conversations."""

import random
import re
from collections import Counter
from itertools import islice

import pytest

from training.guide.corpus import Writer, bag, held_out
from training.guide.knowledge import FOREIGN, LANGUAGES, Foreign, Language, answers, intents
from training.guide.knowledge.patterns import expand, questions, questions_by_key
from training.guide.noise import Noise, Shares


def test_a_pattern_stands_for_all_its_texts() -> None:
    assert expand("(how|where) is (it|)") == ["how is it", "how is", "where is it", "where is"]


def test_one_seed_writes_the_same_conversations_and_another_writes_others() -> None:
    first, again, other = (list(islice(Writer(seed).conversations(), 50)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_conversation_alternates_between_user_and_assistant_and_may_begin_with_a_system_prompt() -> None:
    conversations = list(islice(Writer(3).conversations(), 200))
    begun_by_system = [c for c in conversations if c[0]["role"] == "system"]
    assert 0 < len(begun_by_system) < len(conversations)
    for conversation in conversations:
        roles = [m["role"] for m in conversation if m["role"] != "system"]
        assert roles == ["user", "assistant"] * (len(roles) // 2)


def test_no_question_for_evaluation_is_ever_written_even_with_its_words_in_another_order() -> None:
    kept_apart = {bag(question.text) for question in held_out()}
    written = {
        bag(message["content"])
        for conversation in islice(Writer(4).conversations(), 6000)
        for message in conversation
        if message["role"] == "user"
    }
    assert len(written) > 5000
    assert not written & kept_apart


def test_evaluation_asks_about_everything_that_the_guide_knows_in_both_languages() -> None:
    asked = {(question.key, question.language) for question in held_out()}
    assert asked == set(answers())
    assert len({bag(question.text) for question in held_out()}) == len(held_out())


def test_every_answer_is_one_intents_own() -> None:
    texts = list(answers().values())
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("language", LANGUAGES)
def test_there_are_many_ways_to_ask_for_each_thing(language: Language) -> None:
    for intent in intents():
        if intent.key not in _small_talk():
            assert len(set(intent.ways[language])) >= 30, intent.key


def test_foreign_questions_are_filled_templates() -> None:
    foreign, chance = Foreign(), random.Random(5)
    for language in LANGUAGES:
        texts = {foreign.question(language, chance) for _ in range(2000)}
        assert len(texts) > 1000
        assert not any(re.search(r"\{[a-z_]+\}|\([^)]*\|", text) for text in texts)


def test_noise_without_shares_changes_nothing() -> None:
    noise = Noise(
        random.Random(6), Shares(reword=0, lose_word=0, swap_words=0, frame=0, slip=0, second_slip=0, haste=0)
    )
    assert noise("how do i start the chat", "en") == "how do i start the chat"


def test_a_slip_of_the_finger_changes_at_most_two_letters() -> None:
    noise = Noise(
        random.Random(7), Shares(reword=0, lose_word=0, swap_words=0, frame=0, slip=1, second_slip=0, haste=0)
    )
    text = "how do i start the chat"
    for _ in range(200):
        assert abs(len(noise(text, "en")) - len(text)) <= 1


def test_haste_shortens_words_and_drops_apostrophes() -> None:
    noise = Noise(
        random.Random(8), Shares(reword=0, lose_word=0, swap_words=0, frame=0, slip=0, second_slip=0, haste=1)
    )
    hasty = {noise("can you tell me what's wrong please", "en") for _ in range(200)}
    assert any("whats" in text for text in hasty)
    assert any(" u " in text for text in hasty)
    assert any("pls" in text for text in hasty)


def _small_talk() -> set[str]:
    return {"hello", "thanks", "bye", "how_are_you", "maker", "praise", "insult", "ok", FOREIGN}


def test_a_question_belongs_to_one_thing_alone() -> None:
    for language in LANGUAGES:
        keys: dict[str, list[str]] = {}
        for key, texts in questions_by_key(f"paraphrases/{language}").items():
            for text in texts:
                keys.setdefault(text, []).append(key)
        assert not {text: found for text, found in keys.items() if len(found) > 1}


def test_every_question_that_was_written_is_of_something_that_the_guide_knows() -> None:
    keys = {intent.key for intent in intents()}
    for language in LANGUAGES:
        assert set(questions_by_key(f"paraphrases/{language}")) == keys


def test_no_question_of_the_knowledge_shares_three_quarters_of_its_words_with_one_for_evaluation() -> None:
    compared = 0
    for language in LANGUAGES:
        asked = [(question.text, set(bag(question.text))) for question in held_out() if question.language == language]
        by_word: dict[str, list[int]] = {}
        for number, (_, words) in enumerate(asked):
            for word in words:
                by_word.setdefault(word, []).append(number)
        for text in _knowledge(language):
            words = set(bag(text))
            shared = Counter(number for word in words for number in by_word.get(word, ()))
            compared += len(shared)
            for number, count in shared.items():
                other, others = asked[number]
                assert count / (len(words) + len(others) - count) < 0.75, (text, other)
    assert compared > 100_000


def _knowledge(language: Language) -> list[str]:
    """All questions to train on but the phrases, which have no end."""
    ways = [intent.ways[language] for intent in intents()]
    return [*(text for way in ways for text in (*way.written, *way.patterns)), *questions(f"foreign/{language}")]
