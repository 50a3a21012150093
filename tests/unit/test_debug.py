"""The debug view of tasks."""

from __future__ import annotations

import asyncio

import httpx
from fastapi import FastAPI
from pydantic import SecretStr

from app.api.debug import debug_routes
from app.chat import Chat
from app.engines.catalog import Catalog
from tests.fakes.engine import ScriptedEngine


def client(chat: Chat, token: str | None = None, address: str = "127.0.0.1") -> httpx.AsyncClient:
    app = FastAPI()
    app.include_router(debug_routes(chat, SecretStr(token) if token else None))
    transport = httpx.ASGITransport(app, client=(address, 1234))
    return httpx.AsyncClient(transport=transport, base_url="http://server")


async def waiting_for_a_secret() -> None:
    await asyncio.Event().wait()


async def test_tasks_are_counted_by_what_they_run_and_replies_by_engine() -> None:
    engine = ScriptedEngine()
    chat = Chat(Catalog([engine]))
    tickets = [chat.queue_of(engine).join(), chat.queue_of(engine).join()]
    work = [asyncio.create_task(waiting_for_a_secret(), name="a secret") for _ in range(3)]
    await asyncio.sleep(0)
    async with client(chat) as http:
        answer = await http.get("/debug/tasks")
    found = answer.json()
    assert found["tasks"]["waiting_for_a_secret"] == 3
    assert found["total"] == sum(found["tasks"].values())
    assert found["engines"] == {"ollama": {"serving": 1, "waiting": 1}}
    assert "a secret" not in answer.text
    for task in work:
        task.cancel()
    for ticket in tickets:
        ticket.leave()


async def test_they_are_for_those_whom_the_metrics_are_for() -> None:
    chat = Chat(Catalog([]))
    async with client(chat, address="8.8.8.8") as http:
        assert (await http.get("/debug/tasks")).status_code == 403
    async with client(chat, "abc", address="8.8.8.8") as http:
        assert (await http.get("/debug/tasks")).status_code == 401
        assert (await http.get("/debug/tasks", headers={"Authorization": "Bearer abc"})).status_code == 200
