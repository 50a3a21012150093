"""Conversations as files: what comes out goes in again, and what is no such file does not."""

from __future__ import annotations

import contextlib
import io
import json
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any
from unicodedata import normalize

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.archive import conversation_file, reading
from app.archive.brought_back import brought_back
from app.archive.conversation_file import NewerExport, NotAnExport, from_json, to_json
from app.archive.markdown import to_markdown
from app.archive.names import FileNames, attachment, file_name
from app.archive.reading import TooLarge, conversations
from app.archive.writing import archive
from app.page.preferences import Preferences
from app.page.steps import conversation_of
from app.page.stored import conversation_dict
from app.storage.database import Database
from app.storage.importing import add_conversations
from app.storage.records import ORIGIN, Conversation, Element, Step, Thread, Thumb, Visitor
from app.storage.texts import now, storable
from app.storage.threads import Threads
from app.storage.visitors import Visitors
from app.transcript import SETTINGS

ANN = Visitor("u", "ann", {}, "2026-11-20T08:00:00.000000+00:00")
AT = "2026-11-20T08:00:00.000000+00:00"


def thread(**more: Any) -> Thread:
    return replace(Thread("t", "u", "ann", "How do I cook rice?", {}, [], AT, AT), **more)


def status(step_id: str, element_id: str = "e", **props: Any) -> Element:
    whole = {"phase": "finished", "message_id": step_id, "notes": ["cut"], "metrics": {"total_seconds": 1.5}} | props
    content = {"id": element_id, "threadId": "t", "type": "custom", "url": None, "name": "ReplyStatus"}
    return Element(element_id, "t", step_id, content | {"display": "inline", "forId": step_id, "props": whole})


RICE = Conversation(
    thread(metadata={"chat_settings": {"model": "guide"}, "id": "session", "env": {"KEY": "secret"}}),
    (
        Step(
            "q", "t", type="user_message", name="You", output="How do I cook rice?", created_at="2026-11-20T08:00:00Z"
        ),
        Step("r", "t", type="llm", name="Thinking", output="Water first.", created_at="2026-11-20T08:00:01Z"),
        Step(
            "a",
            "t",
            type="assistant_message",
            name="chat",
            output="Boil it:\n\n```python\nboil('rice')  # 🍚\n```",
            metadata={"tokens": {"ollama/gemma2:2b": 12}, "left_out": 0, "model": "ollama/gemma2:2b"},
            created_at="2026-11-20T08:00:02Z",
        ),
    ),
    (status("a"),),
    {"a": Thumb("f", "a", 1, "tasty", AT)},
)


def example(**parts: Any) -> dict[str, Any]:
    whole: dict[str, Any] = json.loads(to_json(RICE))
    return whole | parts


