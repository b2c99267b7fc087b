"""A lab on paper: what every node, namespace, interface and address is called, before anything is made.

Pure. A namespace is ``dmssd-LAB-NODE``; lab names hold no hyphen, so that ``dmssd-LAB-*`` is one lab's and no other's.
An interface is ``to-PEER``, cut to the kernel's 15 characters at a word where possible; parallel links are numbered
from the second. Node k has 10.5.0.k and fd64:6d73:7300::k (a ULA of our own: "dms" in ASCII).
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from dmssd.lab.errors import LabError
from dmssd.lab.shapes import Shape, attached, neighbours

INTERFACE_CHARS_MAX = 15
"""IFNAMSIZ without its zero byte."""
LAB_NAME = re.compile(r"[a-z0-9_]{1,16}")
NETNS_DIRECTORY = Path("/run/netns")
LABS_DIRECTORY = Path("/run/dmssd-lab")


class LabNode(msgspec.Struct, frozen=True):
    """One node: its namespace and the addresses its daemon is configured with."""

    name: str
    namespace: str
    address4: str
    address6: str


class LabSegment(msgspec.Struct, frozen=True):
    """A bridge that nodes share, in a namespace of its own; no daemon runs there."""

    name: str
    namespace: str


class LabLink(msgspec.Struct, frozen=True):
    """One veth pair: the node, interface and metric at either end. ``b`` may be a segment: then it is a port of it."""

    a: str
    a_interface: str
    b: str
    b_interface: str
    metric_ab: int
    metric_ba: int


class Admission(msgspec.Struct, frozen=True):
    """One join: ``node`` asks ``peer``, a member already, heard on ``interface``."""

    node: str
    peer: str
    interface: str


class Design(msgspec.Struct, frozen=True):
    """All that a lab is made of, and in which order its nodes are admitted."""

    name: str
    shape: str
    nodes: tuple[LabNode, ...]
    links: tuple[LabLink, ...]
    tps: tuple[str, ...]
    founder: str
    admissions: tuple[Admission, ...]
    segments: tuple[LabSegment, ...] = ()

    @property
    def places(self) -> tuple[LabNode | LabSegment, ...]:
        """Everything that has a namespace."""
        return (*self.nodes, *self.segments)

    def place(self, name: str) -> LabNode | LabSegment:
        """The node or segment of that name; LabError if there is none."""
        return next((segment for segment in self.segments if segment.name == name), None) or self.node(name)

    def node(self, name: str) -> LabNode:
        """The node of that name; LabError, naming some that exist, if there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        known = ", ".join(node.name for node in self.nodes[:12])
        raise LabError(f"lab {self.name} has no node '{name}'; it has {known}{' ...' if len(self.nodes) > 12 else ''}")

    def between(self, a: str, b: str) -> tuple[LabLink, ...]:
        """Every link that joins the two; LabError if none does. Either may be a segment."""
        self.place(a), self.place(b)
        found = tuple(link for link in self.links if {link.a, link.b} == {a, b} and a != b)
        if not found:
            raise LabError(f"no link joins {a} and {b} in lab {self.name}; see dmssd lab status {self.name}")
        return found

    def links_of(self, name: str) -> tuple[LabLink, ...]:
        """Every link with an end at that node."""
        self.node(name)
        return tuple(link for link in self.links if name in (link.a, link.b))


def check_lab_name(name: str) -> str:
    """``name`` itself if a lab may be called so, else LabError."""
    if not LAB_NAME.fullmatch(name):
        raise LabError(f"'{name}' cannot name a lab; use 1 to 16 of a-z, 0-9 and _")
    return name


def design(shape: Shape, name: str, tp: int) -> Design:
    """The lab ``name`` of that shape, with ``tp`` nodes named as TopologyProcessors (all, if it has fewer)."""
    check_lab_name(name)
    if tp < 0:
        raise LabError(f"the number of TopologyProcessors must be 0 or more, got {tp}")
    nodes = tuple(
        LabNode(node, f"dmssd-{name}-{node}", f"10.5.0.{k}", f"fd64:6d73:7300::{k:x}")
        for k, node in enumerate(shape.nodes, 1)
    )
    links = _links(shape)
    tps = choose_tps(shape, tp)
    founder = tps[0] if tps else shape.nodes[0]
    segments = tuple(LabSegment(segment, f"dmssd-{name}-{segment}") for segment in shape.segments)
    return Design(name, shape.title, nodes, links, tps, founder, _admissions(shape, links, founder), segments)


