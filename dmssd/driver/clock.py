"""The two clocks: the monotonic one that cores live by, and the wall clock, for people only."""

import time
from pathlib import Path

from sansio.instant import Instant


def now() -> Instant:
    """The present, nanoseconds of CLOCK_MONOTONIC: the clock that asyncio's timers use too."""
    return Instant(time.monotonic_ns())


def boot() -> bytes:
    """What tells this boot of the machine from any other: the monotonic clock is one boot's."""
    return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()


def wall() -> float:
    """Seconds since 1970, as far as this machine knows. Never compared, never sent as freshness."""
    return time.time()
