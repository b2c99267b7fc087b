"""When to work out anew what follows from the link-state database: at once, but not at every step of a commotion.

Control routes, segments and the judgement of restarting neighbours follow from the whole database. While a mesh starts,
or many links fail, LSAs come by the dozen; to work all out after each would take the processor from the very hellos
that keep adjacencies up, whose loss makes more LSAs: a machine that is busy enough never comes out of that. So the
first change is answered at once, those after it together, by the back-off of RFC 8405 (:mod:`routing.backoff`).
"""

from routing.backoff import BackoffDelays, SpfBackoff
from sansio.instant import MILLISECOND, Duration, Instant

REACTION_DELAYS = BackoffDelays(short=Duration(20 * MILLISECOND), long=Duration(200 * MILLISECOND))
"""Lower than a processor's, since local repair on segments waits for it. Raising them saves work while much changes."""


class Reaction:
    """One reaction for all changes up to an instant; ``deadline`` is that instant."""

    def __init__(self) -> None:
        self._backoff = SpfBackoff(REACTION_DELAYS)
        self._at: Instant | None = None

    def moved(self, now: Instant, *, at_once: bool = False) -> None:
        """The database changed; ``at_once``: it says something else of this very node, or somebody has another name.

        To that the answer is immediate: after a restart the first is what this node said before, and goes on to say;
        and names must not mean one node here and another elsewhere.
        """
        run = self._backoff.event(now)
        if at_once:
            self._at = now
        elif self._at is None:
            self._at = run

    def deadline(self) -> Instant | None:
        """When to react."""
        return self._at

    def take(self, now: Instant) -> bool:
        """Whether to react now; if so, what changed so far is done with."""
        if self._at is None or now < self._at:
            return False
        self._at = None
        return True
