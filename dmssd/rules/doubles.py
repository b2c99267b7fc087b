"""Identities that two machines use, far from each other: what the link-state database tells of where both are.

Two machines that meet on a link, or each speak to the same third, are caught by their handshakes
(:mod:`dmssd.security.twins`). Otherwise they meet only as LSAs of one origin that outbid each other. Both notice
(:mod:`routing.contest`) and say so in their LSAs, a flag; whoever sees it watches for LSAs of that origin that have
not one adjacency in common: a machine each.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address

from routing.lsa import Lsa
from sansio.bounded import RecentTable
from sansio.ids import NodeId

DOUBLES_MAX = 64
NEIGHBOURS_SHOWN_MAX = 4

NEXT_STEP = "next: stop one of the two, remove its state directory there, and have it join anew"


@dataclass(slots=True)
class _Places:
    latest: Lsa
    other: Lsa | None = None


class Doubles:
    """Where the identities are that contest their own LSA, of late."""

    def __init__(self) -> None:
        self._places: RecentTable[NodeId, _Places] = RecentTable(DOUBLES_MAX)

    def moved(self, origins: Iterable[NodeId], lsdb: Mapping[NodeId, Lsa]) -> None:
        """The LSAs of ``origins`` were replaced, added or removed."""
        for origin in origins:
            lsa, places = lsdb.get(origin), self._places.get(origin)
            if lsa is not None and places is not None and _elsewhere(lsa, places.latest):
                places.other, places.latest = places.latest, lsa
            elif lsa is None or not lsa.contested:
                self._places.pop(origin, None)
            elif places is None:
                self._places[origin] = _Places(lsa)
            elif lsa.adjacencies:
                places.latest = lsa

    def places(self) -> list[tuple[NodeId, Lsa, Lsa | None]]:
        """Each such identity, what its one machine said last, and the other one where that is known; in order of id."""
        return [(origin, each.latest, each.other) for origin, each in sorted(self._places.items())]


def told(lsa: Lsa, name_of: Callable[[NodeId], str]) -> str:
    """Where the machine is that said ``lsa``, as far as that tells: its neighbours, its addresses."""
    neighbours = sorted({adjacency.neighbour for adjacency in lsa.adjacencies})
    where = "next to " + (", ".join(map(name_of, neighbours[:NEIGHBOURS_SHOWN_MAX])) or "nobody")
    addresses = [str(prefix).rsplit("/", 1)[0] for prefix in lsa.prefixes if prefix.is_host]
    addresses += _attached(lsa)
    return f"{where} ({', '.join(addresses)})" if addresses else where


def _attached(lsa: Lsa) -> list[str]:
    return [str(IPv6Address(attachment.address)) for attachment in lsa.attachments]


def _elsewhere(one: Lsa, other: Lsa) -> bool:
    return bool(one.adjacencies and other.adjacencies) and not _ends(one) & _ends(other)


def _ends(lsa: Lsa) -> set[tuple[NodeId, int]]:
    return {(adjacency.neighbour, adjacency.remote_link) for adjacency in lsa.adjacencies}
