"""Who asks, as the middlewares have found it out, and in which language."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header, Request

from app.api.problems import language_of
from app.asker import Asker, Source, visitor_hash
from app.errors import Language
from app.storage.texts import new_id


def asker_of(request: Request, source: Source) -> Asker:
    """Who makes a request.

    Args:
        request: `scope["state"]` may hold `request_id`, `key` (the name of the key that it came with) and `identifier`
            (a visitor's).
        source: which API.
    """
    state = request.scope.get("state", {})
    identifier = state.get("identifier")
    client = state.get("key") or (visitor_hash(identifier) if identifier else None)
    address = request.client.host if request.client else None
    return Asker(source, client, state.get("request_id") or new_id(), address)


async def _asker_of_v1(request: Request) -> Asker:
    return asker_of(request, "v1")


async def _asker_of_api(request: Request) -> Asker:
    return asker_of(request, "api")


async def _language(accept_language: Annotated[str | None, Header(include_in_schema=False)] = None) -> Language:
    return language_of(accept_language)


V1Asker = Annotated[Asker, Depends(_asker_of_v1)]
ApiAsker = Annotated[Asker, Depends(_asker_of_api)]
In = Annotated[Language, Depends(_language)]
