"""`python -m app.bench`: its figures are the engine's, and what it makes of them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app import bench
from app.assembly import answering as assembled
from app.bench import NoModel, measure
from app.engines.base import CompletionRequest, Delta, Done, Engine, EngineEvent, ModelInfo, Usage
from app.errors import EngineError, PromptTooLong, UnknownModel
from app.machine import MIB, Machine
from app.model_sizes import CLASSES, expected
from app.settings import ROOT, Settings
from app.trial import Trial
from tests.fakes.engine import ScriptedEngine
from tests.fakes.ollama import FakeModel, FakeOllama
from tests.fakes.openai_server import Answer, FakeOpenAI
from tests.site import free_port
from tests.unit.conftest import Connect

pytestmark = pytest.mark.usefixtures("nothing_set")

GEMMA = ModelInfo("ollama", "gemma2:2b", size=1_629_276_160, loaded=False)


async def tried(engine: Engine, model: ModelInfo = GEMMA, context: int = 4096, seconds: float = 120) -> Trial:
    trial = Trial(engine, model, context, seconds)
    await trial.run()
    return trial


@pytest.mark.parametrize(("prompt_speed", "speed"), [(55.0, 17.8), (12.0, 3.5), (2000.0, 90.0)])
async def test_the_figures_are_the_engines_own(connect: Connect, prompt_speed: float, speed: float) -> None:
    async with FakeOllama(prompt_speed=prompt_speed, speed=speed, speedup=float("inf")) as fake:
        found = (await tried(connect(fake.url))).measured
    assert found.prompt_speed == pytest.approx(prompt_speed, rel=0.1)
    assert found.generation_speed == pytest.approx(speed, rel=0.1)
    assert found.prompt_tokens >= 100
    assert found.reply_tokens >= 32


async def test_times_by_our_own_clock_are_those_that_passed(connect: Connect) -> None:
    async with FakeOllama(prompt_speed=500, speed=200, load_seconds=0.5) as fake:
        found = (await tried(connect(fake.url), seconds=20)).measured
    assert found.load_seconds is not None
    assert found.load_seconds >= 0.45
    assert found.first_token_seconds is not None
    # About 24 tokens of a short message to read and one to write; a busy machine takes longer.
    assert found.first_token_seconds >= 0.03


async def test_no_prompt_begins_like_another_and_all_have_the_servers_own_options(connect: Connect) -> None:
    async with FakeOllama(speedup=float("inf")) as fake:
        await tried(connect(fake.url, num_batch=32, num_thread=3))
        texts = [body["messages"][0]["content"] for body in fake.requests if body["messages"]]
        options = {(body["options"]["num_ctx"], body["options"]["num_batch"], body["options"]["num_thread"])
                   for body in fake.requests}  # fmt: skip
        assert fake.loads == 1
    assert len({" ".join(text.split()[:3]) for text in texts}) == len(texts)
    assert options == {(4096, 32, 3)}


async def test_a_model_that_is_in_memory_is_not_said_to_be_loaded(connect: Connect) -> None:
    async with FakeOllama(speedup=float("inf")) as fake:
        engine = connect(fake.url)
        await engine.load("gemma2:2b", 4096)
        (model,) = await engine.models()
        assert (await tried(engine, model)).measured.load_seconds is None


async def test_a_short_context_is_never_overrun(connect: Connect) -> None:
    async with FakeOllama(FakeModel("gemma2:2b", maximum=512), speedup=float("inf")) as fake:
        found = (await tried(connect(fake.url), context=512)).measured
    assert found.prompt_speed is not None
    assert found.generation_speed is not None


class Wordy(ScriptedEngine):
    """Its vocabulary is so small that a word takes four tokens."""

    async def complete(self, request: CompletionRequest) -> AsyncGenerator[EngineEvent, None]:
        self.requests.append(request)
        tokens = 4 * len(request.messages[0].content.split()) + 10
        if tokens + request.options.max_tokens > request.context_length:
            raise PromptTooLong(engine=self.label, tokens=tokens, limit=request.context_length)
        yield Delta("word " * request.options.max_tokens)
        yield Done("length", Usage(tokens, request.options.max_tokens, 0, tokens / 50, request.options.max_tokens / 5))


@pytest.mark.parametrize("context", [512, 1024, 4096])
async def test_prompts_fit_whatever_tokens_a_word_takes(context: int) -> None:
    engine = Wordy()
    found = (await tried(engine, replace(GEMMA, loaded=True), context)).measured
    assert (found.prompt_speed, found.generation_speed) == (pytest.approx(50), pytest.approx(5))


@pytest.mark.parametrize("counted", [True, False])
async def test_a_server_that_does_not_tell_all_is_measured_as_far_as_it_does(counted: bool) -> None:
    async with FakeOpenAI("vllm") as fake:
        fake.script(*(Answer("a word or two " * 40, counted=counted) for _ in range(20)))
        result = await measure(settings("http://127.0.0.1:9", vllm_url=fake.url), "", 30)
    assert result.model == "vllm/gemma2-2b"
    assert result.measured.generation_speed is not None
    assert result.measured.estimated is not counted
    assert (result.measured.prompt_speed is None) is not counted
    assert {size.verdict for size in result.sizes} <= {"not known", "does not fit"}


async def test_an_engine_that_fails_says_so(connect: Connect) -> None:
    async with FakeOllama() as fake:
        fake.faults["/api/chat"] = "500"
        with pytest.raises(EngineError):
            await tried(connect(fake.url))


# What is sensible


def test_a_model_twice_as_large_is_half_as_fast() -> None:
    found = {size.name: size for size in expected(20.0, CLASSES[1].file, Machine(16_384 * MIB, 4), 4096)}
    assert found["2B"].tokens_per_second == pytest.approx(20)
    assert found["8B"].tokens_per_second == pytest.approx(20 * 2.61 / 8.03, rel=0.01)
    assert [size.verdict for size in found.values()] == ["good", "good", "good", "slow"]


def test_what_does_not_fit_the_memory_is_said_not_to() -> None:
    found = expected(20.0, CLASSES[1].file, Machine(4096 * MIB, 2), 4096)
    assert [(size.name, size.verdict) for size in found][2:] == [("4B", "good"), ("8B", "does not fit")]
    (smallest, *others) = expected(1.0, CLASSES[1].file, Machine(2048 * MIB, 2), 8192)
    assert (smallest.fits, smallest.verdict) == (True, "too slow")
    assert {size.fits for size in others} == {False}


def test_a_very_small_model_and_an_unknown_machine_tell_nothing() -> None:
    assert {size.verdict for size in expected(300.0, 10_000_000, Machine(4096 * MIB, 2), 1024)[:3]} == {"not known"}
    assert {size.verdict for size in expected(None, None, None, 4096)} == {"not known"}
    assert {size.fits for size in expected(20.0, 2_000_000_000, None, 4096)} == {None}


# The command


def settings(url: str, **more: Any) -> Settings:
    return Settings(_env_file=None, ollama_host=url, port=free_port(), **more)  # type: ignore[call-arg]


async def test_the_default_model_is_measured_and_another_one_by_its_name() -> None:
    async with FakeOllama(FakeModel("gemma2:2b"), FakeModel("llama3.2:1b"), speedup=float("inf")) as fake:
        result = await measure(settings(fake.url), "", 60)
        assert (result.model, result.whole, result.replies) == ("ollama/gemma2:2b", True, None)
        assert result.sizes[1].tokens_per_second == pytest.approx(17.8, rel=0.1)
        assert (await measure(settings(fake.url), "llama3.2:1b", 60)).model == "ollama/llama3.2:1b"
        with pytest.raises(UnknownModel):
            await measure(settings(fake.url), "llama9", 60)


async def test_the_report_and_the_json_say_the_same() -> None:
    async with FakeOllama(speedup=float("inf")) as fake:
        result = await measure(settings(fake.url), "", 60)
    told = json.loads(result.as_json())
    assert {"model", "whole", "prompt_speed", "generation_speed", "first_token_seconds", "sizes"} <= set(told)
    assert f"{told['generation_speed']:.1f} tokens/s" in result.as_text()
    assert [size["name"] for size in told["sizes"]] == ["1B", "2B", "4B", "8B"]
    assert "others may use" not in result.as_text()


@pytest.mark.parametrize(
    ("number", "told"),
    [(0, "nobody is answered right now"), (1, "1 reply is being written"), (2, "2 replies are being written")],
)
async def test_a_running_server_is_told_of(monkeypatch: pytest.MonkeyPatch, number: int, told: str) -> None:
    class Busy:
        class process:
            replies = number

    async def health(*_: object) -> Busy:
        return Busy()

    monkeypatch.setattr(bench, "health_of", health)
    async with FakeOllama(speedup=float("inf")) as fake:
        result = await measure(settings(fake.url), "", 60)
    assert f"({told}): others may use the engine" in result.as_text()


async def test_what_is_measured_when_time_is_up_is_told() -> None:
    async with FakeOllama(prompt_speed=200, speed=20, load_seconds=0) as fake:
        result = await measure(settings(fake.url), "", 4)
        await fake.idle.wait()  # the engine's work has ended with it
    assert not result.whole
    assert result.measured.generation_speed == pytest.approx(20, rel=0.1)
    assert "more by --seconds" in result.as_text()


async def test_the_time_begins_with_the_search_for_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow(*_: object) -> None:
        await asyncio.sleep(0.6)

    monkeypatch.setattr(bench, "health_of", slow)
    async with FakeOllama(speedup=float("inf")) as fake:
        result = await measure(settings(fake.url), "", 0.5)
    assert not result.whole
    assert result.measured.generation_speed is None


async def test_without_any_engine_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembled, "find_spec", lambda name: None)
    with pytest.raises(NoModel, match="ollama serve"):
        await measure(settings("http://127.0.0.1:9"), "", 60)


async def test_a_model_that_is_nowhere_ends_the_command_with_one_line(tmp_path: Path) -> None:
    code, out, said = await command("http://127.0.0.1:9", tmp_path, "--quick", "--model", "ollama/gemma2:2b")
    assert (code, out) == (1, "")
    assert said.startswith("chainlit-ollama: nothing was measured: ")
    assert len(said.splitlines()) == 1


async def test_ctrl_c_ends_it_at_once_and_the_engines_work_with_it(tmp_path: Path) -> None:
    async with FakeOllama(prompt_speed=500, speed=0.5, load_seconds=0) as fake:
        process = await start(fake.url, tmp_path, "--quick")
        while not fake.busy:
            await asyncio.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, said = await process.communicate()
        await fake.idle.wait()
    assert (process.returncode, out) == (130, b"")
    assert said.decode().splitlines()[-1] == "chainlit-ollama: stopped"
    assert "Traceback" not in said.decode()


async def start(url: str, cwd: Path, *words: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "app.bench", *words),
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "OLLAMA_HOST": url, "PORT": str(free_port())},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def command(url: str, cwd: Path, *words: str) -> tuple[int | None, str, str]:
    process = await start(url, cwd, *words)
    out, said = await process.communicate()
    return process.returncode, out.decode(), said.decode()
