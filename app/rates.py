"""How many replies somebody may ask for: RATE_LIMIT, wherever a reply begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from limits import RateLimitItem

from app.asker import Asker
from app.errors import TooManyFromNetwork, TooManyRequests
from app.tries import place_of
from app.windows import Windows, WindowsAway

# One address may be a whole school's; and who drops the cookie each time has no more than that.
_WIDER: Final = 10


class Rates:
    """Counts by key, by visitor, by address for programs that have neither; and ten times as many by address in all.

    What is refused is not counted. While the storage is away everybody may ask.

    Args:
        limits: amounts with their times; none: there is no limit.
        windows: count.
    """

    def __init__(self, limits: Sequence[RateLimitItem] = (), windows: Windows | None = None) -> None:
        self._limits = [(own, type(own)(_WIDER * own.amount, own.multiples)) for own in limits]
        self._windows = windows or Windows()

    async def count(self, asker: Asker) -> None:
        """Count a reply that is asked for.

        Raises:
            TooManyRequests: it is not to begin.
        """
        if not self._limits:
            return
        place = place_of(asker.address)
        who = ("client", asker.client) if asker.client is not None else ("address", place)
        try:
            # Asked first, so that what one limit refuses takes nothing of another.
            for count in (self._windows.wait, self._windows.hit):
                for own, wide in self._limits:
                    if seconds := await count(own, *who):
                        raise TooManyRequests(count=own.amount, period=own.get_expiry(), seconds=seconds)
                    if place and (seconds := await count(wide, "network", place)):
                        raise TooManyFromNetwork(count=wide.amount, period=wide.get_expiry(), seconds=seconds)
        except WindowsAway:
            pass
