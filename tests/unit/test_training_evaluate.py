"""The evaluation judges answers, not wording; its figures go between two marks of a README."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from training.guide.corpus import Message, Question, held_out
from training.guide.evaluate import Judge, ask_alone, ask_in_conversations, report, write
from training.guide.knowledge import answers

QUESTIONS = [
    Question("run", "en", "what do i type to get this going", "program"),
    Question("run", "ru", "шаги для запуска", "program"),
    Question("foreign", "en", "why is the sky blue", "foreign"),
]


class Knowing:
    """Answers every held-out question rightly, but the last one always with the wrong language."""

    def __init__(self) -> None:
        self._keys = {question.text: question for question in held_out()}
        self.conversations: list[list[Message]] = []

    def __call__(self, conversations: Sequence[list[Message]]) -> list[str]:
        self.conversations += [list(conversation) for conversation in conversations]
        asked = [self._keys[conversation[-1]["content"]] for conversation in conversations]
        return [answers()[q.key, "ru" if q.key == "foreign" else q.language] for q in asked]


def test_an_answer_counts_only_word_for_word_and_in_the_questions_language() -> None:
    judge, question = Judge(), QUESTIONS[0]
    right = answers()["run", "en"]
    assert judge(question, f"{right}\n").right
    assert not judge(question, right[:-1]).right
    assert judge(question, right[:-1]).language is None
    assert not judge(question, answers()["run", "ru"]).right
    assert not judge(question, answers()["docker", "en"]).right


def test_questions_are_asked_alone_and_in_conversations_that_keep_what_was_answered() -> None:
    model = Knowing()
    alone = ask_alone(model, QUESTIONS)
    assert [len(conversation) for conversation in model.conversations] == [1, 1, 1]
    model = Knowing()
    together = ask_in_conversations(model, QUESTIONS, turns=3)
    assert [len(conversation) for conversation in model.conversations] == [1, 3, 5]
    assert [sorted(v.right for v in some) for some in (alone, together)] == [[False, True, True]] * 2


def test_the_report_counts_by_language_and_shows_the_wrong_language() -> None:
    alone = ask_alone(Knowing(), QUESTIONS)
    lines = report(alone, alone).splitlines()
    assert "| right about the program | 100.0 % of 1 | 100.0 % of 1 |" in lines
    assert "| honest about all else | 0.0 % of 1 | 0.0 % of 0 |" in lines
    assert "| in the wrong language | 50.0 % of 4 | 0.0 % of 2 |" in lines
    assert "| no answer that it was taught | 0.0 % of 4 | 0.0 % of 2 |" in lines


def test_figures_replace_those_between_the_marks(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- figures -->\nold\n<!-- end of figures -->\nafter\n", encoding="utf-8")
    write("new", readme)
    assert readme.read_text(encoding="utf-8") == "before\n<!-- figures -->\nnew\n<!-- end of figures -->\nafter\n"
    readme.write_text("no marks", encoding="utf-8")
    with pytest.raises(ValueError, match="has no <!-- figures -->"):
        write("new", readme)
