"""What only the simulator knows: which machines and cables really work, and what routing should follow from it.

The reference is the naive Bellman-Ford relaxation (Ford 1956: relax every edge until nothing changes), which shares no
line and no idea with :mod:`routing.spf`.

Who is outside the mesh is nobody's way: a machine that has not joined yet, or was expelled. What a measured link costs
is its owner's word (:attr:`World.measured`); how it comes to that is not judged here.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dmssd.sim.network import Cable, Port
from dmssd.sim.world import Machine, World
from routing.fib import Gateway
from routing.lsa import METRIC_MAX, LinkNumber, Prefix


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
    among = {number for number in machines if not world.machines[number].outside}
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
            yield cable.ends[0], cable.ends[1], world.metric(cable, 0)
            yield cable.ends[1], cable.ends[0], world.metric(cable, 1)
    for ports in hubs.values():
        for near, far in itertools.permutations(ports, 2):
            yield near.ends[0], far.ends[0], world.metric(near, 0)


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


Table = dict[Prefix, frozenset[Gateway]]


def tables(world: World, present: list[Machine]) -> dict[int, Table]:
    """What the kernel of each machine should hold: ways to everybody's own addresses, and to what is announced.

    The nearest origin of a prefix counts, all of those at equal distance, and of default routes those that are
    preferred most. Who is one of these itself needs no way there; filters leave routes out.
    """
    numbers = [machine.number for machine in present]
    routes = bellman_ford(hops(world, numbers), numbers)
    origins = _origins(present)
    return {machine.number: _table(machine, routes, origins) for machine in present}


def _origins(present: list[Machine]) -> dict[Prefix, list[tuple[int, int]]]:
    """For each prefix the machines that announce it, each with its preference."""
    found: dict[Prefix, list[tuple[int, int]]] = {}
    for machine in present:
        announced = machine.settings.announce if machine.settings is not None else ()
        preference = machine.settings.gateway if machine.settings is not None else 0
        for prefix in (*machine.prefixes, *announced):
            found.setdefault(prefix, []).append((machine.number, preference if prefix.is_default else 0))
    return found


def _table(machine: Machine, routes: Routes, origins: dict[Prefix, list[tuple[int, int]]]) -> Table:
    table: Table = {}
    for prefix, announcing in origins.items():
        reached = [
            ((-preference, routes.distance[origin][machine.number]), origin)
            for origin, preference in announcing
            if machine.number in routes.distance[origin]
        ]
        best = min((rank for rank, _ in reached), default=None)
        nearest = [routes.next_hops[origin].get(machine.number, ()) for rank, origin in reached if rank == best]
        wanted = gateways(itertools.chain.from_iterable(nearest))
        if wanted and (machine.settings is None or machine.settings.filter.takes(prefix)):
            table[prefix] = wanted
    return table
