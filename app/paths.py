"""The paths that programs ask, by what they need.

The native API answers below /api, and at the root as well, as in services that users come from.
"""

from __future__ import annotations

from typing import Final

PREFIX: Final = "/api"
TAGS: Final = "/chat/tags"
# At the root alone, as a name of /api/auth/login.
LOGIN: Final = "/auth/login"
_OPENAI: Final = "/v1"
# Those that let a model work, and the figures of everybody's work.
_WORKING: Final = ("/chat", "/forward", "/forward_batch", "/stats")
# Those that only tell what there is.
_TELLING: Final = ("/models", "/metadata")

_GUARDED: Final = frozenset(root + path for root in (PREFIX, "") for path in _WORKING)
_OPEN: Final = frozenset(root + path for root in (PREFIX, "") for path in _TELLING) | {PREFIX + TAGS}
_SIGN_IN: Final = frozenset({PREFIX + LOGIN, LOGIN})
_ROOTS: Final = (*_WORKING, *_TELLING, LOGIN)


def is_alias(path: str) -> bool:
    """Whether a path at the root is the API's, known there or not."""
    return any(path == root or path.startswith(f"{root}/") for root in _ROOTS)


def wants_token(path: str) -> bool:
    """Whether a path is for those alone who have a key or have signed in, where there are such."""
    return path == _OPENAI or path.startswith(f"{_OPENAI}/") or _bare(path) in _GUARDED


def is_for_programs(path: str) -> bool:
    """Whether nobody is a visitor there who does not say so."""
    return wants_token(path) or _bare(path) in _OPEN


def is_for_other_sites(path: str) -> bool:
    """Whether the pages of other sites may ask it, where any may."""
    return is_for_programs(path) or path in _SIGN_IN


def _bare(path: str) -> str:
    return path.rstrip("/")
