"""One machine under a new key: what the link-state database then means.

A NodeId follows from a key, so a machine that changes its key becomes another node, while not one cable moves. Its last
LSA under the old key names the *successor*, the first under the new key the *predecessor*; only where each names the
other are they one machine (the same two-way rule as for adjacencies, so that nobody inherits what was not given). From
then on the database is read as if the machine had always been called by its new name: the old LSA counts no more, and
adjacencies to the old node are adjacencies to the new one. Neighbours, rows and routes stay what they were, and the
kernel's entries do not change.

It is a reading of the database, made by everybody alike, and nothing in it: what is flooded, compared and signed are
the LSAs themselves. Lines of successions (a key replaced twice before the first LSA was forgotten) are followed to the
end; whoever names itself into a circle is read as written.
"""

from collections.abc import Mapping

import msgspec

from routing.lsa import Lsa
from sansio.ids import NodeId

LINE_MAX = 8
"""Successions followed from one node; a longer line is read as written from there on."""


def heirs(lsas: Mapping[NodeId, Lsa], me: NodeId | None = None) -> dict[NodeId, NodeId]:
    """Every succeeded node and the one that it is now.

    ``me`` is never counted as succeeded: who is about to hand over still lives under the old name.
    """
    direct = {
        origin: lsa.successor
        for origin, lsa in lsas.items()
        if lsa.successor is not None and origin != me and _agrees(lsas.get(lsa.successor), origin)
    }
    found: dict[NodeId, NodeId] = {}
    for origin in direct:
        last = origin
        for _ in range(LINE_MAX):
            if last not in direct:
                break
            last = direct[last]
        if last not in direct:
            found[origin] = last
    return found


def _agrees(successor: Lsa | None, origin: NodeId) -> bool:
    return successor is not None and successor.predecessor == origin


def renamed(lsa: Lsa, heir_of: Mapping[NodeId, NodeId]) -> Lsa:
    """The LSA with its neighbours under their present names; the same object where none has another."""
    if not any(adjacency.neighbour in heir_of for adjacency in lsa.adjacencies):
        return lsa
    # A set, because the neighbour may be named under both names while the adjacency is handed on.
    adjacencies = {
        msgspec.structs.replace(adjacency, neighbour=heir_of.get(adjacency.neighbour, adjacency.neighbour))
        for adjacency in lsa.adjacencies
    }
    unique = {(each.neighbour, each.link, each.remote_link): each for each in sorted(adjacencies, reverse=True)}
    return msgspec.structs.replace(lsa, adjacencies=tuple(sorted(unique.values())))
