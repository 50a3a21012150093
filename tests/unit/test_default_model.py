"""Which model answers a visitor who has picked none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest

from app.default_model import DefaultModelFinder, Wishes
from app.engines.base import ModelInfo, Progress
from app.engines.catalog import Catalog
from app.errors import LANGUAGES, EngineError, EngineUnreachable, OutOfMemory
from app.why import explain
from tests.fakes.engine import ScriptedEngine

DOWN = EngineUnreachable(engine="Ollama", url="http://localhost:11434")
OFFLINE = EngineError(engine="Hub", detail="no network")


class Fetcher:
    """Plays a download: yields progress, then calls `arrive`, or fails."""

    def __init__(self, arrive: Callable[[str], None] | None = None) -> None:
        self.arrive = arrive
        self.unknown: set[str] = set()
        self.asked: list[str] = []
        self.half_way = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self, model: str) -> AsyncGenerator[Progress, None]:
        self.asked.append(model)
        yield Progress(50, 100)
        self.half_way.set()
        if self.arrive is None or model in self.unknown:
            raise OFFLINE
        await self.go_on.wait()
        self.arrive(model)
        yield Progress(100, 100)


class World:
    """A machine: what runs on it, and what it is told to look for."""

    def __init__(
        self,
        *,
        model: str = "",
        ollama: list[str] | None = None,
        vllm: list[str] | None = None,
        pulled: tuple[str, ...] = (),
        wait: float = 0,
    ) -> None:
        self.ollama = ScriptedEngine(models=ollama or [])
        if ollama is None:
            self.ollama.problem = DOWN
        self.local = ScriptedEngine(name="transformers", models=["guide"])
        engines = [self.ollama, self.local]
        if vllm is not None:
            engines.append(ScriptedEngine(name="vllm", models=vllm))
        self.pull = Fetcher(self.ollama.names.append)
        self.hub = Fetcher(self.local.names.append)
        self.loaded: list[str] = []
        self.load_problem: EngineError | None = None
        self.now = 0.0
        self.catalog = Catalog(engines)
        self.finder = DefaultModelFinder(
            Wishes(
                model,
                pulled or ("gemma2:2b",),
                ("Qwen/Qwen3-0.6B",),
                "http://localhost:11434",
                "http://vllm:8000",
                pulled=pulled,
                ollama_wait=wait,
            ),
            self.catalog,
            pull=self.pull,
            download=self.hub,
            load=self._load,
            clock=lambda: self.now,
        )

    async def _load(self, model: ModelInfo) -> None:
        if self.load_problem:
            raise self.load_problem
        self.loaded.append(model.id)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the search run until `condition` holds."""
        search = asyncio.create_task(self.finder.run())
        try:
            async with asyncio.timeout(5):
                while not condition():
                    await asyncio.sleep(0)
        finally:
            search.cancel()
            await asyncio.wait({search})

    @property
    def answers(self) -> str | None:
        return self.finder.current.model.id if self.finder.current.model else None


async def test_ollamas_preferred_model_answers_if_it_has_it() -> None:
    world = World(ollama=["phi3:latest", "gemma2:2b"])
    await world.finder.look()
    assert (world.answers, world.finder.current.reason) == ("ollama/gemma2:2b", "ollama")
    await world.until(lambda: world.finder.current.loaded)
    assert world.loaded == ["ollama/gemma2:2b"]


async def test_else_ollamas_first() -> None:
    world = World(ollama=["phi3:latest", "llama3.2:1b"])
    await world.finder.look()
    assert world.answers == "ollama/phi3:latest"


@pytest.mark.parametrize("model", ["", "bge-m3:latest"])
async def test_a_model_that_only_embeds_never_answers_and_is_not_pulled_again(model: str) -> None:
    world = World(model=model, ollama=["bge-m3:latest", "phi3:latest"], pulled=("bge-m3", "phi3"))
    world.ollama.only_embed = {"bge-m3:latest"}
    await world.finder.look()
    assert world.answers == "ollama/phi3:latest"
    await world.until(lambda: world.finder.current.loaded)
    assert (world.loaded, world.pull.asked) == (["ollama/phi3:latest"], [])


