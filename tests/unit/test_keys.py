"""The keys of programs: how they are written, which are refused, and that no word about them shows one."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from app.keys import Key, Keys
from app.settings import SettingsError, read_settings

ONE, TWO = "0f1e2d3c4b5a6978", "Zk3-q8_wLr2yTn6xVb0pHs4d"


pytestmark = pytest.mark.usefixtures("nothing_set")


def keys_of(monkeypatch: pytest.MonkeyPatch, value: str) -> list[tuple[str, str]]:
    monkeypatch.setenv("API_KEYS", value)
    return [(key.name, key.value.get_secret_value()) for key in read_settings().keys]


@pytest.mark.parametrize(
    ("value", "keys"),
    [
        ("", []),
        (f"ann:{ONE}", [("ann", ONE)]),
        (f" ann:{ONE} , bob@example.org:{TWO},", [("ann", ONE), ("bob@example.org", TWO)]),
        (f"{ONE},ann:{TWO}", [("key-1", ONE), ("ann", TWO)]),
        (f"ann:{ONE},ann:{TWO}", [("ann", ONE), ("ann", TWO)]),  # the old and the new one
    ],
)
def test_keys_are_written_in_one_line(monkeypatch: pytest.MonkeyPatch, value: str, keys: list[tuple[str, str]]) -> None:
    assert keys_of(monkeypatch, value) == keys


@pytest.mark.parametrize("path", ["keys.txt", "./keys.txt", "{folder}/keys.txt"])
def test_keys_may_stand_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str) -> None:
    (tmp_path / "keys.txt").write_text(f"# ours\n\nann:{ONE}\n  bob   {TWO}  # his\ncy: {TWO}#1\n{ONE}x\n")
    assert keys_of(monkeypatch, path.format(folder=tmp_path)) == [
        ("ann", ONE),
        ("bob", TWO),
        ("cy", f"{TWO}#1"),
        ("key-4", f"{ONE}x"),
    ]


@pytest.mark.parametrize(
    "value",
    [
        f"an n:{ONE}",
        f"ann:{ONE} {TWO}",
        "ann:ключключключключ",
        f"{ONE}{ONE}{ONE}:ann",  # the wrong way round
        "ann:",
        ",",
        "/nowhere/keys.txt",
    ],
)
def test_what_is_no_key_ends_the_start_with_one_line_that_does_not_show_it(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        keys_of(monkeypatch, value)
    line = str(refused.value)
    assert line.startswith("API_KEYS is not allowed: ")
    assert "\n" not in line
    assert not any(part in line for part in (ONE, TWO, "short,", "shorter", "changeme", "1234", "nowhere", "xxx"))


@pytest.mark.parametrize(
    ("key", "is_weak"),
    [
        (ONE, False),
        (TWO, False),
        ("short", True),
        (ONE[:-1], True),
        ("changeme-changeme", True),
        ("your-api-key-here-1", True),
        ("ab" * 16, True),
    ],
)
def test_a_key_that_can_be_guessed_is_taken_and_told(monkeypatch: pytest.MonkeyPatch, key: str, is_weak: bool) -> None:
    monkeypatch.setenv("API_KEYS", f"ann:{key}")
    [known] = read_settings().keys
    assert known.is_weak is is_weak


def test_no_word_about_the_settings_shows_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    keys_of(monkeypatch, f"ann:{ONE}")
    settings = read_settings()
    assert ONE not in repr(settings) + str(settings.keys) + repr(Keys(settings.keys))


def test_a_key_is_known_by_its_name_and_no_other_is() -> None:
    keys = Keys([Key("ann", SecretStr(ONE)), Key("bob", SecretStr(TWO))])
    assert (keys.name_of(ONE), keys.name_of(TWO)) == ("ann", "bob")
    for other in ("", ONE[:-1], f"{ONE}0", ONE.upper(), "ключ", "\ud800"):
        assert keys.name_of(other) is None
