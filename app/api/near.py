"""Who asks from the server's own network: such a one may know where things are."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final

from fastapi import Request

# What proxies tell of those for whom they ask.
_FORWARDED: Final = ("x-forwarded-for", "x-real-ip", "forwarded")


def is_near(request: Request) -> bool:
    """Whether the peer, and all for whom a proxy says that it asks, have addresses that no stranger has.

    The address is the one that uvicorn sees: a proxy's own, or what a trusted one says (TRUSTED_PROXIES). A proxy
    that is not trusted is not believed to be near either: its header must not name anybody from elsewhere.
    """
    addresses = [request.client.host if request.client else ""]
    for name in _FORWARDED:
        for line in request.headers.getlist(name):
            addresses += [part.strip() for part in line.split(",")]
    return all(map(_is_private, addresses))


def _is_private(address: str) -> bool:
    try:
        found = ip_address(address)
    except ValueError:
        return False
    found = getattr(found, "ipv4_mapped", None) or found
    return found.is_private or found.is_loopback
