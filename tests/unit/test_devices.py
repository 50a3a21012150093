"""Personal links, the browsers that take one, and conversations that are taken along."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from app.api.devices import browser_name
from app.storage.database import Database
from app.storage.devices import Devices, LinkUnknown, OwnLink, TooMany
from app.storage.records import Element, Step, ThreadDeleted, Visitor
from app.storage.texts import new_id
from app.storage.threads import Threads
from app.storage.visitors import Visitors

ANN, PHONE, EVE = "anon-ann", "anon-phone", "anon-eve"


def later(seconds: float = 60) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="microseconds")


@pytest.fixture
def devices(database: Database) -> Devices:
    return Devices(database)


@pytest.fixture
def threads(database: Database) -> Threads:
    return Threads(database)


@pytest.fixture
async def ann(database: Database) -> Visitor:
    return await Visitors(database).add(ANN, {})


@pytest.fixture
async def phone(database: Database) -> Visitor:
    return await Visitors(database).add(PHONE, {})


@pytest.fixture
async def eve(database: Database) -> Visitor:
    return await Visitors(database).add(EVE, {})


async def test_a_browser_that_takes_a_link_shows_its_makers_history(devices: Devices, ann: Visitor) -> None:
    assert await devices.owner_of(PHONE) is None
    link = await devices.make_link(ann.id, "hash", later(), 1)
    assert await devices.links_of(ann.id) == [link]
    await devices.join("hash", PHONE, "Firefox\0, Android", 1)
    assert await devices.owner_of(PHONE) == ANN
    (device,) = await devices.of(ann.id)
    assert (device.identifier, device.name) == (PHONE, "Firefox, Android")


async def test_only_the_owner_revokes_a_link_and_who_took_it_stays(
    devices: Devices, ann: Visitor, eve: Visitor
) -> None:
    link = await devices.make_link(ann.id, "hash", later(), 1)
    await devices.join("hash", PHONE, "", 1)
    assert not await devices.revoke_link(eve.id, link.id)
    assert await devices.revoke_link(ann.id, link.id)
    assert not await devices.revoke_link(ann.id, link.id)
    assert await devices.links_of(ann.id) == []
    assert await devices.owner_of(PHONE) == ANN
    with pytest.raises(LinkUnknown):
        await devices.join("hash", EVE, "", 9)


@pytest.mark.parametrize("secret", ["", "hash ", "HASH", "%", "other", "\0"])
async def test_a_guess_opens_nothing(devices: Devices, ann: Visitor, secret: str) -> None:
    await devices.make_link(ann.id, "hash", later(), 1)
    with pytest.raises(LinkUnknown):
        await devices.join(secret, EVE, "", 9)
    assert await devices.owner_of(EVE) is None


async def test_a_link_ends_by_itself_and_makes_room(devices: Devices, ann: Visitor) -> None:
    await devices.make_link(ann.id, "old", later(-1), 1)
    assert await devices.links_of(ann.id) == []
    with pytest.raises(LinkUnknown):
        await devices.join("old", PHONE, "", 1)
    await devices.make_link(ann.id, "new", later(), 1)
    with pytest.raises(TooMany):
        await devices.make_link(ann.id, "third", later(), 1)


async def test_ones_own_link_is_none(devices: Devices, ann: Visitor, phone: Visitor) -> None:
    await devices.make_link(ann.id, "hash", later(), 1)
    with pytest.raises(OwnLink):
        await devices.join("hash", ANN, "", 1)
    await devices.join("hash", PHONE, "", 1)
    with pytest.raises(OwnLink):
        await devices.join("hash", PHONE, "", 1)


async def test_a_browser_shows_one_history(devices: Devices, ann: Visitor, eve: Visitor) -> None:
    await devices.make_link(ann.id, "anns", later(), 1)
    await devices.make_link(eve.id, "eves", later(), 1)
    await devices.join("anns", PHONE, "", 1)
    await devices.join("eves", PHONE, "", 1)
    assert await devices.owner_of(PHONE) == EVE
    assert await devices.of(ann.id) == []


async def test_only_so_many_browsers_show_one_history(devices: Devices, ann: Visitor) -> None:
    await devices.make_link(ann.id, "hash", later(), 1)
    joined = await asyncio.gather(
        *(devices.join("hash", f"anon-{number}", "", 3) for number in range(6)), return_exceptions=True
    )
    assert joined.count(None) == 3
    assert sum(isinstance(answer, TooMany) for answer in joined) == 3
    assert len(await devices.of(ann.id)) == 3


async def test_a_browser_that_is_sent_away_has_its_own_history_again(
    devices: Devices, threads: Threads, ann: Visitor, phone: Visitor, eve: Visitor
) -> None:
    own = new_id()
    await threads.save_step(Step(new_id(), own, output="the phone's own"), phone.id)
    await devices.make_link(ann.id, "hash", later(), 1)
    await devices.join("hash", PHONE, "", 1)
    (device,) = await devices.of(ann.id)
    assert not await devices.send_away(eve.id, device.id)
    assert await devices.owner_of(PHONE) == ANN
    assert await devices.send_away(ann.id, device.id)
    assert await devices.owner_of(PHONE) is None
    assert await threads.author(own) == PHONE


async def test_a_browser_that_is_sent_away_does_not_come_back_by_any_link(
    devices: Devices, ann: Visitor, eve: Visitor
) -> None:
    await devices.make_link(ann.id, "hash", later(), 2)
    await devices.make_link(ann.id, "other", later(), 2)
    kept = await devices.make_link(eve.id, "eves", later(), 1)
    await devices.join("hash", PHONE, "", 1)
    (device,) = await devices.of(ann.id)
    assert await devices.send_away(ann.id, device.id)
    assert await devices.links_of(ann.id) == []
    for secret in ("hash", "other"):
        with pytest.raises(LinkUnknown):
            await devices.join(secret, PHONE, "", 1)
    assert await devices.links_of(eve.id) == [kept]


async def test_a_browser_that_leaves_by_itself_may_come_back(devices: Devices, ann: Visitor) -> None:
    await devices.make_link(ann.id, "hash", later(), 1)
    await devices.join("hash", PHONE, "", 2)
    await devices.join("hash", EVE, "", 2)
    (phones, eves) = await devices.of(ann.id)
    assert not await devices.leave(ann.id, eves.id, PHONE)
    assert await devices.owner_of(EVE) == ANN
    assert await devices.leave(ann.id, phones.id, PHONE)
    assert await devices.owner_of(PHONE) is None
    await devices.join("hash", PHONE, "", 2)


async def test_sending_away_and_joining_at_once_leave_no_browser_behind(devices: Devices, ann: Visitor) -> None:
    for _ in range(10):
        await devices.make_link(ann.id, "hash", later(), 1)
        await devices.join("hash", PHONE, "", 9)
        device = next(one for one in await devices.of(ann.id) if one.identifier == PHONE)
        await asyncio.gather(
            devices.send_away(ann.id, device.id), devices.join("hash", EVE, "", 9), return_exceptions=True
        )
        with pytest.raises(LinkUnknown):
            await devices.join("hash", PHONE, "", 9)
        assert await devices.owner_of(PHONE) is None


async def test_links_and_browsers_go_with_their_visitor(devices: Devices, ann: Visitor, database: Database) -> None:
    await devices.make_link(ann.id, "hash", later(), 1)
    await devices.join("hash", PHONE, "", 1)
    async with database.write() as connection:
        await connection.exec_driver_sql("DELETE FROM users")
    assert await devices.owner_of(PHONE) is None
    with pytest.raises(LinkUnknown):
        await devices.join("hash", EVE, "", 1)


# Conversations that are taken along


async def test_conversations_move_with_all_that_is_in_them(threads: Threads, ann: Visitor, phone: Visitor) -> None:
    thread = new_id()
    await threads.save_step(Step(new_id(), thread, output="hello"), phone.id)
    before = await threads.get(thread)
    assert await threads.move(phone.id, ann.id) == 1
    after = await threads.get(thread)
    assert before is not None
    assert after is not None
    assert (after.steps, after.thread.created_at) == (before.steps, before.thread.created_at)
    assert after.thread.visitor == ANN
    assert (await threads.count(ann.id), await threads.count(phone.id)) == (1, 0)
    assert await threads.move(phone.id, ann.id) == 0


async def test_a_reply_that_is_on_its_way_is_stored_where_its_conversation_went(
    threads: Threads, ann: Visitor, phone: Visitor, eve: Visitor
) -> None:
    thread, asked, replied, shown = new_id(), new_id(), new_id(), new_id()
    await threads.save_step(Step(asked, thread, output="hello"), phone.id)
    await threads.move(phone.id, ann.id)
    await threads.save_step(Step(replied, thread, output="half"), phone.id)
    await threads.save_step(Step(replied, thread, output="half a reply"), phone.id)
    await threads.save_step_metadata(asked, {"tokens": {"m": 7}}, phone.id)
    await threads.save_element(Element(shown, thread, replied, {}), phone.id)
    await threads.save(thread, phone.id, make=False, metadata={"chat_settings": {}})
    with pytest.raises(PermissionError):
        await threads.save_step(Step(new_id(), thread, output="eve was here"), eve.id)
    kept = await threads.get(thread)
    assert kept is not None
    assert [step.output for step in kept.steps] == ["hello", "half a reply"]
    assert kept.steps[0].metadata == {"tokens": {"m": 7}}
    assert [element.id for element in kept.elements] == [shown]
    assert kept.thread.metadata == {"chat_settings": {}}
    assert kept.thread.visitor == ANN
    await threads.delete_element(thread, shown, phone.id)
    await threads.delete_step(replied, phone.id)
    kept = await threads.get(thread)
    assert kept is not None
    assert len(kept.steps) == 1


async def test_what_comes_late_brings_no_deleted_conversation_back(
    threads: Threads, ann: Visitor, phone: Visitor
) -> None:
    thread = new_id()
    await threads.save_step(Step(new_id(), thread, output="hello"), phone.id)
    await threads.move(phone.id, ann.id)
    await threads.delete(thread)
    with pytest.raises(ThreadDeleted):
        await threads.save_step(Step(new_id(), thread, output="late"), phone.id)
    assert await threads.get(thread) is None


async def test_moving_and_writing_at_once_lose_nothing(threads: Threads, ann: Visitor, phone: Visitor) -> None:
    thread = new_id()
    await threads.save_step(Step(new_id(), thread, output="0"), phone.id)
    writes = [threads.save_step(Step(new_id(), thread, output=str(number)), phone.id) for number in range(1, 20)]
    await asyncio.gather(*writes[:9], threads.move(phone.id, ann.id), *writes[9:])
    kept = await threads.get(thread)
    assert kept is not None
    assert sorted(int(step.output) for step in kept.steps) == list(range(20))
    assert kept.thread.visitor == ANN


async def test_a_browser_that_is_sent_away_writes_no_more_into_what_it_left(
    devices: Devices, threads: Threads, ann: Visitor, phone: Visitor
) -> None:
    thread = new_id()
    await threads.save_step(Step(new_id(), thread, output="hello"), phone.id)
    await devices.make_link(ann.id, "hash", later(), 1)
    await devices.join("hash", PHONE, "", 1)
    await threads.move(phone.id, ann.id)
    (device,) = await devices.of(ann.id)
    await devices.send_away(ann.id, device.id)
    with pytest.raises(PermissionError):
        await threads.save_step(Step(new_id(), thread, output="late"), phone.id)
    await threads.save_step(Step(new_id(), thread, output="hers"), ann.id)


# What a browser says it is


@pytest.mark.parametrize(
    ("said", "name"),
    [
        (
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36",
            "Chrome, Linux",
        ),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/140.0 Safari/537.36 Edg/140.0", "Edge, Windows"),
        ("Mozilla/5.0 (Android 14; Mobile; rv:140.0) Gecko/140.0 Firefox/140.0", "Firefox, Android"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Mobile Safari/604.1", "Safari, iPhone"),
        ("curl/8.0", "?"),
        (None, "?"),
    ],
)
def test_a_browser_is_called_by_what_it_says_it_is(said: str | None, name: str) -> None:
    assert browser_name(said) == name
