"""Models from the hub: downloads against a hub on this machine, and what counts as being here."""

from __future__ import annotations

import asyncio
import json
import re
import resource
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from app.engines.base import Progress
from app.engines.hub import Hub
from app.errors import EngineFailed, EngineUnreachable, ModelMissing
from tests.fakes.hub import COMMIT, FakeHub

pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed (make install-local)")

NAME = "Some/Model-1B"
MEGABYTE = 1 << 20
# huggingface_hub writes what it downloads in pieces of this size.
PIECE = 10 * MEGABYTE
FILES = {
    "config.json": b'{"model_type": "qwen3"}',
    "tokenizer.json": b"{}",
    "chat_template.jinja": b"{{ messages }}",
    "model.safetensors": bytes(range(256)) * (31 * MEGABYTE // 256),
    "pytorch_model.bin": b"other weights",
    "model.gguf": b"other weights",
    "onnx/config.json": b"{}",
    "README.md": b"words",
}
WANTED = {"config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors"}
SIZE = sum(len(FILES[name]) for name in WANTED)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache of this test."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("HF_HUB_CACHE", str(folder))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    return folder


@pytest.fixture
def server(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub({NAME: FILES}).serving() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield hub


async def download(name: str = NAME) -> list[Progress]:
    return [progress async for progress in Hub().download(name)]


async def test_a_download_brings_what_transformers_needs_and_nothing_else(server: FakeHub) -> None:
    await download()
    folder = Hub().folder(NAME)
    assert folder is not None
    assert {file.name for file in folder.iterdir()} == WANTED
    assert all((folder / name).read_bytes() == FILES[name] for name in WANTED)
    assert set(server.fetched()) == WANTED


async def test_progress_grows_to_the_size_of_all_files_together(server: FakeHub) -> None:
    steps = await download()
    assert {step.total for step in steps} == {SIZE}
    completed = [step.completed for step in steps]
    assert completed == sorted(completed)
    assert completed[-1] == SIZE


async def test_progress_is_told_while_a_file_is_coming(server: FakeHub) -> None:
    server.hold_after = 15 * MEGABYTE
    before_the_rest_came = []
    async for step in Hub().download(NAME):
        if not server.released.is_set():
            before_the_rest_came.append(step.completed)
        if step.completed >= PIECE:
            server.released.set()
    assert before_the_rest_came[-1] >= PIECE


async def test_a_closed_download_ends_at_once_and_a_later_one_goes_on_from_there(server: FakeHub) -> None:
    server.hold_after = 25 * MEGABYTE
    async with aclosing(Hub().download(NAME)) as steps:
        async for step in steps:
            if step.completed >= 2 * PIECE:  # told before it is written: the piece before is on the disk
                break
    assert not server.released.is_set()  # it was closed while the hub kept it waiting
    assert Hub().folder(NAME) is None
    server.hold_after = None
    steps_after = await download()
    assert server.fetched()["model.safetensors"] >= PIECE
    assert steps_after[-1] == Progress(SIZE, SIZE)
    folder = Hub().folder(NAME)
    assert folder is not None
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]


async def test_cancelling_the_task_that_downloads_ends_it(server: FakeHub) -> None:
    server.hold_after = MEGABYTE
    task = asyncio.create_task(download())
    await asyncio.to_thread(server.holding.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not server.released.is_set()


async def test_what_is_here_already_is_not_fetched_again(server: FakeHub) -> None:
    await download()
    server.requests.clear()
    assert (await download())[-1] == Progress(SIZE, SIZE)
    assert server.fetched() == {}


async def test_an_unknown_name_is_a_missing_model(server: FakeHub) -> None:
    with pytest.raises(ModelMissing, match="No/Such"):
        await download("No/Such")


@pytest.mark.parametrize("name", ["not a name/at all", "a/b/c", "https://example.org"])
async def test_a_name_that_cannot_be_one_is_a_missing_model(server: FakeHub, name: str) -> None:
    with pytest.raises(ModelMissing):
        await download(name)
    assert Hub().folder(name) is None


async def test_a_repository_without_safetensors_is_a_missing_model(server: FakeHub) -> None:
    server.repositories["Some/GGUF"] = {"config.json": b"{}", "model.gguf": b"weights"}
    with pytest.raises(ModelMissing, match="Some/GGUF"):
        await download("Some/GGUF")
    assert server.fetched() == {}


async def test_no_way_to_the_hub_is_unreachable_and_names_its_address(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(EngineUnreachable, match=re.escape("http://127.0.0.1:9")):
        await download()


async def test_being_told_to_stay_offline_is_unreachable(server: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(EngineUnreachable):
        await download()
    assert server.requests == []


async def test_a_hub_that_breaks_is_a_failure_in_its_own_words(server: FakeHub) -> None:
    server.failing = True
    with pytest.raises(EngineFailed, match="500"):
        await download()


async def test_a_disk_that_takes_no_more_is_a_failure_that_says_so(server: FakeHub, cache: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5 * MEGABYTE, hard))  # what the downloading process starts with
    try:
        with pytest.raises(EngineFailed, match=f"too large.*{cache}"):
            await download()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert Hub().folder(NAME) is None


async def test_a_file_that_comes_damaged_is_a_failure_and_fetched_anew(server: FakeHub) -> None:
    server.damaging = True
    with pytest.raises(EngineFailed, match=r"model\.safetensors came damaged"):
        await download()
    server.damaging = False
    await download()
    assert server.fetched()["model.safetensors"] == 0
    assert Hub().folder(NAME) is not None


async def test_nothing_is_told_about_this_machine(server: FakeHub) -> None:
    await download()
    assert {path.split("/")[1] for _, path, _ in server.requests} == {"api", "Some"}


def in_cache(cache: Path, files: dict[str, bytes]) -> Path:
    """A model in the hub's cache as other programs leave it."""
    repository = cache / ("models--" + NAME.replace("/", "--"))
    folder = repository / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


SMALL = {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": b"weights"}


def test_a_model_that_another_program_has_brought_is_here(cache: Path) -> None:
    folder = in_cache(cache, SMALL)
    assert Hub().folder(NAME) == folder


@pytest.mark.parametrize("lacking", SMALL)
def test_a_model_that_lacks_a_part_is_not_here(cache: Path, lacking: str) -> None:
    in_cache(cache, {name: content for name, content in SMALL.items() if name != lacking})
    assert Hub().folder(NAME) is None


@pytest.mark.parametrize(("shards", "here"), [(["a", "b"], True), (["a"], False), ([], False)])
def test_a_model_in_parts_is_here_when_all_of_them_are(cache: Path, shards: list[str], here: bool) -> None:
    index = json.dumps({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}).encode()
    files = {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors.index.json": index}
    in_cache(cache, files | {f"{shard}.safetensors": b"weights" for shard in shards})
    assert (Hub().folder(NAME) is not None) is here


def test_an_index_that_is_no_json_is_not_here(cache: Path) -> None:
    in_cache(cache, SMALL | {"model.safetensors.index.json": b"{"})
    assert Hub().folder(NAME) is None


def test_a_folder_is_here_whatever_is_in_it(tmp_path: Path) -> None:
    assert Hub().folder(str(tmp_path)) == tmp_path
    assert Hub().folder(str(tmp_path / "none")) is None
