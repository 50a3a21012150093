"""What goes wrong with local models, each told as what it is; and the memory they give back."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import shutil
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from app.engines.local import LocalEngine
from app.errors import (
    EngineError,
    EngineFailed,
    EngineRefused,
    EngineSilent,
    LocalModelsNotInstalled,
    ModelBroken,
    ModelMissing,
    OutOfMemory,
)
from tests.fakes.tiny_model import PLAIN, THINKING, make_tiny_model
from tests.local import ask, before_each_step, request

torch = pytest.importorskip("torch", reason="torch is not installed (make install-local)")
transformers = pytest.importorskip("transformers", reason="transformers is not installed (make install-local)")

NO_GUIDE = Path("/no/such/folder")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(tiny, tmp_path / "model"))


def engine_of(*folders: Path, timeout: float = 120) -> LocalEngine:
    return LocalEngine(NO_GUIDE, [str(folder) for folder in folders], device="cpu", timeout=timeout)


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def drop_a_weight(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def change_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


BREAKAGES: dict[str, Callable[[Path], object]] = {
    "no configuration": lambda folder: (folder / "config.json").unlink(),
    "a configuration that is no JSON": lambda folder: (folder / "config.json").write_text("{"),
    "a configuration that is a list": lambda folder: (folder / "config.json").write_text("[]"),
    "an architecture that nobody knows": lambda folder: change_config(folder, model_type="unheard"),
    "sizes that do not fit the weights": lambda folder: change_config(folder, hidden_size=64),
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "half of the weights' file": lambda folder: truncate(folder / "model.safetensors"),
    "an empty file of weights": lambda folder: (folder / "model.safetensors").write_bytes(b""),
    "weights that are text": lambda folder: (folder / "model.safetensors").write_text("<html>not found</html>"),
    "one weight missing": drop_a_weight,
    "no tokenizer": lambda folder: (folder / "tokenizer.json").unlink(),
    "half of the tokenizer": lambda folder: truncate(folder / "tokenizer.json"),
    "no chat template": lambda folder: (folder / "chat_template.jinja").unlink(),
    "nothing at all": lambda folder: [file.unlink() for file in folder.iterdir()],
}


@pytest.mark.parametrize("breakage", BREAKAGES)
async def test_a_broken_folder_is_offered_and_says_that_it_is_broken(folder: Path, breakage: str) -> None:
    BREAKAGES[breakage](folder)
    engine = engine_of(folder)
    assert [model.name for model in await engine.models()] == [str(folder)]
    with pytest.raises(ModelBroken) as broken:
        await ask(engine, request(str(folder), "hi"))
    assert 0 < len(str(broken.value.facts["detail"])) <= 200
    assert [model.loaded for model in await engine.models()] == [False]
    await engine.close()


async def test_a_folder_that_was_repaired_is_loaded(folder: Path, tiny: Path) -> None:
    truncate(folder / "model.safetensors")
    engine = engine_of(folder)
    with pytest.raises(ModelBroken):
        await engine.load(str(folder), 2048)
    shutil.copy(tiny / "model.safetensors", folder)
    assert (await ask(engine, request(str(folder), "hi"))).text
    await engine.close()


@pytest.mark.parametrize("name", ["guide", "/no/such/model", "Some/Model", "other"])
async def test_a_model_that_is_not_here_is_missing(tiny: Path, name: str) -> None:
    engine = engine_of(tiny, Path("/no/such/model"))
    with pytest.raises(ModelMissing):
        await ask(engine, request(name, "hi"))
    assert [model.name for model in await engine.models()] == [str(tiny)]


@pytest.mark.parametrize("package", ["torch", "transformers"])
async def test_missing_packages_are_told_with_the_command_that_installs_them(
    tiny: Path, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(LocalModelsNotInstalled, match="make install-local"):
        await engine_of(tiny).load(str(tiny), 2048)


async def test_a_device_that_is_not_there_is_told(tiny: Path) -> None:
    if torch.backends.mps.is_available():
        pytest.skip("this machine has the device")
    engine = LocalEngine(NO_GUIDE, [str(tiny)], device="mps")
    with pytest.raises(EngineFailed, match="DEVICE=mps"):
        await engine.load(str(tiny), 2048)


OUT_OF_MEMORY: dict[str, Callable[[], Exception]] = {
    "cuda": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "cpu": lambda: RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    "mps": lambda: RuntimeError("MPS backend out of memory"),
    "python": MemoryError,
}


@pytest.mark.parametrize("where", OUT_OF_MEMORY)
async def test_want_of_memory_is_told_and_gives_back_every_conversations_cache(tiny: Path, where: str) -> None:
    engine = engine_of(tiny)
    name = str(tiny)
    await engine.load(name, 2048)
    before = tensor_bytes()
    await ask(engine, request(name, "hello " * 50, conversation="one"))
    assert tensor_bytes() > before

    def fail() -> None:
        raise OUT_OF_MEMORY[where]()

    with before_each_step(fail), pytest.raises(OutOfMemory):
        await ask(engine, request(name, "hello", conversation="other"))
    assert tensor_bytes() == before
    assert (await ask(engine, request(name, "hello"))).text
    await engine.close()


async def test_want_of_memory_while_loading_is_told(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", fail)
    with pytest.raises(OutOfMemory):
        await engine_of(tiny).load(str(tiny), 2048)


async def test_an_unexpected_failure_is_told_in_its_own_words_and_does_not_last(tiny: Path) -> None:
    engine = engine_of(tiny)

    def fail() -> None:
        raise ValueError("the moon\nis full")

    with before_each_step(fail), pytest.raises(EngineFailed, match="the moon is full") as failed:
        await ask(engine, request(str(tiny), "hello"))
    assert not isinstance(failed.value, OutOfMemory)
    assert (await ask(engine, request(str(tiny), "hello"))).text
    await engine.close()


async def test_a_template_that_refuses_the_messages_is_told_in_its_words(tmp_path: Path) -> None:
    template = "{%- if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif -%}" + PLAIN
    folder = make_tiny_model(tmp_path / "model", template=template)
    engine = engine_of(folder)
    with pytest.raises(EngineRefused, match="no system role"):
        await ask(engine, request(str(folder), "hi", system="be kind"))
    assert (await ask(engine, request(str(folder), "hi"))).text
    await engine.close()


async def test_a_model_that_makes_no_progress_is_given_up(tiny: Path) -> None:
    engine = engine_of(tiny, timeout=0.1)
    await engine.load(str(tiny), 2048)
    released = threading.Event()
    asyncio.get_running_loop().call_later(0.5, released.set)
    with before_each_step(lambda: released.wait() and None), pytest.raises(EngineSilent):
        await ask(engine, request(str(tiny), "hello"))
    assert released.is_set()  # the worker was waited for
    await engine.close()


async def test_waiting_for_ones_turn_is_no_silence(tiny: Path) -> None:
    engine = engine_of(tiny, timeout=5)
    name = str(tiny)
    await engine.load(name, 2048)
    impatient = engine_of(tiny, timeout=0.2)
    await impatient.load(name, 2048)
    first = impatient.complete(request(name, "hello", conversation="one", max_tokens=400))
    await anext(first)
    second = asyncio.create_task(ask(impatient, request(name, "hello", conversation="two", max_tokens=2)))
    await asyncio.sleep(0)
    await ask(engine, request(name, "hello", max_tokens=60))  # a while
    await first.aclose()
    assert (await second).end.finish_reason == "length"
    await engine.close()
    await impatient.close()


async def test_unloading_gives_back_the_models_memory(tmp_path: Path) -> None:
    before = tensor_bytes()
    folder = make_tiny_model(tmp_path / "model", hidden=256)
    engine = engine_of(folder)
    await ask(engine, request(str(folder), "hello"))
    weights = next(iter(await engine.models())).size or 0
    assert tensor_bytes() >= before + weights
    await engine.unload(str(folder))
    assert tensor_bytes() == before
    assert [model.loaded for model in await engine.models()] == [False]
    await engine.unload(str(folder))  # nothing to do
    assert (await ask(engine, request(str(folder), "hello"))).text
    await engine.close()
    assert tensor_bytes() == before


async def test_the_guide_and_one_other_are_kept_in_memory(tmp_path: Path, tiny: Path) -> None:
    one, other = make_tiny_model(tmp_path / "one"), make_tiny_model(tmp_path / "other", seed=1)
    engine = LocalEngine(tiny, [str(one), str(other)], device="cpu")
    for name in ("guide", str(one), str(other)):
        await engine.load(name, 2048)
    assert [model.loaded for model in await engine.models()] == [True, False, True]
    await engine.close()


async def test_reasoning_is_told_apart_where_the_template_opens_it(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model", template=THINKING)
    engine = engine_of(folder)
    assert [model.can_think for model in await engine.models()] == [True]
    thinking = await ask(engine, request(str(folder), "hello", think=True))
    assert thinking.reasoning
    assert not thinking.text
    plain = await ask(engine, request(str(folder), "hello"))
    assert plain.text
    assert not plain.reasoning
    await engine.close()


async def test_nothing_goes_to_the_network(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def refuse(*address: object, **_: object) -> None:
        asked.append(address)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    engine = LocalEngine(tiny, ["Some/Model"], device="cpu")
    await engine.models()
    assert (await ask(engine, request("guide", "hello"))).text
    assert asked == []
    await engine.close()


def test_every_failure_has_its_sentence_in_both_languages() -> None:
    problem: EngineError = LocalModelsNotInstalled(engine="transformers", detail="No module named 'torch'")
    assert "make install-local" in problem.sentence("en")
    assert "make install-local" in problem.sentence("ru")


def tensor_bytes() -> int:
    """Memory of all tensors there are."""
    gc.collect()
    tensors = (thing for thing in gc.get_objects() if type(thing) in (torch.Tensor, torch.nn.Parameter))
    return sum({tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}.values())
