"""When the keys of each session are replaced by fresh ones: a part of :class:`dmssd.security.sessions.Sessions`.

A session is *due* once it is older than ``lifetime``, or was begun before the epoch of sessions was raised. Then a new
handshake begins, new ephemeral keys and all, while the session stays in use; both ends change over to the new one when
it is confirmed, and open what is still under way by the old one. Nobody above notices.

*No storm.* What is due at once is spread over a window that grows with the number of sessions, each pair at a place of
its own (a hash of both ids and the epoch), and one node begins no more than one in ``RENEWAL_GAP``. So a node with 256
sessions renews them in half a minute.

*Who begins.* The end that began the session; the other only after ``OTHER_END_AFTER``, by when a node with as many
sessions as there may be end to end is through, should the first not know of the epoch, as 0.1.0 does not, or not reach
us. One that fails is tried again after ``RENEWAL_RETRY``, the session in use all
the while: whether the peer is there at all is not judged here.

Times are this machine's monotonic clock, and a session's age is counted at each end by itself.
"""

import hashlib

from sansio.deadlines import Deadlines
from sansio.ids import NodeId
from sansio.instant import MILLISECOND, SECOND, Duration, Instant, after

LIFETIME = Duration(86_400 * SECOND)
"""Until an admin says otherwise."""

RENEWAL_GAP = Duration(50 * MILLISECOND)
RENEWAL_RETRY = Duration(60 * SECOND)
OTHER_END_AFTER = Duration(30 * SECOND)

WINDOW_PER_SESSION = Duration(100 * MILLISECOND)
WINDOW_MIN = Duration(2 * SECOND)
WINDOW_MAX = Duration(300 * SECOND)


class Renewing:
    """The terms in force, and when which peer's session is next to be renewed."""

    def __init__(self, me: NodeId) -> None:
        self._me = me
        self._epoch = 0
        self._lifetime = LIFETIME
        self._raised: Instant | None = None
        self._timers: Deadlines[NodeId] = Deadlines()
        self._not_before = Instant(0)

    def set_terms(self, epoch: int, lifetime: Duration, now: Instant) -> None:
        """Other terms are in force. Sessions begun until now are outdated by an epoch higher than the last."""
        if epoch > self._epoch:
            self._raised = now
        self._epoch, self._lifetime = epoch, lifetime

    def is_behind(self, begun: Instant) -> bool:
        """Whether a session begun then is of an earlier epoch."""
        return self._raised is not None and begun < self._raised

    def watch(self, peer: NodeId, begun: Instant, *, initiated: bool, sessions: int) -> None:
        """Have the session with ``peer``, one of so many, renewed when its time comes."""
        window = min(max(WINDOW_MIN, WINDOW_PER_SESSION * sessions), WINDOW_MAX)
        due = after(begun, self._patience(self._lifetime, initiated=initiated))
        if self._raised is not None and self.is_behind(begun):
            due = min(due, after(self._raised, Duration(0 if initiated else OTHER_END_AFTER)))
        self._timers.set(peer, after(due, self._place(peer, window)))

    def again(self, peer: NodeId, now: Instant) -> None:
        """Try once more later, unless the session is replaced until then."""
        self._timers.set(peer, after(now, RENEWAL_RETRY))

    def forget(self, peer: NodeId) -> None:
        """There is no session with ``peer``."""
        self._timers.cancel(peer)

    def deadline(self) -> Instant | None:
        """When the next renewal may begin."""
        first = self._timers.next()
        return None if first is None else max(first, self._not_before)

    def due(self, now: Instant) -> NodeId | None:
        """Whose session to renew now: one, and the next after ``RENEWAL_GAP``."""
        due = self.deadline()
        if due is None or now < due:
            return None
        peer = self._timers.pop_first()
        self._not_before = after(now, RENEWAL_GAP)
        return peer

    @staticmethod
    def _patience(lifetime: Duration, *, initiated: bool) -> Duration:
        return lifetime if initiated else Duration(lifetime * 5 // 4)

    def _place(self, peer: NodeId, window: int) -> Duration:
        pair = min(self._me, peer) + max(self._me, peer)
        digest = hashlib.blake2b(pair + self._epoch.to_bytes(8, "big"), digest_size=4).digest()
        return Duration(window * int.from_bytes(digest, "big") >> 32)
