"""What the page says by itself, in the languages that it speaks."""

from __future__ import annotations

from typing import Final

from app.errors import LANGUAGES, Language

_TEXTS: Final[dict[Language, dict[str, str]]] = {
    "en": {
        "model": "Model",
        "model_help": "Which model answers. “Automatic” takes the best one that this server has.",
        "automatic": "Automatic",
        "model_gone": "{model} (not here now)",
        "temperature": "Temperature",
        "temperature_help": "0: the likeliest words, always the same. 1: livelier, less reliable.",
        "max_tokens": "Longest reply, in tokens",
        "max_tokens_help": "A token is about three quarters of a word.",
        "top_p": "Top p",
        "top_p_help": "The share of likely words that are chosen from.",
        "system_prompt": "System prompt",
        "system_prompt_help": "Who the model is to be, what it is to heed. It counts against the context.",
        "think": "Thinking",
        "think_help": "Let the model reason before it answers. Slower; for models that can.",
        "reasoning": "Thinking",
        "left_window": "The model no longer reads the oldest messages of this conversation ({count}).",
        "repetition": "The model began to repeat itself, so the reply was ended.",
        "length": "The reply reached the longest length that is set. Continue goes on, or raise it in the settings.",
        "length_only": "The reply reached the longest length that is set. Raise it in the chat settings for more.",
        "context_full": "The reply has filled what the model can read at once. Ask for the rest in a message.",
        "stopped": "Stopped before the reply began.",
        "fallback": "{model} could not answer, so {fallback} did.",
        "setting_range": "{name}: {value} is out of range. It takes {low} to {high}; {kept} is kept.",
        "setting_too_long": "The system prompt has {size:,} characters; at most {limit:,} fit. The old one stays.",
        "only_last": "Only the last reply can be repeated. Edit an older message to go on from there.",
        "only_last_goes_on": "Only the last reply can be continued. Ask for the rest of an older one in a message.",
        "still_answering": "The last message is still being answered. Stop it first, or wait.",
        "internal": "Something in the program itself went wrong. The text so far is kept. The log has the details.",
        "history_off": "Conversations are not kept here: close or reload the page, and this one is gone.",
        "not_kept": "This conversation is not being kept now: the disk or the database takes no writes. "
        "The chat goes on, and what is said is stored as soon as they do.",
        "kept_again": "The database is back. All that was said here is kept.",
        "deleted": "This conversation was deleted, so what is said here is not kept. Start a new chat.",
        "lost": "Something of this conversation could not be kept and will be missing when you open it again. "
        "Copy what you need. The log of the server says why.",
        "interrupted": "The server stopped before it replied to this.",
        "away": "The database is away, so this conversation cannot be opened now. Try again in a while.",
        "retry": "Try again",
    },
    "ru": {
        "model": "Модель",
        "model_help": "Какая модель отвечает. «Автоматически» — лучшая из тех, что есть на этом сервере.",
        "automatic": "Автоматически",
        "model_gone": "{model} (сейчас её нет)",
        "temperature": "Температура",
        "temperature_help": "0 — самые вероятные слова, всегда одни и те же. 1 — живее, но ненадёжнее.",
        "max_tokens": "Наибольшая длина ответа, в токенах",
        "max_tokens_help": "Токен — примерно половина русского слова.",
        "top_p": "Top p",
        "top_p_help": "Из какой доли вероятных слов выбирать.",
        "system_prompt": "Системная подсказка",
        "system_prompt_help": "Кем быть модели и что учитывать. Занимает место в контексте.",
        "think": "Размышление",
        "think_help": "Дать модели подумать перед ответом. Медленнее; для моделей, которые умеют.",
        "reasoning": "Размышление",
        "left_window": "Самые старые сообщения этой беседы модель больше не читает ({count}).",
        "repetition": "Модель начала повторяться, поэтому ответ закончен.",
        "length": "Ответ достиг заданной длины. Нажмите «Продолжить» или увеличьте её в настройках чата.",
        "length_only": "Ответ достиг заданной длины. Увеличьте её в настройках чата, если нужно больше.",
        "context_full": "Ответ занял всё, что модель может прочитать за раз. Спросите остальное сообщением.",
        "stopped": "Остановлено до начала ответа.",
        "fallback": "{model} не смогла ответить, ответила {fallback}.",
        "setting_range": "{name}: {value} вне пределов. Можно от {low} до {high}; оставлено {kept}.",
        "setting_too_long": "В системной подсказке {size:,} знаков, можно не больше {limit:,}. Она не изменена.",
        "only_last": "Повторить можно только последний ответ. Чтобы продолжить с другого места, измените сообщение.",
        "only_last_goes_on": "Продолжить можно только последний ответ. Остальное из более раннего спросите сообщением.",
        "still_answering": "На прошлое сообщение ещё идёт ответ. Остановите его или подождите.",
        "internal": "Ошибка в самой программе. Полученный текст сохранён. Подробности в журнале сервера.",
        "history_off": "Беседы здесь не сохраняются: закройте или обновите страницу, и эта исчезнет.",
        "not_kept": "Беседа сейчас не сохраняется: диск или база данных не принимает запись. "
        "Чат продолжается, сказанное сохранится, как только это станет возможно.",
        "kept_again": "База данных снова на месте. Всё, что здесь сказано, сохранено.",
        "deleted": "Эта беседа удалена, и сказанное здесь не сохраняется. Начните новый чат.",
        "lost": "Часть этой беседы сохранить не удалось: когда вы откроете её снова, этого не будет. "
        "Скопируйте нужное. Причина — в журнале сервера.",
        "interrupted": "Сервер остановился, не успев ответить.",
        "away": "База данных недоступна, поэтому открыть эту беседу сейчас нельзя. Попробуйте чуть позже.",
        "retry": "Повторить",
    },
}

