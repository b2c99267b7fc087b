"""Two ends of a link that carry packets of different sizes: what is too large for one is lost, and nobody says so.

Each end says its MTU in its hellos, so whoever looks at either end is told.
"""

from collections.abc import Callable, Iterable, Mapping

from dmssd.events import LinkUp
from routing.adjacency import NeighbourView
from sansio.ids import NodeId


def mtu_reasons(
    links: Mapping[int, LinkUp], neighbours: Iterable[NeighbourView], name: Callable[[NodeId], str]
) -> list[str]:
    """A sentence for each neighbour whose end of the link has another MTU than ours."""
    reasons = []
    for neighbour in neighbours:
        link = links.get(neighbour.link)
        if link is None or not link.mtu or not neighbour.mtu or link.mtu == neighbour.mtu:
            continue
        least = min(link.mtu, neighbour.mtu)
        reasons.append(
            f"the MTU of {link.name} is {link.mtu} here and {neighbour.mtu} at {name(neighbour.node)}:"
            f" what is larger than {least} is lost; next: ip link set dev {link.name} mtu {least}, or the other end"
        )
    return reasons
