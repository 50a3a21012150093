"""How people come to the page: by their browser's cookie, by a password, by a provider."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final

from chainlit.auth import set_auth_cookie
from chainlit.config import config
from chainlit.oauth_providers import GenericOAuthProvider, get_configured_oauth_providers, get_oauth_provider
from chainlit.user import User
from chainlit.utils import wrap_user_function
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from fastapi.security import OAuth2PasswordRequestForm

from app.page.open_pages import OpenPages
from app.page.standing import Standing
from app.page.tokens import cookies_of, token_for, token_in, user_for
from app.page.visitor import visitor_from_headers
from app.sign_in import Origin, SignIn
from app.storage.accounts import Account, Accounts

log = logging.getLogger(__name__)

_DAY: Final = 24 * 3600

Form = Annotated[OAuth2PasswordRequestForm, Depends()]
Raw = dict[str, Any]
OAuthCallback = Callable[[str, str, Raw, User, str | None], Awaitable[User | None]]


def providers() -> list[str]:
    """The OAuth providers whose variables are set."""
    found: list[str] = get_configured_oauth_providers()
    return found


def by_cookie(standing: Standing) -> None:
    """Whoever comes has the conversations of the browser."""
    config.code.header_auth_callback = wrap_user_function(visitor_from_headers(standing.leads_to))


def by_sign_in(
    accounts: Accounts, pages: OpenPages, *, password: bool, allowed: frozenset[str] | None, days: int
) -> None:
    """Who comes has to sign in.

    Args:
        accounts: who may.
        pages: those that are open, which signing out closes.
        password: by name and password; `login_routes` answers.
        allowed: by a provider: names and domains, none for everybody; None: not by a provider.
        days: until one has to sign in again.
    """

    async def nobody(name: str, password: str) -> User | None:
        """Has Chainlit's page show its form. Its own route is never reached."""
        return None

    async def sign_out(request: Request, response: Response) -> dict[str, bool]:
        token = token_in(cookies_of(request.headers.raw))
        if token is not None:
            await pages.close_token(token)
        return {"success": True}

    config.project.user_session_timeout = days * _DAY
    config.code.on_logout = sign_out
    if password:
        config.code.password_auth_callback = wrap_user_function(nobody)
    if allowed is not None:
        config.code.oauth_callback = wrap_user_function(oauth_callback(accounts, allowed))


def login_routes(sign_in: SignIn, standing: Standing) -> APIRouter:
    """`POST /login` in place of Chainlit's own, which bounds no tries and tells no reason.

    Args:
        sign_in: knows who may.
        standing: is told of who has come in: a moment ago that may have been forbidden.
    """
    routes = APIRouter()

    @routes.post("/login")
    async def login(request: Request, form: Form) -> Response:
        account = await sign_in.enter(form.username, form.password, origin_of(request))
        standing.forget()
        return with_cookie(request, account, JSONResponse({"success": True}))

    return routes


def origin_of(request: Request) -> Origin:
    """Where a request comes from; behind a proxy that is for the ASGI server to find out, see VisitorCookie."""
    return Origin(request.client.host if request.client else None, request.state.device)


def with_cookie(request: Request, account: Account, response: Response) -> Response:
    """An answer that signs its browser in."""
    set_auth_cookie(request, response, token_for(user_for(account)))
    return response


def oauth_callback(accounts: Accounts, allowed: frozenset[str]) -> OAuthCallback:
    """Chainlit's `oauth_callback`: the account of whom a provider has sent; None: may not come in.

    Args:
        accounts: has it, or has it made.
        allowed: names and e-mail domains (`@example.org`) that may come in; none: everybody.
    """

    async def enter(provider: str, token: str, raw: Raw, user: User, id_token: str | None = None) -> User | None:
        name = str(user.identifier or "")
        known_as = _lasting_id(provider, raw) or name
        if not known_as or not _is_allowed(name, raw, allowed):
            log.info("AUTH a sign-in by %s was refused, see OAUTH_ALLOWED", provider)
            return None
        account = await accounts.enter(f"{provider}:{known_as}", f"{provider}:{name or known_as}")
        if account.disabled:
            log.info("AUTH a sign-in by %s was refused, the account is disabled", provider)
            return None
        return user_for(account)

    return enter


def _lasting_id(provider: str, raw: Raw) -> str | None:
    """What a provider calls its user for ever: a name may be given up, and taken by another."""
    if isinstance(get_oauth_provider(provider), GenericOAuthProvider):
        return None  # whoever set it up has chosen, by OAUTH_GENERIC_USER_IDENTIFIER
    found = raw.get("sub") or raw.get("id")
    return str(found) if found else None


def _is_allowed(name: str, raw: Raw, allowed: frozenset[str]) -> bool:
    name = name.lower()
    if not allowed or name in allowed:
        return not allowed or _is_checked(name, raw)
    return f"@{name.rpartition('@')[2]}" in allowed and "@" in name and _is_checked(name, raw)


def _is_checked(name: str, raw: Raw) -> bool:
    """An e-mail address is somebody's only if the provider has seen to it; most tell where they have not."""
    told = raw.get("email_verified", raw.get("verified_email", True))
    return "@" not in name or told not in (False, "false")
