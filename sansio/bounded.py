"""Tables and rates that cannot grow without end.

Whatever the network can make us remember goes into one of these, with a named maximum.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from sansio.instant import SECOND, Instant

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class RecentTable(OrderedDict[K, V], Generic[K, V]):
    """A dict of at most ``limit`` entries; a new one evicts the one least recently written."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        if len(self) > self._limit:
            self.popitem(last=False)


class TokenBucket(Generic[K]):
    """``rate_per_s`` events a second for each key, with bursts of ``burst``; at most ``limit`` keys are remembered."""

    def __init__(self, rate_per_s: float, burst: float, limit: int) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._levels: RecentTable[K, tuple[float, Instant]] = RecentTable(limit)

    def admit(self, key: K, now: Instant) -> bool:
        """Whether one more event of ``key`` fits; counts it if so."""
        level, since = self._levels.get(key, (self._burst, now))
        level = min(self._burst, level + (now - since) / SECOND * self._rate_per_s)
        admitted = level >= 1.0
        self._levels[key] = (level - 1.0 if admitted else level, now)
        return admitted
