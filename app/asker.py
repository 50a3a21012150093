"""Who asks for a reply: what the log of requests and the limits tell people and programs apart by."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Literal

from app.storage.texts import new_id

Source = Literal["page", "api", "v1"]


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks for a reply.

    Attributes:
        source: the page, or which API.
        client: the name of a key, or `visitor_hash` of a visitor; None: nobody is told apart.
        request_id: of the request, as its answer's X-Request-ID has it.
        address: of the network, for limits and turns alone; None: not known.
    """

    source: Source
    client: str | None = None
    request_id: str = field(default_factory=new_id)
    address: str | None = None

    @property
    def who(self) -> str | None:
        """Whose turn it is in a queue; None: somebody of whom nothing is known."""
        return self.client or self.address


def visitor_hash(identifier: str) -> str:
    """A visitor in the log: the same each time, and nobody the wiser. `v-` and 12 hexadecimal digits."""
    return "v-" + blake2b(identifier.encode("utf-8", "replace"), digest_size=6, person=b"visitor").hexdigest()
