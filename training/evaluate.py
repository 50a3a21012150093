"""`python -m training.evaluate MODEL`: how often the guide gives the right answer to questions that it never saw.

An answer is right if it is the one of the question's intent, word for word but for a tenth of its letters; a question
about something else is answered honestly if the answer is the one for all foreign questions.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Final

from training.corpus import Question, held_out
from training.knowledge import FOREIGN, LANGUAGES, Language, answers
from training.train import GUIDE

_ALIKE: Final = 0.9
_GARBLED: Final = "(garbled)"
_MOST_TOKENS: Final = 160
_BEGIN, _END = "<!-- figures -->", "<!-- end of figures -->"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one question. `key`, `language`: of the answer that was given; `key` is (garbled) if it is none."""

    question: Question
    key: str
    language: Language | None
    text: str

    @property
    def right(self) -> bool:
        return (self.key, self.language) == (self.question.key, self.question.language)


class Judge:
    """Tells which answer a text is."""

    def __init__(self) -> None:
        self._answers = [(key, language, text) for key, language, text in answers()]
        self._exact = {text: (key, language) for key, language, text in self._answers}

    def __call__(self, question: Question, text: str) -> Verdict:
        text = text.strip()
        if text in self._exact:
            return Verdict(question, *self._exact[text], text)
        for key, language, known in self._answers:
            matcher = SequenceMatcher(None, known, text, autojunk=False)
            if matcher.quick_ratio() >= _ALIKE and matcher.ratio() >= _ALIKE:
                return Verdict(question, key, language, text)
        return Verdict(question, _GARBLED, None, text)


def reply(model: Any, tokenizer: Any, messages: list[dict[str, str]]) -> str:
    """The greedy answer to a conversation."""
    import torch

    rendered = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    with torch.inference_mode():
        output = model.generate(**rendered, max_new_tokens=_MOST_TOKENS, do_sample=False)
    return str(tokenizer.decode(output[0, rendered["input_ids"].shape[1] :], skip_special_tokens=True))


def evaluate(folder: Path, questions: list[Question]) -> list[Verdict]:
    """Ask a model every question, each in a conversation of its own."""
    import torch
    from tqdm import tqdm
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(2)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
    judge = Judge()
    return [
        judge(question, reply(model, tokenizer, [{"role": "user", "content": question.text}]))
        for question in tqdm(questions, unit="question")
    ]


def report(verdicts: list[Verdict]) -> str:
    """The figures as a Markdown table, and the confusions that happened more than once."""
    lines = ["| | English | Russian |", "| --- | --- | --- |"]
    kinds = (("right about the program", False), ("honest about anything else", True))
    for words, foreign in kinds:
        cells = []
        for language in LANGUAGES:
            some = [v for v in verdicts if (v.question.key == FOREIGN) is foreign and v.question.language == language]
            cells.append(f"{_percent(sum(v.right for v in some), len(some))} of {len(some)}")
        lines.append(f"| {words} | {' | '.join(cells)} |")
    for words, count in (
        ("in the wrong language", [v for v in verdicts if v.language not in (None, v.question.language)]),
        ("garbled", [v for v in verdicts if v.key == _GARBLED]),
    ):
        cells = [
            _percent(
                sum(v.question.language == language for v in count),
                sum(v.question.language == language for v in verdicts),
            )
            for language in LANGUAGES
        ]
        lines.append(f"| {words} | {' | '.join(cells)} |")
    confused = Counter((v.question.key, v.key) for v in verdicts if not v.right)
    lines += ["", "| asked | answered | times |", "| --- | --- | --- |"]
    lines += [f"| {asked} | {given} | {times} |" for (asked, given), times in confused.most_common() if times > 1]
    return "\n".join(lines)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, nargs="?", default=GUIDE)
    parser.add_argument("--write", action="store_true", help="put the figures into the model's README.md")
    parser.add_argument("--wrong", action="store_true", help="show every question that was answered wrong")
    arguments = parser.parse_args()
    verdicts = evaluate(arguments.model, held_out())
    if arguments.wrong:
        for verdict in verdicts:
            if not verdict.right:
                print(f"{verdict.question.text!r}: {verdict.question.key} -> {verdict.key}")
    figures = report(verdicts)
    print(figures)
    if arguments.write:
        readme = arguments.model / "README.md"
        before, _, rest = readme.read_text(encoding="utf-8").partition(_BEGIN)
        after = rest.partition(_END)[2]
        readme.write_text(f"{before}{_BEGIN}\n{figures}\n{_END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
