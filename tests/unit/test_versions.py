"""Which versions are at work: of the engines as far as they tell, asked now and then only."""

from __future__ import annotations

import platform

from app import __version__
from app.engines.catalog import Catalog
from app.engines.local import LocalEngine
from app.engines.ollama import OllamaEngine
from app.errors import EngineError, EngineUnreachable
from app.settings import GUIDE_DIR
from app.versions import Versions
from tests.fakes.engine import ScriptedEngine
from tests.fakes.ollama import FakeOllama


class VersionedScript(ScriptedEngine):
    """Tells another version each time."""

    asked = 0

    async def version(self) -> str:
        self.asked += 1
        if isinstance(self.problem, EngineError):
            raise self.problem
        return f"1.{self.asked}"


async def test_an_answer_is_kept_for_a_while() -> None:
    engine, times = VersionedScript(), iter([0.0, 29.0, 29.0, 31.0, 31.0])
    versions = Versions(Catalog([engine, ScriptedEngine(name="vllm")]), max_age=30, clock=lambda: next(times))
    own = {"app": __version__, "python": platform.python_version()}
    assert (await versions.read()).items() >= (own | {"ollama": "1.1", "vllm": None}).items()
    assert (await versions.read())["ollama"] == "1.1"


async def test_who_is_away_is_not_asked() -> None:
    engine = VersionedScript()
    engine.problem = EngineUnreachable(engine="Ollama", url="http://localhost:11434")
    catalog = Catalog([engine])
    assert (await Versions(catalog).read())["ollama"] is None
    assert engine.asked == 1
    await catalog.everything()
    assert (await Versions(catalog).read())["ollama"] is None
    assert engine.asked == 1


async def test_the_engines_tell_theirs() -> None:
    async with FakeOllama() as fake:
        ollama, local = OllamaEngine(fake.url), LocalEngine(GUIDE_DIR, [], device="cpu")
        found = await Versions(Catalog([ollama, local])).read()
        assert found["ollama"] == "0.32.15"
        # None where it is not installed.
        assert "transformers" in found
        assert local.device == "cpu"
        await ollama.close()
        await local.close()
