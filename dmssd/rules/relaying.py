"""Through whom control messages travel: the shortest paths of the Global Topology, around daemons that are away.

A kernel forwards packets while its daemon is dead; control messages need the daemon. So members that gossip does not
hold alive, and neighbours seen restarting, relay nothing here, as long as there is a way without them. To them
themselves the way is the plain one.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass

from routing.lsa import Lsa
from routing.plan import Planner
from sansio.ids import NodeId


@dataclass(frozen=True, slots=True)
class ControlRoutes:
    """``next_hops``: the neighbour for each destination; ``hops``: the most links on the way there."""

    next_hops: Mapping[NodeId, NodeId]
    hops: Mapping[NodeId, int]


def control_routes(lsdb: Mapping[NodeId, Lsa], me: NodeId, away: Set[NodeId]) -> ControlRoutes:
    """The control routes of ``me`` around the nodes in ``away``."""
    whole = Planner(lsdb)
    next_hops, hops = whole.next_hops(me), whole.hop_counts(me)
    if not away.isdisjoint(next_hops):
        around = Planner({origin: lsa for origin, lsa in lsdb.items() if origin not in away or origin == me})
        next_hops |= around.next_hops(me)
        hops |= around.hop_counts(me)
    return ControlRoutes(next_hops, hops)
