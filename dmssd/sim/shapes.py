"""The graphs that worlds are made of: ``line:N ring:N grid:RxC star:N full:N random:N``, metrics by the seed.

``segment:N`` is one hub that N nodes share; ``campus:N`` has half of its nodes on a hub, some of them on a second one
as well, and the rest beyond them, by cables of their own.

A shape is a list of cables; parallel cables and different metrics for the two directions are allowed and occur in
random shapes, since both are easy to get wrong.
"""

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dmssd.sim.clock import seeded

NODES_MAX = 10_000
KNOWN = "line:N ring:N grid:RxC star:N full:N random:N segment:N campus:N"
METRICS = (1, 2, 5, 10)
"""Few distinct values, so that equal-cost paths are common."""


@dataclass(frozen=True, slots=True)
class Edge:
    """A cable between nodes ``a`` and ``b``, and what each of them counts for sending over it.

    ``b`` may be a hub: their numbers follow on those of the nodes. A hub counts nothing.
    """

    a: int
    b: int
    metric_a: int
    metric_b: int


@dataclass(frozen=True, slots=True)
class Shape:
    """``text`` rebuilds it, given the seed."""

    text: str
    nodes: int
    edges: tuple[Edge, ...]
    hubs: int = 0


def parse(text: str, seed: int) -> Shape:
    """The shape named by ``text``; ``ValueError`` with a sentence where there is none such."""
    kind, _, size = text.partition(":")
    build = _KINDS.get(kind)
    if build is None:
        raise ValueError(f"no shape {kind!r}; there are {', '.join(sorted(_KINDS))}")
    rng = seeded(f"shape/{seed}")
    try:
        sizes = [int(part) for part in size.split("x")]
    except ValueError:
        raise ValueError(f"shape {text!r} needs a size, as in grid:4x4 or ring:16") from None
    if len(sizes) != (2 if kind == "grid" else 1) or min(sizes) < 1 or sizes[0] * sizes[-1] > NODES_MAX**2:
        raise ValueError(f"shape {text!r} needs {'RxC' if kind == 'grid' else 'one number'} after the colon")
    nodes, pairs = build(sizes, rng)
    if not 2 <= nodes <= NODES_MAX:
        raise ValueError(f"shape {text!r} has {nodes} nodes; 2 to {NODES_MAX} are possible")
    edges = tuple(_edges(list(pairs), rng))
    return Shape(text, nodes, edges, len({edge.b for edge in edges if edge.b >= nodes}))


def by_seed(seed: int, nodes: int) -> str:
    """Which shape a seed stands for when none is named: grids, rings and random graphs in turn."""
    kind = seed % 3
    rows = max(divisor for divisor in range(1, int(nodes**0.5) + 1) if nodes % divisor == 0)
    if kind == 0 and rows > 1:
        return f"grid:{rows}x{nodes // rows}"
    return f"ring:{nodes}" if kind == 1 else f"random:{nodes}"


Pairs = Iterator[tuple[int, int]]


def _line(sizes: list[int], _: random.Random) -> tuple[int, Pairs]:
    return sizes[0], itertools.pairwise(range(sizes[0]))


def _ring(sizes: list[int], _: random.Random) -> tuple[int, Pairs]:
    count = sizes[0]
    return count, ((node, (node + 1) % count) for node in range(count))


def _star(sizes: list[int], _: random.Random) -> tuple[int, Pairs]:
    return sizes[0], ((0, node) for node in range(1, sizes[0]))


def _full(sizes: list[int], _: random.Random) -> tuple[int, Pairs]:
    return sizes[0], itertools.combinations(range(sizes[0]), 2)


def _grid(sizes: list[int], _: random.Random) -> tuple[int, Pairs]:
    rows, columns = sizes
    across = (
        (row * columns + column, row * columns + column + 1) for row in range(rows) for column in range(columns - 1)
    )
    down = (
        (row * columns + column, (row + 1) * columns + column) for row in range(rows - 1) for column in range(columns)
    )
    return rows * columns, itertools.chain(across, down)


def _random(sizes: list[int], rng: random.Random) -> tuple[int, Pairs]:
    count = sizes[0]
    # A random tree makes it connected; as many chords again make it a mesh; some of them run parallel.
    tree = [(rng.randrange(node), node) for node in range(1, count)]
    chords = [(rng.randrange(count), rng.randrange(count)) for _ in range(count)]
    return count, iter(tree + [(a, b) for a, b in chords if a != b])


def _segment(sizes: list[int], _: random.Random) -> tuple[int, Pairs]:
    return sizes[0], ((node, sizes[0]) for node in range(sizes[0]))


def _campus(sizes: list[int], rng: random.Random) -> tuple[int, Pairs]:
    count = sizes[0]
    shared = max(2, count // 2)
    ports = [(node, count) for node in range(shared)]
    ports += [(node, count + 1) for node in rng.sample(range(count), max(2, count // 4))]
    tree = [(rng.randrange(node), node) for node in range(shared, count)]
    chords = [(rng.randrange(count), rng.randrange(count)) for _ in range(count // 2)]
    return count, iter(ports + tree + [(a, b) for a, b in chords if a != b])


_KINDS: dict[str, Callable[[list[int], random.Random], tuple[int, Pairs]]] = {
    "line": _line,
    "ring": _ring,
    "star": _star,
    "full": _full,
    "grid": _grid,
    "random": _random,
    "segment": _segment,
    "campus": _campus,
}


def _edges(pairs: list[tuple[int, int]], rng: random.Random) -> Iterator[Edge]:
    for a, b in pairs:
        metric = rng.choice(METRICS)
        other = rng.choice(METRICS) if rng.random() < 0.1 else metric
        yield Edge(a, b, metric, other)
