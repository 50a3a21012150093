"""What the guide says is true of this program: each answer is held against the repository."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

import pytest

from app.settings import ROOT
from tests import guide_truth as truth
from training.guide.knowledge import LANGUAGES, Language, answers

_ANSWERS: Final = [
    pytest.param(key, language, text, id=f"{key}-{language}") for (key, language), text in answers().items()
]
# Programs that are not ours: what follows them is not looked at, but for the names of models.
_OTHER_PROGRAMS: Final = {"git", "ollama", "openssl"}
# Words in capitals that are no settings.
_OTHER_CAPITALS: Final = {
    "API",
    "CPU",
    "GB",
    "GGUF",
    "HTTPS",
    "JSON",
    "LICENSE",
    "LM",
    "MB",
    "PDF",
    "README",
    "REST",
    "SERVER",
    "ГБ",
    "МБ",
}
# Settings whose numbers an answer tells without their names.
_NAMELESS: Final = {"temperature": "temperature", "max_tokens": "max_tokens", "top_p": "top_p"}
_MODEL: Final = re.compile(r"\b[a-z][\w.-]*:\d+(?:\.\d+)?b\b")
_HUB_MODEL: Final = re.compile(r"\b[A-Z][\w-]*/[\w.-]*\w")
_CAPITALS: Final = re.compile(r"(?<![\w./=-])[A-ZА-Я][A-ZА-Я_]+(?!\w)")
_URL: Final = re.compile(r"https?://[^\s`,;]*[^\s`,;.]")
_NUMBER: Final = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?![\w])")


def untrue(key: str, language: Language, text: str) -> list[str]:
    """What an answer says that the repository does not."""
    wrong, command = [], ""
    for span in re.findall(r"`([^`]*)`", text):
        if not _is_true(span, command):
            wrong.append(f"`{span}`")
        if " -m " in span:
            command = span
    wrong += [name for name in _MODEL.findall(text) if name not in truth.models()]
    wrong += [url for url in _URL.findall(text) if not _answers(url)]
    plain = re.sub(r"`[^`]*`", " ", _URL.sub(" ", text))
    default = truth.default("qwen_model")
    wrong += [name for name in _HUB_MODEL.findall(plain) if name != default]
    known = {*truth.fields(), *truth.build_settings(), *_OTHER_CAPITALS}
    wrong += [word for word in _CAPITALS.findall(plain) if word not in known]
    wrong += _wrong_settings(plain)
    numbers = _NUMBER.findall(_MODEL.sub(" ", _HUB_MODEL.sub(" ", plain)))
    wrong += [number for number in numbers if not _is_known(number, key, language, text)]
    quoted = re.findall(r"«([^»]*)»" if language == "ru" else r"“([^”]*)”", text)
    wrong += [label for label in quoted if label not in truth.labels(language)]
    missing = re.search(r"no file (\w+)|файла (\w+) нет", text)
    if missing and list(ROOT.glob(f"{missing[1] or missing[2]}*")):
        wrong.append(missing[0])
    return wrong


def _is_true(span: str, command: str) -> bool:
    """Whether something in backquotes is so; `command`: the last one of a module before it."""
    words = span.split()
    settings = [word for word in words if re.match(r"[A-Z_]+=", word)]
    if settings and words[: len(settings)] == settings:
        rest_of_it = " ".join(words[len(settings) :])
        return not _wrong_settings(" ".join(settings)) and (not rest_of_it or _is_true(rest_of_it, command))
    first, *rest = words
    if first == "make":
        return _is_made(rest)
    if first in _OTHER_PROGRAMS:
        return True
    if first == "docker":
        return _is_dockers(rest)
    if first.endswith("python") and rest[:1] == ["-m"]:
        return _takes(rest[1], rest[2:])
    if first.startswith("/") and span not in truth.files():
        return _is_answered(span)
    if len(words) == 1 and (span in truth.files() or (ROOT / span).exists()):
        return True
    if "Bearer" in span:
        return f"{first} Bearer" in truth.text_of("app/api/guard.py")
    if re.fullmatch(r"\w+:\w+", span):
        return truth.is_key(span)
    # A part of the command before it: another subcommand, or an option.
    module = re.search(r"-m ([\w.]+)(?: (\w+))?", command)
    if module is None:
        return False
    return _takes(module[1], [module[2] or "", *words] if span.startswith("-") else words)


def _is_made(words: list[str]) -> bool:
    """Whether there is such a target, which takes such variables."""
    target, *variables = words
    recipe = truth.targets().get(target)
    if recipe is None:
        return False
    for name, _, value in (variable.partition("=") for variable in variables):
        if f"$({name})" not in recipe or ("/" in value and not (ROOT / value).exists()):
            return False
    return True


def _is_dockers(words: list[str]) -> bool:
    """Whether Docker Compose can do that with our file: a service that there is, and a program in its image."""
    tool, command, *rest = words
    if tool != "compose" or command not in ("up", "down", "logs", "exec"):
        return False
    if command != "exec":
        return all(word.startswith("-") or word in truth.services() for word in rest)
    service, program, *rest = rest
    if service not in truth.services():
        return False
    if program == "python":
        return _takes(rest[1], rest[2:])
    module = truth.in_container(program)
    return module is not None and _takes(module, rest)


def _takes(module: str, words: list[str]) -> bool:
    """Whether a module's command line knows such a subcommand and such options."""
    subcommand = [word for word in words[:1] if word and not word.startswith("-")]
    told = truth.help_of(module, *subcommand)
    return told is not None and all(word in told for word in words if word and word.startswith("-"))


