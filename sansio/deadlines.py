"""Many timers, one deadline: a keyed timer table for cores.

Setting a key again moves it, so there is no handle to lose and no stale timer to come back. Timers that fall due
together are returned in the order in which they were set, which keeps a core's actions reproducible.
"""

import heapq
from typing import Generic, TypeVar

from sansio.instant import Instant

K = TypeVar("K")


class Deadlines(Generic[K]):
    """At most one pending instant per key."""

    def __init__(self) -> None:
        self._due: dict[K, tuple[Instant, int]] = {}
        self._heap: list[tuple[Instant, int, K]] = []
        self._order = 0
        # Asked for after every event, of every core, while few of them move a timer: found once for all who ask.
        self._first: Instant | None = None
        self._is_found = True

    def __contains__(self, key: K) -> bool:
        return key in self._due

    def __len__(self) -> int:
        return len(self._due)

    def set(self, key: K, at: Instant) -> None:
        """Have ``key`` fall due at ``at``, whatever was set before."""
        self._order += 1
        self._is_found = False
        self._due[key] = (at, self._order)
        heapq.heappush(self._heap, (at, self._order, key))
        if len(self._heap) > 4 * len(self._due) + 64:
            self._compact()

    def cancel(self, key: K) -> None:
        """Forget ``key``; no error if it was not set."""
        if self._due.pop(key, None) is not None:
            self._is_found = False

    def when(self, key: K) -> Instant | None:
        """The instant at which ``key`` falls due."""
        due = self._due.get(key)
        return due[0] if due else None

    def next(self) -> Instant | None:
        """The earliest pending instant."""
        if not self._is_found:
            self._first, self._is_found = self._find(), True
        return self._first

    def _find(self) -> Instant | None:
        while self._heap:
            at, order, key = self._heap[0]
            if self._due.get(key) == (at, order):
                return at
            heapq.heappop(self._heap)
        return None

    def _pop(self) -> K:
        self._is_found = False
        key = heapq.heappop(self._heap)[2]
        del self._due[key]
        return key

    def pop_due(self, now: Instant) -> list[K]:
        """Remove and return every key due at or before ``now``."""
        fired: list[K] = []
        while (at := self.next()) is not None and at <= now:
            fired.append(self._pop())
        return fired

    def pop_first(self) -> K:
        """Remove and return the key that falls due first; ``IndexError`` if there is none."""
        self.next()
        return self._pop()

    def _compact(self) -> None:
        # Cancelled and moved entries stay in the heap until they surface; rebuild before they outnumber the live.
        self._heap = [(at, order, key) for key, (at, order) in self._due.items()]
        heapq.heapify(self._heap)
