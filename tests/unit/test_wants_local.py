"""Whether `make run` installs what runs models on this machine."""

from __future__ import annotations

import asyncio

from app.settings import Settings
from app.wants_local import wants_local
from tests.fakes.ollama import FakeModel, FakeOllama


def settings(**values: str) -> Settings:
    return Settings(_env_file=None, **values)  # type: ignore[arg-type, call-arg]


async def asked(url: str, **values: str) -> bool:
    return await asyncio.to_thread(wants_local, settings(ollama_host=url, **values))


async def test_an_ollama_with_a_model_makes_it_needless() -> None:
    async with FakeOllama(FakeModel("gemma2:2b")) as ollama:
        assert await asked(ollama.url) is False


async def test_an_ollama_without_one_does_not() -> None:
    async with FakeOllama() as ollama:
        ollama.models.clear()
        assert await asked(ollama.url) is True


async def test_without_ollama_it_is_needed_unless_another_server_is_named() -> None:
    assert await asked("http://127.0.0.1:9") is True
    assert await asked("http://127.0.0.1:9", vllm_url="http://127.0.0.1:8001") is False


async def test_the_guide_always_needs_it() -> None:
    async with FakeOllama(FakeModel("gemma2:2b")) as ollama:
        assert await asked(ollama.url, model="guide") is True


async def test_so_does_a_model_of_the_hub_and_one_that_stands_in_for_another() -> None:
    async with FakeOllama(FakeModel("gemma2:2b")) as ollama:
        assert await asked(ollama.url, model="Qwen/Qwen2.5-0.5B-Instruct") is True
        assert await asked(ollama.url, fallback_model="guide") is True
        assert await asked(ollama.url, model="ollama/gemma2:2b", fallback_model="vllm/x") is False


async def test_a_checkpoint_needs_it_whatever_else_answers() -> None:
    assert await asked("http://127.0.0.1:9", vllm_url="http://127.0.0.1:8001", checkpoint="runs/tales") is True
