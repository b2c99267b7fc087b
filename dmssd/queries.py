"""What a node can be asked: plain dicts and lists, made from the cores' state without changing any.

The admin API serves these as JSON, unchanged; the shapes are the stable interface (docs/reference/api.md).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import Any

from dmssd.node import Node
from dmssd.rules.conflicts import address_conflicts
from dmssd.rules.doubles import NEXT_STEP, told
from dmssd.rules.finding import find_node, name_of
from dmssd.rules.membership import expulsion_reasons
from dmssd.rules.mtu import mtu_reasons
from dmssd.rules.waiting import petitions
from dmssd.secure import SecureNode
from gossip.members import State
from routing.lsa import Lsa
from routing.mwt import minimum_weight
from routing.plan import Planner
from routing.pseudonode import segments, topology
from sansio.errors import RequestError
from sansio.ids import NodeId
from sansio.instant import SECOND, Instant

Json = Any
Arguments = Mapping[str, str]

STATE_SHOWN = {State.ALIVE: "up", State.SUSPECT: "suspect", State.DEAD: "down", State.LEFT: "left"}


@dataclass(slots=True)
class Surroundings:
    """What a query needs beside the node: who serves it, since when, and what was counted on the way."""

    version: str
    started: Instant
    rejected: dict[str, int] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    guard: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """What is not as it should be outside of the node: a change on trial, files that do not hold what is in force."""


def status(secure: SecureNode, around: Surroundings, arguments: Arguments, now: Instant) -> Json:
    """One verdict, the counts, and every reason for a verdict other than ``ok``."""
    node = secure.node
    counts = {"up": 0, "suspect": 0, "down": 0, "left": 0}
    for member in node.swim.members():
        counts[STATE_SHOWN[member.state]] += 1
    neighbours = _neighbours(node)
    standing = secure.membership.standing
    reasons = [
        *_twins(secure, now),
        *expulsion_reasons(standing, node.me, node.names),
        *filter(None, [secure.renewals.warning(secure.credentials.certificate)]),
        *([] if secure.rotation is None else [secure.rotation.reason]),
        *_reasons(node, neighbours),
        *around.notes,
    ]
    if around.guard.get("problem"):
        reasons.append(f"forwarding is not guarded: {around.guard['problem']}; next: dmssd doctor")
    return {
        "node": node.me.hex(),
        "name": node.settings.name,
        "mesh": node.mesh.hex(),
        "mesh_name": secure.mesh_name,
        "admin": secure.membership.is_admin,
        "expiry": secure.credentials.certificate.expiry,
        "waiting": len(pending(secure, around, {}, now)),
        "version": around.version,
        "uptime_s": (now - around.started) // SECOND,
        "verdict": "degraded" if reasons else "ok",
        "reasons": reasons,
        "members": counts,
        "links": _links(node, neighbours),
        "neighbours": neighbours,
        "plan": _plan(node),
        "roles": role_names(node),
        "rejected": dict(sorted(around.rejected.items())),
        "lsdb": {"origins": len(node.linkstate.lsdb)},
        "draining": node.traffic.draining,
        "sessions": _sessions(secure),
    }


def members(secure: SecureNode, around: Surroundings, arguments: Arguments, now: Instant) -> Json:
    """Everyone SWIM knows, this node included, in order of name."""
    node = secure.node
    admins = secure.admins()
    rows = [
        {
            "node": member.node.hex(),
            "name": member.name or name_of(node, member.node),
            "state": STATE_SHOWN[member.state],
            "admin": member.node in admins,
            "incarnation": member.incarnation,
            "since_s": (now - member.since) // SECOND,
            "addresses": _addresses(node.linkstate.lsdb.get(member.node)),
            "draining": _draining(node.linkstate.lsdb.get(member.node)),
        }
        for member in node.swim.members()
    ]
    return sorted(rows, key=lambda row: (row["name"], row["node"]))


def addresses(secure: SecureNode, around: Surroundings, arguments: Arguments, now: Instant) -> Json:
    """Who claims which addresses of the mesh, and whether the claim holds, in order of name."""
    node = secure.node
    rows = [
        {
            "node": who.hex(),
            "name": name_of(node, who),
            "family": family,
            "block": str(claim.block),
            "configured": claim.fixed,
            "generation": claim.generation,
            "holds": holds,
        }
        for who, family, claim, holds in node.claims.claims()
    ]
    return sorted(rows, key=lambda row: (row["name"], row["node"], row["family"]))


def network_global(secure: SecureNode, around: Surroundings, arguments: Arguments, now: Instant) -> Json:
    """The Global Topology: every link that both ends advertise, and the segments, each with one edge from a member."""
    node = secure.node
    lsdb = node.linkstate.lsdb
    named = _place_names(node)
    edges = [
        {
            "from": named(edge.u),
            "to": named(edge.v),
            "link": edge.key,
            "metric": edge.weight,
        }
        for edge in topology(lsdb).edges
        if edge.weight
    ]
    nodes = [
        {
            "node": origin.hex(),
            "name": lsa.name,
            "prefixes": [str(prefix) for prefix in lsa.prefixes],
            "gateway": lsa.gateway or None,
            "draining": lsa.draining,
        }
        for origin, lsa in sorted(lsdb.items())
    ]
    nodes.sort(key=lambda row: (row["name"], row["node"]))
    edges.sort(key=lambda row: (row["from"], row["to"], row["link"]))
    shared = [
        {
            "name": named(segment.pseudonode),
            "designated": name_of(node, segment.designated.node),
            "speakers": [name_of(node, port.node) for port in segment.speakers],
            "members": sorted({name_of(node, port.node) for port in segment.members}),
        }
        for segment in segments(lsdb)
    ]
    return {"nodes": nodes, "edges": edges, "segments": sorted(shared, key=lambda row: str(row["name"]))}


def network_spt(secure: SecureNode, around: Surroundings, arguments: Arguments, now: Instant) -> Json:
    """One node's SPT-ECMP, computed here from the LSDB by the same code that makes plans."""
    node = secure.node
    root = find_node(node, arguments.get("node", "")) if arguments.get("node") else node.me
    row = Planner(node.linkstate.lsdb, node.settings.mwt).row(root)
    if row is None:
        raise RequestError(f"{name_of(node, root)} has announced nothing yet: try again when it is up")
    destinations = [
        {
            "name": name_of(node, entry.origin),
            "distance": entry.distance,
            "next_hops": [
                {"name": name_of(node, hop.neighbour), "link": hop.link, "weight": hop.weight}
                for hop in row.groups[entry.group]
            ],
            "prefixes": [str(prefix) for prefix in entry.prefixes],
        }
        for entry in row.entries
        if entry.group >= 0
    ]
    destinations.sort(key=lambda item: (item["distance"], item["name"]))
    return {"node": name_of(node, root), "destinations": destinations}


