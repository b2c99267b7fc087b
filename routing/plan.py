"""Plans: each forwarder's row, a pure function of the link-state database.

Theory of operation. A row lists, for every origin in the forwarder's connected component, the sequence number of the
LSA it was computed from, the distance, and through which neighbours on which links the origin is reached: SPT-ECMP.
The sequence numbers are the row's version vector (DESIGN 7): by them a forwarder tells whether a row from anyone is
made of reports as new as its own. Neither clocks nor verdicts enter, and nothing depends on the order of the
database, so whoever computes from the same reports gets the same bytes. A row carries the prefixes of each origin, so
that a forwarder without a database can use it.

    Row        | forwarder | algorithm: see ALGORITHMS | entries, by origin | groups, in order of first use
    RowEntry   | origin | sequence | distance: sum of metrics | group: position in groups, -1 the forwarder | prefixes
               | gateway: preference of the default routes among the prefixes
    group      | the NextHops of all shortest paths, sorted
    NextHop    | link: the forwarder's own number | neighbour | weight: share of the traffic, 1..256

Parallel links of equal cost are next hops of their own. Under the policy ``shortest`` rows are computed on the Global
Topology itself: the Min-Weight Topology has the same shortest paths, and finding it first would only cost time.

:class:`Planner` prepares the graph once and computes any number of rows from it. It also answers what the control
network asks (DESIGN 4): for those answers the plain adjacencies are used whatever the policy, so that all nodes relay
by the same graph, and without loops, even while their configuration differs. Control messages travel over adjacencies,
which on a segment lead through its speakers.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Annotated

import msgspec

from routing.graph import Edge, Graph
from routing.lsa import PREFIXES_MAX, LinkNumber, Lsa, Preference, Prefix, WireLinkNumber
from routing.mwt import SHORTEST, SPANNING, check_policy, minimum_weight
from routing.pseudonode import view
from routing.spf import ShortestPaths, members, shortest_paths
from sansio.ids import NodeId, WireNodeId
from sansio.protocol import PROTOCOL_FIRST, common
from sansio.wire import WIRE, Codec

ALGORITHMS: Mapping[str, int] = {SHORTEST: 1, SPANNING: 2}
"""What a row says of how it was computed; a change of the computation takes a new number."""
OVER_SEGMENTS = 2
"""Added to it where the database has segments, which 0.1.0 does not compute by."""
ENTRIES_MAX = 16_384
NEXT_HOPS_MAX = 256
SELF_GROUP = -1


class NextHop(msgspec.Struct, order=True, **WIRE):
    """One way out of the forwarder, and its share of the traffic."""

    link: WireLinkNumber
    neighbour: WireNodeId
    weight: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1


Group = Annotated[tuple[NextHop, ...], msgspec.Meta(min_length=1, max_length=NEXT_HOPS_MAX)]


class RowEntry(msgspec.Struct, **WIRE):
    """One origin as the forwarder reaches it."""

    origin: WireNodeId
    sequence: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    distance: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    group: Annotated[int, msgspec.Meta(ge=SELF_GROUP, lt=ENTRIES_MAX)]
    prefixes: Annotated[tuple[Prefix, ...], msgspec.Meta(max_length=PREFIXES_MAX)]
    gateway: Preference = 0


class Row(msgspec.Struct, **WIRE):
    """A forwarder's part of a plan."""

    forwarder: WireNodeId
    algorithm: Annotated[int, msgspec.Meta(ge=1, lt=2**16)]
    entries: Annotated[tuple[RowEntry, ...], msgspec.Meta(max_length=ENTRIES_MAX)]
    groups: Annotated[tuple[Group, ...], msgspec.Meta(max_length=ENTRIES_MAX)]


ROW_CODEC: Codec[Row] = Codec(Row)


def compute_row(lsdb: Mapping[NodeId, Lsa], forwarder: NodeId, policy: str = SHORTEST) -> Row | None:
    """The row of one forwarder; ``None`` if its own LSA is not in ``lsdb``. See :class:`Planner` for several."""
    return Planner(lsdb, policy).row(forwarder)


def acceptable(row: Row, me: NodeId, my_sequence: int, installed: Row | None) -> bool:
    """Whether ``me`` may install ``row``.

    It must be whole (entries in order, every group there), ``me``'s own, computed from an LSA of ``me``'s as new as
    ``my_sequence``, and in no origin older than ``installed``. An origin that one of the two rows lacks does not
    count: it was cut off, or has just come.
    """
    if row.forwarder != me or not is_whole(row):
        return False
    sequences = {entry.origin: entry.sequence for entry in row.entries}
    if sequences[me] < my_sequence:
        return False
    known = installed.entries if installed is not None else ()
    return all(sequences.get(entry.origin, entry.sequence) >= entry.sequence for entry in known)


def is_whole(row: Row) -> bool:
    """Whether a decoded row makes sense: origins rising, groups there, the forwarder in it at distance 0."""
    previous = b""
    found = False
    for entry in row.entries:
        mine = entry.origin == row.forwarder
        if entry.origin <= previous or entry.group >= len(row.groups) or mine != (entry.group == SELF_GROUP):
            return False
        found = found or (mine and entry.distance == 0)
        previous = entry.origin
    return found


