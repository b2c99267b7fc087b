"""What is joined to what: the shapes a lab can take, from a short text or a graph file.

``line:N ring:N grid:RxC star:N full:N segment:N abilene`` or a path to GML or GraphML. Nodes of the regular shapes are
``n1 .. nN`` (the hub of a star is ``n1``), those of a grid ``r0c0 ..``; names from a file are slugs of its labels.
Every link goes both ways; the two directions may have metrics of their own where a directed file says so.

A *segment* is a bridge that many nodes share. ``segment:N`` is one with N nodes, ``lan``; ``segment:20+2x5`` has
beside it two routed sites, rings of five (``s1n1 ..``) whose first two nodes each have a link to a node of the segment.
In a file a node with a true attribute ``segment`` is one; its links are its ports, their metrics those of the nodes.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dmssd.lab import abilene
from dmssd.lab.errors import LabError
from routing.lsa import METRIC_MAX

NODES_MAX = 64
"""One machine carries that many daemons of about 50 MiB; more says so instead of swapping."""
LINKS_MAX = 1024
NODE_NAME_CHARS_MAX = 32
"""Keeps the path of a node's admin socket well under the kernel's 107 bytes."""

SEGMENT_NODES_MAX = 30
"""The kernel's neighbour tables are shared by all namespaces of a machine (gc_thresh3, 1024 entries): a larger flat
segment overflows them and breaks every lab."""

SHAPES = "line:N ring:N grid:RxC star:N full:N segment:N segment:N+SxM abilene, or a GML or GraphML file"


@dataclass(frozen=True, slots=True)
class Edge:
    """One link: its two ends and its metric in either direction. ``b`` may be a segment, which counts nothing."""

    a: str
    b: str
    metric_ab: int = 1
    metric_ba: int = 1


@dataclass(frozen=True, slots=True)
class Shape:
    """Nodes in their order, links in theirs (parallel ones repeated); connected, without self-loops."""

    title: str
    nodes: tuple[str, ...]
    edges: tuple[Edge, ...]
    segments: tuple[str, ...] = ()


def slug(label: str) -> str:
    """A node name from any label: lower case, words joined by a hyphen, at most 32 characters."""
    words = re.findall(r"[a-z0-9]+", label.lower())
    return "-".join(words)[:NODE_NAME_CHARS_MAX].strip("-") or "node"


def parse(text: str, weight: str | None = None) -> Shape:
    """The shape that ``text`` names; ``weight`` is the edge attribute of a file that holds the metric (else 1).

    Raises LabError when the text names no shape, or one too large, too small or not connected.
    """
    kind, _, size = text.partition(":")
    if kind in _REGULAR and (size or not Path(text).exists()):
        shape = _REGULAR[kind](size, text)
    elif text == "abilene":
        shape = _abilene()
    elif Path(text).is_file():
        shape = _from_file(Path(text), weight)
    else:
        raise LabError(f"'{text}' is no shape and no file; a shape is one of {SHAPES}")
    return _checked(shape)


def _checked(shape: Shape) -> Shape:
    if len(shape.nodes) > NODES_MAX:
        raise LabError(f"{shape.title} has {len(shape.nodes)} nodes; a lab holds {NODES_MAX} at most")
    if len(shape.edges) > LINKS_MAX:
        raise LabError(f"{shape.title} has {len(shape.edges)} links; a lab holds {LINKS_MAX} at most")
    if not shape.nodes:
        raise LabError(f"{shape.title} has no nodes")
    for segment, members in attached(shape).items():
        if len(members) > SEGMENT_NODES_MAX:
            problem = f"{len(members)} nodes on one segment, {segment}; {SEGMENT_NODES_MAX} at most"
            raise LabError(f"{shape.title} has {problem}: more overflow the machine's neighbour tables")
    apart = sorted(set(shape.nodes) - set(reach(shape, shape.nodes[0])))
    if apart:
        raise LabError(f"{shape.title} is not connected: no way from {shape.nodes[0]} to {', '.join(apart[:3])}")
    return shape


def reach(shape: Shape, start: str) -> list[str]:
    """The nodes that ``start`` reaches, itself first, breadth first."""
    found = {start: None}
    beside = neighbours(shape)
    for node in (queue := [start]):
        for other in beside[node]:
            if other not in found:
                found[other] = None
                queue.append(other)
    return list(found)


def neighbours(shape: Shape) -> dict[str, list[str]]:
    """Each node's distinct neighbours, in the order of the links; all on a segment are neighbours."""
    beside: dict[str, dict[str, None]] = {node: {} for node in shape.nodes}
    for edge in shape.edges:
        if edge.b not in shape.segments:
            beside[edge.a][edge.b] = None
            beside[edge.b][edge.a] = None
    for members in attached(shape).values():
        for node in members:
            beside[node] |= {other: None for other in members if other != node}
    return {node: list(others) for node, others in beside.items()}


