"""Real daemons in namespaces, for tests: waiting, asking, and the naive truth to compare with."""

import contextlib
import functools
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from dmssd.lab.lab import Lab
from dmssd.lab.lifecycle import take_down
from sansio.errors import DmssdError
from tests.netns.kernel import REPOSITORY, require_netns

T = TypeVar("T")

SECONDS = 60.0
"""How long an event is waited for, where it takes a few seconds at most on a machine that does nothing else."""

REST_S = 8
"""Longer than a daemon can be dead and not missed yet, in seconds (``rules.restarting``)."""

FAMILIES = (4, 6)


def require_lab() -> None:
    """Skip the calling test, or fail it where namespaces are required, unless a lab can be made."""
    require_netns()
    missing = [program for program in ("nft", "nsenter", "ping", "setpriv") if shutil.which(program) is None]
    if missing:
        why = f"a lab needs {', '.join(missing)}: run setup/system.sh"
        if os.environ.get("DMSSD_REQUIRE_NETNS") == "1":
            pytest.fail(why)
        pytest.skip(why)


def until(claim: Callable[[], T], what: str, seconds: float = SECONDS) -> T:
    """Wait until ``claim`` answers something true, and return it; AssertionError naming ``what`` did not come true.

    A daemon that does not answer (it starts, stops or was killed) is asked again, and so is one whose answer does not
    name yet what the claim is about (``LookupError``).
    """
    end = time.monotonic() + seconds
    while True:
        try:
            answer = claim()
        except (DmssdError, LookupError) as problem:
            answer, what_else = None, f" ({problem!r})"
        else:
            what_else = f" ({answer!r})"
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:.0f} s: {what}{what_else}")
        time.sleep(0.05)


def until_neighbour(lab: Lab, node: str, neighbour: str, state: str) -> None:
    """Wait until a node shows its one adjacency with a neighbour in that state."""
    last: list[str] = []

    def right() -> bool:
        last[:] = neighbour_states(lab, node, neighbour)
        return last == [state]

    try:
        until(right, "")
    except AssertionError:
        said = "".join(lab.log(node).read_text().splitlines(keepends=True)[-30:])
        raise AssertionError(f"{node} shows {neighbour} as {last}, never {state}; its last words:\n{said}") from None


def dmssd(lab: Lab | None, node: str, *arguments: str, timeout_s: float = 120) -> "subprocess.CompletedProcess[str]":
    """The command line, asking the daemon of a node (or whatever ``arguments`` say, without a lab)."""
    chosen = ["--node", f"{lab.name}/{node}"] if lab else []
    command = [sys.executable, "-m", "dmssd", *chosen, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False, cwd=REPOSITORY)


def only_line(text: str) -> str:
    """The single line that ``text`` must be."""
    lines = text.splitlines()
    assert len(lines) == 1, text
    return lines[0]


def states(lab: Lab, node: str) -> dict[str, str]:
    """What one node says of every member, by name."""
    return {member["name"]: member["state"] for member in lab.client(node).get("members")}


def rejected(lab: Lab, node: str) -> dict[str, int]:
    """What one node has refused from outside, counted by reason."""
    counts: dict[str, int] = lab.client(node).get("status")["rejected"]
    return counts


def neighbour_states(lab: Lab, node: str, neighbour: str) -> list[str]:
    """The states of all adjacencies that a node has with a neighbour."""
    rows = lab.client(node).get("status")["neighbours"]
    return [row["state"] for row in rows if row["name"] == neighbour]


def address(lab: Lab, node: str, family: int) -> str:
    """A node's own address of that family."""
    return lab.address4(node) if family == 4 else lab.address6(node)


def all_up(lab: Lab, nodes: Iterable[str] | None = None) -> bool:
    """Whether every node says that exactly the lab's nodes are up."""
    everybody = dict.fromkeys(lab.nodes, "up")
    return all(states(lab, node) == everybody for node in (lab.nodes if nodes is None else nodes))


def at_rest(lab: Lab, seconds: int) -> bool:
    """Whether all members have been up everywhere for so long: whatever changed before is known to all."""
    members = [member for node in lab.nodes for member in lab.client(node).get("members")]
    return all(member["state"] == "up" and member["since_s"] >= seconds for member in members)


@contextlib.contextmanager
def at_rest_from_the_start(shape: str, name: str) -> Iterator[Lab]:
    """A lab whose nodes compute for themselves, given out when nothing changes any more."""
    require_lab()
    take_down(name)
    with Lab.up(shape, name, tp=0) as lab:
        until(lambda: all_up(lab), "all are up")
        everybody_pings(lab)
        until(lambda: at_rest(lab, REST_S), "all are at rest")
        yield lab


