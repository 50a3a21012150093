"""What the transformers engine makes of a trained model: of a base without a chat template, and of an adapter."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.engines.base import ChatMessage, CompletionRequest, Delta, GenerationOptions
from app.engines.checkpoint import open_checkpoint
from app.engines.local import LocalEngine
from app.engines.local_reply import ReplyText
from app.engines.plain_template import STOPS, plain_template
from app.errors import CheckpointBroken, ModelBroken, OutOfMemory, PromptTooLong
from app.settings import GUIDE_DIR
from tests.fakes.tiny_model import make_tiny_adapter, make_tiny_gpt2, make_tiny_model
from tests.local import ask, request

torch = pytest.importorskip("torch", reason="torch is not installed (make install-local)")
transformers = pytest.importorskip("transformers", reason="transformers is not installed (make install-local)")


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[LocalEngine]:
    """An engine with a checkpoint."""
    engine = LocalEngine(GUIDE_DIR, [], device="cpu", checkpoint=open_checkpoint(folder))
    try:
        yield engine
    finally:
        await engine.close()


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_gpt2(tmp_path_factory.mktemp("made") / "gpt2")


def greedy(model: Any, tokenizer: Any, prompt: str, tokens: int) -> str:
    """What transformers itself writes after a prompt."""
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    reply = model.generate(ids, max_new_tokens=tokens, do_sample=False, use_cache=False)[0, ids.shape[1] :]
    return str(tokenizer.decode(reply, skip_special_tokens=True))


async def test_a_base_model_reads_a_conversation_as_lines_of_text(gpt2: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(gpt2)
    model = transformers.AutoModelForCausalLM.from_pretrained(gpt2)
    prompt = "Be kind.\n\nUser: hi\nAssistant: hello\nUser: who?\nAssistant:"
    async with served(gpt2) as engine:
        reply = await ask(engine, request("gpt2", "hi", "hello", "who?", system="Be kind.", max_tokens=24))
    assert reply.prompt == len(tokenizer(prompt).input_ids)
    assert reply.text == greedy(model, tokenizer, prompt, 24).lstrip()


async def test_it_is_listed_with_what_its_files_say(gpt2: Path) -> None:
    async with served(gpt2) as engine:
        info = next(model for model in await engine.models() if model.name == "gpt2")
        assert (info.context_length, info.family, info.plain_template, info.loaded) == (256, "gpt2", True, False)
        await engine.load("gpt2", 256)
        assert next(model for model in await engine.models() if model.name == "gpt2").loaded
        with pytest.raises(PromptTooLong):
            await ask(engine, request("gpt2", "word " * 60))


async def test_a_model_with_a_chat_template_keeps_it(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "chat")
    async with served(folder) as trained:
        engine = LocalEngine(GUIDE_DIR, [str(folder)], device="cpu")
        one, other = await ask(trained, request("chat", "hi")), await ask(engine, request(str(folder), "hi"))
        await engine.close()
        assert (one.text, one.prompt) == (other.text, other.prompt)
        assert not next(model for model in await trained.models() if model.name == "chat").plain_template


async def test_what_is_no_checkpoint_gets_no_plain_template(gpt2: Path) -> None:
    engine = LocalEngine(GUIDE_DIR, [str(gpt2)], device="cpu")
    with pytest.raises(ModelBroken, match="no chat template"):
        await ask(engine, request(str(gpt2), "hi"))
    await engine.close()


def test_the_template_begins_with_the_mark_that_the_tokenizer_writes() -> None:
    class Marking:
        bos_token_id = 1

        def __init__(self, *ids: int) -> None:
            self._ids = ids

        def __call__(self, text: str) -> dict[str, list[int]]:
            return {"input_ids": list(self._ids)}

    assert plain_template(Marking(1, 7)).startswith("{{ bos_token }}")
    assert not plain_template(Marking(7)).startswith("{{ bos_token }}")


def written(*pieces: str, stop: tuple[str, ...] = (), begun: str = "", raw: bool = False) -> str:
    """What a visitor sees of a reply that comes in pieces."""
    messages = [ChatMessage("user", "hi"), *([ChatMessage("assistant", begun)] if begun else [])]
    asked = CompletionRequest("m", tuple(messages), GenerationOptions(stop=stop), 64, raw=raw)
    deltas: list[Delta] = []
    text = ReplyText(asked, deltas.append, stops=STOPS)
    for piece in pieces:
        text.feed(piece)
    text.flush()
    return "".join(delta.text for delta in deltas)


def test_a_reply_of_a_base_model_does_not_run_on_as_the_user() -> None:
    assert written(" ", " I am", " fine.\nUs", "er: and I") == "I am fine."
    assert written(" Yes.\nAssistant: no") == "Yes."
    assert written("\nUser: I answer myself") == ""
    assert written(" Users like\nUseful: things") == "Users like\nUseful: things"


def test_the_stop_texts_of_a_request_count_as_well() -> None:
    assert written(" one, two\nUser:", stop=(",",)) == "one"


def test_neither_a_text_to_go_on_with_nor_raw_text_loses_its_blank() -> None:
    assert written(" fine.\nUser: x", begun="I am") == " fine."
    assert written(" fine.\nUser: x", raw=True) == " fine.\nUser: x"


async def test_an_adapter_is_served_with_its_base(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed (make install-local)")
    base = make_tiny_model(tmp_path / "base")
    adapter = make_tiny_adapter(tmp_path / "lora", base)
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    whole = peft.PeftModel.from_pretrained(transformers.AutoModelForCausalLM.from_pretrained(base), str(adapter))
    hi = [{"role": "user", "content": "hi"}]
    prompt = tokenizer.apply_chat_template(hi, tokenize=False, add_generation_prompt=True)
    async with served(adapter) as engine:
        info = next(model for model in await engine.models() if model.name == "lora")
        assert (info.family, info.context_length, info.plain_template) == ("qwen3", 2048, False)
        reply = await ask(engine, request("lora", "hi", max_tokens=16))
    async with served(base) as engine:
        plain = await ask(engine, request("base", "hi", max_tokens=16))
    assert reply.text == greedy(whole, tokenizer, prompt, 16)
    assert reply.text != plain.text


async def test_weights_that_do_not_fit_their_configuration_are_told_when_they_are_loaded(gpt2: Path) -> None:
    config = gpt2 / "config.json"
    before = config.read_text()
    engine = LocalEngine(GUIDE_DIR, [], device="cpu", checkpoint=open_checkpoint(gpt2))
    try:
        # What only loading can tell: as many layers and words, but other heads' feed-forward parts.
        config.write_text(before.replace('"n_inner": null', '"n_inner": 7'))
        with pytest.raises(CheckpointBroken, match="Take another checkpoint"):
            await engine.load("gpt2", 256)
    finally:
        config.write_text(before)
        await engine.close()


async def test_a_checkpoint_that_does_not_fit_the_memory_is_told_as_such(
    gpt2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> object:
        raise MemoryError

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", full)
    engine = LocalEngine(GUIDE_DIR, [], device="cpu", checkpoint=open_checkpoint(gpt2))
    with pytest.raises(OutOfMemory):
        await engine.load("gpt2", 256)
    await engine.close()