def interface_name(peer: str, number: int, taken: Sequence[str]) -> str:
    """``to-PEER`` within 15 characters and not among ``taken``; the ``number``-th link of a pair from 2 on says so."""
    suffix = f"-{number}" if number > 1 else ""
    candidate = f"to-{_shortened(peer, INTERFACE_CHARS_MAX - 3 - len(suffix))}{suffix}"
    serial = 1
    while candidate in taken:
        serial += 1
        suffix = f".{serial}"
        candidate = f"to-{_shortened(peer, INTERFACE_CHARS_MAX - 3 - len(suffix))}{suffix}"
    return candidate


def _shortened(name: str, chars_max: int) -> str:
    """Whole words of ``name`` as far as they fit; the first is cut if it does not."""
    if len(name) <= chars_max:
        return name
    words = name[: chars_max + 1].rpartition("-")[0]
    return words or name[:chars_max]


def _links(shape: Shape) -> tuple[LabLink, ...]:
    taken: dict[str, list[str]] = {place: [] for place in (*shape.nodes, *shape.segments)}
    numbers: dict[frozenset[str], int] = {}
    links: list[LabLink] = []
    for edge in shape.edges:
        pair = frozenset((edge.a, edge.b))
        numbers[pair] = numbers.get(pair, 0) + 1
        at_a = interface_name(edge.b, numbers[pair], taken[edge.a])
        at_b = interface_name(edge.a, numbers[pair], taken[edge.b])
        taken[edge.a].append(at_a)
        taken[edge.b].append(at_b)
        links.append(LabLink(edge.a, at_a, edge.b, at_b, edge.metric_ab, edge.metric_ba))
    return tuple(links)


def choose_tps(shape: Shape, count: int) -> tuple[str, ...]:
    """The best connected nodes, no two adjacent while that can be had, so that one incident takes one of them."""
    beside = neighbours(shape)
    ranked = sorted(shape.nodes, key=lambda node: -len(beside[node]))
    apart: list[str] = []
    for node in ranked:
        if not any(other in beside[node] for other in apart):
            apart.append(node)
    return tuple([*apart, *(node for node in ranked if node not in apart)][:count])


def _admissions(shape: Shape, links: Sequence[LabLink], founder: str) -> tuple[Admission, ...]:
    """Breadth first from the founder; a node asks the member beside it that joined last."""
    beside = neighbours(shape)
    members = [founder]
    admissions: list[Admission] = []
    for member in members:
        for node in beside[member]:
            if node not in members:
                peer = next(other for other in reversed(members) if other in beside[node])
                admissions.append(Admission(node, peer, _interface_to(shape, links, node, peer)))
                members.append(node)
    return tuple(admissions)


def _interface_to(shape: Shape, links: Sequence[LabLink], node: str, peer: str) -> str:
    shared = [segment for segment, members in attached(shape).items() if node in members and peer in members]
    for link in links:
        if link.a == node and (link.b == peer or link.b in shared):
            return link.a_interface
        if (link.b, link.a) == (node, peer):
            return link.b_interface
    raise LabError(f"no link from {node} to {peer}")


def node_directory(lab: str, node: str) -> Path:
    """Where a node's configuration, state, socket and log are."""
    return LABS_DIRECTORY / lab / node


def socket_path(lab: str, node: str) -> Path:
    """The node's admin socket."""
    return node_directory(lab, node) / "dmssd.sock"


def clock_path(lab: str, node: str) -> Path:
    """What a ``clock`` fault has the node's daemon take its time of day to be wrong by."""
    return node_directory(lab, node) / "clock"


def config_text(plan: Design, node: LabNode) -> str:
    """The node's configuration as TOML."""
    directory = node_directory(plan.name, node.name)
    lines = [
        f"# node {node.name} of lab {plan.name}; written by dmssd lab",
        f'state = "{directory}/state"',
        f'socket = "{directory}/dmssd.sock"',
        f'name = "{node.name}"',
        f'address4 = "{node.address4}"',
        f'address6 = "{node.address6}"',
        f"roles = {json.dumps(_roles(plan, node))}",
        "",
        "[mesh]",
        f"tp = {json.dumps(list(plan.tps))}",
    ]
    for link in plan.links:
        for end, interface, metric in (
            (link.a, link.a_interface, link.metric_ab),
            (link.b, link.b_interface, link.metric_ba),
        ):
            if end == node.name:
                lines += ["", "[[links]]", f'match = "{interface}"', f"metric = {metric}"]
    return "\n".join(lines) + "\n"


def _roles(plan: Design, node: LabNode) -> list[str]:
    return ["fd", "tp"] if node.name in plan.tps else ["fd"]
