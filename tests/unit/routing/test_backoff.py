"""SPF back-off by the states of RFC 8405."""

from routing.backoff import BackoffDelays, SpfBackoff
from sansio.instant import MILLISECOND, SECOND, Duration, Instant, after

DELAYS = BackoffDelays()


def waits(*at_ms: int) -> list[int]:
    """How long each of these events waits, in milliseconds."""
    backoff = SpfBackoff(DELAYS)
    events = [after(Instant(SECOND), Duration(at * MILLISECOND)) for at in at_ms]
    return [(backoff.event(event) - event) // MILLISECOND for event in events]


def test_the_first_event_is_answered_at_once_and_further_ones_ever_later() -> None:
    assert waits(0, 10, 499, 500, 600) == [0, 50, 50, 500, 500]


def test_after_a_still_time_everything_begins_anew() -> None:
    assert waits(0, 600, 1_599) == [0, 500, 500]
    assert waits(0, 600, 1_600, 1_610, 2_100) == [0, 500, 0, 50, 500]