def pings(lab: Lab, source: str, destination: str, seconds: float = 1.0) -> bool:
    """Whether one echo over each family is answered."""
    return all(
        lab.exec(source, ["ping", "-n", "-q", "-c", "1", "-W", str(seconds), to]).returncode == 0
        for to in (lab.address4(destination), lab.address6(destination))
    )


def everybody_pings(lab: Lab, nodes: Iterable[str] | None = None) -> None:
    """Wait until every pair of these nodes (of all) pings over both families."""
    wanted = list(lab.nodes if nodes is None else nodes)
    # Only what was silent is asked again at once; the whole is asked once more in the end.
    end = time.monotonic() + SECONDS
    while silent := lab.unreachable(wanted):
        assert time.monotonic() < end, f"no answer within {SECONDS:.0f} s: {silent[:8]}"


def start(lab: Lab, node: str) -> "subprocess.Popen[bytes]":
    """Start a node's daemon, and keep hold of its process: for tests of how it ends."""
    directory = lab.log(node).parent
    argv = [sys.executable, "-m", "dmssd", "run", "--config", str(directory / "config.toml")]
    with lab.log(node).open("ab") as log:
        process = lab.launch(node, lab.exec_argv(node, argv), log.fileno(), log.fileno(), directory)
    lab.wait_ready([node])
    return process


def ip_json(lab: Lab, node: str, *arguments: str) -> list[dict[str, Any]]:
    """``ip -j`` on a node."""
    done = lab.exec(node, ["ip", "-j", *arguments])
    assert done.returncode == 0, done.stderr
    return [entry for entry in json.loads(done.stdout or "[]") if entry]


# --- what the kernel has ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """All that one namespace would forward or answer by, as ``ip`` prints it, one entry per item."""

    routes: tuple[str, ...]
    nexthops: tuple[str, ...]
    addresses: tuple[tuple[str, str], ...]

    @classmethod
    def read(cls, lab: Lab, node: str) -> "Table":
        """Read it from the kernel."""
        routes = [
            line
            for family in ("-4", "-6")
            for line in lab.exec(node, ["ip", "-o", family, "route", "show", "table", "all"]).stdout.splitlines()
        ]
        nexthops = lab.exec(node, ["ip", "-o", "nexthop"]).stdout.splitlines()
        held = [(link["ifname"], a["local"]) for link in ip_json(lab, node, "addr") for a in link["addr_info"]]
        return cls(tuple(sorted(routes)), tuple(sorted(nexthops)), tuple(sorted(held)))

    @property
    def programmed(self) -> tuple[str, ...]:
        """The routes that dmssd wrote."""
        return tuple(line for line in self.routes if "proto 201" in line)


def link_local(lab: Lab, node: str, interface: str) -> str:
    """The link-local address of an interface; empty for one that has none, being down."""
    found = ip_json(lab, node, "-6", "addr", "show", "dev", interface, "scope", "link")
    return str(found[0]["addr_info"][0]["local"]) if found else ""


def linked(lab: Lab, node: str) -> bool:
    """Whether every link of a node has its link-local address."""
    return len(ip_json(lab, node, "-6", "addr", "show", "scope", "link")) == len(far_ends(lab, node))


def far_ends(lab: Lab, node: str) -> dict[str, list[tuple[str, str]]]:
    """For every interface of a node: the node and the interface at its far end; on a segment there are many."""
    found: dict[str, list[tuple[str, str]]] = {}
    segments = {segment.name for segment in lab.design.segments}
    for link in lab.design.links_of(node):
        if link.b in segments:
            ports = [port for port in lab.design.links if port.b == link.b and port.a != node]
            found[link.a_interface] = [(port.a, port.a_interface) for port in ports]
        elif link.a == node:
            found[link.a_interface] = [(link.b, link.b_interface)]
        else:
            found[link.b_interface] = [(link.a, link.a_interface)]
    return found


Hop = tuple[str, str]
"""An interface and the node at its far end."""


