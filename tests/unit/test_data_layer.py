"""Chainlit's data layer, called as Chainlit calls it: with its session, its messages and its elements."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import chainlit.data
import pytest
from chainlit.context import context_var, init_ws_context
from chainlit.data.acl import is_thread_author
from chainlit.element import CustomElement
from chainlit.message import Message
from chainlit.session import WebsocketSession
from chainlit.types import Feedback, Pagination, ThreadFilter
from chainlit.user import PersistedUser, User
from fastapi import HTTPException

from app.page.data_layer import ChatDataLayer
from app.page.steps import answer_step, conversation_of, new_id, reasoning_step
from app.storage.database import Database
from app.storage.tables import metadata
from app.storage.threads import Threads
from app.storage.visitors import Visitors


@pytest.fixture
def layer(database: Database, monkeypatch: pytest.MonkeyPatch) -> ChatDataLayer:
    layer = ChatDataLayer(Threads(database), Visitors(database))
    monkeypatch.setattr(chainlit.data, "_data_layer", layer)
    monkeypatch.setattr(chainlit.data, "_data_layer_initialized", True)
    return layer


async def visitor(layer: ChatDataLayer, identifier: str) -> PersistedUser:
    user = await layer.create_user(User(identifier=identifier))
    assert isinstance(user, PersistedUser)
    return user


@pytest.fixture
async def ann(layer: ChatDataLayer) -> PersistedUser:
    return await visitor(layer, "ann")


@pytest.fixture
async def visit() -> AsyncIterator[Callable[..., WebsocketSession]]:
    """Opens a page of a visitor's, which is then the one that acts."""
    before = context_var.get(None)
    sessions: list[WebsocketSession] = []

    async def emit(*_: Any) -> None:
        return None

    def open_page(user: User | None, *, begun: bool = True, thread_id: str | None = None) -> WebsocketSession:
        session = WebsocketSession(
            id=new_id(),
            socket_id=new_id(),
            emit=emit,
            emit_call=emit,
            user_env={},
            client_type="webapp",
            user=user,
            thread_id=thread_id,
        )
        session.has_first_interaction = begun
        sessions.append(session)
        init_ws_context(session)
        return session

    yield open_page
    for session in sessions:
        await session.delete()
    if before is not None:
        context_var.set(before)


async def all_done() -> None:
    """Wait for every task that Chainlit has started, and those that these start."""
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)


def question(thread_id: str, text: str = "hello") -> dict[str, Any]:
    step = answer_step(thread_id, new_id(), "You")
    return {**step, "type": "user_message", "output": text}


def status(thread_id: str, step_id: str, **props: Any) -> CustomElement:
    return CustomElement(thread_id=thread_id, name="ReplyStatus", props=props, for_id=step_id, display="inline")


async def test_a_first_message_makes_its_thread_by_the_visitors_name(
    layer: ChatDataLayer, ann: PersistedUser, visit: Callable[..., WebsocketSession]
) -> None:
    session = visit(ann, begun=False)
    text = "How  do I\ncook rice?" + " please" * 30
    emitter = init_ws_context(session).emitter
    await emitter.process_message({"message": question(session.thread_id, text), "fileReferences": None})
    await all_done()
    thread = await layer.get_thread(session.thread_id)
    assert thread is not None
    assert thread["userIdentifier"] == "ann"
    assert thread["name"].startswith("How do I cook rice? please")
    assert len(thread["name"]) <= 80
    assert [(step["type"], step["output"]) for step in thread["steps"]] == [("user_message", text)]


async def test_what_comes_before_the_first_message_waits_for_it_and_keeps_its_order(
    layer: ChatDataLayer, ann: PersistedUser, visit: Callable[..., WebsocketSession]
) -> None:
    session = visit(ann, begun=False)
    await Message("welcome").send()
    await all_done()
    assert await layer.get_thread(session.thread_id) is None
    emitter = init_ws_context(session).emitter
    await emitter.process_message({"message": question(session.thread_id), "fileReferences": None})
    await all_done()
    thread = await layer.get_thread(session.thread_id)
    assert thread is not None
    assert {step["output"] for step in thread["steps"]} == {"welcome", "hello"}


