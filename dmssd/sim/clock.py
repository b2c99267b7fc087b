"""Simulated time: a queue of calls, run in order of their instant, then in order of their scheduling.

Nothing here is random and nothing waits; a simulated hour takes as long as its calls take.
"""

import heapq
import random
from collections.abc import Callable
from typing import Any

from sansio.instant import Duration, Instant

CALLS_PER_INSTANT_MAX = 100_000
"""More calls than this without time moving on is a core whose deadline never passes."""

_Entry = tuple[Instant, int, Callable[..., None], tuple[Any, ...]]


def seeded(label: str) -> random.Random:
    """The random source of one purpose: the same in every process, independent of every other label's."""
    return random.Random(label)  # noqa: S311 - chance that can be repeated is the point


class SimulationError(Exception):
    """The simulation cannot go on: a core broke the rules of its door. ``at`` is the simulated instant."""

    def __init__(self, at: Instant, problem: str) -> None:
        super().__init__(f"at {at / 1e9:.6f} s: {problem}")
        self.at = at
        self.problem = problem


class Clock:
    """The one source of time in a world; starts at ``now`` = 1 s, so that no instant is zero by chance."""

    def __init__(self) -> None:
        self.now = Instant(1_000_000_000)
        self.calls = 0
        self._heap: list[_Entry] = []
        self._order = 0

    def at(self, when: Instant, call: Callable[..., None], *arguments: Any) -> None:
        """Have ``call(*arguments)`` run at ``when``, or now if that has gone by."""
        self._order += 1
        heapq.heappush(self._heap, (max(when, self.now), self._order, call, arguments))

    def after(self, wait: Duration | int, call: Callable[..., None], *arguments: Any) -> None:
        """Have ``call(*arguments)`` run ``wait`` nanoseconds from now."""
        self.at(Instant(self.now + wait), call, *arguments)

    def run_until(self, end: Instant) -> None:
        """Run every call due at or before ``end``; time then stands at ``end``."""
        heap = self._heap
        same = 0
        while heap and heap[0][0] <= end:
            when, _, call, arguments = heapq.heappop(heap)
            same = same + 1 if when == self.now else 0
            if same > CALLS_PER_INSTANT_MAX:
                raise SimulationError(when, f"time stands still: {CALLS_PER_INSTANT_MAX} calls at one instant")
            self.now = when
            self.calls += 1
            call(*arguments)
        self.now = max(self.now, end)