def network_mwt(secure: SecureNode, around: Surroundings, arguments: Arguments, now: Instant) -> Json:
    """The Minimum-Weight Topology under a policy, and why each dropped link was dropped."""
    node = secure.node
    policy = arguments.get("policy") or node.settings.mwt
    if policy not in ("shortest", "spanning"):
        raise RequestError(f"unknown policy {policy!r}: say shortest or spanning")
    graph = topology(node.linkstate.lsdb)
    result = minimum_weight(graph, policy)
    named = _place_names(node)

    def shown(edge: Any) -> dict[str, Any]:
        return {"from": named(edge.u), "to": named(edge.v), "metric": edge.weight}

    def place(row: dict[str, Any]) -> tuple[Any, ...]:
        return (row["from"], row["to"], row["metric"])

    dropped = [shown(drop.edge) | {"reason": drop.sentence(named)} for drop in result.dropped]
    return {
        "policy": policy,
        "kept": sorted((shown(edge) for edge in result.kept if edge.weight), key=place),
        "dropped": sorted(dropped, key=place),
    }


def routes(secure: SecureNode, around: Surroundings, arguments: Arguments, now: Instant) -> Json:
    """What this node's Forwarder has in the kernel, with whom each gateway is."""
    node = secure.node
    forwarder = node.forwarder
    if forwarder is None:
        raise RequestError("this node has no Forwarder: add fd to its roles")
    who = forwarder.neighbours_by_gateway()
    rows = []
    for prefix, members_ in sorted(forwarder.wanted.items()):
        hops = [
            {
                "name": name_of(node, who[gateway]),
                "interface": interface(node, gateway.link),
                "address": str(IPv6Address(gateway.address)),
                "weight": weight,
            }
            for gateway, weight in members_
        ]
        rows.append({"prefix": str(prefix), "next_hops": hops})
    return {"source": forwarder.plan_source, "routes": rows}


