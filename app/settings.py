"""Every environment variable: its type, default and one-line help. The only reader of the environment."""

from __future__ import annotations

import os
import re
import sys
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import AliasChoices, BeforeValidator, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.keys import Key, is_from_a_guide, read_keys

ROOT: Final = Path(__file__).resolve().parent.parent
GUIDE_DIR: Final = ROOT / "models" / "guide"


class SettingsError(Exception):
    """A setting is wrong. The message is one line: the variable, its value, and what is allowed."""


def ollama_url(value: object) -> object:
    """Ollama's own notation of its address, made a URL.

    `host`, `host:port`, `http://host:port`; without a scheme the port is 11434, and 0.0.0.0 (an address to listen on)
    becomes loopback. Source: `Host()` in ollama's envconfig/config.go.

    Raises:
        ValueError: it is not an address.
    """
    if not isinstance(value, str):
        return value
    text = value.strip().rstrip("/")
    default_port = "" if "://" in text else ":11434"
    parts = web_url(text if "://" in text else f"http://{text}")
    address = urlsplit(str(parts))
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(address.hostname or "", address.netloc.rpartition("@")[2])
    if address.hostname in ("0.0.0.0", "::") and address.port:
        host = f"{host}:{address.port}"
    if address.port is None:
        host += default_port
    return f"{address.scheme}://{host}{address.path}"


def web_url(value: object) -> object:
    """An http(s) URL without a slash at its end; the empty string stays empty.

    Raises:
        ValueError: it is not such a URL.
    """
    if not isinstance(value, str) or not value.strip():
        return value
    text = value.strip().rstrip("/")
    address = urlsplit(text)
    try:
        usable = address.scheme in ("http", "https") and bool(address.hostname) and (address.port or 1) > 0
    except ValueError:  # a port that is not a number, or out of range
        usable = False
    if not usable or any(sign.isspace() for sign in text):
        raise ValueError("an address such as http://localhost:11434")
    return text


