"""One identity on two machines: who was caught at it, and from which addresses.

What is noted here was proved by handshakes, never by greetings alone. A peer's second machine shows by handshakes of a
start of its daemon that a later start displaced: of those a few may be late after an ordinary restart, so it takes
``PROOFS_MIN`` of them over ``PROOFS_SPAN``. Our own second machine shows by a single one, for it has our key and says
that it is another start than ours.
"""

from dataclasses import dataclass

from sansio.bounded import RecentTable
from sansio.ids import NodeId
from sansio.instant import SECOND, Duration, Instant

TWINS_MAX = 64
SHOWN_FOR = Duration(300 * SECOND)
"""After the last proof."""

PROBE_INTERVAL = Duration(30 * SECOND)
PROOFS_MIN = 3
PROOFS_SPAN = Duration(3 * SECOND)


@dataclass(slots=True)
class _Case:
    first: Instant
    last: Instant
    proofs: int
    addresses: tuple[str, str]


class Twins:
    """The cases of the last minutes."""

    def __init__(self) -> None:
        self._cases: RecentTable[NodeId, _Case] = RecentTable(TWINS_MAX)
        self._own: tuple[str, Instant] | None = None
        self._probed: Instant | None = None

    def may_probe(self, now: Instant) -> bool:
        """Whether to call one that greets in our name, now: not more often than ``PROBE_INTERVAL``."""
        if self._probed is not None and now - self._probed < PROBE_INTERVAL:
            return False
        self._probed = now
        return True

    def own(self, address: str, now: Instant) -> bool:
        """Another machine proved to have our identity; whether that is news."""
        news = self.ours(now) is None
        self._own = (address, now)
        return news

    def ours(self, now: Instant) -> str | None:
        """Where that machine was heard."""
        return self._own[0] if self._own is not None and now - self._own[1] < SHOWN_FOR else None

    def refused(self, node: NodeId, here: str, there: str, now: Instant) -> None:
        """A displaced start of ``node`` spoke at ``there``, while the later one is ``here``."""
        case = self._cases.get(node)
        if case is None or now - case.last > SHOWN_FOR:
            self._cases[node] = _Case(now, now, 1, (here, there))
            return
        case.last, case.proofs, case.addresses = now, case.proofs + 1, (here, there)

    def others(self, now: Instant) -> list[tuple[NodeId, tuple[str, str]]]:
        """Peers that are on two machines, each with both addresses, in order of id."""
        return [
            (node, case.addresses)
            for node, case in sorted(self._cases.items())
            if now - case.last < SHOWN_FOR and case.proofs >= PROOFS_MIN and case.last - case.first >= PROOFS_SPAN
        ]
