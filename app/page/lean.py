"""Leaves out what Chainlit and its packages import and this program never uses.

- `traceloop.sdk` (OpenTelemetry), by way of the client of a tracing service;
- `mcp`, whose features are off here;
- socket.io's ways to share its pages among servers by Redis, which is imported where RATE_LIMIT_STORAGE wants it;
- `aiohttp`, for socket.io's client, and httpx's command line: both are done without where they cannot be imported.

Together 40 % of the time to start and a quarter of the memory.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Final

# Module, and the names that are imported from it, as annotations only.
_UNUSED: Final = {
    "traceloop": (),
    "traceloop.sdk": ("Traceloop",),
    "mcp": ("ClientSession",),
    "socketio.redis_manager": ("RedisManager",),
    "socketio.async_redis_manager": ("AsyncRedisManager",),
}
_OPTIONAL: Final = ("aiohttp", "httpx._main")


def leave_out_unused() -> None:
    """Put empty modules in their place. To be called before Chainlit is imported; what is there already stays."""
    for name, parts in _UNUSED.items():
        module = ModuleType(name, "Left out, see app/page/lean.py.")
        for part in parts:
            setattr(module, part, type(part, (), {}))
        sys.modules.setdefault(name, module)
    for name in _OPTIONAL:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # Python's way to forbid an import