async def test_an_ollama_that_has_only_models_that_embed_pulls_one_that_may_chat() -> None:
    world = World(ollama=["bge-m3:latest"], pulled=("bge-m3", "phi3:latest"))
    world.ollama.only_embed = {"bge-m3:latest"}
    await world.until(world.pull.half_way.is_set)
    assert (world.answers, world.pull.asked) == ("transformers/guide", ["phi3:latest"])


async def test_a_server_that_was_named_comes_first() -> None:
    world = World(ollama=["gemma2:2b"], vllm=["Qwen/Qwen3-8B"])
    await world.finder.look()
    assert world.answers == "vllm/Qwen/Qwen3-8B"


async def test_an_ollama_without_models_pulls_one_while_the_guide_answers() -> None:
    world = World(ollama=[])
    await world.until(world.pull.half_way.is_set)
    assert world.answers == "transformers/guide"
    assert world.pull.asked == ["gemma2:2b"]
    download = world.finder.current.download
    assert download is not None
    assert (download.model, download.progress) == ("gemma2:2b", Progress(50, 100))
    assert world.hub.asked == []


async def test_what_was_pulled_answers_as_soon_as_it_is_there() -> None:
    world = World(ollama=[])
    world.pull.go_on.set()
    await world.until(lambda: world.answers == "ollama/gemma2:2b")
    assert world.finder.current.download is None


async def test_without_ollama_a_qwen_is_downloaded_while_the_guide_answers() -> None:
    world = World()
    await world.until(world.hub.half_way.is_set)
    assert world.answers == "transformers/guide"
    assert world.hub.asked == ["Qwen/Qwen3-0.6B"]
    world.hub.go_on.set()
    await world.until(lambda: world.answers == "transformers/Qwen/Qwen3-0.6B")


async def test_without_a_network_the_guide_answers_and_the_download_is_tried_again_later() -> None:
    world = World()
    world.hub.arrive = None
    await world.until(lambda: world.finder.current.problem is not None)
    assert (world.answers, world.finder.current.reason) == ("transformers/guide", "guide")
    await world.finder.look()
    assert len(world.hub.asked) == 1
    world.now = 16
    await world.until(lambda: len(world.hub.asked) == 2)


async def test_a_download_that_breaks_in_an_unforeseen_way_is_not_tried_again_at_once() -> None:
    world = World()

    def broken(_: str) -> None:
        raise FileNotFoundError("gone")

    world.hub.arrive = broken
    world.hub.go_on.set()
    await world.until(lambda: world.finder.current.problem is not None)
    for _ in range(5):
        await world.finder.look()
    assert len(world.hub.asked) == 1


async def test_all_models_that_were_asked_for_are_pulled_one_after_the_other() -> None:
    world = World(ollama=["phi3:latest"], pulled=("gemma2:2b", "phi3", "llama3.2:1b"))
    world.pull.go_on.set()
    await world.until(lambda: "llama3.2:1b" in world.ollama.names)
    assert world.pull.asked == ["gemma2:2b", "llama3.2:1b"]
    await world.until(lambda: world.answers == "ollama/gemma2:2b")


async def test_a_model_that_cannot_be_pulled_does_not_keep_the_others_waiting() -> None:
    world = World(ollama=["phi3:latest"], pulled=("nosuchmodel:1b", "llama3.2:1b"))
    world.pull.unknown.add("nosuchmodel:1b")
    world.pull.go_on.set()
    await world.until(lambda: "llama3.2:1b" in world.ollama.names)
    assert world.pull.asked == ["nosuchmodel:1b", "llama3.2:1b"]
    assert world.answers == "ollama/phi3:latest"


async def test_the_server_is_ready_when_the_default_model_is_in_memory() -> None:
    world = World(ollama=["gemma2:2b"])
    assert not world.finder.ready
    await world.finder.look()
    assert world.finder.current.loading
    assert not world.finder.ready
    await world.until(lambda: world.finder.ready)
    assert explain(world.finder.current, world.finder.wishes, "en").text == "gemma2:2b answers."


