"""Who asks, as the middlewares have found it out, and in which language."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import Depends, Header, Request

from app.api.problems import language_of
from app.asker import Asker, Source, visitor_hash
from app.errors import Language


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
    request_id = state.get("request_id")
    address = request.client.host if request.client else None
    asker = Asker(source, client, address=address)
    return replace(asker, request_id=request_id) if request_id else asker


async def _asker_of_v1(request: Request) -> Asker:
    return asker_of(request, "v1")


async def _asker_of_api(request: Request) -> Asker:
    return asker_of(request, "api")


async def _language(accept_language: Annotated[str | None, Header(include_in_schema=False)] = None) -> Language:
    return language_of(accept_language)


V1Asker = Annotated[Asker, Depends(_asker_of_v1)]
ApiAsker = Annotated[Asker, Depends(_asker_of_api)]
In = Annotated[Language, Depends(_language)]
