"""The paths that programs ask, by what they need."""

from __future__ import annotations

from typing import Final

_OPENAI: Final = "/v1"
# Those that let a model work, and the figures of everybody's work; each under /api and at the root.
_GUARDED: Final = frozenset(
    root + path for root in ("/api", "") for path in ("/chat", "/forward", "/forward_batch", "/stats")
)
# Those that only tell what there is.
_OPEN: Final = frozenset({"/api/models", "/api/chat/tags", "/api/metadata", "/models", "/metadata"})
_SIGN_IN: Final = frozenset({"/api/auth/login", "/auth/login"})


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
