"""Everything that needs the database: conversations, accounts, personal links, and how long they are kept."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fastapi import APIRouter

from app.api.auth import auth_routes
from app.api.devices import Bounds, device_routes
from app.api.me import Belongings, me_routes
from app.api.my_data import data_routes
from app.api.timing import timing_routes
from app.asker import visitor_hash
from app.assembly.database import database_of
from app.machine import MIB
from app.page.callbacks import Page
from app.page.data_layer import ChatDataLayer
from app.page.login import login_routes
from app.page.open_pages import OpenPages
from app.page.standing import Standing
from app.passwords import Passwords
from app.request_log import RequestLog
from app.settings import Settings
from app.sign_in import SignIn
from app.storage.accounts import Accounts
from app.storage.devices import Devices
from app.storage.requests import Requests
from app.storage.retention import Retention
from app.storage.threads import Threads
from app.storage.unsaved import Unsaved
from app.storage.visitors import Visitors
from app.tries import Tries
from app.windows import Windows

_HOUR = 3600
# What one visitor may bring: a quarter of what all may have, or one could push everybody's out.
_SHARE = 4


class Kept:
    """What the database has, and who asks it.

    Args:
        settings: of the server.
        tries: of passwords.
        windows: count other things that may be tried.

    Attributes:
        database: opened by whoever runs the server.
        standing: which tokens are good.
        visitors, accounts: who there is.
        sign_in: by a password; None: nobody does.
        request_log: forgets who deletes all data; None: there is none.
    """

    def __init__(self, settings: Settings, tries: Tries, windows: Windows) -> None:
        self._settings = settings
        self.database = database_of(settings)
        self._threads = Threads(self.database)
        self._devices = Devices(self.database)
        self._tries = tries
        self._imports = Tries(settings.import_tries, _HOUR, windows)
        self.visitors = Visitors(self.database)
        self.accounts = Accounts(self.database)
        self.standing = Standing(self._devices.owner_of, self.accounts.rights if settings.login else None)
        self._unsaved: Unsaved | None = None
        self.sign_in: SignIn | None = None
        self.request_log: RequestLog | None = None
        if settings.passwords:
            self.sign_in = SignIn(self.accounts, Passwords(), self._tries, settings.password_min)

    def data_layer(self) -> ChatDataLayer:
        """Where the page keeps conversations."""
        settings = self._settings
        unsaved = Unsaved(
            self._threads, self.visitors, max_bytes=settings.unsaved_max_mb * MIB, patience=settings.store_wait
        )
        self._unsaved = unsaved
        return ChatDataLayer(self._threads, self.visitors, unsaved, login=settings.login)

    async def _forget_waiting(self, identifier: str) -> None:
        """What a visitor has said and the database has not taken yet goes with the rest."""
        if self._unsaved is not None:
            await self._unsaved.forget_all_of(identifier)

    async def _forget_logged(self, identifier: str) -> None:
        """What a visitor has said goes from the log of requests, also from rows of a time when LOG_TEXT was on."""
        if self.request_log is not None:
            await self.request_log.forget(identifier)
        else:
            await Requests(self.database).forget(visitor_hash(identifier))

    def retention(self, page: Page) -> Retention:
        """Deletes what is not to be kept any longer."""
        settings = self._settings
        return Retention(
            self.database,
            days=settings.history_days,
            most_bytes=settings.history_max_mb * MIB,
            log_days=settings.request_log_days,
            answering=page.answering,
            present=page.present,
            on_deleted=page.gone,
        )

    def routes(self, page: Page, pages: OpenPages) -> Sequence[APIRouter]:
        """What visitors ask about themselves: signing in, their browsers, their conversations."""
        settings, standing = self._settings, self.standing
        belongings = Belongings(self._threads, self.visitors)
        signup = settings.passwords and settings.signup
        routes = [
            auth_routes(self.accounts, self.sign_in, standing, pages, signup=signup),
            me_routes(
                self.accounts,
                self.visitors,
                self._devices,
                belongings,
                login=settings.login,
                signup=signup,
                password_min=settings.password_min,
                history=settings.history,
            ),
            device_routes(
                self._devices,
                belongings,
                standing,
                pages,
                self._tries,
                Bounds(settings.link_days, settings.max_links, settings.max_devices),
            ),
            data_routes(
                self.database,
                settings.data_dir,
                standing,
                pages,
                stop_replies=page.stop_replies,
                forget_waiting=self._forget_waiting,
                forget_logged=self._forget_logged,
                history=settings.history,
                most=settings.import_max_mb,
                share=math.ceil(settings.history_max_mb / _SHARE),
                tries=self._imports,
            ),
            timing_routes(self.database, history=settings.history),
        ]
        return routes if self.sign_in is None else [login_routes(self.sign_in, standing), *routes]
