"""Segments that many nodes share, derived from the link-state database; nobody announces a segment as such.

Theory of operation (after RFC 2328 2.1.1, "transit networks", and DESIGN 7). A few nodes on a segment *speak* for it
and are adjacent to everyone on it; the others are adjacent to the speakers alone. Each node says in its LSA which of
its links are on a segment and by which address it is found there (``Attachment``). From that follows, for all alike:

- speakers that are adjacent to one another over links on which they speak, speak for one segment;
- on the segment are its speakers, and every attached link that is adjacent to one of them;
- all of them reach one another directly, each by the other's address. The adjacencies between them say nothing more.

So a segment of n nodes is one pseudonode with n adjacencies. Its speakers are two as a rule: while one is lost and
another comes in its place nothing changes for the pairs of the others. The *designated* member is the most senior.

Less than three nodes make no segment. Where the database holds an LSA of protocol 1 there are no segments at all: 0.1.0
computes on plain adjacencies, and loops come of two ways to count (:func:`sansio.protocol.common`).

One change of a database is looked at by many: control routes, forwarder, processor, segments. What follows from it is
worked out once, when first asked for, and kept for the ``VIEWS_MAX`` databases last asked about (:class:`View`).

Deviation from OSPF: no network LSA, since the speakers' own adjacencies say who is there, and no pseudonode whose name
changes everybody's LSA when its designated router does.
"""

import hashlib
from collections import deque
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from routing.graph import Edge, Graph, from_lsdb
from routing.lsa import LinkNumber, Lsa
from sansio.ids import NODE_ID_BYTES, NodeId
from sansio.protocol import common

MEMBERS_MIN = 3
SEGMENTS_PROTOCOL = 2
VIEWS_MAX = 2
"""Databases of which the derived graphs are kept: the present one, and the same without those that are away."""


class Port(NamedTuple):
    """A link of a node."""

    node: NodeId
    link: LinkNumber


@dataclass(frozen=True, slots=True)
class Segment:
    """``members``: the address of every port on it. ``speakers``: in order of seniority, the designated one first."""

    speakers: tuple[Port, ...]
    members: Mapping[Port, bytes]

    @property
    def designated(self) -> Port:
        """Who speaks first."""
        return self.speakers[0]

    @property
    def pseudonode(self) -> NodeId:
        """What stands for the segment in a graph: no node has this id."""
        node, link = self.designated
        name = b"segment" + node + link.to_bytes(4, "big")
        return NodeId(hashlib.blake2b(name, digest_size=NODE_ID_BYTES).digest())


class View:
    """One state of the database, and what follows from it. Not to be changed."""

    def __init__(self, lsdb: Mapping[NodeId, Lsa]) -> None:
        self.lsdb = dict(lsdb)

    @cached_property
    def plain(self) -> Graph[NodeId]:
        """The plain adjacencies as a graph."""
        return from_lsdb(self.lsdb)

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """See :func:`segments`."""
        return _segments(self.lsdb)

    @cached_property
    def topology(self) -> Graph[NodeId]:
        """See :func:`topology`."""
        return _topology(self.plain, self.segments, self.lsdb) if self.segments else self.plain


_views: deque[View] = deque(maxlen=VIEWS_MAX)


def view(lsdb: Mapping[NodeId, Lsa]) -> View:
    """The view of ``lsdb`` as it is now; later changes to it do not show."""
    found = next((known for known in _views if known.lsdb == lsdb), None)
    if found is None:
        found = View(lsdb)
    elif found is _views[-1]:
        return found
    else:
        _views.remove(found)
    _views.append(found)
    return found


def segments(lsdb: Mapping[NodeId, Lsa]) -> tuple[Segment, ...]:
    """All segments, in order of their designated members; a pure function of the database."""
    return view(lsdb).segments


def topology(lsdb: Mapping[NodeId, Lsa]) -> Graph[NodeId]:
    """The Global Topology: as :func:`routing.graph.from_lsdb` has it, with each segment as one pseudonode."""
    return view(lsdb).topology


def _segments(lsdb: Mapping[NodeId, Lsa]) -> tuple[Segment, ...]:
    attached = {
        Port(node, attachment.link): attachment for node, lsa in sorted(lsdb.items()) for attachment in lsa.attachments
    }
    if not attached or common(lsa.protocol for lsa in lsdb.values()) < SEGMENTS_PROTOCOL:
        return ()
    speaking = {port: (attachment.speaks, port) for port, attachment in attached.items() if attachment.speaks}
    beside: dict[Port, list[Port]] = {port: [] for port in speaking}
    for near, far in _two_way(lsdb, attached.keys()):
        if near in beside:
            beside[near].append(far)
    found = []
    for speakers in _clusters(speaking, beside):
        ports = {*speakers, *(far for speaker in speakers for far in beside[speaker])}
        if len({port.node for port in ports}) >= MEMBERS_MIN:
            found.append(Segment(speakers, {port: attached[port].address for port in sorted(ports)}))
    return tuple(found)


def _topology(plain: Graph[NodeId], found: tuple[Segment, ...], lsdb: Mapping[NodeId, Lsa]) -> Graph[NodeId]:
    on: dict[Port, set[int]] = {}
    for number, segment in enumerate(found):
        for port in segment.members:
            on.setdefault(port, set()).add(number)
    nowhere: set[int] = set()
    edges = [
        edge
        for edge in plain.edges
        if on.get(Port(edge.u, LinkNumber(edge.key)), nowhere).isdisjoint(on.get(_far(edge), nowhere))
    ]
    for segment in found:
        for port in segment.members:
            weight = min(a.metric for a in lsdb[port.node].adjacencies if a.link == port.link)
            edges.append(Edge(port.node, segment.pseudonode, weight, port.link, port.link))
            edges.append(Edge(segment.pseudonode, port.node, 0, port.link, port.link))
    return Graph(plain.nodes, edges, (segment.pseudonode for segment in found))


def _far(edge: Edge[NodeId]) -> Port:
    assert edge.back is not None  # edges of a database name both ends
    return Port(edge.v, LinkNumber(edge.back))


def _two_way(lsdb: Mapping[NodeId, Lsa], ports: Set[Port]) -> Iterator[tuple[Port, Port]]:
    """The pairs among ``ports`` that are adjacent, by the word of both (RFC 2328 16.1 (2b)); each both ways round."""
    said = {
        (near, far)
        for node, lsa in lsdb.items()
        for adjacency in lsa.adjacencies
        if (near := Port(node, adjacency.link)) in ports
        and (far := Port(adjacency.neighbour, adjacency.remote_link)) in ports
    }
    return iter(sorted((near, far) for near, far in said if (far, near) in said))


def _clusters(speaking: Mapping[Port, tuple[int, Port]], beside: Mapping[Port, list[Port]]) -> list[tuple[Port, ...]]:
    """Speakers that speak for one segment together, each cluster by seniority."""
    clusters: list[tuple[Port, ...]] = []
    left = dict.fromkeys(sorted(speaking))
    while left:
        first = next(iter(left))
        del left[first]
        cluster = [first]
        for port in cluster:
            for far in beside[port]:
                if far in left:
                    del left[far]
                    cluster.append(far)
        clusters.append(tuple(sorted(cluster, key=speaking.__getitem__)))
    return sorted(clusters)
