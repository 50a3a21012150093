"""Which models there are, under which names."""

from __future__ import annotations

import pytest

from app.engines.base import ModelInfo
from app.engines.catalog import Catalog
from app.errors import EngineUnreachable, UnknownModel
from tests.fakes.engine import ScriptedEngine


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def two_engines() -> tuple[ScriptedEngine, ScriptedEngine]:
    return (
        ScriptedEngine(models=["gemma2:2b", "phi3:latest", "shared"]),
        ScriptedEngine(name="vllm", models=["Qwen/Qwen3-8B", "shared"]),
    )


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("ollama/gemma2:2b", "ollama/gemma2:2b"),
        ("gemma2:2b", "ollama/gemma2:2b"),
        ("phi3", "ollama/phi3:latest"),
        ("ollama", "ollama/gemma2:2b"),
        ("phi3_ollama", "ollama/phi3:latest"),
        ("qwen_vllm", "vllm/Qwen/Qwen3-8B"),
        ("vllm/shared", "vllm/shared"),
        ("fast", "ollama/gemma2:2b"),
    ],
)
async def test_a_model_is_found_by_its_id_its_bare_name_and_its_aliases(name: str, found: str) -> None:
    catalog = Catalog(two_engines(), aliases={"fast": "ollama/gemma2:2b"})
    assert (await catalog.find(name)).id == found


@pytest.mark.parametrize("name", ["shared", "nope", "qwen_transformers", ""])
async def test_a_name_that_is_not_unique_or_not_there_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(UnknownModel) as refused:
        await Catalog(two_engines()).find(name)
    assert "ollama/gemma2:2b" in str(refused.value)


async def test_an_engine_that_is_down_does_not_hide_the_others() -> None:
    ollama, vllm = two_engines()
    ollama.problem = EngineUnreachable(engine="Ollama", url="http://x")
    catalog = Catalog([ollama, vllm])
    assert {model.engine for model in await catalog.models()} == {"vllm"}
    assert set(catalog.problems) == {"ollama"}
    ollama.problem = None
    assert {model.engine for model in await catalog.models(fresh=True)} == {"ollama", "vllm"}
    assert catalog.problems == {}


async def test_a_model_of_an_engine_that_is_away_is_not_called_unknown() -> None:
    engine = ScriptedEngine(models=["gemma2:2b"])
    catalog = Catalog([engine])
    assert (await catalog.find("gemma2:2b")).id == "ollama/gemma2:2b"
    engine.problem = EngineUnreachable(engine="Ollama", url="http://localhost:11434")
    await catalog.models(fresh=True)
    for name in ("gemma2:2b", "ollama/gemma2:2b"):
        with pytest.raises(EngineUnreachable):
            await catalog.find(name)
    with pytest.raises(UnknownModel):
        await catalog.find("other")


async def test_an_engine_that_does_not_answer_in_time_is_left_out() -> None:
    class Hanging(ScriptedEngine):
        async def models(self) -> list[ModelInfo]:
            self.go_on.clear()
            await self.go_on.wait()
            return []

    catalog = Catalog([Hanging(), ScriptedEngine(name="vllm")], timeout=0.01)
    assert {model.engine for model in await catalog.models()} == {"vllm"}
    assert "ollama" in catalog.problems


async def test_only_an_engine_that_was_asked_for_or_was_there_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    ollama, vllm = two_engines()
    ollama.problem = vllm.problem = EngineUnreachable(engine="It", url="http://x")
    catalog = Catalog([ollama, vllm], unasked={"ollama"})
    await catalog.models()
    assert {(record.levelname, record.getMessage()[:12]) for record in caplog.records} == {
        ("INFO", "MODELS Ollam"),
        ("WARNING", "MODELS It do"),
    }
    ollama.problem = None
    await catalog.models(fresh=True)
    ollama.problem = vllm.problem
    caplog.clear()
    await catalog.models(fresh=True)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_the_list_is_kept_until_it_is_too_old() -> None:
    engine, clock = ScriptedEngine(), Clock()
    catalog = Catalog([engine], max_age=30, clock=clock)
    await catalog.models()
    engine.names.append("new:1b")
    clock.now = 29
    assert len(await catalog.models()) == 1
    clock.now = 31
    assert len(await catalog.models()) == 2


async def test_a_name_that_is_not_on_the_kept_list_is_looked_for_anew() -> None:
    engine = ScriptedEngine()
    catalog = Catalog([engine])
    await catalog.models()
    engine.names.append("new:1b")
    assert (await catalog.find("new:1b")).name == "new:1b"


async def test_listeners_hear_when_models_come_and_go_and_only_then() -> None:
    engine = ScriptedEngine()
    catalog = Catalog([engine])
    heard = []
    catalog.on_change(lambda: heard.append([model.name for model in catalog.known]))
    await catalog.models()
    await catalog.models(fresh=True)
    engine.names.clear()
    await catalog.models(fresh=True)
    assert heard == [["gemma2:2b"], []]


def test_num_ctx_counts_up_to_what_the_model_can_and_not_where_the_server_has_set_it() -> None:
    catalog = Catalog([], num_ctx=4096)
    assert catalog.context_length(ModelInfo("ollama", "a", context_length=8192)) == 4096
    assert catalog.context_length(ModelInfo("ollama", "a", context_length=2048)) == 2048
    assert catalog.context_length(ModelInfo("ollama", "a")) == 4096
    assert catalog.context_length(ModelInfo("vllm", "a", context_length=32768, context_fixed=True)) == 32768