async def test_a_model_that_cannot_be_loaded_is_told_and_tried_again_later() -> None:
    world = World(ollama=["gemma2:2b"])
    world.load_problem = OutOfMemory(engine="Ollama", model="gemma2:2b")
    await world.until(lambda: world.finder.current.unfit is not None)
    words = explain(world.finder.current, world.finder.wishes, "en")
    assert (words.text, words.level) == ("gemma2:2b cannot be loaded.", "warning")
    assert "not enough memory" in words.details[0]
    world.load_problem = None
    await world.finder.look()
    assert not world.finder.ready
    world.now += 60
    await world.until(lambda: world.finder.ready)
    assert world.finder.current.unfit is None


async def test_a_model_is_loaded_again_when_its_ollama_comes_back() -> None:
    world = World(ollama=["gemma2:2b"])
    await world.until(lambda: world.finder.ready)
    world.ollama.problem = DOWN
    await world.finder.look()
    assert not world.finder.ready
    world.ollama.problem = None
    await world.finder.look()
    await world.until(lambda: world.finder.ready)
    assert world.loaded == ["ollama/gemma2:2b"] * 2


async def test_a_model_that_a_restarted_ollama_has_lost_is_loaded_again() -> None:
    world = World(ollama=["gemma2:2b"])
    await world.until(lambda: world.finder.ready)
    world.ollama.in_memory = set()
    await world.finder.look()
    await world.until(lambda: len(world.loaded) == 2)
    assert world.finder.current.away is None


async def test_a_model_that_a_visitor_has_put_another_in_place_of_stays_out() -> None:
    world = World(ollama=["gemma2:2b", "phi3:latest"])
    await world.until(lambda: world.finder.ready)
    world.ollama.in_memory = {"phi3:latest"}
    await world.finder.look()
    assert world.finder.ready
    assert world.loaded == ["ollama/gemma2:2b"]


async def test_an_ollama_that_was_started_together_with_the_server_is_given_a_moment() -> None:
    world = World(wait=15)
    await world.finder.look()
    assert (world.answers, world.hub.asked) == (None, [])
    world.now = 20
    await world.until(world.hub.half_way.is_set)
    assert world.answers == "transformers/guide"


async def test_readiness_does_not_ask_the_engines_each_time() -> None:
    world = World(ollama=["gemma2:2b"])
    await world.finder.look_if_older(5)
    world.ollama.problem = DOWN
    await world.finder.look_if_older(5)
    assert world.finder.current.away is None
    world.now += 6
    await world.finder.look_if_older(5)
    assert world.finder.current.away is DOWN


async def test_an_ollama_that_is_started_later_is_noticed() -> None:
    world = World()
    world.hub.arrive = None
    await world.until(lambda: world.finder.current.problem is not None)
    world.ollama.problem = None
    world.ollama.names.append("gemma2:2b")
    await world.finder.look()
    assert world.answers == "ollama/gemma2:2b"


@pytest.mark.parametrize("model", ["", "ollama/gemma2:2b"])
async def test_an_ollama_that_is_away_for_a_while_keeps_its_place(model: str) -> None:
    world = World(model=model, ollama=["gemma2:2b"])
    await world.finder.look()
    world.ollama.problem = DOWN
    await world.finder.look()
    assert world.answers == "ollama/gemma2:2b"
    assert world.finder.current.away is DOWN
    assert world.pull.asked == world.hub.asked == []
    world.ollama.problem = None
    await world.finder.look()
    assert world.finder.current.away is None
    assert world.answers == "ollama/gemma2:2b"


async def test_an_ollama_that_comes_back_without_its_model_is_searched_anew() -> None:
    world = World(ollama=["gemma2:2b"])
    await world.finder.look()
    world.ollama.problem = DOWN
    await world.finder.look()
    world.ollama.problem = None
    world.ollama.names[:] = ["phi3:latest"]
    await world.finder.look()
    assert world.answers == "ollama/phi3:latest"


