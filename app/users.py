"""Who may sign in, with AUTH=password: `python -m app.users add|list|disable|enable|passwd|remove`.

It may be used while the server runs, which takes notice within half a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import sys
from collections.abc import Sequence
from typing import Final

from app.account_errors import AccountError
from app.asker import visitor_hash
from app.command_line import PROBLEMS, Failed, in_one_line, opened
from app.passwords import Passwords
from app.settings import Settings, settings_or_exit
from app.sign_in import SignIn
from app.storage.accounts import ADMIN, USER, Account, Accounts
from app.storage.requests import Requests
from app.storage.texts import folded
from app.tries import Tries

_DONE: Final = 0
_FAILED: Final = 1


class Users:
    """What the command line can do with accounts.

    Args:
        accounts: those.
        sign_in: makes them and changes their passwords.
        requests: the log, in which an account that is removed is forgotten.
    """

    def __init__(self, accounts: Accounts, sign_in: SignIn, requests: Requests) -> None:
        self._accounts = accounts
        self._sign_in = sign_in
        self._requests = requests

    async def add(self, name: str, password: str, *, admin: bool) -> str:
        account = await self._sign_in.add(name, password, ADMIN if admin else USER)
        return f"{account.name} can sign in."

    async def list(self) -> str:
        found = await self._accounts.all()
        lines = [("NAME", "ROLE", "STATE", "SINCE")]
        for account in found:
            state = "disabled" if account.disabled else "by provider" if account.by_provider else "active"
            lines.append((_known_as(account), account.role, state, account.created_at[:10]))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip() for line in lines
        )

    async def set_disabled(self, name: str, disabled: bool) -> str:
        account = await self.find(name)
        await self._accounts.set_disabled(account.user_id, disabled)
        return f"{account.name} can{' no longer' if disabled else ''} sign in."

    async def passwd(self, name: str, password: str) -> str:
        account = await self.find(name)
        if account.by_provider:
            raise Failed(f"{account.name} signs in with a provider and has no password here")
        await self._sign_in.set_password(account, password)
        return f"{account.name} has a new password, and is signed out everywhere."

    async def remove(self, name: str) -> str:
        account = await self.find(name)
        # First: an account that is gone could not be named again, if the database went away in between.
        await self._requests.forget(visitor_hash(account.identifier))
        conversations = await self._accounts.remove(account.user_id)
        return f"{account.name} is removed, with {conversations} conversations."

    async def find(self, name: str) -> Account:
        """The account of that name.

        Raises:
            Failed: there is none.
        """
        account = await self._accounts.find(name) or await self._accounts.find((folded(name) or "").strip())
        if account is None:
            raise Failed(f"there is no account {name!r}. See: python -m app.users list")
        return account


def _known_as(account: Account) -> str:
    """What to call an account here: a provider's own name for it, if that is another, in brackets."""
    named = (account.name, folded(account.name))
    return account.name if account.identifier in named else f"{account.identifier} ({account.shown_name})"


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m app.users", description="Who may sign in, with AUTH=password.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, told in (
        ("add", "make an account"),
        ("list", "show all accounts"),
        ("disable", "let nobody in by an account any more; its conversations stay"),
        ("enable", "let its owner in again"),
        ("passwd", "set another password, and sign its owner out everywhere"),
        ("remove", "delete an account with all of its conversations, for ever"),
    ):
        command = commands.add_parser(name, help=told, description=f"{told[0].upper()}{told[1:]}.")
        if name != "list":
            command.add_argument("name", metavar="NAME")
        if name == "add":
            command.add_argument("--admin", action="store_true", help="make it an administrator's")
        if name in ("add", "passwd"):
            command.add_argument(
                "--password-stdin", action="store_true", help="read the password from standard input, its first line"
            )
        if name == "remove":
            command.add_argument("--yes", action="store_true", help="do not ask")
    return parser


def _password(arguments: argparse.Namespace) -> str:
    if arguments.password_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise Failed(
            "there is no terminal to ask for the password: docker exec -it in a container, or --password-stdin"
        )
    password = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != password:
        raise Failed("the two passwords are not the same. Try again")
    return password


def _agreed(name: str) -> bool:
    if not sys.stdin.isatty():
        raise Failed("there is no terminal to ask whether you mean it. Add --yes")
    return input(f"Delete {name} and all of its conversations, for ever? [y/N] ").strip().lower() in ("y", "yes")


async def run(arguments: argparse.Namespace, settings: Settings) -> str:
    """Do what was asked for.

    Returns:
        What to tell.

    Raises:
        AccountError, or one of PROBLEMS: it is not done.
    """
    if settings.database_url is None:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
    command = arguments.command
    async with opened(settings) as database:
        accounts = Accounts(database)
        tries = Tries(settings.login_tries, settings.login_tries_seconds)
        sign_in = SignIn(accounts, Passwords(), tries, settings.password_min)
        users = Users(accounts, sign_in, Requests(database))
        if command in ("passwd", "remove"):
            await users.find(arguments.name)  # before anything is asked for
        if command == "add":
            return await users.add(arguments.name, _password(arguments), admin=arguments.admin)
        if command == "passwd":
            return await users.passwd(arguments.name, _password(arguments))
        if command == "remove":
            if not arguments.yes and not _agreed(arguments.name):
                raise Failed("nothing is deleted")
            return await users.remove(arguments.name)
        if command == "list":
            return await users.list()
        return await users.set_disabled(arguments.name, command == "disable")


def main(words: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0 done, 1 not done, 2 not understood."""
    arguments = _arguments().parse_args(words)
    settings = settings_or_exit()
    try:
        print(asyncio.run(run(arguments, settings)))
        return _DONE
    except AccountError as problem:
        told = str(problem)
    except PROBLEMS as problem:
        told = in_one_line(problem)
    except (KeyboardInterrupt, EOFError):
        told = "nothing is changed"
    print(f"chainlit-ollama: {told}", file=sys.stderr)
    return _FAILED


if __name__ == "__main__":
    raise SystemExit(main())
