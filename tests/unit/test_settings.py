"""The settings: what is read, what is refused, and that the README tells of each."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from app.settings import ROOT, Settings, SettingsError, read_settings, settings_or_exit, variable_names
from scripts.settings_table import SAME, other_names, table

pytestmark = pytest.mark.usefixtures("nothing_set")


@pytest.mark.parametrize("file", [False, True])
@pytest.mark.parametrize("name", ["OLLAMA_TEMPERATURE", "TEMPERATURE"])
def test_what_is_wrong_is_called_as_it_was_set(monkeypatch: pytest.MonkeyPatch, name: str, file: bool) -> None:
    if file:
        Path(".env").write_text(f"{name}=2\n", encoding="utf-8")
    else:
        monkeypatch.setenv(name, "2")
    with pytest.raises(SettingsError, match=f"^{name}='2' is not allowed"):
        read_settings()


def test_nothing_has_to_be_set() -> None:
    settings = read_settings()
    assert (settings.host, settings.port, settings.num_ctx, settings.num_batch) == ("0.0.0.0", 8000, 4096, 64)
    assert settings.ollama_host == "http://localhost:11434"


@pytest.mark.parametrize("name", ["OLLAMA_HOST", "OLLAMA_URL", "OLLAMA_BASE_URL", "OLLAMA_API_URL"])
@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("box", "http://box:11434"),
        ("box:80", "http://box:80"),
        ("http://box:1234/", "http://box:1234"),
        ("https://box/ollama", "https://box/ollama"),
        ("0.0.0.0:11434", "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
    ],
)
def test_ollamas_address_may_be_written_as_ollama_itself_takes_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, url: str
) -> None:
    monkeypatch.setenv(name, value)
    assert read_settings().ollama_host == url


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "99999"),
        ("PORT", "eighty"),
        ("OLLAMA_HOST", "http://box:port"),
        ("OLLAMA_HOST", "ftp://box"),
        ("VLLM_URL", "not a url"),
        ("NUM_CTX", "-1"),
        ("TIMEOUT", "0"),
        ("LOG_LEVEL", "loud"),
        ("DEVICE", "tpu"),
        ("TEMPERATURE", "2"),
        ("MODEL_ALIASES", "fast"),
        ("PRELOAD", "perhaps"),
        ("FRAME_ANCESTORS", "'self'; script-src *"),
        ("FRAME_ANCESTORS", "javascript:alert"),
        ("AUTH", "maybe"),
        ("AUTH", "off,password"),
        ("PASSWORD_MIN", "8"),
        ("SESSION_DAYS", "0"),
        ("TRUSTED_PROXIES", "proxy.local"),
        ("TRUSTED_PROXIES", "10.0.0.0/99"),
        ("CORS_ORIGINS", "https://a.example/path"),
        ("CORS_ORIGINS", "a.example"),
        ("RATE_LIMIT", "many"),
        ("RATE_LIMIT", "0/minute"),
        ("RATE_LIMIT", "5/fortnight"),
        ("MAX_JSON_DEPTH", "1"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line_that_names_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refused:
        read_settings()
    line = str(refused.value)
    assert line.startswith(f"{name}={value!r} is not allowed: it takes ")
    assert "\n" not in line


@pytest.mark.parametrize(
    "secret",
    [
        "short",
        "changeme-changeme-changeme-changeme",
        "Change_Me_To_Something_Random_Please_1234",
        "your-secret-key-here-0123456789abcdef",
        "my.super.secret.key.my.super.secret.key",
        "x" * 64,
        "0123456" * 8,
        "ключключключ",
    ],
)
def test_a_weak_secret_is_refused_and_never_shown(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    monkeypatch.setenv("SECRET_KEY", secret)
    with pytest.raises(SettingsError) as refused:
        read_settings()
    assert "SECRET_KEY" in str(refused.value)
    assert secret not in str(refused.value)


@pytest.mark.parametrize(
    "secret",
    ["0f1e2d3c4b5a69788796a5b4c3d2e1f0", "Zk3-" * 2 + "q8_wLr2yTn6xVb0pHs4dGf7j", "тридцать два байта по-русски"],
)
def test_a_random_secret_of_32_bytes_is_taken(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    monkeypatch.setenv("SECRET_KEY", secret)
    assert read_settings().secret_key is not None


@pytest.mark.parametrize(
    ("value", "ways"),
    [
        ("", (False, False)),
        ("off", (False, False)),
        ("Password", (True, False)),
        ("oauth", (False, True)),
        (" oauth, PASSWORD ", (True, True)),
    ],
)
def test_the_ways_to_sign_in(monkeypatch: pytest.MonkeyPatch, value: str, ways: tuple[bool, bool]) -> None:
    monkeypatch.setenv("AUTH", value)
    settings = read_settings()
    assert (settings.passwords, settings.oauth) == ways


@pytest.mark.parametrize("scheme", ["postgresql+asyncpg", "postgresql", "postgres"])
def test_postgresqls_address_may_be_written_as_others_take_it(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    monkeypatch.setenv("DATABASE_URL", f" {scheme}://me:p%40ss@box:5433/chat?sslmode=require ")
    url = read_settings().database_url
    assert url is not None
    assert url.get_secret_value() == "postgresql+asyncpg://me:p%40ss@box:5433/chat?ssl=require"
    assert "p%40ss" not in repr(read_settings())


@pytest.mark.parametrize("empty", ["", " "])
def test_without_a_database_url_there_is_none(monkeypatch: pytest.MonkeyPatch, empty: str) -> None:
    monkeypatch.setenv("DATABASE_URL", empty)
    assert read_settings().database_url is None


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "mysql://me:hunter2@box/chat",
        "sqlite:///hunter2.db",
        "postgresql+psycopg2://me:hunter2@box/chat",
        "postgresql://me:hunter2@box",
        "postgresql://me:hunter2@/chat",
        "postgresql://me:hunter2@box:port/chat",
        "postgresql://me:hunter2@box:99999/chat",
        "postgresql://me:hunter2@box/chat?sslmode=perhaps",
        "postgresql://me:hunter2@box/chat?options=hunter2",
    ],
)
def test_a_wrong_database_url_is_refused_in_one_line_without_its_password(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(SettingsError) as refused:
        read_settings()
    line = str(refused.value)
    assert line.startswith("DATABASE_URL=(secret) is not allowed: it takes ")
    assert "hunter2" not in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("OLLAMA_HOST", "http://ann:hunter2@box:port", "http://(secret)@box:port"),
        ("OLLAMA_HOST", "ann:hunter2@box:port", "(secret)@box:port"),
        ("VLLM_URL", "http://ann:hunt@er/hunter2 x@box", "http://(secret)@box"),
        ("VLLM_URL", "https:/ann:hunter2@box", "https:/(secret)@box"),
    ],
)
def test_a_wrong_address_is_shown_without_its_password(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, shown: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=re.escape(f"{name}={shown!r} is not allowed: it takes an address")):
        read_settings()


def test_a_wrong_value_ends_the_start(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PORT", "0")
    with pytest.raises(SystemExit) as ended:
        settings_or_exit()
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_env_file_is_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=8123\nQWEN_MODEL=a/b, c\nMODEL_ALIASES=fast=ollama/x\n", encoding="utf-8")
    settings = read_settings()
    assert settings.port == 8123
    assert settings.local_models == ("a/b", "c")
    assert settings.aliases == {"fast": "ollama/x"}


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("guide", ("a/b",)),
        ("gemma2:2b", ("a/b",)),
        ("ollama/gemma2:2b", ("a/b",)),
        ("vllm/x/y", ("a/b",)),
        ("x/y", ("a/b", "x/y")),
        ("transformers/x/y", ("a/b", "x/y")),
        ("/models/mine", ("a/b", "/models/mine")),
        ("a/b", ("a/b",)),
    ],
)
def test_a_model_of_the_hub_or_a_folder_is_offered_by_transformers(
    monkeypatch: pytest.MonkeyPatch, model: str, names: tuple[str, ...]
) -> None:
    monkeypatch.setenv("QWEN_MODEL", "a/b")
    monkeypatch.setenv("MODEL", model)
    assert read_settings().local_models == names


@pytest.mark.parametrize(
    ("value", "sources"),
    [
        ("'self'", "'self'"),
        ("none", "'none'"),
        ("self https://a.example:8443  *.b.example", "'self' https://a.example:8443 *.b.example"),
    ],
)
def test_who_may_frame_the_page_is_read_with_and_without_quotes(
    monkeypatch: pytest.MonkeyPatch, value: str, sources: str
) -> None:
    monkeypatch.setenv("FRAME_ANCESTORS", value)
    assert read_settings().frame_ancestors == sources


@pytest.mark.parametrize("name", ["TRUSTED_PROXIES", "FORWARDED_ALLOW_IPS"])
@pytest.mark.parametrize(
    ("value", "proxies"),
    [
        ("10.0.0.7", "10.0.0.7"),
        (" 10.0.0.7, 172.16.5.4/12 ::1 ", "10.0.0.7,172.16.0.0/12,::1"),
        ("127.0.0.1,*", "*"),
        ("", "127.0.0.1"),
    ],
)
def test_trusted_proxies_are_written_as_uvicorn_reads_them(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, proxies: str
) -> None:
    monkeypatch.setenv(name, value)
    assert read_settings().trusted_proxies == proxies


@pytest.mark.parametrize("url", ["http://:hunter2@box", "redis://:hunter2@box/ 1", "hunter2"])
def test_a_storage_that_is_none_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("RATE_LIMIT_STORAGE", url)
    with pytest.raises(
        SettingsError, match=r"^RATE_LIMIT_STORAGE=\(secret\) is not allowed: it takes redis://"
    ) as refused:
        read_settings()
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("value", ["", "off", "OFF", "none"])
def test_no_limit_is_written_in_several_ways(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("RATE_LIMIT", value)
    assert read_settings().rate_limit == ""


def test_every_secret_is_known_as_one() -> None:
    secrets = {name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}
    assert secrets == {
        "api_keys", "database_url", "metrics_token", "rate_limit_storage", "secret_key", "vllm_api_key",
    }  # fmt: skip


def test_an_empty_value_is_as_if_it_were_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "")
    assert read_settings().port == 8000


def test_the_readme_has_every_variable_with_its_default_and_help() -> None:
    assert table() in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_russian_readme_has_every_variable_too() -> None:
    text = (ROOT / "README.ru.md").read_text(encoding="utf-8")
    assert [name for field in Settings.model_fields for name in variable_names(field) if f"`{name}`" not in text] == []


# Names of other services

# A value of each variable that has them, and what is read of it.
OTHERS: dict[str, tuple[str, object]] = {
    "models_cache_seconds": ("12", 12.0),
    "trusted_proxies": ("10.0.0.1", "10.0.0.1"),
    "ollama_host": ("http://box:1234", "http://box:1234"),
    "models": ("phi3", "phi3"),
    "keep_alive": ("5m", "5m"),
    "timeout": ("33", 33.0),
    "load_timeout": ("44", 44.0),
    "temperature": ("0.7", 0.7),
    "top_p": ("0.6", 0.6),
    "max_tokens": ("99", 99),
}
ALIASES = [(field, name) for field in Settings.model_fields for name in variable_names(field)[1:]]


@pytest.mark.parametrize(("field", "name"), ALIASES)
def test_another_name_sets_the_same_and_ours_counts_where_both_are_set(
    monkeypatch: pytest.MonkeyPatch, field: str, name: str
) -> None:
    value, read = OTHERS[field]
    default = getattr(read_settings(), field)
    monkeypatch.setenv(name, value)
    assert getattr(read_settings(), field) == read != default
    monkeypatch.setenv(variable_names(field)[0], str(default))
    assert getattr(read_settings(), field) == default


def test_what_is_called_the_same_is_a_variable_of_ours() -> None:
    ours = {variable_names(field)[0] for field in Settings.model_fields}
    assert set(SAME) <= ours


@pytest.mark.parametrize(
    ("readme", "words"),
    [("README.md", ()), ("README.ru.md", (("Другое имя", "Здесь"), "так же"))],
)
def test_the_readmes_list_of_other_names_is_current(readme: str, words: tuple[Any, ...]) -> None:
    assert other_names(*words) in (ROOT / readme).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("set_to", "ollama", "vllm", "engines"),
    [
        (None, "http://localhost:11434", "", {"ollama"}),
        (None, "http://[::1]:11434", "http://127.0.0.5:8080/v1", {"ollama", "vllm"}),
        (None, "0.0.0.0", "http://0.0.0.0:8080", {"ollama", "vllm"}),
        (None, "http://localhost.localdomain:11434", "http://[::]:8080", {"ollama", "vllm"}),
        (None, "http://box:11434", "http://10.0.0.7:8080", set()),
        (None, "http://localhost.example.org", "http://[fd00::1]:8080", set()),
        ("on", "http://box:11434", "", {"ollama", "vllm"}),
        ("off", "http://localhost:11434", "http://localhost:8080", set()),
    ],
)
def test_engines_on_this_machine_read_ahead_unless_it_is_said(
    monkeypatch: pytest.MonkeyPatch, set_to: str | None, ollama: str, vllm: str, engines: set[str]
) -> None:
    if set_to is not None:
        monkeypatch.setenv("READ_AHEAD", set_to)
    monkeypatch.setenv("OLLAMA_HOST", ollama)
    monkeypatch.setenv("VLLM_URL", vllm)
    assert read_settings().ahead_on == engines
