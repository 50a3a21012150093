"""What is learned of a machine's speeds, and how it is kept."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from app.engines.base import Usage
from app.engines.speed_file import SpeedFile
from app.engines.speeds import Speed, SpeedBook

MODEL = "ollama/gemma2:2b"


def usage(
    prompt: int, seconds: float, *, cached: int | None = None, reply: int = 100, writing: float = 10.0, load: float = 0
) -> Usage:
    return Usage(prompt, reply, load, seconds, writing, cached_tokens=cached)


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_the_defaults_are_those_of_a_small_server() -> None:
    assert SpeedBook().of(MODEL) == Speed(55.0, 17.8, 7.5, 200.0)


def test_one_reply_tells_all_speeds() -> None:
    book = SpeedBook()
    book.observe(MODEL, usage(1000, 10.0, load=4.0))
    assert book.of(MODEL) == Speed(100.0, 10.0, 4.0, 100.0)
    assert book.of("another") == Speed()


def test_tokens_that_the_engine_had_cached_do_not_count_as_read() -> None:
    book = SpeedBook()
    book.observe(MODEL, usage(1000, 1.0, cached=900))
    assert book.of(MODEL).prompt == 100.0


def test_tokens_that_were_believed_to_be_held_do_not_count_as_read() -> None:
    book = SpeedBook()
    book.observe(MODEL, usage(1000, 10.0))
    book.observe(MODEL, usage(1200, 2.5), held=1000)
    assert book.of(MODEL).prompt == pytest.approx((100 + 80) / 2)


def test_few_new_tokens_behind_many_held_ones_tell_nothing() -> None:
    book = SpeedBook()
    book.observe(MODEL, usage(1000, 10.0))
    book.observe(MODEL, usage(1030, 1.0), held=1000)
    assert book.of(MODEL).prompt == 100.0


def test_a_conversation_that_was_held_and_then_lost_does_not_make_the_machine_look_slow() -> None:
    book = SpeedBook()
    book.observe(MODEL, usage(1000, 10.0))
    book.observe(MODEL, usage(1200, 12.0), held=1000)
    assert book.of(MODEL).prompt == 100.0


def test_before_any_speed_is_known_a_held_conversation_tells_none() -> None:
    book = SpeedBook()
    book.observe(MODEL, usage(1200, 12.0), held=1000)
    assert book.of(MODEL).prompt == Speed().prompt


def test_a_conversation_that_was_held_without_our_knowing_does_not_make_the_machine_look_fast() -> None:
    book = SpeedBook()
    book.observe(MODEL, usage(1000, 10.0))
    for seconds in (0.1, 0.3, 0.2, 1.0, 0.1, 0.5):
        book.observe(MODEL, usage(1000, seconds))
    assert book.of(MODEL).prompt == 100.0


def test_a_faster_machine_is_believed_when_it_stays_so() -> None:
    book = SpeedBook()
    for _ in range(9):
        book.observe(MODEL, usage(1000, 10.0))
    for _ in range(4):
        book.observe(MODEL, usage(1000, 1.0))
    assert book.of(MODEL).prompt == 1000.0


def test_a_bound_reply_says_only_how_long_replies_are_at_least() -> None:
    book = SpeedBook()
    book.observe(MODEL, usage(100, 1.0, reply=60))
    book.observe(MODEL, usage(100, 1.0, reply=1), cut=True)
    assert book.of(MODEL).reply_tokens == 60
    book.observe(MODEL, usage(100, 1.0, reply=500), cut=True)
    assert book.of(MODEL).reply_tokens == 280


async def test_what_was_learned_outlives_a_restart(tmp_path: Path) -> None:
    book = SpeedBook()
    book.observe(MODEL, usage(1000, 10.0, load=4.0))
    await SpeedFile(book, tmp_path).write()
    assert names(tmp_path) == ["speeds.json"]
    again = SpeedBook()
    SpeedFile(again, tmp_path).read()
    assert again.of(MODEL) == book.of(MODEL)


async def test_where_nothing_was_learned_nothing_is_written(tmp_path: Path) -> None:
    await SpeedFile(SpeedBook(), tmp_path).write()
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00",
        b"{",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"version": 2, "models": {}}',
        b'{"version": 1, "models": []}',
        b'{"version": 1}',
        b'{"version": 1, "models": {"m": []}}',
        b'{"version": 1, "models": {"m": {"prompt": 5}}}',
        b'{"version": 1, "models": {"m": {"prompt": [1, -2]}}}',
        b'{"version": 1, "models": {"m": {"prompt": [NaN]}}}',
        b'{"version": 1, "models": {"m": {"prompt": [true]}}}',
        b'{"version": 1, "models": {"m": {"prompt": [1e400]}}}',
        b" " * 2_000_000,
    ],
)
def test_a_broken_or_foreign_file_is_ignored_with_one_line_in_the_log(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "speeds.json").write_bytes(content)
    book = SpeedBook()
    SpeedFile(book, tmp_path).read()
    assert book.as_dict() == {}
    assert len(caplog.records) == 1


async def test_a_folder_that_takes_no_file_is_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    book = SpeedBook()
    kept = SpeedFile(book, tmp_path / "gone")
    kept.read()
    for _ in range(2):
        book.observe(MODEL, usage(1000, 10.0))
        await kept.write()
    assert len(caplog.records) == 1
    (tmp_path / "gone").mkdir()
    await kept.write()
    assert names(tmp_path / "gone") == ["speeds.json"]


async def test_a_file_that_is_broken_is_written_anew(tmp_path: Path) -> None:
    (tmp_path / "speeds.json").write_text("{")
    book = SpeedBook()
    kept = SpeedFile(book, tmp_path)
    kept.read()
    book.observe(MODEL, usage(1000, 10.0))
    await kept.write()
    assert json.loads((tmp_path / "speeds.json").read_text())["models"][MODEL]["prompt"] == [100.0]


async def test_what_could_not_be_written_is_written_later(tmp_path: Path) -> None:
    book = SpeedBook()
    kept = SpeedFile(book, tmp_path / "later")
    book.observe(MODEL, usage(1000, 10.0))
    await kept.write()
    (tmp_path / "later").mkdir()
    await kept.write()
    assert names(tmp_path / "later") == ["speeds.json"]


async def test_servers_with_one_folder_do_not_write_into_one_anothers_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In containers the processes have the same number, so that alone tells nothing apart."""
    monkeypatch.setattr("os.getpid", lambda: 7)
    files = []
    for _ in range(8):
        book = SpeedBook()
        book.observe(MODEL, usage(1000, 10.0))
        files.append(SpeedFile(book, tmp_path))
    written: list[Path] = []
    replace = Path.replace

    def noted(self: Path, target: Path) -> Path:
        written.append(self)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", noted)
    await asyncio.gather(*(file.write() for file in files))
    assert len(set(written)) == 8
    assert names(tmp_path) == ["speeds.json"]
    assert not caplog.records
