"""What the cores of this package tell one another about links and neighbours.

A *neighbour* is a node over one of our links at one link-local address. One node may be a neighbour several times:
over parallel links, or by several of its interfaces on one segment. The triple (node, link, remote link) names one
adjacency; ``link`` is our number for the link, ``remote_link`` the neighbour's own.
"""

from dataclasses import dataclass

from routing.lsa import LinkNumber
from sansio.ids import NodeId


@dataclass(frozen=True, slots=True)
class LinkUp:
    """One of our links is usable, or its name or metric has changed."""

    link: LinkNumber
    name: str
    metric: int


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
