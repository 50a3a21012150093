"""What can go wrong, as a tree; each error with the sentence that a user reads.

ChatError                     anything a user is told about
├── InputError                the request itself; asking again unchanged will not help
│   ├── EmptyMessage
│   ├── MessageTooLarge       more bytes than MAX_MESSAGE_BYTES
│   ├── MessageTooLong        more tokens than the model can read
│   ├── ConversationTooLong   the same for a conversation that must not be cut
│   ├── ReplyTooLong          a reply to go on with has filled what the model can read
│   ├── SystemPromptTooLong   it leaves no room for a message
│   ├── TooManyMessages       more in one request than MAX_MESSAGES
│   ├── NotTaken              a program sent what this server does not take
│   ├── NotSent               a program did not send what is needed
│   ├── TwoValues             a program sent one thing under two names, and not the same
│   ├── TooManyPrompts        more than MAX_BATCH at once
│   └── Unsupported           this model or its engine cannot do what was asked
│       ├── CannotChat        it writes no text, but embeds
│       ├── CannotGoOn        it cannot go on with a reply
│       └── CannotEmbed       it makes no embeddings
├── UnknownModel              no engine offers a model of that name
├── NoModel                   no engine offers any model yet
├── Busy                      the queue is full
│   ├── AlreadyWaiting        a request of this visitor, key or address waits already
│   └── WaitedTooLong         it has waited for MAX_WAIT
├── TooManyRequests           this visitor, key or address has asked as often as RATE_LIMIT allows
│   └── TooManyFromNetwork    all at this address together have
├── Stopping                  the server is about to end
├── MemoryShort               the container has hardly any memory left (MEMORY_GUARD)
└── EngineError               the engine failed; the same request may work later
    ├── EngineUnreachable     nobody answers at the engine's address
    │   └── HubUnreachable    there is no way to where models are downloaded from
    ├── EngineSilent          it went quiet for longer than allowed
    ├── EngineRefused         it refused the request (HTTP 4xx)
    │   ├── ModelMissing      it does not have that model (404)
    │   ├── PromptTooLong     the prompt is larger than its context; names both sizes
    │   └── TextTooLong       the same of a text to embed, where it names no sizes
    ├── EngineFailed          it broke (HTTP 5xx, an error in mid-stream)
    │   ├── OutOfMemory
    │   └── ModelProcessDied
    ├── ModelTooLarge         it does not fit the memory that there is
    ├── StreamCut             the connection ended in the middle of a reply
    ├── ModelBroken           the model's files cannot be loaded
    ├── ModelNotReady         the model is still being downloaded
    └── LocalModelsNotInstalled   torch or transformers is missing
"""

from __future__ import annotations

import math
from typing import ClassVar, Final, Literal

Language = Literal["en", "ru"]
LANGUAGES: Final[tuple[Language, ...]] = ("en", "ru")


# Seconds, and what so many are called.
_UNITS: Final = ((86_400, "day", "сут"), (3600, "hour", "ч"), (60, "minute", "мин"), (1, "second", "с"))
# What is longer is rounded up to whole minutes where it is a wait.
_EXACT: Final = 120


def _duration(seconds: int, language: Language) -> str:
    size, english, russian = next(unit for unit in _UNITS if seconds % unit[0] == 0)
    number = seconds // size
    return f"{number:,} {russian}" if language == "ru" else f"{number:,} {english}{'' if number == 1 else 's'}"