def on_this_machine(url: str) -> bool:
    """Whether a server's address is one of loopback; that of all addresses, to which one listens, leads there too."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    try:
        address = ip_address(host)
    except ValueError:
        return host in ("localhost", "localhost.localdomain") or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def proxies(value: object) -> object:
    """Addresses and networks as uvicorn tells them apart, comma-separated, or `*`.

    Raises:
        ValueError: one is neither.
    """
    if not isinstance(value, str):
        return value
    words = value.replace(",", " ").split()
    if "*" in words:
        return "*"
    try:
        # uvicorn would take 10.0.0.1/8 for the name of a socket, and trust nobody.
        found = [str(ip_network(word, strict=False)) if "/" in word else str(ip_network(word)[0]) for word in words]
    except ValueError:
        raise ValueError("addresses and networks such as 10.0.0.7,172.16.0.0/12, or *") from None
    return ",".join(found)


def origins(value: object) -> object:
    """Origins as browsers send them, comma-separated, or `*`.

    Raises:
        ValueError: one is none.
    """
    if not isinstance(value, str):
        return value
    words = [word.rstrip("/").lower() for word in value.replace(",", " ").split()]
    if "*" in words:
        return "*"
    if not all(re.fullmatch(r"[a-z][a-z0-9+.-]*://([\w.-]+|\[[0-9a-f:.]+\])(:\d+)?", word) for word in words):
        raise ValueError("addresses without a path such as https://app.example.org, or *")
    return ",".join(words)


def rate(value: object) -> object:
    """Amounts with their times, as the package `limits` reads them; empty for `off`.

    Raises:
        ValueError: they are none.
    """
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.lower() in ("", "off", "none"):
        return ""
    from limits import parse_many

    try:
        good = all(limit.amount > 0 and limit.get_expiry() > 0 for limit in parse_many(text))
    except (ValueError, OverflowError):
        good = False
    if not good:
        raise ValueError("amounts such as 20/minute, 5/10seconds or 20/minute;500/day")
    return text


def database_url(value: object) -> object:
    """A PostgreSQL URL for our driver; None for the empty string.

    Raises:
        ValueError: it is not such a URL; the value, which may hold a password, is not in the message.
    """
    if not isinstance(value, str) or not value.strip():
        return None if isinstance(value, str) else value
    # Not at the top: SQLAlchemy takes a quarter of a second.
    from app.storage.urls import postgres_url

    return postgres_url(value)


def any_case(*allowed: str) -> BeforeValidator:
    """Takes one of `allowed`, written in capitals or not; anything else is left for the error to show."""
    known = {word.lower(): word for word in allowed}
    return BeforeValidator(lambda value: known.get(value.lower(), value) if isinstance(value, str) else value)


def frame_sources(value: object) -> object:
    """Sources of the policy `frame-ancestors`; quotes that a shell has taken from 'self' and 'none' are put back.

    Raises:
        ValueError: a word is none.
    """
    if not isinstance(value, str):
        return value
    words = [f"'{word}'" if word in ("self", "none") else word for word in value.replace("'", "").split()]
    if not words or not all(re.fullmatch(r"'(self|none)'|(https?://)?[\w.*-]+(:(\d+|\*))?/?", word) for word in words):
        raise ValueError("'self', 'none', or addresses such as https://portal.example.org")
    return " ".join(words)


def ways_in(value: object) -> object:
    """The ways to sign in that AUTH names, in one order and spelling; what is not one is left for the error to show."""
    if not isinstance(value, str):
        return value
    words = {word.lower() for word in value.replace(",", " ").split()}
    known = words <= {"off", "password", "oauth"} and (len(words) == 1 or "off" not in words)
    return ",".join(sorted(words, reverse=True)) if known and words else value


OllamaUrl = Annotated[str, BeforeValidator(ollama_url)]
DatabaseUrl = Annotated[SecretStr | None, BeforeValidator(database_url)]
WebUrl = Annotated[str, BeforeValidator(web_url)]
Origins = Annotated[str, BeforeValidator(origins)]
Rate = Annotated[str, BeforeValidator(rate)]
Proxies = Annotated[str, BeforeValidator(proxies)]
FrameSources = Annotated[str, BeforeValidator(frame_sources)]
LogLevel = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], any_case("DEBUG", "INFO", "WARNING", "ERROR")]
LogFormat = Annotated[Literal["text", "json"], any_case("text", "json")]
Device = Annotated[Literal["auto", "cpu", "cuda", "mps"], any_case("auto", "cpu", "cuda", "mps")]
Auth = Annotated[Literal["off", "password", "oauth", "password,oauth"], BeforeValidator(ways_in)]

_FEWEST_SIGNS: Final = 8


def _names(*names: str) -> AliasChoices:
    return AliasChoices(*names)


class Settings(BaseSettings):
    """The settings of one server. Read once, at start, from the environment and from `.env`."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        extra="ignore",
        env_ignore_empty=True,
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=False,
    )

    # The server
    host: str = Field("0.0.0.0", description="Address to listen on.")
    port: int = Field(8000, ge=1, le=65535, description="Port of the page and everything else.")
    data_dir: Path = Field(Path("data"), description="Folder of the conversations and the secret key.")
    database_url: DatabaseUrl = Field(
        None,
        description="PostgreSQL for the conversations: `postgresql+asyncpg://user:password@host:5432/database`. "
        "Empty: SQLite in DATA_DIR.",
    )
    history: bool = Field(
        True, description="Keep conversations. `off`: nothing is written anywhere, a reload of the page begins anew."
    )
    request_log: bool = Field(
        True,
        description="Keep a row of figures for each reply, without a word of what was said. Needs HISTORY.",
    )
    log_text: bool = Field(
        False,
        description="Keep the question and the reply in that row too. Tell the people who talk here if you do.",
    )
    log_text_max_bytes: int = Field(
        16_384, ge=64, le=1_000_000, description="So much of each of these texts is kept, in bytes of UTF-8."
    )
    unsaved_max_mb: int = Field(
        16, ge=1, le=4096, description="MB of conversations that wait in memory while the database takes no writes."
    )
    store_seconds: float = Field(
        5, ge=0.1, le=3600, description="A reply that is being written is stored this often, in seconds."
    )
    store_wait: float = Field(
        2, gt=0, le=60, description="Seconds that a finished reply waits to be stored before it is shown as such."
    )
    metrics_token: SecretStr | None = Field(
        None,
        description="Token that `/metrics` wants (`Authorization: Bearer`). "
        "Empty: it answers loopback and private addresses only.",
    )
    reload: bool = Field(
        False, description="For development: start again whenever a source file of the program changes."
    )
    log_level: LogLevel = Field("INFO", description="DEBUG, INFO, WARNING or ERROR.")
    log_format: LogFormat = Field("text", description="text, or json: an object a line.")
    secret_key: SecretStr | None = Field(
        None,
        description="Signs the page's cookies, at least 32 random characters. Made and kept in DATA_DIR if absent. "
        "Several servers on one database need the same.",
    )

    trusted_proxies: Proxies = Field(
        "127.0.0.1",
        validation_alias=_names("TRUSTED_PROXIES", "FORWARDED_ALLOW_IPS"),
        description="Whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed: addresses and networks of proxies, "
        "comma-separated, or `*`.",
    )
    frame_ancestors: FrameSources = Field(
        "'self'",
        description="Pages that may show this one in a frame: `'self'`, `'none'`, or addresses such as "
        "`https://portal.example.org`.",
    )

    # Who may come in
    auth: Auth = Field(
        "off",
        description="Who may use the page. `off`: everybody, each browser with conversations of its own. `password`, "
        "`oauth` or `password,oauth`: who has signed in.",
    )
    signup: bool = Field(False, description="With AUTH=password: people may make accounts themselves.")
    oauth_allowed: str = Field(
        "",
        description="With AUTH=oauth: who may come in, by name or e-mail at the provider, or by the e-mail's domain: "
        "`ann,bob@example.org,@example.com`. Empty: everybody whom the provider lets in.",
    )
    api_keys: SecretStr | None = Field(
        None,
        description="Keys that programs have to send: `name:key,name2:key2`; or "
        "the path of a file with one `name:key` a line. Empty: none is wanted.",
    )
    cors_origins: Origins = Field(
        "",
        description="Sites whose pages may ask the API from a browser: `https://a.example.org,https://b.example.org`, "
        "or `*`. Empty: none.",
    )
    session_days: int = Field(30, ge=1, le=3650, description="Days until one has to sign in again.")
    password_min: int = Field(10, ge=10, le=128, description="Characters that a password needs.")
    login_tries: int = Field(
        10,
        ge=1,
        le=1000,
        description="Sign-ins that may be tried for one name from one address, see LOGIN_TRIES_SECONDS.",
    )
    login_tries_seconds: int = Field(300, ge=1, le=86_400, description="Seconds in which they are counted.")
    link_days: int = Field(7, ge=1, le=365, description="Days in which a personal link can be opened.")
    max_links: int = Field(10, ge=1, le=1000, description="Personal links that a visitor may have at once.")
    max_devices: int = Field(
        20, ge=1, le=1000, description="Browsers that may show one visitor's conversations by a link."
    )

    # Which model answers
    model: str = Field(
        "", description="Model that answers by default; `guide` for the built-in one. Empty: found out at start."
    )
    fallback_model: str = Field("", description="Model that answers when the chosen one's engine fails.")
    model_aliases: str = Field("", description="More names for models: `fast=ollama/gemma2:2b,big=vllm/qwen`.")
    models_cache_seconds: float = Field(
        30,
        ge=0,
        le=3600,
        validation_alias=_names("MODELS_CACHE_SECONDS", "OLLAMA_CACHE_DURATION"),
        description="How long the list of models is kept before the engines are asked again.",
    )
    models_timeout: float = Field(5, gt=0, le=120, description="Seconds that an engine has to list its models.")

    # Ollama
    ollama_host: OllamaUrl = Field(
        "http://localhost:11434",
        validation_alias=_names("OLLAMA_HOST", "OLLAMA_URL", "OLLAMA_BASE_URL", "OLLAMA_API_URL"),
        description="Where Ollama answers.",
    )
    ollama_store: Path | None = Field(
        None,
        validation_alias=_names("OLLAMA_MODELS"),
        description="Ollama's folder of models, its own variable; here only the doctor looks how full its disk is.",
    )
    models: str = Field(
        "gemma2:2b",
        min_length=1,
        validation_alias=_names("MODELS", "OLLAMA_MODEL"),
        description="Ollama's models; the first is preferred. Set: all that are missing are pulled at start. "
        "Not set: the first is, if Ollama has none.",
    )
    num_ctx: int = Field(4096, ge=512, le=1_048_576, description="Context length in tokens: prompt and reply together.")
    num_batch: int = Field(64, ge=1, le=4096, description="Tokens of the prompt read at once; small makes Stop quick.")
    ollama_num_parallel: int = Field(
        1, ge=0, le=4096, description="Replies that Ollama works on at once, as it is set there; SLOTS goes before it."
    )
    num_thread: int = Field(0, ge=0, le=1024, description="Threads of the engine; 0: it decides.")
    model_memory: int = Field(
        0, ge=0, description="MiB that Ollama may use for a model; one that needs more is refused. 0: not checked."
    )
    llama_arg_cache_ram: int = Field(
        8192,
        ge=-1,
        description="MiB in which Ollama's llama-server keeps conversations that others have taken the slot from; "
        "-1: any number. In the container it is found out from the memory.",
    )
    llama_arg_cache_reuse: int = Field(
        0,
        ge=0,
        description="Smallest piece, in tokens, that llama-server moves and does not read again; 0: it moves none. "
        "32 in the container.",
    )
    keep_alive: str = Field(
        "-1",
        min_length=1,
        validation_alias=_names("KEEP_ALIVE", "OLLAMA_KEEP_ALIVE"),
        description="How long Ollama keeps a model in memory; -1: for ever.",
    )
    ollama_wait: float = Field(
        0, ge=0, le=3600, description="Seconds that Ollama has to answer at start before another model is chosen."
    )

    # OpenAI-compatible
    vllm_url: WebUrl = Field("", description="An OpenAI-compatible server: vLLM, llama.cpp, LM Studio. Empty: none.")
    vllm_api_key: SecretStr | None = Field(None, description="Key that this server wants, if any.")

    # transformers
    qwen_model: str = Field(
        "Qwen/Qwen3-0.6B", description="Chat models for transformers, by hub name or folder, comma-separated."
    )
    checkpoint: Path | None = Field(
        None,
        description="Folder of a model of your own, a LoRA adapter or a run of the training: it answers by default, "
        "whatever MODEL says.",
    )
    device: Device = Field("auto", description="auto, cpu, cuda or mps.")
    preload: bool = Field(True, description="Load the default model at start; off: on first use.")
    local_caches: int = Field(4, ge=1, le=1000, description="Conversations whose key-value cache transformers keeps.")
    local_batch: int = Field(8, ge=1, le=256, description="Raw texts that transformers generates together.")

    # Limits
    timeout: float = Field(
        120,
        gt=0,
        le=86_400,
        validation_alias=_names("TIMEOUT", "OLLAMA_TIMEOUT"),
        description="Seconds of silence after which a reply is given up.",
    )
    load_timeout: float = Field(
        300,
        gt=0,
        le=86_400,
        validation_alias=_names("LOAD_TIMEOUT", "OLLAMA_MODEL_LOAD_TIMEOUT"),
        description="Seconds that loading a model may take.",
    )
    slots: int = Field(
        0,
        ge=0,
        le=4096,
        description="Replies that an engine works on at once, each alike; 0: each as many as it has slots.",
    )
    max_waiting: int = Field(16, ge=0, le=100_000, description="People who may wait for a slot.")
    max_waiting_each: int = Field(
        1, ge=1, le=100_000, description="Requests of one visitor, key or (without these) address that may wait."
    )
    max_wait: float = Field(
        600, gt=0, le=86_400, description="Seconds after which a request that waits for a slot is refused."
    )
    read_ahead: bool | None = Field(
        None,
        description="While nobody is served: read what the next message of an open page will need. By Ollama and "
        "llama.cpp alone. Empty: `on` where they run on this machine.",
    )
    read_ahead_step: int = Field(
        256, ge=64, le=65_536, description="So many tokens at once; what is read is kept when that many are."
    )
    memory_guard: float = Field(
        0.9,
        ge=0,
        le=1,
        description="Share of the container's memory from which on new replies are refused; 0: never.",
    )
    max_message_bytes: int = Field(262_144, ge=1024, le=900_000, description="Largest message, in bytes of UTF-8.")
    max_messages: int = Field(
        1000, ge=1, le=100_000, description="Most messages in one request of a program, or prompts in a batch."
    )
    max_json_depth: int = Field(
        32, ge=8, le=500, description="How deep the JSON of a request may be nested, the schemas of its tools too."
    )
    max_body_bytes: int = Field(
        262_144,
        ge=16_384,
        le=100_000_000,
        description="Largest body of a request, in bytes; a program's whole history is one. For programs that send a "
        "message of MAX_MESSAGE_BYTES it has to be larger than that, twice as much for text that JSON escapes.",
    )
    max_batch: int = Field(
        64,
        ge=1,
        le=10_000,
        description="Prompts that one request to `/api/forward_batch` or `/v1/completions` may bring.",
    )
    window_low: float = Field(
        0.5, ge=0.1, le=0.9, description="Share of the context that is kept when older messages leave it."
    )
    rate_limit: Rate = Field(
        "",
        description="Replies that one visitor, key or (without these) address may ask for, such as `20/minute` or "
        "`20/minute;500/day`; all at one address together ten times as many. Empty or `off`: any number.",
    )
    rate_limit_storage: SecretStr | None = Field(
        None,
        description="Redis in which several replicas count together: `redis://:password@host:6379`. Empty: each counts "
        "for itself.",
    )
    stop_seconds: float = Field(
        10,
        ge=0,
        le=3600,
        description="Seconds that running replies have to finish after SIGTERM; Ctrl-C gives none. "
        "As long are writes tried that wait for the database.",
    )
    away_seconds: float = Field(
        60, ge=0, le=86_400, description="A reply is stopped when its reader is away this long."
    )

    # What is kept, and how long
    history_days: int = Field(
        0, ge=0, le=36_500, description="Conversations unused for so many days are deleted; 0: kept for ever."
    )
    history_max_mb: int = Field(
        2048,
        ge=0,
        le=100_000_000,
        description="MiB that the conversations of all may take; beyond it those unused longest are deleted. 0: any.",
    )
    request_log_days: int = Field(
        30, ge=0, le=36_500, description="Days for which the figures of each reply are kept; 0: for ever."
    )
    stats_replies: int = Field(
        10_000, ge=100, le=1_000_000, description="Replies of the last day that `/api/stats` remembers, the newest."
    )
    import_max_mb: int = Field(
        64, ge=1, le=1024, description="Largest file of conversations that a visitor may bring along, in MiB."
    )
    import_tries: int = Field(20, ge=1, le=100_000, description="Imports that one address may try in an hour.")

    stream_comment_seconds: float = Field(
        4,
        gt=0,
        le=600,
        description="How often a program's stream that waits says so, before its client or a proxy gives up.",
    )

    tiktoken_cache_dir: Path | None = Field(
        None, description="Folder with tiktoken's table; token counts are estimated from bytes without it."
    )

    # What a new chat starts with
    temperature: float = Field(
        0.2,
        ge=0,
        le=1,
        validation_alias=_names("TEMPERATURE", "OLLAMA_TEMPERATURE"),
        description="Default temperature.",
    )
    top_p: float = Field(
        0.9, gt=0, le=1, validation_alias=_names("TOP_P", "OLLAMA_TOP_P"), description="Default top_p."
    )
    max_tokens: int = Field(
        1024,
        ge=16,
        le=4096,
        validation_alias=_names("MAX_TOKENS", "OLLAMA_MAX_TOKENS"),
        description="Default upper bound of a reply, in tokens.",
    )
    system_prompt: str = Field("", max_length=8000, description="Default system prompt.")

    @field_validator("rate_limit_storage")
    @classmethod
    def _is_redis(cls, url: SecretStr | None) -> SecretStr | None:
        if url is None or url.get_secret_value() in ("memory", "memory://"):
            return None
        if not re.fullmatch(r"(rediss?|redis\+unix)://\S+", url.get_secret_value()):
            raise ValueError("redis://host:6379, rediss:// or redis+unix:///path")
        return url

    @model_validator(mode="after")
    def _secret_is_one(self) -> Settings:
        if self.secret_key is not None:
            secret = self.secret_key.get_secret_value()
            if len(secret.encode()) < 32 or len(set(secret)) < _FEWEST_SIGNS or is_from_a_guide(secret):
                raise ValueError("SECRET_KEY is not allowed: it takes at least 32 random characters")
        return self

    @property
    def keys(self) -> tuple[Key, ...]:
        """Those of API_KEYS.

        Raises:
            SettingsError: one cannot be used.
        """
        if self.api_keys is None:
            return ()
        try:
            return read_keys(self.api_keys.get_secret_value())
        except ValueError as problem:
            raise SettingsError(f"API_KEYS is not allowed: {problem}") from None

    @property
    def passwords(self) -> bool:
        """Whether people sign in with a name and a password."""
        return "password" in self.auth

    @property
    def oauth(self) -> bool:
        """Whether people sign in with a provider."""
        return "oauth" in self.auth

    @property
    def login(self) -> bool:
        """Whether people sign in at all."""
        return self.passwords or self.oauth

    @property
    def guarded(self) -> bool:
        """Whether programs need a key, or a token of the login."""
        return self.login or self.api_keys is not None

    @property
    def origins(self) -> tuple[str, ...]:
        """Those of CORS_ORIGINS."""
        return tuple(filter(None, self.cors_origins.split(",")))

    @property
    def oauth_names(self) -> frozenset[str]:
        """The names and domains of OAUTH_ALLOWED; empty: everybody."""
        return frozenset(word.lower() for word in self.oauth_allowed.replace(",", " ").split())

    @property
    def uses_database(self) -> bool:
        """Whether anything is kept at all; else DATA_DIR is not needed."""
        return self.history or self.login

    @property
    def ollama_slots(self) -> int:
        """Replies that Ollama works on at once."""
        return self.slots or self.ollama_num_parallel or 1

    @property
    def ahead_on(self) -> frozenset[str]:
        """Names of the engines that may read ahead; whether one at VLLM_URL can is seen when it answers."""
        urls = {"ollama": self.ollama_host, "vllm": self.vllm_url}
        return frozenset(
            name for name, url in urls.items() if (on_this_machine(url) if self.read_ahead is None else self.read_ahead)
        )

    @property
    def wants_ollama(self) -> bool:
        """Whether an Ollama should be there: not where something else was named, and it was not."""
        return not (self.vllm_url or self.checkpoint) or "ollama_host" in self.model_fields_set

    @property
    def ollama_models(self) -> tuple[str, ...]:
        """The names in MODELS, at least one."""
        return tuple(dict.fromkeys(self.models.replace(",", " ").split())) or ("gemma2:2b",)

    @property
    def pulled_models(self) -> tuple[str, ...]:
        """Those of them that Ollama has to have: all that were asked for in so many words."""
        return self.ollama_models if "models" in self.model_fields_set else ()

    @property
    def local_models(self) -> tuple[str, ...]:
        """Hub names and folders of QWEN_MODEL, and MODEL if that is one."""
        names = [part.strip() for part in self.qwen_model.split(",") if part.strip()]
        named = self.model.removeprefix("transformers/")
        if "/" in named and not named.startswith(("ollama/", "vllm/")):
            names.append(named)
        return tuple(dict.fromkeys(names))

    @property
    def aliases(self) -> dict[str, str]:
        """Names of MODEL_ALIASES with the model each stands for.

        Raises:
            SettingsError: an entry is not of the form name=model.
        """
        pairs = (part.partition("=") for part in self.model_aliases.split(",") if part.strip())
        found = {name.strip(): target.strip() for name, _, target in pairs}
        if not all(found) or not all(found.values()):
            raise SettingsError(f"MODEL_ALIASES={self.model_aliases!r} is not allowed: it takes name=model,name=model")
        return found


