"""What is counted on the way, for :mod:`dmssd.metrics`: cheap enough for every datagram."""

from bisect import bisect_left
from collections import Counter

KIND_ECHO = 256
"""Of an echo request or reply, beside the kinds of datagrams, which are bytes."""


class Tally:
    """How many of each kind, and how many bytes. The caller keeps the number of kinds bounded."""

    __slots__ = ("bytes", "count")

    def __init__(self) -> None:
        self.count: Counter[int] = Counter()
        self.bytes: Counter[int] = Counter()

    def add(self, kind: int, size: int) -> None:
        """One more of ``kind``, of ``size`` bytes."""
        self.count[kind] += 1
        self.bytes[kind] += size


class Histogram:
    """How often a quantity was within each of a few bounds, each of them included; and the sum of all."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        """``bounds``: ascending."""
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)  # the last: above all bounds
        self.total = 0.0

    def observe(self, value: float) -> None:
        """One more value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value
