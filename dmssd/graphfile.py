"""Graph files: GML, GraphML and networkx node-link JSON, read into one plain shape.

The form is told by the file's suffix (``.gml``, ``.graphml``/``.xml``, ``.json``), else by its first character. Every
edge in the file is an edge here: edges between the same two nodes are parallel links, whether the file calls itself a
multigraph or not. Nodes are known by their text name: in GML and GraphML the ``label``, or the id where a node has
none; in JSON the ``id``. Two nodes of one name are an error, not a guess.

networkx reads GML and GraphML (imported when needed: it costs 0.1 s and 25 MiB). Deviations from its defaults: a GML
file need not say ``multigraph 1`` to have parallel edges, nor be ASCII; parallel GraphML edges that share an id are
not merged; a GraphML default of an edge attribute holds for edges that do not give it. JSON is read directly, since
node-link data is JSON already: undeclared nodes are refused, tuple ids (lists in JSON) are named as Python prints
them.
"""

import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from sansio.errors import DmssdError

_READ_ERRORS = (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, ElementTree.ParseError)


class GraphFileError(DmssdError):
    """A graph file that cannot be used, or a name that is not in it: one line that says which and why."""


@dataclass(frozen=True, slots=True)
class FileEdge:
    """An edge as the file has it; ``attributes`` are unchecked."""

    u: str
    v: str
    attributes: Mapping[str, object]

    def __str__(self) -> str:
        return f"{plain(self.u)}-{plain(self.v)}"


@dataclass(frozen=True, slots=True)
class FileGraph:
    """What a graph file says: names, edges in file order, and whether edges go one way only."""

    directed: bool
    nodes: tuple[str, ...]
    edges: tuple[FileEdge, ...]


def plain(text: str) -> str:
    """``text`` fit for one line of a message."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def read_graph(path: str) -> FileGraph:
    """The graph in the file at ``path``; ``GraphFileError`` where it cannot be read or makes no sense."""
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else str(problem)
        raise GraphFileError(f"cannot read {plain(path)}: {reason}") from None
    form = _form(Path(path).suffix.lower(), data)
    reader = {"GML": _read_gml, "GraphML": _read_graphml, "JSON": _read_json}[form]
    try:
        return reader(data)
    except GraphFileError as problem:
        raise GraphFileError(f"{plain(path)}: {problem}") from None
    except _READ_ERRORS as problem:
        reason = " ".join(plain(" ".join(str(problem).split()))[:200].split()) or type(problem).__name__
        raise GraphFileError(f"{plain(path)} is not a usable {form} file: {reason}") from None


def _form(suffix: str, data: bytes) -> str:
    by_suffix = {".gml": "GML", ".graphml": "GraphML", ".xml": "GraphML", ".json": "JSON"}
    first = data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    return by_suffix.get(suffix) or {b"<": "GraphML", b"{": "JSON"}.get(first, "GML")


def _read_gml(data: bytes) -> FileGraph:
    import networkx as nx

    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    # Without this networkx refuses a file with parallel edges that does not announce them. Said twice does no harm.
    text = re.sub(r"(^|\s)graph\s*\[", r"\g<0> multigraph 1 ", text, count=1)
    try:
        graph = nx.parse_gml(text, label="id")
    except nx.NetworkXException as problem:
        raise ValueError(problem) from None
    return _from_networkx(graph, {})


def _read_graphml(data: bytes) -> FileGraph:
    import networkx as nx

    root = ElementTree.fromstring(data)  # noqa: S314  (the operator's own file, read with the operator's own rights)
    declared: set[str] = set()
    for node in root.findall(".//{*}node"):
        identity = node.get("id")
        if identity is None or identity in declared:
            raise GraphFileError(f"node id {plain(str(identity))} is missing or used twice")
        declared.add(identity)
    for number, edge in enumerate(root.findall(".//{*}edge"), 1):
        # networkx takes the id for the key, and edges of one key between two nodes for one edge.
        edge.set("id", str(number))
        for end in (edge.get("source"), edge.get("target")):
            if end not in declared:
                raise GraphFileError(f"edge {number} ends at node {plain(str(end))}, which is not there")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            graph = nx.parse_graphml(ElementTree.tostring(root, encoding="unicode"), force_multigraph=True)
        except nx.NetworkXException as problem:
            raise ValueError(problem) from None
    return _from_networkx(graph, graph.graph.get("edge_default", {}))


def _from_networkx(graph: Any, defaults: Mapping[str, object]) -> FileGraph:
    # networkx is untyped: its values leave here checked.
    names: dict[object, str] = {}
    for node, attributes in graph.nodes(data=True):
        label = attributes.get("label", "")
        named = isinstance(label, (str, int, float)) and str(label) != ""
        names[node] = str(label) if named else str(node)
    _refuse_duplicates(list(names.values()))
    edges = tuple(FileEdge(names[u], names[v], {**defaults, **given}) for u, v, given in graph.edges(data=True))
    return FileGraph(bool(graph.is_directed()), tuple(names.values()), edges)


def _read_json(data: bytes) -> FileGraph:
    document = json.loads(data.decode("utf-8-sig"))
    if not isinstance(document, dict):
        raise GraphFileError("is not node-link JSON: an object with nodes and edges is needed")
    directed = document.get("directed", False)
    if not isinstance(directed, bool):
        raise GraphFileError('"directed" must be true or false')
    nodes = tuple(_json_name(entry, "id", f"node {n}") for n, entry in enumerate(_objects(document, "nodes"), 1))
    _refuse_duplicates(nodes)
    known = set(nodes)
    edges = []
    for number, entry in enumerate(_objects(document, "edges" if "edges" in document else "links"), 1):
        ends = [_json_name(entry, end, f"edge {number}") for end in ("source", "target")]
        for end in ends:
            if end not in known:
                raise GraphFileError(f"edge {number} ends at node {plain(end)}, which is not there")
        edges.append(FileEdge(ends[0], ends[1], entry))
    return FileGraph(directed, nodes, tuple(edges))


def _objects(document: dict[str, object], name: str) -> list[dict[str, object]]:
    entries = document.get(name)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        wanted = '"edges" (or "links")' if name == "links" else f'"{name}"'
        raise GraphFileError(f"is not node-link JSON: {wanted} must be a list of objects")
    return entries


def _json_name(entry: dict[str, object], field: str, what: str) -> str:
    value = entry.get(field)
    if isinstance(value, bool) or not isinstance(value, (str, int, float, list)):
        raise GraphFileError(f'{what} needs "{field}", a text or a number')
    return str(_tupled(value))


def _tupled(value: object) -> object:
    return tuple(map(_tupled, value)) if isinstance(value, list) else value


def _refuse_duplicates(names: list[str] | tuple[str, ...]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise GraphFileError(f"two nodes are named {plain(name)}: give them different names")
        seen.add(name)
