"""`python -m training.guide.evaluate MODEL`: how often the guide gives the right answer to questions that it never saw.

An answer is right if it is the one of the question's intent, word for word, in the question's language; a question
about something else is answered honestly if the answer is the one for all foreign questions. Each question is asked
twice: alone, and as one turn of a long conversation with the model's own answers before it.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from training.guide import GUIDE
from training.guide.corpus import Message, Question, held_out
from training.guide.knowledge import FOREIGN, LANGUAGES, Language, answers

TURNS: Final = 20
# Parts of the names of the files that questions come from: typed in haste; by somebody who never saw the training's.
PHONE: Final = "phone"
BLIND: Final = "blind_"
_GARBLED: Final = "(none of them)"
_MOST_TOKENS: Final = 160
_BATCH: Final = 32
_SEED: Final = 20
_BEGIN, _END = "<!-- figures -->", "<!-- end of figures -->"

# From conversations, each ending with a question, to the answers.
Answerer = Callable[[Sequence[list[Message]]], list[str]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one question. `key`, `language`: of the answer that was given, if it is one that the guide has."""

    question: Question
    key: str
    language: Language | None

    @property
    def right(self) -> bool:
        return (self.key, self.language) == (self.question.key, self.question.language)


class Judge:
    """Tells which answer a text is."""

    def __init__(self) -> None:
        self._answers: dict[str, tuple[str, Language]] = {text: asked for asked, text in answers().items()}

    def __call__(self, question: Question, text: str) -> Verdict:
        return Verdict(question, *self._answers.get(text.strip(), (_GARBLED, None)))


def load(folder: Path, most_tokens: int = _MOST_TOKENS) -> Answerer:
    """A model in a folder, answering greedily with so many tokens at most."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    return answering(model.eval(), tokenizer, most_tokens)


def answering(model: Any, tokenizer: Any, most_tokens: int = _MOST_TOKENS) -> Answerer:
    """A model of `transformers` in evaluation, answering greedily with so many tokens at most."""
    import torch

    def answer(conversations: Sequence[list[Message]]) -> list[str]:
        rendered = tokenizer.apply_chat_template(
            list(conversations),
            add_generation_prompt=True,
            tokenize=True,
            padding=True,
            tokenizer_kwargs={"padding_side": "left"},
            return_dict=True,
            return_tensors="pt",
        )
        with torch.inference_mode():
            output = model.generate(**rendered.to(model.device), max_new_tokens=most_tokens, do_sample=False)
        replies = output[:, rendered["input_ids"].shape[1] :]
        return [str(text) for text in tokenizer.batch_decode(replies, skip_special_tokens=True)]

    return answer


def ask_alone(answer: Answerer, questions: Sequence[Question]) -> list[Verdict]:
    """Each question in a conversation of its own."""
    from tqdm import tqdm

    judge, verdicts = Judge(), []
    # Questions of one length together need no padding.
    ordered = sorted(questions, key=lambda question: len(question.text))
    for at in tqdm(range(0, len(ordered), _BATCH), unit="batch", desc="alone"):
        batch = ordered[at : at + _BATCH]
        texts = answer([[{"role": "user", "content": question.text}] for question in batch])
        verdicts += [judge(question, text) for question, text in zip(batch, texts, strict=True)]
    return verdicts


def ask_in_conversations(answer: Answerer, questions: Sequence[Question], turns: int = TURNS) -> list[Verdict]:
    """The questions in conversations of so many turns, in an order of chance, both languages mixed."""
    from tqdm import tqdm

    judge, verdicts = Judge(), []
    shuffled = random.Random(_SEED).sample(list(questions), len(questions))
    groups = [shuffled[at : at + turns] for at in range(0, len(shuffled), turns)]
    conversations: list[list[Message]] = [[] for _ in groups]
    for turn in tqdm(range(turns), unit="turn", desc="in conversations"):
        asked = [
            (group[turn], conversation)
            for group, conversation in zip(groups, conversations, strict=True)
            if turn < len(group)
        ]
        for question, conversation in asked:
            conversation.append({"role": "user", "content": question.text})
        texts = answer([conversation for _, conversation in asked])
        for (question, conversation), text in zip(asked, texts, strict=True):
            conversation.append({"role": "assistant", "content": text})
            verdicts.append(judge(question, text))
    return verdicts


def report(alone: Sequence[Verdict], together: Sequence[Verdict]) -> str:
    """The figures as a Markdown table, and the confusions that happened more than once."""
    hastily = [verdict for verdict in alone if verdict.question.source.endswith(PHONE)]
    blindly = [verdict for verdict in alone if verdict.question.source.startswith(BLIND)]
    rows: list[tuple[str, Sequence[Verdict], Callable[[Verdict], bool]]] = []
    for manner, verdicts in (
        ("", alone),
        (", of these typed on a phone", hastily),
        (", of these written blind", blindly),
        (f", in {TURNS} turns", together),
    ):
        for words, foreign in ((f"right about the program{manner}", False), (f"honest about all else{manner}", True)):
            some = [verdict for verdict in verdicts if (verdict.question.key == FOREIGN) is foreign]
            rows.append((words, some, lambda verdict: verdict.right))
    everything = [*alone, *together]
    rows.append(("in the wrong language", everything, lambda v: v.language not in (None, v.question.language)))
    rows.append(("no answer that it was taught", everything, lambda v: v.language is None))
    lines = ["| | English | Russian |", "| --- | --- | --- |"]
    for words, verdicts, wanted in rows:
        cells = []
        for language in LANGUAGES:
            some = [verdict for verdict in verdicts if verdict.question.language == language]
            cells.append(f"{100 * sum(map(wanted, some)) / max(len(some), 1):.1f} % of {len(some)}")
        lines.append(f"| {words} | {' | '.join(cells)} |")
    confused = Counter((verdict.question.key, verdict.key) for verdict in alone if not verdict.right)
    lines += ["", "| asked | answered | times |", "| --- | --- | --- |"]
    lines += [f"| {asked} | {given} | {times} |" for (asked, given), times in confused.most_common() if times > 1]
    return "\n".join(lines)


def write(figures: str, readme: Path) -> None:
    """Put the figures into a README, in place of those between its two marks.

    Raises:
        ValueError: it has no marks.
    """
    before, begin, rest = readme.read_text(encoding="utf-8").partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{readme} has no {_BEGIN} ... {_END}")
    readme.write_text(f"{before}{begin}\n{figures}\n{end}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, nargs="?", default=GUIDE)
    parser.add_argument("--write", action="store_true", help="put the figures into the model's README.md")
    parser.add_argument("--wrong", action="store_true", help="show every question that was answered wrong")
    arguments = parser.parse_args()
    answer, questions = load(arguments.model), held_out()
    alone, together = ask_alone(answer, questions), ask_in_conversations(answer, questions)
    if arguments.wrong:
        for verdict in alone:
            if not verdict.right:
                print(f"{verdict.question.text!r}: {verdict.question.key} -> {verdict.key}")
    figures = report(alone, together)
    print(figures)
    if arguments.write:
        write(figures, arguments.model / "README.md")


if __name__ == "__main__":
    main()
