"""SPT-ECMP from one source, beside networkx, in one run: ``python -m benchmarks.spf [--quick]``.

Random regular graphs of degree 4, integer metrics 1..1000, fixed seeds, a different source each time. Preparing the
graph is timed apart: it is done once per state of the database and shared by all rows. networkx computes predecessors
and distances from the same sources (``dijkstra_predecessor_and_distance``), which is the same answer before first
hops are drawn from it. Both queues are run at each size, to show which one ``shortest_paths`` is right to pick.
"""

import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import networkx as nx

from benchmarks import machine
from routing.graph import Edge, Graph
from routing.spf import run_buckets, run_heap, shortest_paths

AIMS_MS = {1_000: 0.6, 10_000: 7.0}
METRIC_MAX = 1_000
DEGREE = 4
SEED = 20


@dataclass(frozen=True, slots=True)
class Figures:
    """Median and least milliseconds of several runs."""

    median_ms: float
    least_ms: float


@dataclass(frozen=True, slots=True)
class Measured:
    """One size's figures."""

    nodes: int
    prepare: Figures
    chosen: Figures
    buckets: Figures
    heap: Figures
    networkx: Figures


def shapes(nodes: int) -> tuple[Graph[int], "nx.Graph"]:
    """The same random graph for us and for networkx."""
    rng = random.Random(SEED)
    other = nx.random_regular_graph(DEGREE, nodes, seed=SEED)
    edges: list[Edge[int]] = []
    for key, (u, v) in enumerate(other.edges):
        metric = rng.randint(1, METRIC_MAX)
        other[u][v]["weight"] = metric
        edges += [Edge(u, v, metric, key, key), Edge(v, u, metric, key, key)]
    return Graph(range(nodes), edges), other


def timed(run: Callable[[int], object], sources: range) -> Figures:
    """Each source once, after one run that does not count."""
    run(sources[0])
    spent = []
    for source in sources:
        start = time.perf_counter()
        run(source)
        spent.append((time.perf_counter() - start) * 1e3)
    return Figures(statistics.median(spent), min(spent))


def measure(nodes: int, runs: int) -> Measured:
    """All figures of one size; the answers are compared with networkx's before they are timed."""
    graph, other = shapes(nodes)
    distances = nx.dijkstra_predecessor_and_distance(other, 0)[1]
    assert {node: distance for node, distance, _ in shortest_paths(graph, 0).reached()} == distances
    sources = range(runs)
    return Measured(
        nodes=nodes,
        prepare=timed(lambda _: Graph(graph.nodes, graph.edges).compact(), range(3)),
        chosen=timed(lambda source: shortest_paths(graph, source), sources),
        buckets=timed(lambda source: run_buckets(graph, source), sources),
        heap=timed(lambda source: run_heap(graph, source), sources),
        networkx=timed(lambda source: nx.dijkstra_predecessor_and_distance(other, source), range(min(runs, 10))),
    )


def report(rows: list[Measured]) -> str:
    """The table as text."""
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    lines = [
        f"SPT-ECMP from one source, degree {DEGREE}, metrics 1..{METRIC_MAX}; median (least) ms; load average {load}",
        f"{'nodes':>6}  {'aim':>4}  {'dmssd':>14}  {'buckets':>14}  {'heap':>14}  {'networkx':>16}  {'prepare':>14}",
    ]
    for row in rows:
        ours = "  ".join(f"{f'{f.median_ms:.2f} ({f.least_ms:.2f})':>14}" for f in (row.chosen, row.buckets, row.heap))
        theirs = f"{row.networkx.median_ms:.2f} ({row.networkx.least_ms:.2f})"
        prepare = f"{row.prepare.median_ms:.2f} ({row.prepare.least_ms:.2f})"
        lines.append(f"{row.nodes:>6}  {AIMS_MS[row.nodes]:>4}  {ours}  {theirs:>16}  {prepare:>14}")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Measure and print."""
    runs = 20 if "--quick" in arguments else 100
    rows = [measure(nodes, runs) for nodes in AIMS_MS]
    print(report(rows))
    machine.report([figure(row) for row in rows])


def figure(row: Measured) -> machine.Figure:
    """One size for the table of all benchmarks."""
    aim, median = AIMS_MS[row.nodes], row.chosen.median_ms
    measured = f"{median:.2f} ms (networkx {row.networkx.median_ms:.1f})"
    return machine.Figure(f"SPT-ECMP from one source, {row.nodes:,} nodes", f"{aim:g} ms", measured, median <= aim)


if __name__ == "__main__":
    main(sys.argv[1:])
