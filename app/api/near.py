"""Who asks from the server's own network: such a one may know where things are."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final
from urllib.parse import urlsplit

from fastapi import Request

_Address = IPv4Address | IPv6Address

# What proxies tell of those for whom they ask.
_FORWARDED: Final = ("x-forwarded-for", "x-real-ip", "forwarded")


def is_near(request: Request) -> bool:
    """Whether the peer, and all for whom a proxy says that it asks, have addresses that no stranger has.

    The address is the one that uvicorn sees: a proxy's own, or what a trusted one says (TRUSTED_PROXIES). A proxy
    that is not trusted is not believed to be near either: its header must not name anybody from elsewhere.
    """
    return all(found is not None and (found.is_private or found.is_loopback) for found in _askers(request))


def is_here(request: Request) -> bool:
    """Whether somebody asks from this very machine, and for nobody else.

    The name that was asked for must be this machine's own too. A proxy beside this server that says nothing of those
    for whom it asks would else open it to everybody; so would, in a browser on this machine, a page of another site
    whose name leads here.
    """
    try:
        host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    except ValueError:  # a bracket that is not closed
        return False
    named = host == "localhost" or _is_loopback(_address(host))
    return named and all(map(_is_loopback, _askers(request)))


def _askers(request: Request) -> list[_Address | None]:
    """The peer, and all for whom a proxy says that it asks; None: that is no address."""
    addresses = [request.client.host if request.client else ""]
    for name in _FORWARDED:
        for line in request.headers.getlist(name):
            addresses += [part.strip() for part in line.split(",")]
    return [_address(text) for text in addresses]


def _address(text: str) -> _Address | None:
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _is_loopback(address: _Address | None) -> bool:
    return address is not None and address.is_loopback