def attached(shape: Shape) -> dict[str, list[str]]:
    """The distinct nodes of each segment, in the order of the links."""
    on: dict[str, dict[str, None]] = {segment: {} for segment in shape.segments}
    for edge in shape.edges:
        if edge.b in on:
            on[edge.b][edge.a] = None
    return {segment: list(members) for segment, members in on.items()}


def _count(size: str, text: str, least: int) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", size) or int(size) < least:
        raise LabError(f"'{text}': the size must be a whole number of at least {least}, as in {text.split(':')[0]}:5")
    if int(size) > NODES_MAX:
        raise LabError(f"{text} has {int(size)} nodes; a lab holds {NODES_MAX} at most")
    return int(size)


def _numbered(text: str, count: int, pairs: Iterable[tuple[int, int]]) -> Shape:
    nodes = tuple(f"n{i}" for i in range(1, count + 1))
    return Shape(text, nodes, tuple(Edge(nodes[i], nodes[j]) for i, j in pairs))


def _line(size: str, text: str) -> Shape:
    count = _count(size, text, 1)
    return _numbered(text, count, ((i, i + 1) for i in range(count - 1)))


def _ring(size: str, text: str) -> Shape:
    count = _count(size, text, 3)
    return _numbered(text, count, ((i, (i + 1) % count) for i in range(count)))


def _star(size: str, text: str) -> Shape:
    count = _count(size, text, 2)
    return _numbered(text, count, ((0, i) for i in range(1, count)))


def _full(size: str, text: str) -> Shape:
    count = _count(size, text, 2)
    if count * (count - 1) // 2 > LINKS_MAX:
        raise LabError(f"{text} has {count * (count - 1) // 2} links; a lab holds {LINKS_MAX} at most")
    return _numbered(text, count, ((i, j) for i in range(count) for j in range(i + 1, count)))


def _grid(size: str, text: str) -> Shape:
    found = re.fullmatch(r"([0-9]{1,3})x([0-9]{1,3})", size)
    if not found or not (rows := int(found[1])) or not (columns := int(found[2])):
        raise LabError(f"'{text}': a grid is written rows x columns, as in grid:3x4")
    if rows * columns > NODES_MAX:
        raise LabError(f"{text} has {rows * columns} nodes; a lab holds {NODES_MAX} at most")
    return Shape(
        text,
        tuple(f"r{row}c{column}" for row in range(rows) for column in range(columns)),
        tuple(_grid_edges(rows, columns)),
    )


def _grid_edges(rows: int, columns: int) -> Iterator[Edge]:
    for row in range(rows):
        for column in range(columns):
            if column + 1 < columns:
                yield Edge(f"r{row}c{column}", f"r{row}c{column + 1}")
            if row + 1 < rows:
                yield Edge(f"r{row}c{column}", f"r{row + 1}c{column}")


