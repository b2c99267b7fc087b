"""Whether our own LSA keeps coming back with what we did not say: then our identity is on another machine too.

An LSA of ours with a higher number than we used is normal once after our state was lost: the network kept what we said
before, we go above it, and that is that. Somebody with our key goes above ours in turn. So a *round* is an LSA that
outbids what we said since the round before, and the case is proven by ``ROUNDS_MIN`` rounds over at least ``SPAN_MIN``
with no more than ``PAUSE_MAX`` between two. Parts of a network that had each kept another LSA of ours from before would
have to be joined that often, in the order of those numbers and within that time, to be taken for a second machine; so
would a neighbour that recorded them and plays them to us, which is a member that lies.
"""

from routing.lsa import Lsa
from sansio.instant import SECOND, Duration, Instant, after

ROUNDS_MIN = 5
SPAN_MIN = Duration(3 * SECOND)
PAUSE_MAX = Duration(15 * SECOND)
SHOWN_FOR = Duration(300 * SECOND)
"""After the last round."""


class Contest:
    """The rounds of late, and what the other machine said last."""

    def __init__(self) -> None:
        self._theirs: Lsa | None = None
        self._outbid: int | None = None  # our number that the last round outbid
        self._rounds = 0
        self._first = self._last = Instant(0)
        self._shown_until: Instant | None = None

    def outbid(self, theirs: Lsa, ours: int, now: Instant) -> None:
        """``theirs``, an LSA of ours that we did not send, is above number ``ours``, the last that we used."""
        self._theirs = theirs
        if self._rounds and now - self._last > PAUSE_MAX:
            self._rounds = 0
        if self._rounds and ours == self._outbid:
            return  # we have not answered yet: one round, however many copies and versions come meanwhile
        if not self._rounds:
            self._first = now
        self._rounds += 1
        self._outbid, self._last = ours, now
        if self._rounds >= ROUNDS_MIN and now - self._first >= SPAN_MIN:
            self._shown_until = after(now, SHOWN_FOR)

    @property
    def shown_until(self) -> Instant | None:
        """How long the case is shown; ``None`` if it was never proven."""
        return self._shown_until

    def other(self, now: Instant) -> Lsa | None:
        """What the other machine said last, while the case is proven."""
        return self._theirs if self._shown_until is not None and now < self._shown_until else None
