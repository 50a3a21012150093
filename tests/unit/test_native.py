"""The native API's parts without a server around them: no model, no engine, one that tells little."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import httpx
import pytest
from fastapi import FastAPI

from app.api.native import native_routes
from app.api.native_facts import Known, fact_routes
from app.api.native_requests import BatchRequest
from app.api.programs import Defaults, Programs
from app.api.unknown import add_error_forms
from app.chat import Chat
from app.default_model import DefaultModelFinder, Wishes
from app.engines.catalog import Catalog
from app.errors import NotTaken, TwoValues
from app.settings import Settings
from app.stats import Stats
from app.versions import Versions
from tests.fakes.engine import ScriptedEngine


async def no_pull(_: str) -> AsyncGenerator[None]:
    raise AssertionError("nothing is to be brought")
    yield


def client(*engines: ScriptedEngine, max_batch: int = 2) -> httpx.AsyncClient:
    """A program, and a server with these engines."""
    catalog = Catalog(engines, max_age=3600)
    finder = DefaultModelFinder(Wishes("", ("gemma2:2b",), ()), catalog, pull=no_pull, download=None)  # type: ignore[arg-type]
    chat = Chat(catalog)
    stats = Stats(100)
    chat.on_end = stats.add
    app = FastAPI()
    programs = Programs(chat, Defaults(0.2, 0.9, 64), comment_seconds=1)
    app.include_router(native_routes(programs, finder, max_batch=max_batch))
    known = Known(catalog, finder, Versions(catalog), stats, lambda: None)
    app.include_router(fact_routes(known, Settings(_env_file=None)))  # type: ignore[call-arg]
    add_error_forms(app)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server")


async def test_without_a_model_nothing_is_answered_and_it_is_told_when_to_come_again() -> None:
    async with client() as program:
        for path, body in (("/chat", {"message": "a"}), ("/forward", {"prompt": "a"}), ("/forward_batch", ["a"])):
            answer = await program.post(path, json=body)
            assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "no_model", "30")
        assert (await program.get("/models")).json() == {"models": [], "default": None}
        facts = (await program.get("/metadata")).json()
        assert (facts["default_model"], facts["device"]) == (None, None)


async def test_what_is_not_known_of_a_model_is_empty_in_ollamas_way() -> None:
    async with client(ScriptedEngine(models=["same", "one"]), ScriptedEngine(name="vllm", models=["same"])) as program:
        tags = (await program.get("/api/chat/tags")).json()["models"]
        # A name that two engines have would not be found.
        assert [tag["name"] for tag in tags] == ["ollama/same", "one", "vllm/same"]
        details = {"parent_model": "", "format": "", "family": "", "families": None, "parameter_size": ""}
        assert tags[1] == {
            "name": "one",
            "model": "one",
            "modified_at": None,
            "size": None,
            "digest": "",
            "details": details | {"quantization_level": ""},
        }


async def test_a_batch_has_a_bound() -> None:
    engine = ScriptedEngine("one", "two")
    engine.features = frozenset({"raw"})
    async with client(engine) as program:
        answer = (await program.post("/forward_batch", json={"prompts": ["a", "b"], "model": "gemma2:2b"})).json()
        assert [result["response"] for result in answer["results"]] == ["one", "two"]
        refused = await program.post("/forward_batch", json=["a", "b", "c"])
        assert (refused.status_code, refused.json()["code"]) == (400, "too_many_prompts")


async def test_a_reply_that_nobody_waits_for_any_more_counts_as_stopped() -> None:
    engine = ScriptedEngine("never done")
    engine.go_on.clear()
    async with client(engine) as program:
        asking = asyncio.create_task(program.post("/chat", json={"message": "a", "model": "gemma2:2b"}))
        while not engine.requests:
            await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        figures = (await program.get("/stats")).json()["last_hour"]["all"]
    assert figures["by_outcome"] == {"finished": 0, "stopped": 1, "failed": 0}


@pytest.mark.parametrize("item", [5, None, True, [], {}, {"text": "a"}, {"prompt": 5}, {"prompt": None}])
def test_what_is_no_prompt(item: object) -> None:
    [found] = BatchRequest.model_validate({"prompts": [item]}).texts(1)
    assert isinstance(found, NotTaken)


def test_a_prompt_has_two_names() -> None:
    items = [{"prompt": "a"}, {"message": "b"}, {"prompt": "c", "message": "c"}, {"prompt": "d", "message": "e"}]
    *texts, last = BatchRequest.model_validate(items).texts(4)
    assert texts == ["a", "b", "c"]
    assert isinstance(last, TwoValues)