def variable_names(field: str) -> tuple[str, ...]:
    """The environment variables that set a field, the preferred one first."""
    alias = Settings.model_fields[field].validation_alias
    return tuple(str(name) for name in alias.choices) if isinstance(alias, AliasChoices) else (field.upper(),)


def read_settings(**overrides: Any) -> Settings:
    """The settings from the environment and `.env`.

    Raises:
        SettingsError: a value is not allowed; its message is one line.
    """
    try:
        settings = Settings(**overrides)
        settings.aliases  # noqa: B018 - checked at start, not when a name is first looked up
        settings.keys  # noqa: B018 - the same
    except ValidationError as problem:
        raise SettingsError(_one_line(problem)) from None
    return settings


def read_what_is_allowed(**overrides: Any) -> tuple[Settings, tuple[str, ...]]:
    """The settings with the default in the place of each value that is not allowed, and a line about each of these.

    Raises:
        OSError, UnicodeDecodeError: `.env` cannot be read.
    """
    usual = dict(overrides)
    wrong: list[str] = []
    while True:
        try:
            settings = Settings(**usual)
        except ValidationError as problem:
            wrong.append(_one_line(problem))
            where = problem.errors()[0]["loc"]
            field = _field_of(str(where[0])) if where else "secret_key"
        else:
            field = next((name for name in ("aliases", "keys") if (line := _why_not(settings, name))), "")
            if not field:
                return settings, tuple(wrong)
            wrong.append(line or "")
            field = {"aliases": "model_aliases", "keys": "api_keys"}[field]
        usual[field] = Settings.model_fields[field].default