def _rounded(seconds: int) -> int:
    """A wait as it is told."""
    return seconds if seconds <= _EXACT else -(-seconds // 60) * 60


class ChatError(Exception):
    """Something a user is told about, in Markdown: a name such as `phi3:latest` stands in backticks, or the page would
    take a part of it for a directive.

    Each class holds its sentence in every language of the page; the keyword arguments given to the constructor
    fill its places, are kept in `facts`, and are what a log line shows.
    """

    code: ClassVar[str] = "error"
    sentences: ClassVar[dict[Language, str]] = {
        "en": "Something went wrong: {detail}",
        "ru": "Что-то пошло не так: {detail}",
    }
    # For programs, where the other one speaks of what is on the page alone. Of what is too long for a model they begin
    # with OpenAI's own words, by which LangChain and LiteLLM tell it from other errors.
    for_programs: ClassVar[dict[Language, str]] = {}

    def __init__(self, **facts: str | int | float) -> None:
        self.facts = facts
        super().__init__(self.sentence("en"))

    def sentence(self, language: Language, *, to_program: bool = False) -> str:
        """What happened and what to do next, in plain words."""
        sentences = self.for_programs if to_program and self.for_programs else self.sentences
        return sentences[language].format(**self.facts)


class InputError(ChatError):
    """The request itself; asking again unchanged will not help."""


class EmptyMessage(InputError):
    code = "empty_message"
    sentences = {
        "en": "That message is empty. Write something and send it again.",
        "ru": "Сообщение пустое. Напишите что-нибудь и отправьте ещё раз.",
    }


class MessageTooLarge(InputError):
    """Facts: `size` and `limit`, in bytes of UTF-8."""

    code = "message_too_large"
    sentences = {
        "en": "That message has {size:,} bytes; this server takes at most {limit:,}. Shorten it, or send it in parts.",
        "ru": "В сообщении {size:,} байт, а сервер принимает не больше {limit:,}. Сократите его или отправьте частями.",
    }


class MessageTooLong(InputError):
    """Facts: `tokens` that the message needs and the `limit` that the model leaves for it."""

    code = "context_length_exceeded"
    sentences = {
        "en": (
            "That message has about {tokens:,} tokens; this model can read at most {limit:,} at once. "
            "Shorten it, or send it in parts."
        ),
        "ru": (
            "В сообщении около {tokens:,} токенов, а модель может прочитать за раз не больше {limit:,}. "
            "Сократите его или отправьте частями."
        ),
    }
    for_programs = {
        "en": (
            "Input tokens exceed the configured limit of {limit:,}: that message has about {tokens:,}. "
            "Shorten it, or send it in parts."
        ),
        "ru": sentences["ru"],
    }


class ConversationTooLong(InputError):
    """Facts: `tokens` of the conversation and the `limit` that the model leaves for it."""

    code = "context_length_exceeded"
    sentences = {
        "en": (
            "This conversation has about {tokens:,} tokens; this model can read at most {limit:,} at once. "
            "Shorten it, or let older messages be left out."
        ),
        "ru": (
            "В беседе около {tokens:,} токенов, а модель может прочитать за раз не больше {limit:,}. "
            "Сократите её или разрешите не читать старые сообщения."
        ),
    }
    for_programs = {
        "en": (
            "Input tokens exceed the configured limit of {limit:,}: this conversation has about {tokens:,}. "
            "Shorten it, or let older messages be left out."
        ),
        "ru": sentences["ru"],
    }


class ReplyTooLong(InputError):
    code = "context_length_exceeded"
    sentences = {
        "en": "This reply has filled what the model can read at once and cannot go on. Ask for the rest in a message.",
        "ru": "Ответ занял всё, что модель может прочитать за раз. Спросите остальное новым сообщением.",
    }


class TooManyMessages(InputError):
    """Facts: `count` and `limit`."""

    code = "too_many_messages"
    sentences = {
        "en": "That request has {count:,} messages; this server takes at most {limit:,}. Send fewer of them.",
        "ru": "В запросе сообщений: {count:,}, а сервер принимает не больше {limit:,}. Отправьте не все.",
    }


class NotTaken(InputError):
    """Facts: `parameter`, where it stands in the request."""

    code = "unsupported_parameter"
    sentences = {
        "en": "`{parameter}` cannot be honoured here. Leave it out; what is taken stands at /docs.",
        "ru": "`{parameter}` здесь не поддерживается. Уберите его; что можно передать, написано на /docs.",
    }


class NotSent(InputError):
    """Facts: `parameter`, its name in the request."""

    code = "missing_parameter"
    sentences = {
        "en": "`{parameter}` is missing. Send it; what is taken stands at /docs.",
        "ru": "Не хватает `{parameter}`. Добавьте его; что можно передать, написано на /docs.",
    }


class TwoValues(InputError):
    """Facts: `parameter` and `other`, two names of one thing."""

    code = "conflicting_parameters"
    sentences = {
        "en": "`{parameter}` and `{other}` are two names of one thing, and here they differ. Send one of them.",
        "ru": "`{parameter}` и `{other}` — два имени одного и того же, а значения разные. Передайте что-то одно.",
    }


class TooManyPrompts(InputError):
    """Facts: `count` of prompts and the `limit`."""

    code = "too_many_prompts"
    sentences = {
        "en": "These are {count:,} prompts; this server takes at most {limit:,} at once. Send them in parts.",
        "ru": "Промптов {count:,}, а сервер принимает за раз не больше {limit:,}. Отправьте их частями.",
    }


class Unsupported(InputError):
    """Facts: `parameter`, by OpenAI's name; `model`; `engine`, its label."""

    code = "unsupported_parameter"
    sentences = {
        "en": "`{model}` on {engine} cannot honour `{parameter}`. Leave it out, or choose another model.",
        "ru": "`{model}` на {engine} не умеет `{parameter}`. Уберите этот параметр или выберите другую модель.",
    }


class CannotChat(Unsupported):
    """Facts: those of `Unsupported`."""

    sentences = {
        "en": "`{model}` on {engine} is not one that writes text. Choose another model.",
        "ru": "`{model}` на {engine} не пишет текст. Выберите другую модель.",
    }


class CannotGoOn(Unsupported):
    """Facts: those of `Unsupported`."""

    sentences = {
        "en": "{engine} cannot go on with a reply. Choose another model, or ask for the rest in a message.",
        "ru": "{engine} не умеет продолжать ответ. Выберите другую модель или спросите остальное сообщением.",
    }


class CannotEmbed(Unsupported):
    """Facts: those of `Unsupported`."""

    sentences = {
        "en": "`{model}` on {engine} makes no embeddings. Choose a model that does, such as `bge-m3`.",
        "ru": "`{model}` на {engine} не строит эмбеддинги. Выберите модель, которая умеет, например `bge-m3`.",
    }


class SystemPromptTooLong(InputError):
    """Facts: `tokens` of the system prompt, how many it has `left` for a message, and how many this one `needed`."""

    code = "context_length_exceeded"
    sentences = {
        "en": (
            "The system prompt has about {tokens:,} tokens and leaves {left:,} for a message; this one needs "
            "{needed:,}. Shorten the system prompt in the chat settings, then try again."
        ),
        "ru": (
            "Системная подсказка занимает около {tokens:,} токенов и оставляет сообщению {left:,}, а ему нужно "
            "{needed:,}. Сократите её в настройках чата и попробуйте ещё раз."
        ),
    }
    for_programs = {
        "en": (
            "Input tokens exceed the configured limit: the system prompt, with the functions if any are offered, has "
            "about {tokens:,} and leaves {left:,} for a message; this one needs {needed:,}. Shorten it, or offer fewer "
            "functions."
        ),
        "ru": (
            "Системная подсказка вместе с функциями, если они предложены, занимает около {tokens:,} токенов и "
            "оставляет сообщению {left:,}, а ему нужно {needed:,}. Сократите её или предложите меньше функций."
        ),
    }


class UnknownModel(ChatError):
    """Facts: `model`, and `known`: the names that would have worked."""

    code = "model_not_found"
    sentences = {
        "en": "There is no model `{model}` here any more. Pick another one in the chat settings. Available: {known}.",
        "ru": "Модели `{model}` здесь больше нет. Выберите другую в настройках чата. Есть: {known}.",
    }
    for_programs = {
        "en": "There is no model `{model}` here. Available: {known}.",
        "ru": "Модели `{model}` здесь нет. Есть: {known}.",
    }


class NoModel(ChatError):
    code = "no_model"
    sentences = {
        "en": "No model can answer yet. Start Ollama on this server, or wait until the download has ended.",
        "ru": "Пока ни одна модель не готова отвечать. Запустите Ollama на сервере или дождитесь конца загрузки.",
    }


class Busy(ChatError):
    """Facts: `waiting`, how many wait already, and the `seconds` until a place is free; None: not known."""

    code = "queue_full"
    sentences = {
        "en": "Too many people are waiting right now ({waiting}). Try again {soon}.",
        "ru": "Сейчас слишком много ожидающих ({waiting}). Попробуйте {soon}.",
    }

    def __init__(self, *, waiting: int, seconds: float | None = None, **facts: int) -> None:
        self.seconds = None if seconds is None else max(math.ceil(seconds), 1)
        super().__init__(waiting=waiting, **facts, **({} if self.seconds is None else {"seconds": self.seconds}))

    def sentence(self, language: Language, *, to_program: bool = False) -> str:
        """See ChatError; with the times in words."""
        wait = _duration(_rounded(60 if self.seconds is None else self.seconds), language)
        soon = f"примерно через {wait}" if language == "ru" else f"in about {wait}"
        long = _duration(int(self.facts.get("waited", 0)), language)
        return self.sentences[language].format(waiting=self.facts["waiting"], soon=soon, long=long)


class AlreadyWaiting(Busy):
    """Facts: `waiting`, how many of this visitor's wait, and the `seconds` until the first of them has its turn."""

    code = "already_waiting"
    sentences = {
        "en": "A message of yours is waiting already. Cancel it, or try again {soon}.",
        "ru": "Одно ваше сообщение уже ждёт очереди. Отмените его или попробуйте {soon}.",
    }


class WaitedTooLong(Busy):
    """Facts: those of `Busy`, and the seconds that it has `waited`."""

    code = "waited_too_long"
    sentences = {
        "en": "This message has waited {long} for its turn, and nobody waits longer here. Try again {soon}.",
        "ru": "Сообщение ждало очереди {long}, дольше здесь ждать нельзя. Попробуйте {soon}.",
    }


class TooManyRequests(ChatError):
    """Facts: `count` that are allowed in `period`, and the `seconds` until the next is; both in seconds."""

    code = "rate_limit_exceeded"
    sentences = {
        "en": "You have sent {messages} in the last {last}. Try again in {wait}.",
        "ru": "Сообщений от вас за {last}: {messages}, больше пока нельзя. Повторите через {wait}.",
    }

    def __init__(self, *, count: int, period: int, seconds: int) -> None:
        super().__init__(count=count, period=period, seconds=seconds)
        self.seconds = seconds

    def sentence(self, language: Language, *, to_program: bool = False) -> str:
        """See ChatError; with the times in words."""
        count, period, seconds = (int(self.facts[name]) for name in ("count", "period", "seconds"))
        messages = f"{count:,}" if language == "ru" else f"{count:,} message{'' if count == 1 else 's'}"
        return self.sentences[language].format(
            messages=messages,
            last=_duration(period, language).removeprefix("1 " if language == "en" else ""),
            wait=_duration(_rounded(seconds), language),
        )


class TooManyFromNetwork(TooManyRequests):
    """Facts as above, of all at one address together."""

    sentences = {
        "en": "{messages} came from your network in the last {last}. Try again in {wait}.",
        "ru": "Сообщений из вашей сети за {last}: {messages}, больше пока нельзя. Повторите через {wait}.",
    }


class Stopping(ChatError):
    code = "stopping"
    sentences = {
        "en": "The server is being restarted. Your message is kept: press Try again in a minute.",
        "ru": "Сервер перезапускается. Сообщение сохранено: нажмите «Повторить» через минуту.",
    }
    for_programs = {
        "en": "The server is being restarted. Send the request again in a minute.",
        "ru": "Сервер перезапускается. Повторите запрос через минуту.",
    }


class MemoryShort(ChatError):
    code = "memory_short"
    sentences = {
        "en": "This server is short of memory, so it begins no new reply. Your message is kept: "
        "press Try again in a minute.",
        "ru": "На сервере почти не осталось памяти, и новых ответов он пока не начинает. Сообщение сохранено: "
        "нажмите «Повторить» через минуту.",
    }
    for_programs = {
        "en": "This server is short of memory, so it begins no new reply. Send the request again in a minute.",
        "ru": "На сервере почти не осталось памяти, и новых ответов он пока не начинает. Повторите через минуту.",
    }


class EngineError(ChatError):
    """The engine failed; the same request may work later. Facts: at least `engine`, its label."""

    code = "engine_error"
    sentences = {
        "en": "{engine} could not answer: {detail}. Try again.",
        "ru": "{engine} не смог ответить: {detail}. Попробуйте ещё раз.",
    }


class EngineUnreachable(EngineError):
    """Facts: `engine`, `url`."""

    code = "engine_unreachable"
    sentences = {
        "en": "{engine} does not answer at {url}. Start it (or correct its address in the settings), then try again.",
        "ru": "{engine} не отвечает по адресу {url}. Запустите его (или исправьте адрес) и попробуйте ещё раз.",
    }


class HubUnreachable(EngineUnreachable):
    """Facts: `engine`, `url`."""

    code = "hub_unreachable"
    sentences = {
        "en": "This server has no way to {url}, where the model would come from. Check its network.",
        "ru": "С этого сервера нет доступа к {url}, откуда скачивается модель. Проверьте сеть.",
    }


class EngineSilent(EngineError):
    """Facts: `engine`, `seconds` of silence that were allowed."""

    code = "engine_silent"
    sentences = {
        "en": (
            "{engine} has sent nothing for {seconds:.0f} seconds, so the reply was given up. "
            "Try again; if it happens often, use a smaller model or raise TIMEOUT."
        ),
        "ru": (
            "{engine} молчит уже {seconds:.0f} с, поэтому ответ прерван. "
            "Попробуйте ещё раз; если это повторяется, возьмите модель поменьше или увеличьте TIMEOUT."
        ),
    }


class EngineRefused(EngineError):
    """Facts: `engine`, `detail`: the engine's own words."""

    code = "engine_refused"
    sentences = {
        "en": "{engine} refused the request: {detail}. Change the settings or the message, then try again.",
        "ru": "{engine} отклонил запрос: {detail}. Измените настройки или сообщение и попробуйте ещё раз.",
    }


class ModelMissing(EngineRefused):
    """Facts: `engine`, `model`, `remedy`: the command that brings the model."""

    code = "model_not_found"
    sentences = {
        "en": "{engine} does not have the model `{model}`. Pick another in the chat settings, or get it: `{remedy}`",
        "ru": "У {engine} нет модели `{model}`. Выберите другую в настройках чата или скачайте её: `{remedy}`",
    }
    for_programs = {
        "en": "{engine} does not have the model `{model}`. Name another, or get it: `{remedy}`",
        "ru": "У {engine} нет модели `{model}`. Укажите другую или скачайте её: `{remedy}`",
    }


class PromptTooLong(EngineRefused):
    """The engine's exact count. Facts: `engine`, `tokens` in the prompt, `limit`: its context length."""

    code = "context_length_exceeded"
    sentences = {
        "en": "This conversation has {tokens:,} tokens; {engine} can read {limit:,}. Start a new chat, or shorten it.",
        "ru": "В беседе {tokens:,} токенов, а {engine} читает {limit:,}. Начните новый чат или сократите сообщение.",
    }
    for_programs = {
        "en": ("Input tokens exceed the configured limit of {limit:,} in {engine}: here are {tokens:,}. Send less."),
        "ru": "В беседе {tokens:,} токенов, а {engine} читает {limit:,}. Отправьте её не целиком.",
    }

    def __init__(self, *, engine: str, tokens: int, limit: int) -> None:
        super().__init__(engine=engine, tokens=tokens, limit=limit)
        self.tokens = tokens
        self.limit = limit


class TextTooLong(EngineRefused):
    """Facts: `engine`."""

    code = "context_length_exceeded"
    sentences = {
        "en": "One of these texts is longer than the model can read at once, says {engine}. Send it in parts.",
        "ru": "Один из текстов длиннее, чем модель может прочитать за раз, сообщает {engine}. Отправьте его частями.",
    }
    for_programs = {
        "en": "Input tokens exceed the configured limit of {engine} for one of these texts. Send it in parts.",
        "ru": sentences["ru"],
    }


class EngineFailed(EngineError):
    """Facts: `engine`, `detail`: the engine's own words."""

    code = "engine_failed"
    sentences = {
        "en": "{engine} broke while answering: {detail}. Try again; if it goes on, restart {engine}.",
        "ru": "{engine} сломался во время ответа: {detail}. Попробуйте снова; если не поможет, перезапустите {engine}.",
    }


class OutOfMemory(EngineFailed):
    """Facts: `engine`, `model`."""

    code = "out_of_memory"
    sentences = {
        "en": "There is not enough memory for `{model}`. Pick a smaller model, or set a smaller NUM_CTX and restart.",
        "ru": "Для `{model}` не хватает памяти. Выберите модель поменьше или задайте меньший NUM_CTX и перезапустите.",
    }


class ModelProcessDied(EngineFailed):
    """Facts: `engine`, `model`."""

    code = "model_process_died"
    sentences = {
        "en": (
            "The model `{model}` stopped while it was working, most often for want of memory. "
            "Try again: it is started anew by itself. If it goes on, pick a smaller model or set a smaller NUM_CTX."
        ),
        "ru": (
            "Модель `{model}` остановилась во время работы, чаще всего из-за нехватки памяти. "
            "Попробуйте ещё раз: она запустится сама. Если повторится, возьмите модель поменьше или уменьшите NUM_CTX."
        ),
    }


class ModelTooLarge(EngineError):
    """Facts: `engine`, `model`; `needed` and `available` memory in MiB; `context`: the num_ctx in question."""

    code = "model_too_large"
    sentences = {
        "en": (
            "`{model}` needs about {needed:,} MB of memory at NUM_CTX={context}, and this server has {available:,} MB "
            "for it. Pick a smaller model, set a smaller NUM_CTX, or give the server more memory."
        ),
        "ru": (
            "Модели `{model}` нужно около {needed:,} МБ памяти при NUM_CTX={context}, а на сервере для неё есть "
            "{available:,} МБ. Выберите модель поменьше, уменьшите NUM_CTX или добавьте серверу памяти."
        ),
    }


class StreamCut(EngineError):
    """Facts: `engine`."""

    code = "stream_cut"
    sentences = {
        "en": "The connection to {engine} broke in the middle of the reply. What had come is kept. Try again.",
        "ru": "Связь с {engine} оборвалась посреди ответа. Полученный текст сохранён. Попробуйте ещё раз.",
    }
    for_programs = {
        "en": "The connection to {engine} broke in the middle of the reply. Send the request again.",
        "ru": "Связь с {engine} оборвалась посреди ответа. Повторите запрос.",
    }


class ModelBroken(EngineError):
    """Facts: `engine`, `model`, `detail`."""

    code = "model_broken"
    sentences = {
        "en": "The files of `{model}` cannot be loaded ({detail}). Delete its folder, get it again, or pick another.",
        "ru": "Файлы `{model}` не загружаются ({detail}). Удалите папку и скачайте модель снова или выберите другую.",
    }


class CheckpointBroken(ModelBroken):
    """Facts: `engine`, `model`, `detail`. It is the one of CHECKPOINT, which nobody else has."""

    sentences = {
        "en": "The model `{model}` of CHECKPOINT cannot be loaded ({detail}). Take another checkpoint.",
        "ru": "Модель `{model}` из CHECKPOINT не загружается ({detail}). Возьмите другую контрольную точку.",
    }


class ModelNotReady(EngineError):
    """Facts: `engine`, `model`."""

    code = "model_not_ready"
    sentences = {
        "en": "`{model}` is still being downloaded. Pick another model meanwhile, or wait a little.",
        "ru": "`{model}` ещё скачивается. Выберите пока другую модель или немного подождите.",
    }


class LocalModelsNotInstalled(EngineError):
    """Facts: `engine`, `detail`: what could not be imported."""

    code = "local_models_not_installed"
    sentences = {
        "en": "The packages that run models on this server are missing ({detail}). Install them: make install-local",
        "ru": "На сервере нет пакетов для запуска моделей ({detail}). Установите их: make install-local",
    }


def codes(kind: type[ChatError] = ChatError) -> frozenset[str]:
    """Every word by which a program is told of an error of that kind."""
    return frozenset({kind.code}).union(*(codes(below) for below in kind.__subclasses__()))
