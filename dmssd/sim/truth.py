"""What only the simulator knows: which machines and cables really work, and what routing should follow from it.

The reference is the naive Bellman-Ford relaxation (Ford 1956: relax every edge until nothing changes), which shares no
line and no idea with :mod:`routing.spf`.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dmssd.sim.network import Cable, Port
from dmssd.sim.world import World
from routing.fib import Gateway
from routing.lsa import METRIC_MAX, LinkNumber


@dataclass(frozen=True, slots=True)
class Hop:
    """A directed edge: leaving ``source`` by interface ``link`` one comes to ``target`` at ``address``."""

    source: int
    link: LinkNumber
    target: int
    address: bytes
    metric: int


@dataclass(frozen=True, slots=True)
class Routes:
    """``distance[d][u]`` from u to d; ``next_hops[d][u]`` every first hop of a shortest path. Unreachable: absent."""

    distance: dict[int, dict[int, int]]
    next_hops: dict[int, dict[int, tuple[Hop, ...]]]


def hops(world: World, machines: Iterable[int]) -> list[Hop]:
    """Every cable that passes both ways between two of ``machines``, once per direction; on a hub every such pair."""
    among = set(machines)
    found = []
    for (source, link), (target, remote), metric in _ways(world):
        if source in among and target in among and source != target:
            address = world.machines[target].kernel.interfaces[remote].packed
            cost = METRIC_MAX if source in world.draining else metric
            found.append(Hop(source, link, target, address, cost))
    return found


def _ways(world: World) -> Iterator[tuple[Port, Port, int]]:
    hubs: dict[int, list[Cable]] = {}
    for cable in world.network.cables:
        if cable.usable and cable.has_hub:
            hubs.setdefault(cable.ends[1][0], []).append(cable)
        elif cable.usable:
            yield cable.ends[0], cable.ends[1], cable.metrics[0]
            yield cable.ends[1], cable.ends[0], cable.metrics[1]
    for ports in hubs.values():
        for near, far in itertools.permutations(ports, 2):
            yield near.ends[0], far.ends[0], near.metrics[0]


def bellman_ford(edges: list[Hop], nodes: Iterable[int]) -> Routes:
    """Shortest paths between all ``nodes``."""
    routes = Routes({}, {})
    for destination in nodes:
        distance = {destination: 0}
        changed = True
        while changed:
            changed = False
            for edge in edges:
                if edge.target in distance:
                    candidate = edge.metric + distance[edge.target]
                    if candidate < distance.get(edge.source, candidate + 1):
                        distance[edge.source] = candidate
                        changed = True
        tight: dict[int, list[Hop]] = {}
        for edge in edges:
            if edge.source == destination or edge.source not in distance or edge.target not in distance:
                continue
            if distance[edge.source] == edge.metric + distance[edge.target]:
                tight.setdefault(edge.source, []).append(edge)
        routes.distance[destination] = distance
        routes.next_hops[destination] = {source: tuple(found) for source, found in tight.items()}
    return routes


def components(edges: list[Hop], nodes: Iterable[int]) -> dict[int, int]:
    """For each node the lowest number of a node it is connected with."""
    leader = {node: node for node in sorted(nodes)}
    changed = True
    while changed:
        changed = False
        for edge in edges:
            low = min(leader[edge.source], leader[edge.target])
            if leader[edge.source] != low or leader[edge.target] != low:
                leader[edge.source] = leader[edge.target] = low
                changed = True
    return leader


def gateways(found: Iterable[Hop]) -> frozenset[Gateway]:
    """The gateways that a kernel needs for these first hops."""
    return frozenset(Gateway(hop.link, hop.address) for hop in found)