def _why_not(settings: Settings, name: str) -> str | None:
    try:
        getattr(settings, name)
    except SettingsError as problem:
        return str(problem)
    return None


def _field_of(name: str) -> str:
    """The field that a variable sets, or that is called so."""
    return next((key for key in Settings.model_fields if name in (key, *variable_names(key))), name)


def _one_line(problem: ValidationError) -> str:
    first = problem.errors()[0]
    if not first["loc"]:
        return str(first["msg"]).removeprefix("Value error, ")
    name = str(first["loc"][0])
    field = _field_of(name)
    if field in Settings.model_fields:
        # pydantic tells the preferred one, whichever was set.
        there = {key.upper() for key, value in {**dotenv_values(".env"), **os.environ}.items() if value}
        name = next((known for known in variable_names(field) if known in there), name)
    secret = "SecretStr" in str(Settings.model_fields[field].annotation) if field in Settings.model_fields else False
    value = "(secret)" if secret else repr(_without_password(first.get("input")))
    allowed = str(first["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    return f"{name.upper()}={value} is not allowed: it takes {allowed}"


def _without_password(value: object) -> object:
    """A value that cannot be used, and may all the same have a password before its host."""
    return re.sub(r"^(\w+:/+)?.*@", r"\1(secret)@", value, flags=re.DOTALL) if isinstance(value, str) else value


def settings_or_exit() -> Settings:
    """As `read_settings`, but a wrong value ends the process with its one line (exit code 2)."""
    try:
        return read_settings()
    except SettingsError as problem:
        print(f"chainlit-ollama: {problem}", file=sys.stderr)
        raise SystemExit(2) from None
