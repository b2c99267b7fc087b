"""What the cores of this package tell one another about links and neighbours.

A *neighbour* is a node over one of our links at one link-local address. One node may be a neighbour several times:
over parallel links, or by several of its interfaces on one segment. The triple (node, link, remote link) names one
adjacency; ``link`` is our number for the link, ``remote_link`` the neighbour's own.
"""

from dataclasses import dataclass

from routing.lsa import LinkNumber
from sansio.ids import NodeId

SPARED = "spared"
"""Why an adjacency is given up that a segment makes superfluous: both ends are well."""

SUCCEEDED = "goes on under another key"
"""Why an adjacency ends whose place the same machine has taken under its new NodeId: nothing has moved."""


@dataclass(frozen=True, slots=True)
class LinkUp:
    """One of our links is usable, or its name, metric or another of its properties has changed.

    ``address``: our own link-local address there. ``kind``: ``auto``, ``segment`` or ``point-to-point``. ``medium``:
    ``wire`` or ``radio``. ``mtu``: in bytes, 0 where it is not known.
    """

    link: LinkNumber
    name: str
    metric: int
    address: str = ""
    kind: str = "auto"
    medium: str = "wire"
    mtu: int = 0


@dataclass(frozen=True, slots=True)
class LinkDown:
    """That link has gone, and every neighbour over it."""

    link: LinkNumber


@dataclass(frozen=True, slots=True)
class NeighbourUp:
    """An adjacency holds: hellos were heard both ways and the neighbour's kernel answers.

    Told again for an adjacency that is already up when its metric has changed, and when the neighbour's daemon is
    back after a restart: its database may then be empty.
    """

    node: NodeId
    link: LinkNumber
    remote_link: LinkNumber
    address: str
    metric: int


@dataclass(frozen=True, slots=True)
class NeighbourDown:
    """An adjacency that was up is lost; ``reason`` is a short phrase for people."""

    node: NodeId
    link: LinkNumber
    reason: str
    remote_link: LinkNumber
    address: str


@dataclass(frozen=True, slots=True)
class NeighbourRestarting:
    """The neighbour's daemon is silent though its kernel answers: forwarding over it is kept until the lease ends."""

    node: NodeId
    link: LinkNumber


@dataclass(frozen=True, slots=True)
class NeighbourSpeaks:
    """A neighbour speaks for the segment that the link is on, by another rank than before; 0: not any more."""

    node: NodeId
    link: LinkNumber
    rank: int