def programmed(lab: Lab, node: str, family: int) -> dict[str, set[Hop]]:
    """The kernel's routes of protocol 201: destination node -> next hops, told by interface *and* gateway address."""
    ends = far_ends(lab, node)
    nexthops = {entry["id"]: entry for entry in ip_json(lab, node, "nexthop", "show", "proto", "201")}
    names = {address(lab, other, family): other for other in lab.nodes}
    known = functools.cache(functools.partial(link_local, lab))

    def hop(number: int) -> Hop:
        entry = nexthops[number]
        # A gateway that is no far end's own address is named, so that it equals nothing expected.
        far = [far for far, interface in ends[entry["dev"]] if entry["gateway"] == known(far, interface)]
        return (entry["dev"], far[0] if far else f"{ends[entry['dev']][0][0]} by {entry['gateway']}")

    def hops(route: dict[str, Any]) -> set[Hop]:
        group = nexthops[route["nhid"]].get("group")
        return {hop(member["id"]) for member in group} if group else {hop(route["nhid"])}

    found = ip_json(lab, node, f"-{family}", "route", "show", "proto", "201")
    return {names.get(route["dst"], route["dst"]): hops(route) for route in found}


# --- what it should have ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Arc:
    """One direction of a link."""

    near: str
    interface: str
    far: str
    metric: int


def arcs(lab: Lab, without: Iterable[str] = ()) -> list[Arc]:
    """Every direction of every link of the lab's edge list, but for those of the nodes ``without``."""
    gone = set(without)
    metrics = {(link.a, link.a_interface): link.metric_ab for link in lab.design.links}
    metrics |= {(link.b, link.b_interface): link.metric_ba for link in lab.design.links}
    both = [
        Arc(node, interface, far, metrics[node, interface])
        for node in lab.nodes
        for interface, found in far_ends(lab, node).items()
        for far, _ in found
    ]
    return [arc for arc in both if arc.near not in gone and arc.far not in gone]


def bellman_ford(edges: Iterable[Arc], destination: str) -> dict[str, int]:
    """Distance of every node to ``destination``, by relaxing all edges until nothing changes."""
    edges = list(edges)
    distance = {destination: 0}
    changed = True
    while changed:
        changed = False
        for arc in edges:
            if arc.far in distance and distance[arc.far] + arc.metric < distance.get(arc.near, 1 << 62):
                distance[arc.near] = distance[arc.far] + arc.metric
                changed = True
    return distance


def expected(edges: Iterable[Arc], node: str) -> dict[str, set[Hop]]:
    """Every next hop that lies on a shortest way from ``node``, for every destination."""
    edges = list(edges)
    found: dict[str, set[Hop]] = {}
    for destination in {arc.far for arc in edges} - {node}:
        distance = bellman_ford(edges, destination)
        hops = {
            (arc.interface, arc.far)
            for arc in edges
            if arc.near == node and arc.far in distance and arc.metric + distance[arc.far] == distance[node]
        }
        if hops:
            found[destination] = hops
    return found


def ways(edges: Iterable[Arc], source: str, destination: str) -> set[tuple[str, ...]]:
    """Every shortest way, as the nodes passed after ``source``."""
    edges = list(edges)
    if source == destination:
        return {()}
    nexts = {far for _, far in expected(edges, source)[destination]}
    return {(far, *rest) for far in nexts for rest in ways(edges, far, destination)}


def wrong_routes(lab: Lab, edges: Iterable[Arc], nodes: Iterable[str] | None = None) -> list[str]:
    """A line for every node and family whose kernel routes are not exactly the expected ones."""
    edges = list(edges)
    wrong = []
    for node, family in itertools.product(lab.nodes if nodes is None else nodes, FAMILIES):
        got, want = programmed(lab, node, family), expected(edges, node)
        if got != want:
            differing = {to: (got.get(to), want.get(to)) for to in {*got, *want} if got.get(to) != want.get(to)}
            wrong.append(f"{node} over IPv{family} (has, should have): {differing}")
    return wrong


def routes_become(lab: Lab, edges: Iterable[Arc], nodes: Iterable[str] | None = None, seconds: float = SECONDS) -> None:
    """Wait until the kernels hold exactly the expected routes."""
    edges, nodes = list(edges), None if nodes is None else list(nodes)
    wrong: list[str] = []

    def right() -> bool:
        try:
            wrong[:] = wrong_routes(lab, edges, nodes)
        except KeyError as changing:  # a table read while it is being changed
            wrong[:] = [f"no nexthop {changing}"]
        return not wrong

    try:
        until(right, "the kernels' routes are those of the naive computation", seconds)
    except AssertionError:
        raise AssertionError("routes differ from the naive computation:\n" + "\n".join(wrong)) from None


def rss_bytes(pid: int) -> int:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10
    raise AssertionError(f"process {pid} has no memory")