def packed(files: dict[str, bytes], way: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", way) as whole:
        for name, data in files.items():
            whole.writestr(name, data)
    return out.getvalue()


MANIFEST = json.dumps({"format": "chainlit-ollama export", "version": 1}).encode()


def read(data: bytes, most: int = 1_000_000) -> list[Any]:
    return list(conversations(io.BytesIO(data), most))


# JSON


def test_who_had_it_and_what_a_browser_said_are_not_in_the_file() -> None:
    text = to_json(RICE).decode()
    for word in ('"u"', "ann", "secret", "session", "user"):
        assert word not in text.replace("user_message", "")


def test_a_conversation_that_was_brought_before_keeps_the_id_that_it_had_first() -> None:
    again = replace(RICE, thread=thread(id="other", metadata={ORIGIN: "t"}))
    assert from_json(to_json(again)).thread.id == "t"


def test_references_lead_to_the_new_ids() -> None:
    back = brought_back(from_json(to_json(RICE)), ANN)
    answer = back.steps[-1]
    old = {"t", "q", "r", "a", "e", "f"}
    assert not old & {back.thread.id, back.elements[0].id, *(step.id for step in back.steps)}
    assert {step.thread_id for step in back.steps} == {back.thread.id}
    assert back.thumbs[answer.id].step_id == answer.id
    (element,) = back.elements
    assert (element.step_id, element.content["forId"], element.content["props"]["message_id"]) == (answer.id,) * 3
    assert (element.content["id"], element.content["threadId"]) == (element.id, back.thread.id)


def test_the_models_history_is_the_same_after_the_import() -> None:
    back = brought_back(from_json(to_json(RICE)), ANN)
    histories = [
        [(turn.question.text, turn.answer and (turn.answer.text, turn.answer.tokens)) for turn in history]
        for history, _ in (conversation_of("x", conversation_dict(one)["steps"]) for one in (RICE, back))
    ]
    assert histories[0] == histories[1]
    assert histories[0][0][1] is not None


def test_a_conversation_has_its_model_and_settings_again() -> None:
    settings = Preferences("guide", 0.5, 64, 0.7, "Be brief.", True).as_dict()
    back = brought_back(from_json(to_json(replace(RICE, thread=thread(metadata={SETTINGS: settings})))), ANN)
    assert back.thread.metadata == {SETTINGS: settings, ORIGIN: "t"}


def test_settings_that_nobody_could_have_set_do_not_come_in() -> None:
    wrong = {"temperature": 7, "max_tokens": "many", "top_p": None, "system_prompt": "x" * 9000, "colour": "red"}
    whole = example()
    whole["conversation"]["metadata"] = {SETTINGS: wrong | {"model": "guide", "think": 1}}
    assert from_json(json.dumps(whole).encode()).thread.metadata == {SETTINGS: {"model": "guide", "think": False}}


def bad(change: Callable[[dict[str, Any]], Any]) -> bytes:
    whole = example()
    changed = change(whole)
    return json.dumps(changed if changed is not None else whole).encode()


def put(value: Any, *path: Any) -> Callable[[dict[str, Any]], None]:
    def change(whole: Any) -> None:
        for part in path[:-1]:
            whole = whole[part]
        whole[path[-1]] = value

    return change


BAD: dict[str, bytes] = {
    "empty": b"",
    "no JSON": b"rice",
    "half": to_json(RICE)[:300],
    "a list": b"[]",
    "settings that are none": bad(put("warm", "conversation", "metadata", SETTINGS)),
    "another format": bad(put("something", "format")),
    "version 0": bad(put(0, "version")),
    "a version in words": bad(put("1", "version")),
    "a version that is true": bad(put(True, "version")),
    "an unknown part": bad(put(1, "more")),
    "no steps": bad(put(None, "steps")),
    "a step that is none": bad(put(["x"], "steps")),
    "output of another type": bad(put(5, "steps", 0, "output")),
    "an unknown type of step": bad(put("iframe", "steps", 0, "type")),
    "a huge text": bad(put("x" * 4_000_001, "steps", 0, "output")),
    "a time that is none": bad(put("yesterday", "steps", 0, "created_at")),
    "a year beyond": bad(put("0001-01-01T00:00:00+14:00", "conversation", "updated_at")),
    "an id twice": bad(put("q", "steps", 1, "id")),
    "a thumb for nothing": bad(put("nothing", "thumbs", 0, "step_id")),
    "a thumb of 2": bad(put(2, "thumbs", 0, "value")),
    "sizes that are negative": bad(put({"m": -1}, "steps", 2, "metadata", "tokens")),
    "sizes in words": bad(put("many", "steps", 2, "metadata", "left_out")),
    "what Chainlit would take for a user": bad(put({"user": {"identifier": "eve"}}, "conversation", "metadata")),
    "an element from elsewhere": bad(put("https://example.org/x.png", "elements", 0, "content", "url")),
    "an element of another kind": bad(put("image", "elements", 0, "content", "type")),
    "a script as an element": bad(put("../../evil", "elements", 0, "content", "name")),
    "props that would break the page": bad(put({"a": {}}, "elements", 0, "content", "props", "metrics")),
    "NUL": bad(put("a\0b", "steps", 0, "output")),
    "NUL inside": bad(put({"x": ["a\0"]}, "conversation", "metadata", "chat_settings")),
    "NaN": bad(put(float("nan"), "conversation", "metadata", "chat_settings", "t")),
    "infinity": to_json(RICE).replace(b'"left_out": 0', b'"left_out": 1e999'),
    "a lone surrogate": bad(put("\ud800", "steps", 0, "output")),
    "no UTF-8": to_json(RICE).replace(b"Boil", b"\xff\xfe"),
    "too deep": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "deep": bad(put(json.loads("[" * 20 + "]" * 20), "conversation", "metadata", "chat_settings", "x")),
    "a million values": bad(put([0] * 1_000_001, "conversation", "tags")),
    "many that are wrong": bad(put([0] * 30_000, "conversation", "tags")),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_what_is_no_export_is_refused(data: bytes) -> None:
    with pytest.raises(NotAnExport) as refused:
        read(data)
    assert refused.type is NotAnExport
    if data != BAD["empty"]:
        with pytest.raises(NotAnExport):
            read(packed({"manifest.json": MANIFEST, "a.json": data}), 10_000_000)


def test_a_newer_format_is_called_one() -> None:
    with pytest.raises(NewerExport):
        read(json.dumps(example(version=2)).encode())
    with pytest.raises(NewerExport):
        read(packed({"manifest.json": MANIFEST.replace(b"1", b"2")}))


def test_a_parent_that_leads_in_circles_is_none() -> None:
    whole = example()
    whole["steps"][0]["parent_id"], whole["steps"][1]["parent_id"] = "r", "q"
    whole["steps"][2]["parent_id"] = "a"
    back = brought_back(from_json(json.dumps(whole).encode()), ANN)
    assert [step.parent_id for step in back.steps] == [None, back.steps[0].id, None]


def test_a_conversation_is_not_used_in_the_future() -> None:
    whole = example()
    whole["conversation"]["updated_at"] = "9999-01-01T00:00:00Z"
    assert from_json(json.dumps(whole).encode()).thread.updated_at <= now()


# What comes out goes in

words = st.text(max_size=40).map(storable)
numbers = st.integers(-(2**53), 2**53) | st.floats(-(2.0**53), 2.0**53)
plain = st.none() | st.booleans() | numbers | words
times = st.datetimes().map(lambda at: at.isoformat() + "Z")
moments = st.datetimes(max_value=datetime(2026, 1, 1)).map(lambda at: at.isoformat(timespec="microseconds") + "+00:00")


@st.composite
def whole_conversations(draw: st.DrawFn) -> Conversation:
    ids = draw(st.lists(st.uuids().map(str), max_size=6, unique=True))
    steps = []
    for at, step_id in enumerate(ids):
        steps.append(
            Step(
                step_id,
                "t",
                draw(st.none() | st.sampled_from(ids[:at])) if at else None,
                draw(st.sampled_from(["user_message", "assistant_message", "llm", "tool"])),
                draw(words),
                draw(words),
                draw(words),
                draw(st.booleans()),
                draw(st.dictionaries(words.filter(lambda w: w not in ("tokens", "left_out")), plain, max_size=3))
                | {"tokens": draw(st.dictionaries(words, st.integers(0, 10**6), max_size=2))},
                draw(st.fixed_dictionaries({}, optional={"defaultOpen": st.booleans(), "language": words})),
                draw(st.none() | times),
                draw(st.none() | times),
                draw(st.none() | times),
            )
        )
    elements = tuple(status(one, f"e-{one}", seconds=draw(plain)) for one in ids if draw(st.booleans()))
    thumbs = {
        one: Thumb(f"f-{one}", one, draw(st.integers(0, 1)), draw(st.none() | words), draw(moments))
        for one in ids
        if draw(st.booleans())
    }
    tags = draw(st.lists(words, max_size=2))
    title = draw(st.none() | words.map(lambda text: " ".join(text.split())))
    owner = thread(name=title, tags=tags, created_at=draw(moments), updated_at=draw(moments))
    return Conversation(owner, tuple(steps), elements, thumbs)


def same_ids(conversation: Conversation) -> Conversation:
    """With ids by places, to be compared."""
    ids: dict[str | None, str | None] = {step.id: f"step {place}" for place, step in enumerate(conversation.steps)}
    ids[None] = None
    elements = []
    for place, one in enumerate(conversation.elements):
        content = one.content | {"id": f"element {place}", "threadId": "t", "forId": ids[one.content["forId"]]}
        content["props"] = content["props"] | {"message_id": ids[content["props"]["message_id"]]}
        elements.append(Element(f"element {place}", "t", ids[one.step_id], content))
    return Conversation(
        replace(conversation.thread, id="t", user_id="u", visitor="ann", metadata={}),
        tuple(replace(one, id=ids[one.id], thread_id="t", parent_id=ids[one.parent_id]) for one in conversation.steps),
        tuple(elements),
        {str(ids[one]): replace(thumb, id="f", step_id=str(ids[one])) for one, thumb in conversation.thumbs.items()},
    )


@given(whole_conversations())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_comes_out_goes_in_again_as_it_was(conversation: Conversation) -> None:
    back = brought_back(from_json(to_json(conversation)), ANN)
    assert same_ids(back) == same_ids(conversation)
    assert back.thread.metadata[ORIGIN] == "t"


@given(st.binary(max_size=200) | st.text(max_size=60).map(lambda text: b"PK\x03\x04" + text.encode()))
@settings(max_examples=200, deadline=None)
def test_anything_else_is_refused_in_words(data: bytes) -> None:
    with pytest.raises((NotAnExport, TooLarge)):
        read(data)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_zip_with_a_changed_byte_is_refused_or_read(data: st.DataObject) -> None:
    whole = bytearray(packed({"manifest.json": MANIFEST, "a.json": to_json(RICE)}))
    whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(NotAnExport, TooLarge):
        assert all(one.thread.id == "t" for one in read(bytes(whole)))


# Zips


def test_half_a_zip_is_refused() -> None:
    whole = packed({"manifest.json": MANIFEST, "a.json": to_json(RICE)})
    for end in (10, len(whole) // 2, len(whole) - 1):
        with pytest.raises(NotAnExport):
            read(whole[:end])


def test_a_zip_of_something_else_is_refused() -> None:
    for files in ({"a.json": to_json(RICE)}, {}, {"manifest.json": b"{}"}, {"manifest.json": b"rice"}):
        with pytest.raises(NotAnExport):
            read(packed(files))


def test_names_of_files_are_not_used() -> None:
    files = {"manifest.json": MANIFEST, "../../etc/passwd.json": to_json(RICE), "/x.md": b"no", "C:\\x.exe": b"no"}
    assert [one.thread.id for one in read(packed(files))] == ["t"]


@pytest.mark.parametrize("way", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_ways_of_packing_that_take_much_memory_are_refused(way: int) -> None:
    with pytest.raises(NotAnExport):
        read(packed({"manifest.json": MANIFEST, "a.json": to_json(RICE)}, way))


def test_a_zip_with_a_password_is_refused() -> None:
    whole = bytearray(packed({"manifest.json": MANIFEST}))
    for mark, place in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        whole[whole.index(mark) + place] |= 1
    with pytest.raises(NotAnExport):
        read(bytes(whole))


def test_a_bomb_is_defused() -> None:
    bomb = packed({"manifest.json": MANIFEST, "a.json": b" " * 100_000_000})
    assert len(bomb) < 200_000
    tracemalloc.start()
    with pytest.raises(TooLarge):
        read(bomb, len(bomb))
    with pytest.raises(TooLarge):  # one of its files is too large, whatever is allowed in all
        read(bomb, 10**9)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 3 * reading.LARGEST


def test_many_small_bombs_are_one() -> None:
    rice = to_json(replace(RICE, steps=(Step("q", "t", output="rice " * 100_000),), elements=(), thumbs={}))
    bomb = packed({"manifest.json": MANIFEST} | {f"{n}.json": rice for n in range(30)})
    found = conversations(io.BytesIO(bomb), 1_000_000)
    with pytest.raises(TooLarge):
        list(found)


def test_a_size_that_is_a_lie_is_found_out() -> None:
    whole = packed({"manifest.json": MANIFEST, "a.json": to_json(RICE)})
    honest = struct.pack("<L", len(to_json(RICE)))
    with pytest.raises(NotAnExport):
        read(whole.replace(honest, struct.pack("<L", 5)))


def test_a_list_of_files_that_is_too_long_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_LARGEST_LIST", 70_000)
    monkeypatch.setattr(reading, "_MOST_FILES", 50)
    with pytest.raises(TooLarge):
        read(packed({f"{n}.json": b"" for n in range(60)}))
    with pytest.raises(TooLarge):
        read(packed({f"{n}.json": b"" for n in range(2000)}))


def test_what_is_wrong_a_million_times_takes_little_memory() -> None:
    data = bad(put([{}] * 15_000, "steps"))
    tracemalloc.start()
    with pytest.raises(NotAnExport):
        from_json(data)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 40 * len(data)
    assert conversation_file.VERSION == 1


# Names


def test_a_file_is_named_by_date_and_title() -> None:
    assert file_name("How do I cook rice?", AT) == "2026-11-20 How do I cook rice"
    assert file_name(None, AT) == "2026-11-20"
    assert file_name("../../etc/passwd", AT) == "2026-11-20 etc passwd"
    assert file_name("a\u202egnp.exe\0\n", AT) == "2026-11-20 a gnp.exe"
    assert file_name("Привет 👩‍👩‍👧 мир.", AT) == "2026-11-20 Привет 👩‍👩‍👧 мир"


@given(st.lists(st.none() | st.text(max_size=80), max_size=20))
@settings(deadline=None)
def test_names_are_safe_and_no_two_are_alike(titles: list[str | None]) -> None:
    names = FileNames()
    found = [names.name(title, AT) for title in titles]
    assert len({normalize("NFKC", name).casefold() for name in found}) == len(found)
    for name in found:
        assert not set('\\/:*?"<>|\0\n') & set(name)
        assert len(f"{name}.json".encode()) <= 255
        assert name[-1] not in " ."


def test_a_download_has_its_name_in_every_script() -> None:
    assert attachment("2026-11-20 Привет 🍚.md") == (
        'attachment; filename="2026-11-20 .md"; '
        "filename*=UTF-8''2026-11-20%20%D0%9F%D1%80%D0%B8%D0%B2%D0%B5%D1%82%20%F0%9F%8D%9A.md"
    )
    assert '\\"' not in attachment('a"b.md')
    assert attachment("a\r\nSet-Cookie: x").isprintable()


# Markdown


def test_a_conversation_can_be_read_as_markdown() -> None:
    assert to_markdown(RICE, "en") == (
        "# How do I cook rice?\n"
        "\n"
        "Begun 2026-11-20 08:00 UTC, last used 2026-11-20 08:00 UTC.\n"
        "\n"
        "## You · 2026-11-20 08:00 UTC\n"
        "\n"
        "How do I cook rice?\n"
        "\n"
        "<details><summary>Reasoning</summary>\n"
        "\n"
        "Water first.\n"
        "\n"
        "</details>\n"
        "\n"
        "## ollama/gemma2:2b · 2026-11-20 08:00 UTC\n"
        "\n"
        "Boil it:\n\n```python\nboil('rice')  # 🍚\n```\n"
        "\n"
        "> 👍 tasty\n"
    )
    assert "## Вы ·" in to_markdown(RICE, "ru")


def test_code_that_was_broken_off_does_not_swallow_the_rest() -> None:
    steps = (
        Step("a", "t", type="assistant_message", name="chat", output="See:\n~~~~ text\n```\n~~~"),
        Step("q", "t", type="user_message", output="Go on"),
    )
    assert "\n```\n~~~\n~~~~\n\n## You\n" in to_markdown(replace(RICE, steps=steps, thumbs={}), "en")


# The database


@pytest.fixture
def threads(database: Database) -> Threads:
    return Threads(database)


@pytest.fixture
async def ann(database: Database) -> Visitor:
    return await Visitors(database).add("ann", {"preferences": {"temperature": 0.7}})


@pytest.fixture
async def bob(database: Database) -> Visitor:
    return await Visitors(database).add("bob", {})


async def bring(database: Database, visitor: Visitor, data: bytes) -> int:
    return await add_conversations(database, visitor.id, [brought_back(one, visitor) for one in read(data)])


async def taken_along(threads: Threads, visitor: Visitor) -> bytes:
    ids = await threads.ids(visitor.id)
    pieces = [piece async for piece in archive(threads, visitor.id, ids, {"temperature": 0.7}, "en")]
    return b"".join(pieces)


async def test_all_conversations_are_taken_along_and_brought_back(
    database: Database, threads: Threads, ann: Visitor, bob: Visitor
) -> None:
    for name in ("Rice", "rice", "Рис 🍚"):
        other = replace(RICE, thread=thread(id=name, name=name))
        assert await bring(database, ann, to_json(other)) == 1
    data = await taken_along(threads, ann)
    with zipfile.ZipFile(io.BytesIO(data)) as whole:
        assert whole.testzip() is None
        assert sorted(whole.namelist()) == sorted(
            [
                *(f"2026-11-20 {name}.{end}" for name in ("Rice", "rice (2)", "Рис 🍚") for end in ("json", "md")),
                "manifest.json",
            ]
        )
        manifest = json.loads(whole.read("manifest.json"))
    assert (manifest["conversations"], manifest["settings"], manifest["program"]) == (3, {"temperature": 0.7}, "0.1.0")
    assert await bring(database, bob, data) == 3
    for visitor in (ann, bob):
        found = [await threads.get(one) for one in await threads.ids(visitor.id)]
        assert [same_ids(one) for one in found if one] == [
            same_ids(replace(RICE, thread=thread(name=one.thread.name))) for one in found if one
        ]
    assert {one.thread.visitor for one in found if one} == {"bob"}


async def test_what_is_brought_twice_is_there_once(database: Database, threads: Threads, ann: Visitor) -> None:
    assert await bring(database, ann, to_json(RICE)) == 1
    assert await bring(database, ann, to_json(RICE)) == 0
    assert await bring(database, ann, await taken_along(threads, ann)) == 0
    (here,) = await threads.ids(ann.id)
    moved = replace(RICE, thread=thread(id=here))
    assert await bring(database, ann, to_json(moved)) == 0


async def test_what_was_deleted_can_be_brought_back(database: Database, threads: Threads, ann: Visitor) -> None:
    await threads.save_step(Step("q", "t", type="user_message", output="hello"), ann.id)
    data = await taken_along(threads, ann)
    assert await bring(database, ann, data) == 0
    await threads.delete("t")
    assert await bring(database, ann, data) == 1


async def test_another_visitors_conversation_of_that_id_is_left_alone(
    database: Database, threads: Threads, ann: Visitor, bob: Visitor
) -> None:
    await threads.save_step(Step("q", "t", type="user_message", output="mine"), ann.id)
    assert await bring(database, bob, to_json(RICE)) == 1
    mine = await threads.get("t")
    assert mine is not None
    assert [step.output for step in mine.steps] == ["mine"]


async def test_a_conversation_brought_goes_on(database: Database, threads: Threads, ann: Visitor) -> None:
    await bring(database, ann, to_json(RICE))
    (here,) = await threads.ids(ann.id)
    await threads.save_step(Step("next", here, type="user_message", output="And beans?"), ann.id)
    whole = await threads.get(here)
    assert whole is not None
    assert [step.output for step in whole.steps][-1] == "And beans?"
    assert [step.type for step in whole.steps] == ["user_message", "llm", "assistant_message", "user_message"]


async def test_ten_thousand_conversations_take_no_more_memory_than_few(
    database: Database, threads: Threads, ann: Visitor
) -> None:
    """Here 400 of 50 kB, which are 20 MB."""
    text = "".join(chr(97 + n * n % 26) for n in range(50_000))
    for start in range(0, 400, 50):
        many = [
            brought_back(
                from_json(to_json(Conversation(thread(id=f"t{n}"), (Step("q", "t", output=text),), (), {}))), ann
            )
            for n in range(start, start + 50)
        ]
        await add_conversations(database, ann.id, many)
    ids = await threads.ids(ann.id)
    tracemalloc.start()
    size = 0
    async for piece in archive(threads, ann.id, ids, {}, "en"):
        size += len(piece)
        assert len(piece) < 1_000_000
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 3_000_000