def roles(secure: SecureNode, around: Surroundings, arguments: Arguments, now: Instant) -> Json:
    """The µ-services that run on this node, and what each is doing."""
    node = secure.node
    rows: list[dict[str, Any]] = []
    if node.forwarder is not None:
        rows.append({"role": "fd", "state": "on", "doing": f"forwards by plan of {node.forwarder.plan_source}"})
    if node.processor is not None:
        rows.append({"role": "tp", "state": "on", "doing": f"computed {node.processor.computations} plans"})
    return rows


def config(secure: SecureNode, around: Surroundings, arguments: Arguments, now: Instant) -> Json:
    """The configuration in effect."""
    return dict(around.config)


def guard(secure: SecureNode, around: Surroundings, arguments: Arguments, now: Instant) -> Json:
    """The nftables table that keeps this machine from being an open router."""
    return dict(around.guard)


def greeters(secure: SecureNode, around: Surroundings, arguments: Arguments, now: Instant) -> Json:
    """Who greets on this node's links, members and strangers alike: the names that ``dmssd join`` takes."""
    node = secure.node
    rows = [
        {
            "name": seen.name,
            "node": seen.node.hex(),
            "mesh": seen.mesh.hex(),
            "interface": interface(node, seen.link),
            "address": seen.address,
        }
        for seen in node.meetings.seen_at.values()
    ]
    return sorted(rows, key=lambda row: (row["name"], row["interface"]))


def pending(secure: SecureNode, around: Surroundings, arguments: Arguments, now: Instant) -> Json:
    """Who waits to be admitted, at whichever member, in order of id."""
    node = secure.node
    return [
        {"node": each.node.hex(), "name": each.waiting.name, "via": name_of(node, each.via)}
        for each in petitions(node.replica)
        if secure.membership.offered(each.node, node.replica) is None
    ]


Query = Callable[[SecureNode, Surroundings, Arguments, Instant], Json]

QUERIES: dict[str, Query] = {
    query.__name__: query
    for query in (
        status,
        members,
        addresses,
        network_global,
        network_mwt,
        network_spt,
        routes,
        roles,
        config,
        guard,
        greeters,
        pending,
    )
}


def _place_names(node: Node) -> Callable[[NodeId], str]:
    """How nodes and segments of the graphs are called: a segment by its designated member."""
    lsdb = node.linkstate.lsdb
    shared = {segment.pseudonode: f"segment of {name_of(node, segment.designated.node)}" for segment in segments(lsdb)}
    return lambda who: shared.get(who) or name_of(node, who)


def interface(node: Node, link: int) -> str:
    """An interface's name where the link is up, else its number."""
    up = node.links.get(link)
    return up.name if up else f"if{link}"