def _segment(size: str, text: str) -> Shape:
    found = re.fullmatch(r"([0-9]{1,3})(?:\+([0-9]{1,2})x([0-9]{1,2}))?", size)
    count, sites, each = (int(number or 0) for number in found.groups()) if found else (0, 0, 0)
    if not found or count < 2 or (found[2] and not (sites and each)):
        raise LabError(f"'{text}': a segment is written as its nodes, then sites x nodes: segment:20 or segment:20+2x5")
    if count + sites * each > NODES_MAX:
        raise LabError(f"{text} has {count + sites * each} nodes; a lab holds {NODES_MAX} at most")
    nodes = [f"n{i}" for i in range(1, count + 1)]
    edges = [Edge(node, "lan") for node in nodes]
    for site in range(sites):
        inside = [f"s{site + 1}n{i}" for i in range(1, each + 1)]
        edges += [Edge(inside[i], inside[(i + 1) % each]) for i in range(each if each > 2 else each - 1)]
        edges += [Edge(nodes[(2 * site + i) % count], inside[i]) for i in range(min(2, each))]
        nodes += inside
    return Shape(text, tuple(nodes), tuple(edges), ("lan",))


_REGULAR = {"segment": _segment, "line": _line, "ring": _ring, "star": _star, "full": _full, "grid": _grid}


def _abilene() -> Shape:
    links = abilene.weighted_links()
    return Shape(
        "abilene",
        tuple(slug(city) for city in abilene.CITIES),
        tuple(Edge(slug(a), slug(b), m, m) for a, b, m in links),
    )


def _from_file(path: Path, weight: str | None) -> Shape:
    """GML by label, GraphML by label or id; read with networkx, imported only here."""
    import networkx

    if path.stat().st_size > 16 << 20:
        raise LabError(f"{path} is larger than 16 MiB: that is no lab")
    try:
        if path.suffix.lower() == ".graphml":
            graph = networkx.read_graphml(path)
        else:
            graph = networkx.read_gml(path, label="id")
    except (networkx.NetworkXError, ValueError, UnicodeError, SyntaxError) as problem:
        raise LabError(f"{path} is not a graph that networkx can read: {problem}") from problem
    names = _unique({key: slug(str(data.get("label") or key)) for key, data in graph.nodes(data=True)})
    halves = [(names[u], names[v], _metric(names[u], names[v], data, weight)) for u, v, data in graph.edges(data=True)]
    edges = _paired(halves) if graph.is_directed() else [Edge(a, b, m, m) for a, b, m in halves]
    segments = [names[key] for key, data in graph.nodes(data=True) if data.get("segment")]
    for edge in edges:
        if edge.a == edge.b:
            raise LabError(f"{path}: {edge.a} has a link to itself; take it out")
        if edge.a in segments and edge.b in segments:
            raise LabError(f"{path}: {edge.a} and {edge.b} are segments joined to one another; make them one")
    edges = [Edge(e.b, e.a, e.metric_ba, e.metric_ab) if e.a in segments else e for e in edges]
    nodes = tuple(name for name in names.values() if name not in segments)
    return Shape(path.name, nodes, tuple(edges), tuple(segments))


def _unique(names: dict[object, str]) -> dict[object, str]:
    taken: dict[str, None] = {}
    result: dict[object, str] = {}
    for key, name in names.items():
        candidate, number = name, 2
        while candidate in taken:
            candidate, number = f"{name[: NODE_NAME_CHARS_MAX - 4]}-{number}", number + 1
        taken[candidate] = None
        result[key] = candidate
    return result


def _metric(a: str, b: str, data: dict[str, object], weight: str | None) -> int:
    if weight is None:
        return 1
    value = data.get(weight)
    try:
        number = float(str(value))
    except ValueError:
        number = 0.0
    if not 1 <= number <= METRIC_MAX or number != int(number):
        raise LabError(f"link {a} - {b}: {weight} must be a whole number from 1 to {METRIC_MAX}, got {value!r}")
    return int(number)


def _paired(halves: list[tuple[str, str, int]]) -> list[Edge]:
    """Links from directed edges: the k-th a -> b goes with the k-th b -> a."""
    waiting: dict[tuple[str, str], list[int]] = {}
    edges: list[Edge] = []
    for a, b, metric in halves:
        back = waiting.get((b, a))
        if back:
            edges.append(Edge(b, a, back.pop(0), metric))
        else:
            waiting.setdefault((a, b), []).append(metric)
    for (a, b), metrics in waiting.items():
        if metrics:
            raise LabError(f"edge {a} -> {b} has no edge back; a link of a lab goes both ways")
    return edges