def _answers(url: str) -> bool:
    """Whether something answers at an address of this machine; of other machines it is not asked."""
    host, _, path = url.partition("://")[2].partition("/")
    name, _, port = host.partition(":")
    if name in ("localhost", "SERVER", "СЕРВЕР"):
        return port in truth.ports() and (not path or _is_answered(f"/{path}"))
    return "." in name


def _is_answered(path: str) -> bool:
    return any(route == path or route.startswith(f"{path}/") for route in truth.routes())


def _wrong_settings(text: str) -> list[str]:
    pairs = re.findall(r"\b([A-Z_]+)=(\S*[^\s;,.])", text)
    return [
        f"{name}={value}"
        for name, value in pairs
        if not (truth.allowed(name, value) if name in truth.fields() else name in truth.build_settings())
    ]


def _is_known(number: str, key: str, language: Language, text: str) -> bool:
    """Whether a number is the default or a bound of a setting of the answer, or one of those that are no setting's."""
    if number in truth.other_numbers(language) | truth.ports():
        return True
    named = {field for name, field in truth.fields().items() if re.search(rf"\b{name}\b", text)}
    named |= {_NAMELESS[key]} if key in _NAMELESS else set()
    return any(float(number) in truth.numbers(field) for field in named) or f"={number}" in text


@pytest.mark.parametrize(("key", "language", "text"), _ANSWERS)
def test_what_the_guide_says_is_true_of_this_program(key: str, language: Language, text: str) -> None:
    assert untrue(key, language, text) == []


@pytest.mark.parametrize(("key", "field"), [*_NAMELESS.items(), ("context", "num_ctx"), ("timeout", "timeout")])
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_default_is_told_as_it_is(key: str, field: str, language: Language) -> None:
    text = answers()[key, language]
    default = float(truth.default(field))
    assert default in {float(number) for number in _NUMBER.findall(text)}


@pytest.mark.parametrize("language", LANGUAGES)
def test_answers_differ_in_their_first_words(language: Language) -> None:
    first = Counter(tuple(text.split()[:2]) for (_, tongue), text in answers().items() if tongue == language)
    assert [words for words, times in first.items() if times > 1] == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("Run `make everything`.", "`make everything`"),
        ("Run `make load NOISE=loud`.", "`make load NOISE=loud`"),
        ("Run `PORT=99999 make run`.", "`PORT=99999 make run`"),
        ("Run `PORTS=8001 make run`.", "`PORTS=8001 make run`"),
        ("Set NUM_CONTEXT.", "NUM_CONTEXT"),
        ("NUM_CTX is 4097 by default.", "4097"),
        ("Run `.venv/bin/python -m app.nurse`.", "`.venv/bin/python -m app.nurse`"),
        ("Run `.venv/bin/python -m app.users invent ann`.", "`.venv/bin/python -m app.users invent ann`"),
        ("Run `.venv/bin/python -m app.users add ann --king`.", "`.venv/bin/python -m app.users add ann --king`"),
        ("`python -m app.users add ann`, or `crown NAME`.", "`crown NAME`"),
        ("Run `docker compose exec chat nurse`.", "`docker compose exec chat nurse`"),
        ("Run `docker compose exec cellar doctor`.", "`docker compose exec cellar doctor`"),
        ("Run `docker compose dance`.", "`docker compose dance`"),
        ("Put WITH_CUDA=1 into `.env`.", "WITH_CUDA=1"),
        ("It is in `deploy/apache.conf`.", "`deploy/apache.conf`"),
        ("It is in `/conversations`.", "`/conversations`"),
        ("Ask `/v2/chat/completions`.", "`/v2/chat/completions`"),
        ("Open http://localhost:8000/panel.", "http://localhost:8000/panel"),
        ("Open http://localhost:8001.", "http://localhost:8001"),
        ("It is gemma9:9b.", "gemma9:9b"),
        ("It is Qwen/Qwen9-0.6B.", "Qwen/Qwen9-0.6B"),
        ("Press “Make tea”.", "Make tea"),
        ("It answers 418.", "418"),
        ("There is no file README here.", "no file README"),
    ],
)
def test_what_is_not_true_is_found(text: str, wrong: str) -> None:
    assert wrong in untrue("about", "en", text)


def test_labels_are_those_of_the_answers_language() -> None:
    assert untrue("about", "ru", "Нажмите «My data».") == ["My data"]


def test_a_setting_that_changes_its_default_makes_an_answer_untrue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(truth, "numbers", lambda _: frozenset({8192.0}))
    context = answers()["context", "en"]
    assert untrue("context", "en", context) == ["4096"]


def test_a_target_that_has_another_name_makes_an_answer_untrue(monkeypatch: pytest.MonkeyPatch) -> None:
    renamed = {name: recipe for name, recipe in truth.targets().items() if name != "doctor"}
    monkeypatch.setattr(truth, "targets", lambda: renamed)
    doctor = answers()["doctor", "en"]
    assert untrue("doctor", "en", doctor) == ["`make doctor`"]
