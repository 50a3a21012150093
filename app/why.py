"""Which model answers, why, and how to change it: in words, for the log and for the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from app.default_model import DefaultModel, Wishes, runs_here
from app.errors import Language

Level = Literal["info", "warning"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Attributes: `text`, one line; `details`, sentences; `level`, whether something wants doing."""

    text: str
    details: tuple[str, ...]
    level: Level


_TEXTS: Final[dict[Language, dict[str, str]]] = {
    "en": {
        "answers": "{model} answers.",
        "nothing": "No model can answer yet.",
        "loading": "{model} is being loaded into memory. You can write already.",
        "unfit": "{model} cannot be loaded.",
        "why_unfit": "{unfit}",
        "away": "{model} is not reachable at the moment.",
        "back": "{away} It is looked for every few seconds and answers again as soon as it is back.",
        "guide": "The built-in guide answers: a tiny model that only knows this program.",
        "answers_plain": "{model} answers. It has no chat template of its own, so it gets a plain one.",
        "checkpoint": "It is your own model, from the folder that CHECKPOINT names.",
        "plain": "A base model only goes on with a text, nobody has taught it to talk. It reads this conversation as "
        "lines that begin with `User:` and `Assistant:`, and its reply ends where it would write for you.",
        "set": "It is set by MODEL. Without MODEL the server looks for the best one by itself.",
        "stand_in": "MODEL={wanted} is not here, so this one stands in for it. Correct MODEL, or get that model.",
        "vllm": "It is the first model of {vllm_url} (VLLM_URL).",
        "ollama": "Ollama runs at {ollama_url} and has it. `ollama pull NAME` brings more models.",
        "qwen": "No Ollama with a model answers at {ollama_url}, so transformers runs QWEN_MODEL on this server.",
        "no_ollama": "No Ollama answers at {ollama_url}.",
        "empty_ollama": "The Ollama at {ollama_url} has no model yet.",
        "no_local": "To run a model without Ollama, install its packages: make install-local",
        "downloading": "{download} is being downloaded and answers as soon as it is here.",
        "failed": "The download failed: {problem} It is tried again.",
        "start": "For a real model, start Ollama on this server and run: ollama pull {ollama_model}. "
        "The page notices by itself.",
        "pick": "Pick another model in the chat settings.",
    },
    "ru": {
        "answers": "Отвечает {model}.",
        "nothing": "Пока ни одна модель не готова отвечать.",
        "loading": "{model} загружается в память. Писать можно уже сейчас.",
        "unfit": "Модель {model} не удалось загрузить.",
        "why_unfit": "{unfit}",
        "away": "Модель {model} сейчас недоступна.",
        "back": "{away} Сервер проверяет это каждые несколько секунд и ответит, как только связь вернётся.",
        "guide": "Отвечает встроенный гид: крошечная модель, которая знает только эту программу.",
        "answers_plain": "Отвечает {model}. Своего шаблона чата у неё нет, поэтому взят простой.",
        "checkpoint": "Это ваша собственная модель из папки, которую задаёт CHECKPOINT.",
        "plain": "Базовая модель лишь продолжает текст, разговаривать её не учили. Беседу она читает как строки, "
        "которые начинаются с `User:` и `Assistant:`, и её ответ кончается там, где она стала бы писать за вас.",
        "set": "Так задано переменной MODEL. Без неё сервер сам найдёт лучшую модель.",
        "stand_in": "Модели MODEL={wanted} здесь нет, пока отвечает эта. Исправьте MODEL или скачайте ту модель.",
        "vllm": "Это первая модель сервера {vllm_url} (VLLM_URL).",
        "ollama": "Ollama работает по адресу {ollama_url}, и модель в нём есть. `ollama pull ИМЯ` добавит другие.",
        "qwen": "По адресу {ollama_url} нет Ollama с моделью, поэтому QWEN_MODEL работает здесь через transformers.",
        "no_ollama": "По адресу {ollama_url} Ollama не отвечает.",
        "empty_ollama": "В Ollama по адресу {ollama_url} ещё нет моделей.",
        "no_local": "Чтобы запускать модель без Ollama, установите пакеты: make install-local",
        "downloading": "{download} скачивается и начнёт отвечать, как только будет здесь.",
        "failed": "Скачать не удалось: {problem} Попытка повторится.",
        "start": "Для настоящей модели запустите на сервере Ollama и выполните: ollama pull {ollama_model}. "
        "Страница заметит сама.",
        "pick": "Другую модель можно выбрать в настройках чата.",
    },
}


def explain(default: DefaultModel, wishes: Wishes, language: Language) -> Explanation:
    """Say it in a language.

    Args:
        default: what the search has found.
        wishes: what it was told to look for.
        language: of the reader.
    """
    places = {
        "model": default.model.name if default.model else "",
        "wanted": default.wanted,
        "vllm_url": wishes.vllm_url,
        "ollama_url": wishes.ollama_url,
        "ollama_model": wishes.ollama_models[0],
        "unfit": default.unfit.sentence(language) if default.unfit else "",
        "download": default.download.model if default.download else "",
        "problem": default.problem.sentence(language) if default.problem else "",
        "away": default.away.sentence(language) if default.away else "",
    }
    texts = _TEXTS[language]
    details = [texts[key].format(**places) for key in _detail_keys(default, wishes)]
    lacking = default.reason in ("guide", "nothing") or bool(default.wanted or default.away or default.unfit)
    return Explanation(texts[_headline(default)].format(**places), tuple(details), "warning" if lacking else "info")


def _headline(default: DefaultModel) -> str:
    if default.away:
        return "away"
    if default.unfit:
        return "unfit"
    if default.reason in ("guide", "nothing"):
        return default.reason
    if default.loading:
        return "loading"
    return "answers_plain" if default.model is not None and default.model.plain_template else "answers"


def _detail_keys(default: DefaultModel, wishes: Wishes) -> list[str]:
    keys: list[str] = []
    if default.unfit and not default.away:
        keys.append("why_unfit")
    if default.away:
        keys.append("back")
    elif default.wanted:
        keys.append("stand_in")
        if not default.ollama_up and not runs_here(default.wanted) and not wishes.vllm_url:
            keys.append("no_ollama")
    elif default.reason not in ("guide", "nothing"):
        keys.append("checkpoint" if default.reason == "set" and wishes.checkpoint else default.reason)
        if default.model is not None and default.model.plain_template:
            keys.append("plain")
    else:
        keys.append("empty_ollama" if default.ollama_up else "no_ollama")
        if not wishes.local:
            keys.append("no_local")
    if default.download:
        keys.append("downloading")
    elif default.problem:
        keys.append("failed")
    if default.reason in ("guide", "nothing") and not default.ollama_up and not default.wanted:
        keys.append("start")
    if default.model is not None:
        keys.append("pick")
    return keys
