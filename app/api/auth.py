"""Signing in by programs, accounts that people make themselves, other passwords, and signing out everywhere."""

from __future__ import annotations

from typing import Annotated

from chainlit.auth import clear_auth_cookie
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from fastapi.security import OAuth2PasswordRequestForm
from pydantic import BaseModel
from starlette.background import BackgroundTask

from app.api.refused import Refused
from app.page.login import origin_of, with_cookie
from app.page.open_pages import OpenPages
from app.page.standing import Standing
from app.page.tokens import token_for, user_for
from app.paths import LOGIN
from app.sign_in import SignIn
from app.storage.accounts import Account, Accounts


class NewAccount(BaseModel):
    """What it takes to make one."""

    name: str
    password: str


class NewPassword(BaseModel):
    """What it takes to change one."""

    old_password: str
    new_password: str


Form = Annotated[OAuth2PasswordRequestForm, Depends()]


def auth_routes(
    accounts: Accounts, sign_in: SignIn | None, standing: Standing, pages: OpenPages, *, signup: bool
) -> APIRouter:
    """`/api/auth/...`, and `/auth/login`.

    Args:
        accounts: who may sign in.
        sign_in: by a password; None: nobody does.
        standing: is told that tokens have ended.
        pages: those of ended tokens are closed.
        signup: people may make accounts themselves.
    """
    routes = APIRouter(prefix="/api/auth")

    async def asker(request: Request) -> Account:
        identifier: str | None = request.state.identifier
        if not standing.login:
            raise Refused("no_login")
        account = await accounts.find(identifier) if identifier else None
        if account is None:
            raise Refused("not_signed_in")
        return account

    def by_password() -> SignIn:
        if sign_in is None:
            raise Refused("no_passwords")
        return sign_in

    @routes.post("/login")
    async def login(request: Request, form: Form) -> dict[str, str]:
        account = await by_password().enter(form.username, form.password, origin_of(request))
        standing.forget()  # a moment ago it may have been disabled
        return _token(account)

    @routes.post("/register")
    async def register(request: Request, wanted: NewAccount) -> Response:
        passwords = by_password()
        if not signup:
            raise Refused("signup_off")
        account = await passwords.register(wanted.name, wanted.password, origin_of(request))
        standing.forget()  # a name that nobody had
        return with_cookie(request, account, JSONResponse(_token(account), status_code=201))

    @routes.post("/password")
    async def change_password(request: Request, wanted: NewPassword) -> Response:
        passwords, account = by_password(), await asker(request)
        if account.by_provider:
            raise Refused("no_password")
        origin = origin_of(request)
        account = await passwords.change_password(account, wanted.old_password, wanted.new_password, origin)
        standing.forget()
        answer = JSONResponse(_token(account), background=BackgroundTask(pages.close_fallen, origin.device))
        return with_cookie(request, account, answer)

    @routes.post("/logout-everywhere")
    async def logout_everywhere(request: Request) -> Response:
        account = await asker(request)
        await accounts.end_tokens(account.user_id)
        standing.forget()
        answer = Response(status_code=204, background=BackgroundTask(pages.close_fallen))
        clear_auth_cookie(request, answer)
        return answer

    named = APIRouter()
    named.include_router(routes)
    named.add_api_route(LOGIN, login, methods=["POST"])
    return named


def _token(account: Account) -> dict[str, str]:
    return {"access_token": token_for(user_for(account)), "token_type": "bearer"}
