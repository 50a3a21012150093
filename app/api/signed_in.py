"""Who asks, for routes that are about the asker."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from app.api.refused import Refused
from app.storage.records import Visitor
from app.storage.visitors import Visitors


async def signed_in(request: Request) -> Visitor:
    """The visitor who asks: by the browser's cookie, which makes one who is new, or by the login's token.

    `app.state.visitors` has them, `app.state.login` tells whether there is a login.

    Raises:
        Refused: 401, nobody has signed in, or the account is gone.
        DatabaseAway: it cannot be told.
    """
    identifier: str | None = request.state.identifier
    if identifier is None:
        raise Refused("not_signed_in")
    visitors: Visitors = request.app.state.visitors
    visitor = await visitors.get(identifier)
    if visitor is None and not request.app.state.login:
        visitor = await visitors.add(identifier, {})
    if visitor is None:
        raise Refused("not_signed_in")
    return visitor


SignedIn = Annotated[Visitor, Depends(signed_in)]
