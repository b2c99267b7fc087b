"""Pacing: intervals with jitter, so that nodes started together do not speak together for ever."""

import random

from sansio.instant import Duration

JITTER = 0.1
"""Intervals vary by this fraction either way. Raising it spreads bursts; lowering it makes detection times exact."""


def jittered(rng: random.Random, interval: Duration) -> Duration:
    """``interval`` varied uniformly by plus or minus :data:`JITTER`."""
    return Duration(round(interval * rng.uniform(1 - JITTER, 1 + JITTER)))
