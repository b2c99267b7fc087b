"""The two clocks: the monotonic one that cores live by, and the wall clock, for people only.

Nothing else may ask for the time of day: a lint gate sees to it, and what the lab shifts here is shifted for all.
"""

import contextlib
import os
import time
from pathlib import Path

from sansio.instant import Instant

SHIFT_VARIABLE = "DMSSD_LAB_CLOCK"
"""Names a file that holds those seconds; for the lab and for tests. Without it no file is looked at."""


def now() -> Instant:
    """The present, nanoseconds of CLOCK_MONOTONIC: the clock that asyncio's timers use too."""
    return Instant(time.monotonic_ns())


def boot() -> bytes:
    """What tells this boot of the machine from any other: the monotonic clock is one boot's."""
    return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()


def wall() -> float:
    """Seconds since 1970, as far as this machine knows. Never compared, never sent as freshness."""
    return time.time() + _shift()  # noqa: TID251 - the one place


def _shift() -> float:
    """Seconds by which the lab has this daemon's clock wrong: no namespace has a time of day of its own."""
    file = os.environ.get(SHIFT_VARIABLE)
    if file is not None:
        with contextlib.suppress(OSError, ValueError):
            return float(Path(file).read_text())
    return 0.0