async def test_a_thread_comes_back_with_all_that_the_page_needs(
    layer: ChatDataLayer, ann: PersistedUser, visit: Callable[..., WebsocketSession]
) -> None:
    thread_id = visit(ann).thread_id
    asked = question(thread_id)
    thought = reasoning_step(thread_id, new_id(), "Thinking")
    reply = answer_step(thread_id, new_id(), "chat")
    reply["output"] = "hi"
    reply["metadata"] = {"tokens": {"m": 2}, "left_out": 0}
    for step in (asked, thought, reply):
        await layer.create_step(step)
    await layer.create_element(status(thread_id, reply["id"], phase="finished", metrics={"seconds": 1.5}))
    await layer.save_tokens(asked["id"], {"m": 5})
    feedback_id = await layer.upsert_feedback(Feedback(forId=reply["id"], value=1, comment="good"))

    thread = await layer.get_thread(thread_id)
    assert thread is not None
    assert [step["id"] for step in thread["steps"]] == [asked["id"], thought["id"], reply["id"]]
    shown = thread["steps"][1]
    assert (shown["type"], shown["showInput"], shown["defaultOpen"]) == ("llm", False, False)
    last = thread["steps"][2]
    assert {name: last.get(name) for name in reply} == reply
    assert last["feedback"] == {"id": feedback_id, "forId": reply["id"], "value": 1, "comment": "good"}
    (element,) = thread["elements"] or []
    assert (element["type"], element["name"], element["forId"]) == ("custom", "ReplyStatus", reply["id"])
    assert element["props"] == {"phase": "finished", "metrics": {"seconds": 1.5}}
    assert await layer.get_element(thread_id, element["id"]) == element
    history, turns = conversation_of(thread_id, thread["steps"])
    assert history.last is not None
    assert (history.last.question.text, history.last.question.tokens) == ("hello", {"m": 5})
    assert turns[0].replies == [thought["id"], reply["id"]]


async def test_a_custom_elements_new_props_are_kept(
    layer: ChatDataLayer, ann: PersistedUser, visit: Callable[..., WebsocketSession]
) -> None:
    thread_id = visit(ann).thread_id
    element = status(thread_id, "q", phase="writing")
    await layer.create_element(element)
    element.props = {"phase": "finished"}
    await layer.create_element(element)
    kept = await layer.get_element(thread_id, element.id)
    assert kept is not None
    assert kept["props"] == {"phase": "finished"}
    await layer.delete_element(element.id)
    assert await layer.get_element(thread_id, element.id) is None


async def test_an_edited_message_keeps_its_place(
    layer: ChatDataLayer, ann: PersistedUser, visit: Callable[..., WebsocketSession]
) -> None:
    thread_id = visit(ann).thread_id
    first, second = question(thread_id, "one"), question(thread_id, "two")
    await layer.create_step(first)
    await layer.create_step(second)
    await layer.update_step(first | {"output": "one, edited"})
    await layer.delete_step(second["id"])
    thread = await layer.get_thread(thread_id)
    assert thread is not None
    assert [step["output"] for step in thread["steps"]] == ["one, edited"]


async def test_an_update_of_a_step_that_is_not_there_yet_stores_it(
    layer: ChatDataLayer, ann: PersistedUser, visit: Callable[..., WebsocketSession]
) -> None:
    thread_id = visit(ann).thread_id
    await layer.update_step(question(thread_id, "early"))
    thread = await layer.get_thread(thread_id)
    assert thread is not None
    assert [step["output"] for step in thread["steps"]] == ["early"]


async def test_only_its_author_may_open_a_thread(
    layer: ChatDataLayer, ann: PersistedUser, visit: Callable[..., WebsocketSession]
) -> None:
    thread_id = visit(ann).thread_id
    await layer.create_step(question(thread_id))
    assert await is_thread_author("ann", thread_id)
    with pytest.raises(HTTPException) as refusal:
        await is_thread_author("bob", thread_id)
    assert refusal.value.status_code == 401
    with pytest.raises(HTTPException) as refusal:
        await is_thread_author("bob", new_id())
    assert refusal.value.status_code == 404


async def test_a_page_that_names_anothers_thread_changes_nothing_in_it(
    layer: ChatDataLayer, ann: PersistedUser, visit: Callable[..., WebsocketSession]
) -> None:
    anns = visit(ann).thread_id
    asked = question(anns)
    element = status(anns, asked["id"], phase="finished")
    await layer.create_step(asked)
    await layer.create_element(element)

    visit(await visitor(layer, "bob"), thread_id=anns)
    await layer.create_step(question(anns, "mine"))
    await layer.update_step(asked | {"output": "changed"})
    await layer.delete_step(asked["id"])
    await layer.create_element(status(anns, asked["id"], phase="failed"))
    await layer.delete_element(element.id, anns)
    thread = await layer.get_thread(anns)
    assert thread is not None
    assert [step["output"] for step in thread["steps"]] == ["hello"]
    assert [shown["props"] for shown in thread["elements"] or []] == [{"phase": "finished"}]
    assert layer.failed_writes == 3


async def test_nobody_in_particular_writes_nothing(
    layer: ChatDataLayer, visit: Callable[..., WebsocketSession]
) -> None:
    thread_id = visit(User(identifier="not stored")).thread_id
    await layer.create_step(question(thread_id))
    assert layer.failed_writes == 1
    assert await layer.get_thread(thread_id) is None