def link_ends(node: Node, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The request ``metric`` with ids for the two names of its ``link``, ``A-B``; ``RequestError`` for a bad one.

    Names may hold dashes, so every dash is tried as the one between the two.
    """
    text = str(arguments["link"])
    fits: list[tuple[NodeId, NodeId]] = []
    problem = RequestError(f"{text!r} is no link: give the names of two adjacent nodes as A-B")
    for dash in (place for place, character in enumerate(text) if character == "-"):
        try:
            fits.append((find_node(node, text[:dash]), find_node(node, text[dash + 1 :])))
        except RequestError as unknown:
            problem = unknown
    if len(fits) != 1:
        raise RequestError(f"{text!r} may mean more than one link: give ids instead of names") if fits else problem
    (a, b), metric = fits[0], arguments.get("metric")
    return {"a": a.hex(), "b": b.hex(), "metric": metric}


def role_names(node: Node) -> list[str]:
    """The roles that are switched on, sorted."""
    return sorted(name for name, role in (("fd", node.forwarder), ("tp", node.processor)) if role is not None)


def _addresses(lsa: Lsa | None) -> list[str]:
    return [str(prefix).rsplit("/", 1)[0] for prefix in lsa.prefixes if prefix.is_host] if lsa else []


def _draining(lsa: Lsa | None) -> bool:
    return lsa is not None and lsa.draining


def _advertised(node: Node) -> dict[tuple[NodeId, int], int]:
    """What this node's links cost as its LSA says, by neighbour and link."""
    return {(adjacency.neighbour, adjacency.link): adjacency.metric for adjacency in node.linkstate.mine.adjacencies}


def _neighbours(node: Node) -> list[dict[str, Any]]:
    advertised = _advertised(node)
    rows = [
        {
            "node": state.node.hex(),
            "name": name_of(node, state.node),
            "interface": interface(node, state.link),
            "state": state.state,
            "metric": advertised.get((state.node, state.link), state.metric),
            "rtt_ms": None if state.rtt_ns is None else round(state.rtt_ns / 1e6, 3),
        }
        for state in node.adjacencies.neighbours()
    ]
    return sorted(rows, key=lambda row: (row["name"], row["interface"]))


def _links(node: Node, neighbours: list[dict[str, Any]]) -> list[dict[str, Any]]:
    by_interface: dict[str, list[str]] = {}
    for neighbour in neighbours:
        by_interface.setdefault(neighbour["interface"], []).append(neighbour["name"])
    return [
        {
            "name": up.name,
            "link": up.link,
            "metric": up.metric or "measured",
            "medium": up.medium,
            "mtu": up.mtu,
            "neighbours": by_interface.get(up.name, []),
        }
        for up in sorted(node.links.values(), key=lambda up: up.name)
    ]


def _plan(node: Node) -> dict[str, Any]:
    forwarder = node.forwarder
    if forwarder is None:
        return {"source": "none", "routes": 0, "refused": 0, "filtered": 0, "taken": 0}
    return {
        "source": forwarder.plan_source,
        "routes": len(forwarder.wanted),
        "refused": forwarder.refused,
        "filtered": forwarder.filtered,
        "taken": forwarder.taken,
    }


def _sessions(secure: SecureNode) -> dict[str, int]:
    held, behind = secure.sessions.ages()
    return {
        "epoch": secure.terms.epoch,
        "lifetime_s": secure.terms.lifetime_s,
        "with_members": held,
        "behind": behind,
    }


def _twins(secure: SecureNode, now: Instant) -> list[str]:
    """Identities that are on two machines."""
    node, twins = secure.node, secure.sessions.twins

    def named(who: NodeId) -> str:
        return name_of(node, who)

    def place(source: str) -> str:
        address, _, link = source.partition("%")
        return f"{address} on {interface(node, int(link))}" if link.isdigit() else f"through {address}"

    ours, lines = twins.ours(now), []
    theirs = node.linkstate.twin(now)
    if ours is not None:
        lines.append(f"another machine, {place(ours)}, runs with this node's identity; {NEXT_STEP}")
    elif theirs is not None:
        here, there = told(node.linkstate.mine, named), told(theirs, named)
        lines.append(f"two machines run with this node's identity: this one, {here}, and one {there}; {NEXT_STEP}")
    met = {who: places for who, places in twins.others(now) if all("%" in each for each in places)}
    shown = {node.me}
    for who, latest, other in node.doubles.places():
        if who not in (*shown, *met) and other is not None:
            shown.add(who)
            places = " and one ".join(sorted((told(latest, named), told(other, named))))
            lines.append(f"two machines run with the identity of {named(who)}: one {places}; {NEXT_STEP}")
    return lines + [
        f"two machines run with the identity of {named(who)}: {place(one)} and {place(other)}; {NEXT_STEP}"
        for who, (one, other) in twins.others(now)
        if who not in shown
    ]


def _reasons(node: Node, neighbours: list[dict[str, Any]]) -> list[str]:
    reasons = [
        f"neighbour {row['name']} on {row['interface']} is {row['state']}" for row in neighbours if row["state"] != "up"
    ]
    reasons += mtu_reasons(node.links, node.adjacencies.neighbours(), lambda who: name_of(node, who))
    for member in node.swim.members():
        if member.state in (State.SUSPECT, State.DEAD):
            name = member.name or name_of(node, member.node)
            reasons.append(f"member {name} is {STATE_SHOWN[member.state]}; next: dmssd member list")
    reasons += address_conflicts(node.linkstate.lsdb, node.me, lambda who: name_of(node, who))
    reasons += _address_reasons(node)
    if node.forwarder is not None and node.forwarder.refused:
        reasons.append(
            f"the kernel refused {node.forwarder.refused} route writes, which are retried; next: dmssd event watch"
        )
    return reasons


def _address_reasons(node: Node) -> list[str]:
    return [
        f"no IPv{family} address is free for this node: widen mesh.pool4 on every node, or set address{family} here"
        for family in node.claims.full
    ]
