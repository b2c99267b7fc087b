"""What a monitoring system is told: ``GET /metrics`` and ``dmssd metrics``.

``FAMILIES`` is the whole list; docs/operating/monitoring.md says what each means, and a test compares the two. Labels
are states, reasons, kinds, families and this machine's own interfaces: never members, of which there may be thousands.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dmssd import queries
from dmssd.channels import Channel
from dmssd.counts import KIND_ECHO, Histogram, Tally
from dmssd.exposition import Exposition, Family
from dmssd.queries import Surroundings
from dmssd.secure import KIND_GREETING, SecureNode
from dmssd.security.sessions import KIND_MESSAGE1, KIND_MESSAGE2, KIND_MESSAGE3
from dmssd.security.transport import KIND_SEALED
from routing.lsa import Prefix
from sansio.instant import SECOND, Instant

KINDS: Mapping[int, str] = {
    KIND_GREETING: "greeting",
    KIND_MESSAGE1: "handshake",
    KIND_MESSAGE2: "handshake",
    KIND_MESSAGE3: "handshake",
    KIND_SEALED: "sealed",
    KIND_ECHO: "echo",
}
CHANNELS: Mapping[int, str] = {channel: channel.name.lower() for channel in Channel}
OTHER = "other"

IP_FAMILIES = {4: "ipv4", 16: "ipv6"}
"""By bytes of an address."""

_GAUGE, _COUNTER = "gauge", "counter"

FAMILIES = (
    Family("dmssd_build_info", _GAUGE, "1, with the version.", ("version",)),
    Family("dmssd_node_info", _GAUGE, "1, with who this node is.", ("node", "name", "mesh", "mesh_name")),
    Family("dmssd_start_time_seconds", _GAUGE, "When the daemon started, by this machine's clock then."),
    Family("dmssd_uptime_seconds", _GAUGE, "Since the daemon started, by a clock that nobody sets."),
    Family("dmssd_cpu_seconds_total", _COUNTER, "Processor time of the daemon."),
    Family("dmssd_resident_memory_bytes", _GAUGE, "Memory of the daemon that is in RAM."),
    Family("dmssd_open_fds", _GAUGE, "Descriptors that the daemon holds open."),
    Family("dmssd_loop_lag_seconds", "histogram", "By how much the event loop came late to what was due."),
    Family("dmssd_problems", _GAUGE, "Reasons that dmssd status gives for a verdict other than ok."),
    Family("dmssd_members", _GAUGE, "Members as this node sees them, itself included.", ("state",)),
    Family("dmssd_gossip_health_score", _GAUGE, "Lifeguard's local health: 0 is well, higher is slow itself."),
    Family("dmssd_gossip_incarnation", _GAUGE, "Raised whenever this node refutes a suspicion, or starts."),
    Family("dmssd_petitions", _GAUGE, "Machines that wait to be admitted."),
    Family("dmssd_link_up", _GAUGE, "Whether a configured link can be used.", ("interface",)),
    Family("dmssd_adjacencies", _GAUGE, "Neighbours on a link.", ("interface", "state")),
    Family("dmssd_sessions", _GAUGE, "Members with whom a session stands."),
    Family("dmssd_sessions_behind", _GAUGE, "Of these, the sessions that are yet to be replaced."),
    Family("dmssd_certificate_expiry_timestamp_seconds", _GAUGE, "When this node's certificate ends; none: never."),
    Family("dmssd_admin", _GAUGE, "Whether this node may admit and expel others."),
    Family("dmssd_draining", _GAUGE, "Whether others were told to send around this node."),
    Family("dmssd_lsdb_origins", _GAUGE, "Nodes in the link-state database."),
    Family("dmssd_lsdb_adjacencies", _GAUGE, "Adjacencies in the link-state database, one for each direction."),
    Family("dmssd_lsdb_prefixes", _GAUGE, "Prefixes in the link-state database."),
    Family("dmssd_statements", _GAUGE, "Signed statements of members held."),
    Family("dmssd_plan_is_own", _GAUGE, "Whether routes follow a plan computed here, not one of a processor."),
    Family("dmssd_plans_computed_total", _COUNTER, "Times that this node computed plans for others."),
    Family("dmssd_routes_wanted", _GAUGE, "Routes that the plan asks for.", ("family",)),
    Family("dmssd_routes_programmed", _GAUGE, "Routes of dmssd in the kernel, as last read or written.", ("family",)),
    Family("dmssd_routes_filtered", _GAUGE, "Routes that [routes] keeps out."),
    Family("dmssd_route_writes_refused", _GAUGE, "Operations of the last batch that the kernel refused; retried."),
    Family("dmssd_routes_taken_total", _COUNTER, "Routes that somebody else took out of the kernel."),
    Family("dmssd_fib_operations_total", _COUNTER, "Operations on the kernel's table.", ("family",)),
    Family("dmssd_fib_refused_total", _COUNTER, "Of these, those that the kernel refused.", ("family",)),
    Family("dmssd_fib_reads_total", _COUNTER, "Times that the kernel's table was read back."),
    Family("dmssd_guard_up", _GAUGE, "Whether the nftables table of the guard is in place."),
    Family("dmssd_guard_restored_total", _COUNTER, "Times that the guard's table had to be put back."),
    Family("dmssd_sent_datagrams_total", _COUNTER, "Datagrams sent, by kind on the wire.", ("kind",)),
    Family("dmssd_sent_bytes_total", _COUNTER, "Their payload, without UDP, IP and link headers.", ("kind",)),
    Family("dmssd_received_datagrams_total", _COUNTER, "Datagrams taken from links, by kind on the wire.", ("kind",)),
    Family("dmssd_received_bytes_total", _COUNTER, "Their payload, without UDP, IP and link headers.", ("kind",)),
    Family("dmssd_sent_messages_total", _COUNTER, "Messages to other nodes, before they are sealed.", ("channel",)),
    Family("dmssd_sent_message_bytes_total", _COUNTER, "Their size before they are sealed.", ("channel",)),
    Family("dmssd_received_messages_total", _COUNTER, "Messages of other nodes, opened.", ("channel",)),
    Family("dmssd_received_message_bytes_total", _COUNTER, "Their size, opened.", ("channel",)),
    Family("dmssd_rejected_total", _COUNTER, "What came from outside and was refused, or was lost here.", ("reason",)),
    Family("dmssd_events_total", _COUNTER, "What dmssd event watch shows.", ("kind",)),
    Family("dmssd_disk_writes_total", _COUNTER, "Files of the state directory written."),
    Family("dmssd_disk_written_bytes_total", _COUNTER, "Bytes in them, without what the file system adds."),
)


@dataclass(slots=True)
class Machine:
    """What was counted around the node.

    ``links``: interface -> whether it is up. ``fib_operations``, ``fib_refused``: by bytes of an address, 0 for
    nexthops. ``sent``, ``received``: by the kinds above.
    """

    started_s: float
    cpu_s: float
    resident_bytes: int
    open_fds: int
    lag: Histogram
    links: Mapping[str, bool]
    sent: Tally
    received: Tally
    fib_operations: Mapping[int, int]
    fib_refused: Mapping[int, int]
    fib_reads: int
    events: Mapping[str, int]
    disk_writes: int
    disk_bytes: int


def page(secure: SecureNode, around: Surroundings, machine: Machine, now: Instant) -> str:
    """Everything, as Prometheus reads it."""
    out = Exposition(FAMILIES)
    status = queries.status(secure, around, {}, now)
    _process(out, status, machine, (now - around.started) / SECOND)
    _membership(out, secure, status)
    _links(out, status, machine)
    _routing(out, secure)
    _kernel(out, around, machine)
    _messages(out, secure, machine)
    for reason, count in status["rejected"].items():
        out.add("dmssd_rejected_total", count, reason)
    for kind, count in sorted(machine.events.items()):
        out.add("dmssd_events_total", count, kind)
    return out.text()


def _process(out: Exposition, status: Mapping[str, Any], machine: Machine, uptime_s: float) -> None:
    out.add("dmssd_build_info", 1, status["version"])
    out.add("dmssd_node_info", 1, *(status[key] for key in ("node", "name", "mesh", "mesh_name")))
    out.add("dmssd_start_time_seconds", machine.started_s)
    out.add("dmssd_uptime_seconds", uptime_s)
    out.add("dmssd_cpu_seconds_total", machine.cpu_s)
    out.add("dmssd_resident_memory_bytes", machine.resident_bytes)
    out.add("dmssd_open_fds", machine.open_fds)
    out.add_histogram("dmssd_loop_lag_seconds", machine.lag)
    out.add("dmssd_problems", len(status["reasons"]))
    out.add("dmssd_disk_writes_total", machine.disk_writes)
    out.add("dmssd_disk_written_bytes_total", machine.disk_bytes)


def _membership(out: Exposition, secure: SecureNode, status: Mapping[str, Any]) -> None:
    for state, count in status["members"].items():
        out.add("dmssd_members", count, state)
    out.add("dmssd_gossip_health_score", secure.node.swim.local_health)
    out.add("dmssd_gossip_incarnation", secure.node.swim.incarnation)
    out.add("dmssd_petitions", status["waiting"])
    out.add("dmssd_sessions", status["sessions"]["with_members"])
    out.add("dmssd_sessions_behind", status["sessions"]["behind"])
    if status["expiry"]:
        out.add("dmssd_certificate_expiry_timestamp_seconds", status["expiry"])
    out.add("dmssd_admin", bool(status["admin"]))
    out.add("dmssd_draining", bool(status["draining"]))
    out.add("dmssd_statements", len(secure.node.replica))


def _links(out: Exposition, status: Mapping[str, Any], machine: Machine) -> None:
    for name, is_up in sorted(machine.links.items()):
        out.add("dmssd_link_up", is_up, name)
    found = Counter((row["interface"], row["state"]) for row in status["neighbours"])
    for name in sorted({link["name"] for link in status["links"]} | {name for name, _ in found}):
        for state in ("up", "restarting", "down"):
            out.add("dmssd_adjacencies", found[name, state], name, state)


def _routing(out: Exposition, secure: SecureNode) -> None:
    node = secure.node
    lsas = node.linkstate.lsdb.values()
    out.add("dmssd_lsdb_origins", len(node.linkstate.lsdb))
    out.add("dmssd_lsdb_adjacencies", sum(len(lsa.adjacencies) for lsa in lsas))
    out.add("dmssd_lsdb_prefixes", sum(len(lsa.prefixes) for lsa in lsas))
    if node.processor is not None:
        out.add("dmssd_plans_computed_total", node.processor.computations)
    if (forwarder := node.forwarder) is None:
        return
    out.add("dmssd_plan_is_own", forwarder.plan_source == "self")
    _by_family(out, "dmssd_routes_wanted", forwarder.wanted)
    _by_family(out, "dmssd_routes_programmed", forwarder.installed.routes if forwarder.installed else ())
    out.add("dmssd_routes_filtered", forwarder.filtered)
    out.add("dmssd_route_writes_refused", forwarder.refused)
    out.add("dmssd_routes_taken_total", forwarder.taken)


def _by_family(out: Exposition, name: str, prefixes: Iterable[Prefix]) -> None:
    found = Counter(len(prefix.network) for prefix in prefixes)
    for size, family in IP_FAMILIES.items():
        out.add(name, found[size], family)


def _kernel(out: Exposition, around: Surroundings, machine: Machine) -> None:
    for size, family in {**IP_FAMILIES, 0: "nexthop"}.items():
        out.add("dmssd_fib_operations_total", machine.fib_operations.get(size, 0), family)
        out.add("dmssd_fib_refused_total", machine.fib_refused.get(size, 0), family)
    out.add("dmssd_fib_reads_total", machine.fib_reads)
    out.add("dmssd_guard_up", bool(around.guard.get("ruleset")) and not around.guard.get("problem"))
    out.add("dmssd_guard_restored_total", around.guard.get("restored", 0))


def _messages(out: Exposition, secure: SecureNode, machine: Machine) -> None:
    wire, inside = ("datagrams", "bytes"), ("messages", "message_bytes")
    for direction, tally in (("sent", machine.sent), ("received", machine.received)):
        _tally(out, direction, wire, tally, KINDS)
    for direction, tally in (("sent", secure.sent), ("received", secure.received)):
        _tally(out, direction, inside, tally, CHANNELS)


def _tally(out: Exposition, direction: str, what: tuple[str, str], tally: Tally, names: Mapping[int, str]) -> None:
    for measure, counted in zip(what, (tally.count, tally.bytes), strict=True):
        summed = Counter(dict.fromkeys((*names.values(), OTHER), 0))
        for kind, number in counted.items():
            # Anybody can send a byte that stands for nothing.
            summed[names.get(kind, OTHER)] += number
        for name, number in summed.items():
            out.add(f"dmssd_{direction}_{measure}_total", number, name)