@pytest.mark.parametrize("name", ["guide", "transformers/guide", "phi3"])
async def test_model_skips_the_search(name: str) -> None:
    world = World(model=name, ollama=["gemma2:2b", "phi3:latest"])
    await world.finder.look()
    assert world.finder.current.reason == "set"
    assert world.answers in ("transformers/guide", "ollama/phi3:latest")
    assert world.pull.asked == world.hub.asked == []


async def test_a_model_that_is_set_but_missing_is_pulled_while_another_stands_in() -> None:
    world = World(model="llama3.2:1b", ollama=["gemma2:2b"])
    await world.until(world.pull.half_way.is_set)
    assert world.answers == "ollama/gemma2:2b"
    assert world.finder.current.wanted == "llama3.2:1b"
    assert world.pull.asked == ["llama3.2:1b"]


async def test_a_model_of_an_ollama_that_is_down_is_not_looked_for_elsewhere() -> None:
    world = World(model="ollama/gemma2:2b")
    await world.finder.look()
    await asyncio.sleep(0)
    assert world.answers == "transformers/guide"
    assert world.pull.asked == world.hub.asked == []


async def test_a_set_model_whose_ollama_goes_away_while_another_stands_in_does_not_break_the_search() -> None:
    world = World(model="ollama/phi3:latest", ollama=["phi3:latest"], vllm=["big"])
    await world.finder.look()
    world.ollama.names.clear()
    await world.finder.look()
    assert world.answers == "vllm/big"
    world.ollama.problem = DOWN
    await world.finder.look()
    assert (world.answers, world.finder.current.wanted) == ("vllm/big", "ollama/phi3:latest")


async def test_when_there_was_no_model_another_look_is_taken_for_a_visitor_who_asks() -> None:
    world = World(model="ollama/gemma2:2b")
    world.local.names.clear()
    assert await world.finder.model() is None
    world.ollama.problem = None
    world.ollama.names.append("gemma2:2b")
    model = await world.finder.model()
    assert model is not None
    assert model.id == "ollama/gemma2:2b"


async def _away(world: World) -> None:
    await world.finder.look()
    world.ollama.problem = DOWN
    await world.finder.look()


async def _unfit(world: World) -> None:
    world.load_problem = OutOfMemory(engine="Ollama", model="gemma2:2b")
    await world.until(lambda: world.finder.current.unfit is not None)


async def _nothing(world: World) -> None:
    world.local.names.clear()
    await world.finder.look()


SITUATIONS: list[tuple[Callable[[], World], Callable[[World], Awaitable[None]]]] = [
    (lambda: World(ollama=["gemma2:2b"]), lambda w: w.finder.look()),
    (lambda: World(vllm=["big"]), lambda w: w.finder.look()),
    (lambda: World(ollama=[]), lambda w: w.until(w.pull.half_way.is_set)),
    (lambda: World(), lambda w: w.until(w.hub.half_way.is_set)),
    (lambda: World(model="guide"), lambda w: w.finder.look()),
    (lambda: World(model="lost:1b", ollama=["gemma2:2b"]), lambda w: w.finder.look()),
    (lambda: World(), _nothing),
    (lambda: World(ollama=["gemma2:2b"]), _away),
    (lambda: World(ollama=["gemma2:2b"]), _unfit),
]


@pytest.mark.parametrize(("make", "arrive"), SITUATIONS)
async def test_every_situation_is_explained_in_both_languages(
    make: Callable[[], World], arrive: Callable[[World], Awaitable[None]]
) -> None:
    world = make()
    await arrive(world)
    english, russian = (explain(world.finder.current, world.finder.wishes, language) for language in LANGUAGES)
    assert english.text
    assert len(english.details) == len(russian.details) > 0
    for words in (russian.text, *russian.details):
        assert any("а" <= letter.lower() <= "я" for letter in words)
    assert not any("{" in words for words in (english.text, *english.details, *russian.details))


def test_the_guide_is_explained_with_the_way_to_a_real_model() -> None:
    from app.default_model import DefaultModel

    guide = DefaultModel(ModelInfo("transformers", "guide"), "guide")
    words = explain(guide, Wishes("", ("gemma2:2b",), (), "http://localhost:11434"), "en")
    assert words.level == "warning"
    assert any("ollama pull gemma2:2b" in detail for detail in words.details)
