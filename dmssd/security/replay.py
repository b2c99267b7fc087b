"""The replay window: which of a session's counters have been seen.

The idea is RFC 6479's: remember the highest counter and, below it, one bit for each of the last ``WINDOW``; older
ones count as seen. Deviation: one Python integer is the bit field, so there are no blocks to clear; a shift of 1,024
bits takes under 0.1 µs. Looking and moving are two steps, for the window may move only once the datagram has proved
authentic: else anybody could push it ahead and lock the real peer out.
"""

WINDOW = 1024
_MASK = (1 << WINDOW) - 1


class ReplayWindow:
    """The counters of one direction of one session."""

    __slots__ = ("_seen", "top")

    def __init__(self) -> None:
        self.top = -1
        self._seen = 0  # bit n: the counter top - n

    def fresh(self, counter: int) -> bool:
        """Whether ``counter`` has not been seen and is not too old to tell; changes nothing."""
        behind = self.top - counter
        return behind < 0 or (behind < WINDOW and not self._seen >> behind & 1)

    def mark(self, counter: int) -> None:
        """Count ``counter`` as seen; only for one that was ``fresh`` and whose datagram is authentic."""
        ahead = counter - self.top
        if ahead <= 0:
            self._seen |= 1 << -ahead
            return
        self._seen = (self._seen << ahead | 1) & _MASK if ahead < WINDOW else 1
        self.top = counter
