"""What a node needs to know before it starts: plain values, made from the configuration by the driver."""

from dataclasses import dataclass, field

from gossip.swim import SwimConfig
from routing.adjacency import AdjacencyConfig
from routing.filter import RouteFilter
from routing.lsa import Prefix

ROLES = ("fd", "tp")


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """``prefixes`` are the node's own addresses, ``announce`` what lies behind it.

    ``tps`` are names (or hex ids) of the members that compute for all; ``gateway`` is the preference of default routes
    in ``announce``, 0 where there are none. ``pool4`` and ``ula``: where an address of a family that ``prefixes`` has
    none of is drawn from.
    """

    name: str
    prefixes: tuple[Prefix, ...] = ()
    roles: frozenset[str] = frozenset(ROLES)
    tps: tuple[str, ...] = ()
    mwt: str = "shortest"
    admins: int = 3
    certificate_days: int = 400
    liveness: AdjacencyConfig = field(default_factory=AdjacencyConfig)
    swim: SwimConfig = field(default_factory=SwimConfig)
    announce: tuple[Prefix, ...] = ()
    gateway: int = 0
    filter: RouteFilter = RouteFilter()
    pool4: Prefix | None = None
    ula: bool = True