def next_hops(row: Row) -> dict[NodeId, tuple[NextHop, ...]]:
    """The ways to each origin of a whole row, the forwarder itself left out."""
    return {entry.origin: row.groups[entry.group] for entry in row.entries if entry.group != SELF_GROUP}


class Planner:
    """Rows for any number of forwarders from one state of the database.

    The database is read when the planner is made; later changes to it do not show. ``LocalProtocolError`` for an
    unknown policy. A row costs one shortest-path run and a pass over the component.
    """

    def __init__(self, lsdb: Mapping[NodeId, Lsa], policy: str = SHORTEST) -> None:
        check_policy(policy)
        self._view = view(lsdb)
        self._lsas = self._view.lsdb
        self._whole = self._view.topology
        self._algorithm = ALGORITHMS[policy] + (OVER_SEGMENTS if self._whole.pseudonodes else 0)
        # 0.1.0 takes the nearest gateway whatever it prefers: where it takes part, so must all, or packets go round.
        self._prefers = common(lsa.protocol for lsa in self._lsas.values()) > PROTOCOL_FIRST
        self._graph = self._whole
        if policy != SHORTEST:
            self._graph = self._whole.keeping(minimum_weight(self._whole, policy).kept)
        self._paths: tuple[NodeId, ShortestPaths[NodeId]] | None = None

    @property
    def edge_count(self) -> int:
        """Directed edges that one row's computation walks."""
        return len(self._graph.edges)

    @property
    def graph(self) -> Graph[NodeId]:
        """The Global Topology."""
        return self._whole

    def component(self, node: NodeId) -> frozenset[NodeId]:
        """The nodes that ``node`` is connected with, itself included; empty if its LSA is not known."""
        return self._components.get(node, frozenset())

    def row(self, forwarder: NodeId) -> Row | None:
        """The row of ``forwarder``; ``None`` if its own LSA is not known."""
        if forwarder not in self._lsas:
            return None
        paths = shortest_paths(self._graph, forwarder)
        exits = paths.exits
        numbers: dict[int, int] = {0: SELF_GROUP}
        groups: list[tuple[NextHop, ...]] = []
        entries: list[RowEntry] = []
        for origin, distance, hops in paths.reached():
            if hops not in numbers:
                numbers[hops] = len(groups)
                groups.append(_group(members(hops, exits)))
            lsa = self._lsas[origin]
            preference = lsa.gateway if self._prefers else 0
            entries.append(RowEntry(origin, lsa.sequence, distance, numbers[hops], lsa.prefixes, preference))
        return Row(forwarder, self._algorithm, tuple(entries), tuple(groups))

    def next_hops(self, source: NodeId) -> dict[NodeId, NodeId]:
        """For each destination in reach of ``source`` the one neighbour that control frames go to: the lowest id."""
        if source not in self._lsas:
            return {}
        paths = self._global_paths(source)
        exits = paths.exits
        chosen: dict[int, NodeId] = {}
        relays: dict[NodeId, NodeId] = {}
        for destination, _, hops in paths.reached():
            if hops:
                if hops not in chosen:
                    chosen[hops] = min(edge.v for edge in members(hops, exits))
                relays[destination] = chosen[hops]
        return relays

    def hop_counts(self, source: NodeId) -> dict[NodeId, int]:
        """For each destination in reach of ``source`` the most links that a shortest path there has.

        Of equal-cost paths the relays on the way may take any: a time-out must allow for the longest.
        """
        if source not in self._lsas:
            return {}
        paths = self._global_paths(source)
        nodes, distances, links = self._plain.nodes, paths.distances, self._plain.compact().links
        infinity = self._plain.compact().infinity
        counts = [0] * len(nodes)
        for near in sorted(range(len(nodes)), key=distances.__getitem__):
            if distances[near] == infinity:
                break
            for to, weight in links[near]:
                if distances[to] == distances[near] + weight:
                    counts[to] = max(counts[to], counts[near] + 1)
        return {node: count for node, count in zip(nodes, counts, strict=True) if count}

    @property
    def _plain(self) -> Graph[NodeId]:
        return self._view.plain

    @cached_property
    def _components(self) -> dict[NodeId, frozenset[NodeId]]:
        found: dict[NodeId, frozenset[NodeId]] = {}
        nodes, links = self._whole.nodes, self._whole.compact().links
        for start, node in enumerate(nodes):
            if node not in found:
                members_of = {start}
                todo = [start]
                while todo:
                    fresh = [to for to, _ in links[todo.pop()] if to not in members_of]
                    members_of.update(fresh)
                    todo += fresh
                component = frozenset(nodes[position] for position in members_of) - self._whole.pseudonodes
                found.update(dict.fromkeys(component, component))
        return found

    def _global_paths(self, source: NodeId) -> ShortestPaths[NodeId]:
        # The control router asks for relays and hop counts of one source in turn: one run serves both.
        if self._paths is None or self._paths[0] != source:
            self._paths = (source, shortest_paths(self._plain, source))
        return self._paths[1]


def _group(edges: Iterable[Edge[NodeId]]) -> tuple[NextHop, ...]:
    # Two ports of one neighbour on one shared segment are one next hop to the forwarder: it sees a link and a node.
    return tuple(sorted({NextHop(LinkNumber(edge.key), edge.v): None for edge in edges}))
