"""The two clocks: the monotonic one that cores live by, and the wall clock, for people only."""

import time

from sansio.instant import Instant


def now() -> Instant:
    """The present, nanoseconds of CLOCK_MONOTONIC: the clock that asyncio's timers use too."""
    return Instant(time.monotonic_ns())


def wall() -> float:
    """Seconds since 1970, as far as this machine knows. Never compared, never sent as freshness."""
    return time.time()
