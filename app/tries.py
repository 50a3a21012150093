"""How often something may be tried: a password by address and by name, what has no name by address."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import sha256
from ipaddress import IPv6Address, ip_address
from typing import Final

from limits import RateLimitItemPerSecond

from app.account_errors import TooManyTries
from app.windows import Windows, WindowsAway

# One address may be a whole school's, and a name is tried from many addresses only by somebody who has many.
_WIDER: Final = 10
_MOST_KNOWN: Final = 10_000
_IPV6_NET: Final = 64


class Tries:
    """Counts tries, right ones too: who may go on after a right one could mix those in.

    A name has two limits. From one address only so many may be tried as a person needs. From all addresses together
    ten times as many: that is against somebody who has thousands of addresses, and would let anybody keep the owner
    out. So a browser from which the owner has signed in before has a count of its own.

    Each process counts for itself where no Redis counts for all, and while that is away.

    Args:
        amount: tries within `seconds`, of one name from one address; a whole address has ten times as many.
        seconds: a moving window.
        windows: count for several processes.
    """

    def __init__(self, amount: int, seconds: int, windows: Windows | None = None) -> None:
        self._strict = RateLimitItemPerSecond(amount, seconds)
        self._wide = RateLimitItemPerSecond(_WIDER * amount, seconds)
        self._own = Windows()
        self._windows = windows or self._own
        self._known: OrderedDict[str, None] = OrderedDict()

    async def count(self, address: str | None, name: str, device: str | None = None) -> None:
        """Count a try before it is made.

        Args:
            address: where it comes from.
            name: the account's whose password is tried.
            device: the browser, by what its cookie leads to.

        Raises:
            TooManyTries: it is not to be made.
        """
        place = await self._arrive(address)
        known = _key(name, device or "")
        if device is not None and known in self._known:
            await self._take(self._strict, "device", known)
            return
        await self._take(self._strict, "both", _key(name, place))
        await self._take(self._wide, "name", _key(name))

    async def count_action(self, address: str | None, action: str) -> None:
        """Count a try of what has no owner who could be kept out, so that no address stops it for the others.

        Args:
            address: where it comes from.
            action: what is tried; no account can be called so.

        Raises:
            TooManyTries: it is not to be made.
        """
        place = await self._arrive(address)
        await self._take(self._strict, "both", _key(action, place))

    async def check_action(self, address: str | None, action: str) -> None:
        """As `count_action`, without counting.

        Raises:
            TooManyTries: a try is not to be made.
        """
        await self._take(self._strict, "both", _key(action, place_of(address)), counts=False)

    def succeeded(self, name: str, device: str | None) -> None:
        """The owner has signed in from this browser."""
        if device is not None:
            self._known[_key(name, device)] = None
            self._known.move_to_end(_key(name, device))
            if len(self._known) > _MOST_KNOWN:
                self._known.popitem(last=False)

    async def _arrive(self, address: str | None) -> str:
        place = place_of(address)
        await self._take(self._wide, "address", place)
        return place

    async def _take(self, limit: RateLimitItemPerSecond, *what: str, counts: bool = True) -> None:
        try:
            seconds = await _asked(self._windows, limit, *what, counts=counts)
        except WindowsAway:
            seconds = await _asked(self._own, limit, *what, counts=counts)
        if seconds:
            raise TooManyTries(seconds=seconds)


async def _asked(windows: Windows, limit: RateLimitItemPerSecond, *what: str, counts: bool) -> int:
    return await (windows.hit if counts else windows.wait)(limit, "tries", *what)


def place_of(address: str | None) -> str:
    """What is counted as one address: who has one of IPv6 has 2^64 of them. Empty: it is not known."""
    try:
        known = ip_address((address or "").partition("%")[0])
    except ValueError:
        return address or ""
    if not isinstance(known, IPv6Address):
        return str(known)
    return str(known.ipv4_mapped or int(known) >> 128 - _IPV6_NET)


def _key(*parts: str) -> str:
    # What was typed may be of any length, and may be a password that was typed in the wrong field.
    return sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()
