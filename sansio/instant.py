"""Time as an argument: instants and durations in integer nanoseconds.

An ``Instant`` counts from an arbitrary epoch and never goes backwards; only differences mean anything. Integers, not
floats, so that a simulated hour and a recorded hour replay to the same nanosecond.
"""

from typing import NewType

Instant = NewType("Instant", int)
Duration = NewType("Duration", int)

MICROSECOND = Duration(1_000)
MILLISECOND = Duration(1_000_000)
SECOND = Duration(1_000_000_000)


def after(start: Instant, wait: Duration) -> Instant:
    """The instant ``wait`` after ``start``."""
    return Instant(start + wait)


def seconds(value: float) -> Duration:
    """A duration from seconds, rounded to the nanosecond."""
    return Duration(round(value * SECOND))


def earliest(*candidates: Instant | None) -> Instant | None:
    """The first of several deadlines; ``None`` where nothing is waited for."""
    due = [candidate for candidate in candidates if candidate is not None]
    return min(due) if due else None
