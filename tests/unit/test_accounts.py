"""Accounts: names, passwords, how often they may be tried, and what the database keeps of them."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import users
from app.account_errors import (
    AccountError,
    BadName,
    NameTaken,
    PasswordCommon,
    PasswordLikeName,
    PasswordTooLong,
    PasswordTooShort,
    PasswordUnusable,
    TooManyTries,
    WeakPassword,
    WrongPassword,
)
from app.account_rules import check_password, identifier_of
from app.asker import Asker, visitor_hash
from app.engines.base import ModelInfo
from app.errors import LANGUAGES
from app.metrics import Ended, ReplyMetrics
from app.passwords import Passwords
from app.request_log import row_of
from app.sign_in import Origin, SignIn
from app.storage.accounts import ADMIN, Account, Accounts
from app.storage.database import Database
from app.storage.records import Step
from app.storage.requests import RequestRow, Requests
from app.storage.texts import new_id
from app.storage.threads import Threads
from app.storage.visitors import Visitors
from app.tries import Tries

GOOD = "green horse staple 7"
OTHER = "blue horse staple 88"
HOME = Origin("192.0.2.1", "anon-home")


# Names


@pytest.mark.parametrize(
    ("name", "known_as"),
    [
        ("Ann", "ann"),
        ("  Ann ", "ann"),
        ("ＡＮＮ", "ann"),
        ("Анна", "анна"),
        ("a.n-n_1+x@Example.org", "a.n-n_1+x@example.org"),
    ],
)
def test_a_name_is_known_whatever_its_case_and_however_it_is_written(name: str, known_as: str) -> None:
    assert identifier_of(name) == known_as


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a",
        " ",
        "a b",
        "a:b",
        "github:1",
        "anon-ann",
        "ANON-1",
        "ＡＮＯＮ-1",
        ".ann",
        "ann.",
        "_ann",
        "a/b",
        "a\0b",
        "a\nb",
        "x" * 65,
        "x" * 1_000_000,
        "<b>",
        "ann\u200b",
        "\ud800ann",
    ],
)
def test_a_name_that_could_be_taken_for_something_else_is_refused(name: str) -> None:
    with pytest.raises(BadName):
        identifier_of(name)


@given(st.text(max_size=80))
def test_whatever_is_a_name_stays_the_same_name(name: str) -> None:
    try:
        known_as = identifier_of(name)
    except BadName:
        return
    assert identifier_of(known_as) == known_as
    assert ":" not in known_as
    assert not known_as.startswith("anon-")


# Passwords


@pytest.mark.parametrize("password", [GOOD, "пять несвязанных слов", "🐎🔋📎🌈🎈🎻🧭🪁🥝🧶", "x9#" * 300 + "a"])
def test_a_good_password_is_taken(password: str) -> None:
    check_password(password, "ann", 10)


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("", PasswordTooShort),
        ("9 signs..", PasswordTooShort),
        ("1234567890", PasswordCommon),
        ("Q1W2E3R4T5Y6", PasswordCommon),
        ("aaaaaaaaaaaaaaaa", PasswordCommon),
        ("password2026!", PasswordCommon),
        ("Пароль-2026", PasswordCommon),
        ("chainlit-ollama", PasswordCommon),
        ("ollamaollama1", PasswordCommon),
        ("Elizabeth.1990", PasswordLikeName),
        ("1990elizabeth", PasswordLikeName),
        ("x" * 1001, PasswordTooLong),
        ("green\0horse staple", PasswordUnusable),
        ("green horse\nstaple", PasswordUnusable),
        ("green horse \ud800 staple", PasswordUnusable),
    ],
)
def test_a_weak_password_is_refused_with_the_reason(password: str, why: type[WeakPassword]) -> None:
    with pytest.raises(why):
        check_password(password, "elizabeth@example.org", 10)


def test_every_error_has_a_sentence_in_every_language() -> None:
    facts: dict[str, Any] = {"least": 1, "most": 2, "seconds": 3}

    def all_of(kind: type[AccountError]) -> Iterator[type[AccountError]]:
        for below in kind.__subclasses__():
            yield below
            yield from all_of(below)

    for kind in all_of(AccountError):
        if kind is not WeakPassword:
            assert set(kind.sentences) == set(LANGUAGES)
            wanted = {"seconds": 3} if kind is TooManyTries else facts
            assert all("{" not in kind(**wanted).sentence(language) for language in LANGUAGES)


async def test_a_password_is_kept_as_a_hash_of_its_own() -> None:
    passwords = Passwords()
    one, other = await passwords.hashed(GOOD), await passwords.hashed(GOOD)
    assert one.startswith("$argon2id$")
    assert one != other
    assert GOOD not in one
    assert await passwords.fits(GOOD, one)
    assert not await passwords.fits(GOOD + "x", one)
    assert not passwords.outdated(one)


async def test_the_same_password_from_another_keyboard_fits() -> None:
    passwords = Passwords()
    assert await passwords.fits("cafe\u0301 au lait 12", await passwords.hashed("caf\u00e9 au lait 12"))


@pytest.mark.parametrize("kept", [None, "", "not a hash"])
@pytest.mark.parametrize("password", ["", GOOD, "x" * 100_000, "\0", "\ud800"])
async def test_nothing_fits_where_no_password_is_kept(kept: str | None, password: str) -> None:
    assert not await Passwords().fits(password, kept)


async def test_two_passwords_at_once_are_hashed_and_only_so_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    passwords = Passwords()
    running, most = 0, 0

    def slow(*_: Any) -> bool:
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.005)
        running -= 1
        return True

    monkeypatch.setattr(passwords, "_verify", slow)
    answers = await asyncio.gather(*(passwords.fits(GOOD, "x") for _ in range(60)), return_exceptions=True)
    assert most <= 2
    assert answers.count(True) == 50
    assert sum(isinstance(answer, TooManyTries) for answer in answers) == 10
    assert await passwords.fits(GOOD, "x")


# Tries


async def test_a_name_can_be_tried_from_one_address_so_often_only() -> None:
    tries = Tries(3, 300)
    for _ in range(3):
        await tries.count("192.0.2.1", "ann")
    with pytest.raises(TooManyTries) as refused:
        await tries.count("192.0.2.1", "ann")
    assert 0 < refused.value.seconds <= 300
    await tries.count("192.0.2.1", "bob")
    await tries.count("192.0.2.2", "ann")


async def test_an_address_can_try_many_names_but_not_all() -> None:
    tries = Tries(2, 300)
    for number in range(20):
        await tries.count("192.0.2.1", f"user{number}")
    with pytest.raises(TooManyTries):
        await tries.count("192.0.2.1", "another")


async def test_all_addresses_of_an_ipv6_net_are_one() -> None:
    tries = Tries(1, 300)
    await tries.count("2001:db8::1", "ann")
    with pytest.raises(TooManyTries):
        await tries.count("2001:db8::ffff:1", "ann")
    await tries.count("2001:db8:0:1::1", "ann")
    await tries.count("::ffff:192.0.2.1", "ann")
    with pytest.raises(TooManyTries):
        await tries.count("192.0.2.1", "ann")


async def test_a_stranger_with_many_addresses_is_stopped_and_does_not_keep_the_owner_out() -> None:
    tries = Tries(2, 300)
    await tries.count("192.0.2.1", "ann", "anon-anns-browser")
    tries.succeeded("ann", "anon-anns-browser")
    for number in range(19):
        await tries.count(f"198.51.100.{number}", "ann", "anon-eves-browser")
    with pytest.raises(TooManyTries):
        await tries.count("198.51.100.99", "ann", "anon-eves-browser")
    await tries.count("203.0.113.9", "ann", "anon-anns-browser")
    await tries.count("203.0.113.9", "ann", "anon-anns-browser")
    with pytest.raises(TooManyTries):
        await tries.count("203.0.113.9", "ann", "anon-anns-browser")


async def test_a_right_password_in_between_gives_no_more_tries() -> None:
    tries = Tries(2, 300)
    await tries.count("192.0.2.1", "eve", "anon-eves-browser")
    tries.succeeded("eve", "anon-eves-browser")
    await tries.count("192.0.2.1", "ann", "anon-eves-browser")
    await tries.count("192.0.2.1", "ann", "anon-eves-browser")
    with pytest.raises(TooManyTries):
        await tries.count("192.0.2.1", "ann", "anon-eves-browser")


async def test_what_has_no_name_is_tried_by_each_address_for_itself() -> None:
    tries = Tries(1, 300)
    for number in range(20):
        await tries.count_action(f"192.0.2.{number}", "register:")
    with pytest.raises(TooManyTries):
        await tries.count_action("192.0.2.1", "register:")
    await tries.count_action("192.0.2.1", "join:")


async def test_ten_addresses_that_make_accounts_stop_nobody_else(accounts: Accounts) -> None:
    sign_in = SignIn(accounts, Passwords(), Tries(1, 300), 10)
    for number in range(12):
        with pytest.raises(AccountError) as refused:
            await sign_in.register(f"user{number}", "short", Origin(f"192.0.2.{number}", None))
        assert not isinstance(refused.value, TooManyTries)


async def test_the_tries_come_back_with_time(monkeypatch: pytest.MonkeyPatch) -> None:
    tries, at = Tries(1, 300), time.time()
    await tries.count("192.0.2.1", "ann")
    monkeypatch.setattr(time, "time", lambda: at + 302)
    await tries.count("192.0.2.1", "ann")


# Signing in


@pytest.fixture
def accounts(database: Database) -> Accounts:
    return Accounts(database)


@pytest.fixture
def passwords() -> Passwords:
    return Passwords()


@pytest.fixture
def sign_in(accounts: Accounts, passwords: Passwords) -> SignIn:
    return SignIn(accounts, passwords, Tries(100, 300), 10)


@pytest.fixture
async def ann(sign_in: SignIn) -> Account:
    return await sign_in.add("Ann", GOOD)


async def test_who_knows_the_password_gets_in(sign_in: SignIn, ann: Account) -> None:
    assert await sign_in.enter(" ANN ", GOOD, HOME) == ann
    assert (ann.name, ann.identifier, ann.role, ann.disabled) == ("Ann", "ann", "user", False)
    assert GOOD not in repr(ann)
    assert "argon2" not in repr(ann)


async def test_a_name_is_given_once(sign_in: SignIn, ann: Account) -> None:
    for name in ("Ann", "ann", "ＡＮＮ"):
        with pytest.raises(NameTaken):
            await sign_in.register(name, OTHER, HOME)
    assert await sign_in.enter("ann", GOOD, HOME) == ann


async def test_two_who_take_a_name_at_once_are_one_and_a_refusal(sign_in: SignIn) -> None:
    made = await asyncio.gather(*(sign_in.add("Ann", GOOD) for _ in range(4)), return_exceptions=True)
    assert sum(isinstance(one, Account) for one in made) == 1
    assert sum(isinstance(one, NameTaken) for one in made) == 3


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("ann", OTHER),
        ("nobody", GOOD),
        ("disabled", GOOD),
        ("github:1", GOOD),
        ("", ""),
        ("a" * 9999, GOOD),
        ("\0", "\0"),
    ],
)
async def test_whoever_may_not_come_in_costs_one_check_and_gets_one_answer(
    sign_in: SignIn,
    accounts: Accounts,
    passwords: Passwords,
    ann: Account,
    name: str,
    password: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disabled = await sign_in.add("disabled", GOOD)
    await accounts.set_disabled(disabled.user_id, True)
    await accounts.enter("github:1", "github:octocat")
    checked: list[str] = []
    verify = passwords._verify

    def counted(password: str, kept: str) -> bool:
        checked.append(kept)
        return verify(password, kept)

    monkeypatch.setattr(passwords, "_verify", counted)
    with pytest.raises(WrongPassword) as refused:
        await sign_in.enter(name, password, HOME)
    assert len(checked) == 1
    assert checked[0].startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert str(refused.value) == str(WrongPassword())


async def test_a_hash_of_other_parameters_is_made_anew(
    sign_in: SignIn, accounts: Accounts, ann: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    from argon2 import PasswordHasher

    old = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(GOOD)
    await accounts.rehash(ann.user_id, ann.password_hash, old)
    assert await sign_in.enter("ann", GOOD, HOME)
    kept = await accounts.find("ann")
    assert kept is not None
    assert kept.password_hash not in (old, ann.password_hash)
    assert kept.token_version == ann.token_version
    assert await sign_in.enter("ann", GOOD, HOME) == kept


async def test_another_password_takes_the_old_one_and_ends_all_tokens(sign_in: SignIn, ann: Account) -> None:
    with pytest.raises(WrongPassword):
        await sign_in.change_password(ann, OTHER, OTHER, HOME)
    with pytest.raises(WeakPassword):
        await sign_in.change_password(ann, GOOD, "short", HOME)
    changed = await sign_in.change_password(ann, GOOD, OTHER, HOME)
    assert changed.token_version == ann.token_version + 1
    with pytest.raises(WrongPassword):
        await sign_in.enter("ann", GOOD, HOME)
    assert await sign_in.enter("ann", OTHER, HOME) == changed


async def test_rights_follow_what_is_done_to_an_account(accounts: Accounts, ann: Account) -> None:
    assert await accounts.rights("ann") == ann.rights
    await accounts.end_tokens(ann.user_id)
    await accounts.set_disabled(ann.user_id, True)
    rights = await accounts.rights("ann")
    assert rights is not None
    assert (rights.token_version, rights.disabled) == (2, True)
    await accounts.remove(ann.user_id)
    assert await accounts.rights("ann") is None


async def test_an_account_goes_with_its_conversations_and_they_stay_away(
    accounts: Accounts, ann: Account, database: Database
) -> None:
    threads, thread = Threads(database), new_id()
    await threads.save_step(Step(new_id(), thread, output="hello"), ann.user_id)
    assert await accounts.remove(ann.user_id) == 1
    assert await threads.get(thread) is None
    with pytest.raises(LookupError):
        await threads.save_step(Step(new_id(), thread, output="late"), ann.user_id)
    assert await accounts.all() == []


async def test_who_is_not_an_account_is_none(accounts: Accounts, database: Database) -> None:
    await Visitors(database).add("anon-1", {})
    assert await accounts.rights("anon-1") is None
    assert await accounts.count() == 0


async def test_whom_a_provider_sends_has_an_account_without_a_password(accounts: Accounts) -> None:
    made = await accounts.enter("github:1", "github:octocat")
    assert await accounts.enter("github:1", "github:renamed") == made
    assert made.by_provider
    assert made.shown_name == "octocat"
    # The name was given up, and another has it now.
    other = await accounts.enter("github:2", "github:octocat")
    assert other.user_id != made.user_id
    assert other.shown_name == "2"


# The command line


class Typed(io.StringIO):
    """A terminal's input."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def command(
    database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> Any:
    """Runs the command line; returns its exit code and what it told."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    if database_url.startswith("postgresql"):
        monkeypatch.setenv("DATABASE_URL", database_url)

    async def run(*words: str, typed: io.StringIO | None = None, secret: tuple[str, ...] = ()) -> tuple[int, str]:
        answers = iter(secret)
        monkeypatch.setattr("sys.stdin", typed or io.StringIO())
        monkeypatch.setattr("getpass.getpass", lambda _: next(answers))
        code = await asyncio.to_thread(users.main, words)
        told = capsys.readouterr()
        assert bool(told.err) == bool(code)
        return code, (told.out + told.err).strip()

    return run


async def test_accounts_are_managed_from_the_command_line(command: Any, database_url: str) -> None:
    assert await command("add", "Ann", "--admin", typed=Typed(), secret=(GOOD, GOOD)) == (0, "Ann can sign in.")
    assert (await command("add", "Bob", "--password-stdin", typed=io.StringIO(f"{GOOD}\n")))[0] == 0
    database = Database(database_url)
    await database.open()
    accounts = Accounts(database)
    sign_in = SignIn(accounts, Passwords(), Tries(100, 300), 10)
    assert (await sign_in.enter("ann", GOOD, HOME)).role == ADMIN
    assert (await command("disable", "ANN"))[0] == 0
    with pytest.raises(WrongPassword):
        await sign_in.enter("ann", GOOD, HOME)
    code, told = await command("list")
    assert code == 0
    assert [line.split()[:3] for line in told.splitlines()] == [
        ["NAME", "ROLE", "STATE"],
        ["Ann", "admin", "disabled"],
        ["Bob", "user", "active"],
    ]
    assert (await command("enable", "ann"))[0] == 0
    assert (await command("passwd", "Bob", typed=Typed(), secret=(OTHER, OTHER)))[0] == 0
    assert await sign_in.enter("ann", GOOD, HOME)
    assert await sign_in.enter("bob", OTHER, HOME)
    code, told = await command("remove", "bob", typed=Typed("n\n"))
    assert code == 1
    assert told.endswith("nothing is deleted")
    assert (await command("remove", "bob", typed=Typed("y\n")))[1].endswith("Bob is removed, with 0 conversations.")
    assert await accounts.find("bob") is None
    await database.close()


def logged(identifier: str) -> RequestRow:
    """A row of the log of requests with what somebody has said."""
    metrics = ReplyMetrics("finished", 1, 0, None, 0, 0, 1, 1, None, 1, False, 1, 2, 4096)
    model = ModelInfo("ollama", "gemma2:2b")
    return row_of(Ended(Asker("v1", visitor_hash(identifier)), model, "secret", "secret", metrics), 100)


async def test_an_account_that_is_removed_is_gone_from_the_log_of_requests(command: Any, database: Database) -> None:
    accounts = Accounts(database)
    ann, bob = await accounts.enter("github:1", "github:ann"), await accounts.enter("github:2", "github:bob")
    await Requests(database).add([logged(account.identifier) for account in (ann, bob)])
    assert (await command("remove", ann.identifier, "--yes"))[0] == 0
    newest, oldest = await Requests(database).newest(2)
    assert (oldest.client, oldest.input_text, oldest.output_text) == (None, None, None)
    assert (newest.client, newest.input_text) == (visitor_hash(bob.identifier), "secret")


@pytest.mark.parametrize(
    ("words", "typed", "secret", "told"),
    [
        (("add", "Ann", "--password-stdin"), io.StringIO("short\n"), (), "too short"),
        (("add", "a:b", "--password-stdin"), io.StringIO(f"{GOOD}\n"), (), "name cannot be used"),
        (("add", "Ann"), Typed(), (GOOD, OTHER), "not the same"),
        (("add", "Ann"), io.StringIO(), (), "no terminal"),
        (("passwd", "Nobody"), Typed(), (), "no account 'Nobody'"),
        (("disable", "Nobody"), Typed(), (), "no account 'Nobody'"),
        (("remove", "Nobody", "--yes"), Typed(), (), "no account 'Nobody'"),
    ],
)
async def test_what_cannot_be_done_is_told_in_one_line(
    command: Any, words: tuple[str, ...], typed: io.StringIO, secret: tuple[str, ...], told: str
) -> None:
    typed.seek(0)
    code, line = await command(*words, typed=typed, secret=secret)
    assert code == 1
    assert told in line
    assert "\n" not in line
