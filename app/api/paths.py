"""Where the native API answers: below /api, and at the root as well, as in services that users come from."""

from __future__ import annotations

from typing import Final

PREFIX: Final = "/api"
TAGS: Final = "/chat/tags"
# At the root alone, as a name of /api/auth/login.
LOGIN: Final = "/auth/login"
_ROOTS: Final = ("/chat", "/forward", "/forward_batch", "/models", "/metadata", "/stats", LOGIN)


def is_alias(path: str) -> bool:
    """Whether a path at the root is the API's, known there or not."""
    return any(path == root or path.startswith(f"{root}/") for root in _ROOTS)