async def test_the_list_is_one_visitors_and_comes_in_pages(
    layer: ChatDataLayer, ann: PersistedUser, visit: Callable[..., WebsocketSession]
) -> None:
    bob = await visitor(layer, "bob")
    for n in range(3):
        await layer.update_thread(new_id(), name=f"Ann's {n}", user_id=ann.id)
    await layer.update_thread(new_id(), name="Bob's", user_id=bob.id)

    async def page(cursor: str | None, search: str | None = None) -> dict[str, Any]:
        wanted = ThreadFilter(userId=ann.id, search=search)
        return (await layer.list_threads(Pagination(first=2, cursor=cursor), wanted)).to_dict()

    newest = await page(None)
    assert [thread["name"] for thread in newest["data"]] == ["Ann's 2", "Ann's 1"]
    assert newest["pageInfo"]["hasNextPage"] is True
    oldest = await page(newest["pageInfo"]["endCursor"])
    assert [thread["name"] for thread in oldest["data"]] == ["Ann's 0"]
    assert oldest["pageInfo"]["hasNextPage"] is False
    assert [thread["name"] for thread in (await page(None, "ANN'S 1"))["data"]] == ["Ann's 1"]
    with pytest.raises(ValueError, match="visitor"):
        await layer.list_threads(Pagination(first=2), ThreadFilter())


async def test_what_comes_late_for_a_deleted_thread_is_no_failure_and_not_kept(
    layer: ChatDataLayer, ann: PersistedUser, visit: Callable[..., WebsocketSession]
) -> None:
    thread_id = visit(ann).thread_id
    await layer.create_step(question(thread_id))
    await layer.delete_thread(thread_id)
    await layer.create_step(answer_step(thread_id, new_id(), "chat"))
    await layer.update_thread(thread_id, metadata={"chat_settings": {}})
    assert await layer.get_thread(thread_id) is None
    assert layer.failed_writes == 0


# What SQLite and PostgreSQL say of a table that is not there.
GONE = r"no such table|relation \"\w+\" does not exist"


async def break_the_database(database: Database) -> None:
    async with database.write() as connection:
        for table in reversed(metadata.sorted_tables):
            await connection.exec_driver_sql(f"DROP TABLE {table.name}")


async def test_a_write_that_fails_is_logged_counted_and_told(
    layer: ChatDataLayer,
    database: Database,
    ann: PersistedUser,
    visit: Callable[..., WebsocketSession],
    caplog: pytest.LogCaptureFixture,
) -> None:
    thread_id = visit(ann).thread_id
    await break_the_database(database)
    told: list[int] = []

    async def tell() -> None:
        told.append(layer.failed_writes)

    layer.on_write_failed = tell
    with caplog.at_level(logging.ERROR, "app.page.data_layer"):
        await layer.create_step(question(thread_id, "my diary"))
        await layer.save_preferences("ann", {"system_prompt": "my diary"})
    assert told == [1, 2]
    assert [record.getMessage() for record in caplog.records] == [
        "CHAT not kept, create_step failed",
        "CHAT not kept, save_preferences failed",
    ]
    assert re.search(GONE, caplog.text)
    assert "my diary" not in caplog.text


async def test_who_asked_for_a_write_is_told_that_it_failed(
    layer: ChatDataLayer, database: Database, ann: PersistedUser, visit: Callable[..., WebsocketSession]
) -> None:
    thread_id = visit(ann).thread_id
    await break_the_database(database)
    for write in (
        lambda: layer.update_thread(thread_id, name="renamed"),
        lambda: layer.delete_thread(thread_id),
        lambda: layer.upsert_feedback(Feedback(forId="q", value=1)),
        lambda: layer.create_user(User(identifier="new")),
    ):
        with pytest.raises(Exception, match=GONE):
            await write()
    assert layer.failed_writes == 4


async def test_what_a_visitor_has_set_stays_with_the_visitor_and_out_of_the_browser(
    layer: ChatDataLayer, ann: PersistedUser
) -> None:
    await layer.save_preferences("ann", {"temperature": 0.7})
    assert await layer.load_preferences("ann") == {"temperature": 0.7}
    assert await layer.load_preferences("bob") == {}
    again = await layer.get_user("ann")
    assert again is not None
    assert (again.id, again.metadata) == (ann.id, {})
    assert await layer.get_user("bob") is None


async def test_a_message_with_nul_and_a_broken_surrogate_is_kept_without_them(
    layer: ChatDataLayer, ann: PersistedUser, visit: Callable[..., WebsocketSession]
) -> None:
    thread_id = visit(ann).thread_id
    await layer.create_step(question(thread_id, "a\0b \ud800 c"))
    thread = await layer.get_thread(thread_id)
    assert thread is not None
    assert [step["output"] for step in thread["steps"]] == ["ab � c"]
    assert layer.failed_writes == 0
