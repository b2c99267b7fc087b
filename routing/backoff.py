"""SPF back-off: answer the first change at once, then slow down while the network keeps changing.

RFC 8405's state machine (its section 5) as a value: QUIET waits ``initial`` after the first event, SHORT_WAIT waits
``short`` between runs, and once events have gone on for ``time_to_learn`` LONG_WAIT waits ``long`` until the network
has been still for ``hold_down``. The delays must be the same mesh-wide, or the nodes' views differ for longer than
they need to; the defaults are those of DESIGN 7.
"""

from dataclasses import dataclass

from sansio.instant import MILLISECOND, Duration, Instant, after


@dataclass(frozen=True, slots=True)
class BackoffDelays:
    """The delays of RFC 8405, section 3. Raising any of them trades repair time for fewer computations."""

    initial: Duration = Duration(0)
    short: Duration = Duration(50 * MILLISECOND)
    long: Duration = Duration(500 * MILLISECOND)
    time_to_learn: Duration = Duration(500 * MILLISECOND)
    hold_down: Duration = Duration(1000 * MILLISECOND)


class SpfBackoff:
    """When the next computation may run: feed it events, ask it for the instant."""

    def __init__(self, delays: BackoffDelays) -> None:
        self._delays = delays
        self._first_event: Instant | None = None
        self._last_event: Instant | None = None

    def event(self, now: Instant) -> Instant:
        """Note an event; returns when a computation that is not yet pending should run."""
        delays = self._delays
        quiet = self._last_event is None or now >= after(self._last_event, delays.hold_down)
        self._last_event = now
        if quiet or self._first_event is None:
            self._first_event = now
            return after(now, delays.initial)
        learned = now >= after(self._first_event, delays.time_to_learn)
        return after(now, delays.long if learned else delays.short)