# What a visitor can click on an empty page: the label and the message that it sends.
_STARTERS: Final[dict[Language, tuple[tuple[str, str], ...]]] = {
    "en": (
        ("Explain a hard thing simply", "Explain how vaccines work, in simple words and five sentences."),
        ("Write a friendly email", "Write a short, friendly email that moves our meeting to Thursday at 10."),
        ("Help with code", "Write a Python function that tells whether a string is a palindrome, with a test."),
        ("What can you do here?", "What is this program and what can I change in its settings?"),
    ),
    "ru": (
        ("Объясни просто", "Объясни простыми словами и в пяти предложениях, как работают прививки."),
        ("Напиши письмо", "Напиши короткое дружелюбное письмо: переносим встречу на четверг, на 10 утра."),
        ("Помоги с кодом", "Напиши на Python функцию, которая проверяет, палиндром ли строка, и тест к ней."),
        ("Что здесь можно?", "Что это за программа и что можно поменять в её настройках?"),
    ),
}


# The same, while only the built-in guide answers.
_GUIDE_STARTERS: Final[dict[Language, tuple[tuple[str, str], ...]]] = {
    "en": (
        ("What is this?", "What is this program?"),
        ("Get a real model", "How do I get a real model?"),
        ("Settings", "Where are the settings?"),
        ("Is it private?", "Who can see my messages?"),
    ),
    "ru": (
        ("Что это такое?", "Что это за программа?"),
        ("Настоящая модель", "Как получить настоящую модель?"),
        ("Настройки", "Где настройки?"),
        ("Это приватно?", "Кто может видеть мои сообщения?"),
    ),
}


def language_of(tag: str | None) -> Language:
    """The language of the page for a browser's language tag, such as `ru-RU`; English where we have no other."""
    start = (tag or "").lower().partition("-")[0]
    return next((language for language in LANGUAGES if language == start), "en")


def text(language: Language, key: str, **places: object) -> str:
    """A text of the page."""
    return _TEXTS[language][key].format(**places)


def starters(language: Language, *, guide: bool) -> tuple[tuple[str, str], ...]:
    """Label and message of each starter; `guide`: those that the built-in guide can answer."""
    return (_GUIDE_STARTERS if guide else _STARTERS)[language]
