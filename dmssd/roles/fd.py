"""The Forwarder: takes the first acceptable row of a plan and keeps the kernel's forwarding table equal to it.

Theory of operation. A row says, per destination, through which neighbours on which links. The Forwarder turns it into
wanted groups of gateways, leaving out every neighbour whose adjacency is not up *now*: that is the local repair, done
at once and by itself when an echo is lost (DESIGN 7). Everything else follows from one rule, ``diff(installed,
wanted)``, run whenever either side changes; one batch is in flight at a time, and its outcome, or a fresh reading of
the kernel, is the next ``installed``.

Who computed does not matter: any TopologyProcessor's row is taken if it covers this node's own latest LSA and is in
no origin older than the row in use. Where none comes within ``plan_patience`` of a change, the row is computed here
with the same code (``plan: self``).

At a restart the kernel still forwards by what the previous daemon left. Nothing is touched until every gateway in use
is an adjacency again, or ``settle`` has gone by: a table half relearned must not replace one that works.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

from dmssd.events import FibProgrammed, FibRead, Notice, ProgramFib
from dmssd.roles.messages import PLAN_CODEC, PlanAck, PlanPush, row_digest
from routing import fib
from routing.fib import Gateway, Installed, Members
from routing.filter import RouteFilter
from routing.lsa import LinkNumber, Lsa, Prefix
from routing.neighbours import SUCCEEDED, NeighbourDown, NeighbourUp
from routing.plan import ROW_CODEC, Planner, Row, acceptable
from routing.segments import GatewaysSet
from sansio.core import Rejected, Wake
from sansio.errors import RemoteProtocolError
from sansio.ids import NodeId
from sansio.instant import MILLISECOND, SECOND, Duration, Instant, after, earliest


@dataclass(frozen=True, slots=True)
class ForwarderConfig:
    """How long a Forwarder waits for others.

    ``plan_patience``: raising it spares own computations, lowering it repairs sooner where no TopologyProcessor is
    left. ``settle``: how long after a restart the routes found in the kernel are kept untouched at most.
    ``retry_first`` and ``retry_max`` bound the pace at which refused writes are tried again.
    """

    plan_patience: Duration = Duration(200 * MILLISECOND)
    settle: Duration = Duration(8 * SECOND)
    retry_first: Duration = Duration(100 * MILLISECOND)
    retry_max: Duration = Duration(5 * SECOND)
    policy: str = "shortest"
    filter: RouteFilter = RouteFilter()


@dataclass(frozen=True, slots=True)
class PlanReceived:
    """A message on the plan channel from an authenticated member that this node takes plans from."""

    source: NodeId
    name: str
    push: PlanPush


@dataclass(frozen=True, slots=True)
class LsdbMoved:
    """The link-state database changed."""


@dataclass(frozen=True, slots=True)
class ForwarderConfigured:
    """Other settings from now on."""

    config: ForwarderConfig


@dataclass(frozen=True, slots=True)
class Retired:
    """Forward no longer: take out of the kernel what is ours, and want nothing more."""


@dataclass(frozen=True, slots=True)
class SendPlan:
    """Send a plan-channel message to a member."""

    to: NodeId
    payload: bytes


ForwarderEvent = (
    NeighbourUp
    | NeighbourDown
    | GatewaysSet
    | PlanReceived
    | LsdbMoved
    | FibProgrammed
    | FibRead
    | ForwarderConfigured
    | Retired
    | Wake
)
ForwarderAction = SendPlan | ProgramFib | Notice | Rejected


class Forwarder:
    """One node's data plane. ``lsdb`` is a live, read-only view of the node's link-state database."""

    def __init__(self, me: NodeId, lsdb: Mapping[NodeId, Lsa], config: ForwarderConfig) -> None:
        self._me = me
        self._lsdb = lsdb
        self._config = config
        self._gateways: dict[tuple[NodeId, LinkNumber], Gateway] = {}
        self._beside: dict[tuple[NodeId, LinkNumber], Gateway] = {}  # on our segments, adjacent or not
        self._former: dict[tuple[NodeId, LinkNumber], Gateway] = {}  # under names that the row in use still has
        self._in_flight: ProgramFib | None = None
        self._batches = 0
        self._check_at: Instant | None = None
        self._settle_until: Instant | None = None
        self._retry_at: Instant | None = None
        self._retry_wait = config.retry_first
        self.installed: Installed | None = None
        self.wanted: dict[Prefix, Members] = {}
        self.row: Row | None = None
        self.plan_source = "none"
        self.refused = 0
        self._retired = False
        self.filtered = 0
        self.taken = 0

    def handle(self, event: ForwarderEvent, now: Instant) -> list[ForwarderAction]:
        """The core's door."""
        match event:
            case PlanReceived():
                return self._on_plan(event, now)
            case LsdbMoved():
                self._check_at = self._check_at or after(now, self._config.plan_patience)
                return []
            case NeighbourUp():
                self._gateways[event.node, event.link] = Gateway(event.link, _packed(event.address))
                return self._rewant(now)
            case NeighbourDown():
                return self._on_neighbour_down(event, now)
            case GatewaysSet(addresses):
                return self._on_gateways(addresses, now)
            case FibProgrammed():
                return self._on_programmed(event, now)
            case FibRead():
                return self._on_read(event.installed, now)
            case ForwarderConfigured(config):
                return self._on_configured(config, now)
            case Retired():
                return self._on_retired(now)
            case Wake():
                return self._on_wake(now)
            case _:
                assert_never(event)

    def deadline(self) -> Instant | None:
        """When to check the plan, end the settling, or retry a refused write."""
        return earliest(self._check_at, self._settle_until, self._retry_at)

    @property
    def gone(self) -> bool:
        """Retired, and nothing of ours is left in the kernel."""
        held = self.installed
        return self._retired and held is not None and not (held.routes or held.groups or held.nexthops)

    def neighbours_by_gateway(self) -> dict[Gateway, NodeId]:
        """Whose each usable gateway is."""
        return {gateway: node for (node, _), gateway in self._usable().items()}

    def _usable(self) -> dict[tuple[NodeId, LinkNumber], Gateway]:
        return self._former | self._beside | self._gateways

    # Settings

    def _on_configured(self, config: ForwarderConfig, now: Instant) -> list[ForwarderAction]:
        repolicied = config.policy != self._config.policy
        self._config = config
        if repolicied and self.plan_source == "self":
            # Same origins, other answer: the sequence numbers do not show that the row is out of date.
            row = Planner(self._lsdb, config.policy).row(self._me)
            return [] if row is None or row == self.row else self._install(row, "self", now)
        self._check_at = self._check_at or after(now, config.plan_patience)
        return self._rewant(now)

    def _on_retired(self, now: Instant) -> list[ForwarderAction]:
        self._retired = True
        self._settle_until = self._check_at = self._retry_at = None
        self.row, self.wanted = None, {}
        return self._reconcile(now)

    # Plans

    def _on_plan(self, event: PlanReceived, now: Instant) -> list[ForwarderAction]:
        push = event.push
        if row_digest(push.row) != push.digest:
            return [Rejected(event.name, "plan row does not match its digest")]
        try:
            row = ROW_CODEC.decode(push.row, event.name)
        except RemoteProtocolError as problem:
            return [Rejected(event.name, f"plan row {problem.reason}")]
        if row.forwarder != self._me:
            return [Rejected(event.name, "plan row is another forwarder's")]
        own = self._lsdb.get(self._me)
        fits = own is not None and acceptable(row, self._me, own.sequence, self.row)
        answer = PlanAck(push.digest, fits, "" if fits else "older than what this forwarder knows")
        actions: list[ForwarderAction] = [SendPlan(event.source, PLAN_CODEC.encode(answer))]
        if fits and row != self.row:
            actions += self._install(row, f"tp {event.name}", now)
        return actions

    def _check_plan(self, now: Instant) -> list[ForwarderAction]:
        if self._is_current():
            return []
        row = Planner(self._lsdb, self._config.policy).row(self._me)
        if row is None or row == self.row:
            return []
        return self._install(row, "self", now)

    def _is_current(self) -> bool:
        # Cheaper than computing: a row that names every origin of the LSDB at its present sequence was made of it.
        if self.row is None:
            return False
        covered = {entry.origin: entry.sequence for entry in self.row.entries}
        return all(covered.get(origin) == lsa.sequence for origin, lsa in self._lsdb.items())

    def _install(self, row: Row, source: str, now: Instant) -> list[ForwarderAction]:
        self.row = row
        if self._former:
            named = {(hop.neighbour, hop.link) for group in row.groups for hop in group}
            self._former = {place: gateway for place, gateway in self._former.items() if place in named}
        # Which processor was first says nothing, and would be a line in the journal whenever an LSA is renewed.
        changed = source.partition(" ")[0] != self.plan_source.partition(" ")[0]
        self.plan_source = source
        if not self._is_current():
            # A row may lack an origin that its maker had not heard of: acceptable, but not the last word.
            self._check_at = self._check_at or after(now, self._config.plan_patience)
        actions: list[ForwarderAction] = [Notice("plan.source", {"source": source})] if changed else []
        return actions + self._rewant(now)

    # Neighbours

    def _on_neighbour_down(self, event: NeighbourDown, now: Instant) -> list[ForwarderAction]:
        gone = self._gateways.pop((event.node, event.link), None)
        if gone is not None and event.reason == SUCCEEDED:
            self._former[event.node, event.link] = gone
        self._keep_former({})
        return self._rewant(now)

    def _on_gateways(self, addresses: Mapping[tuple[NodeId, LinkNumber], str], now: Instant) -> list[ForwarderAction]:
        before = self._beside
        self._beside = {place: Gateway(place[1], _packed(text)) for place, text in addresses.items()}
        self._keep_former(before)
        return self._rewant(now)

    def _keep_former(self, more: Mapping[tuple[NodeId, LinkNumber], Gateway]) -> None:
        """Places that are still there under another name; the row in use has the old one."""
        now_called = self._beside | self._gateways
        here = set(now_called.values())
        former = {**self._former, **more}
        self._former = {place: at for place, at in former.items() if at in here and place not in now_called}

    # The kernel

    def _rewant(self, now: Instant) -> list[ForwarderAction]:
        wanted = wanted_routes(self.row, self._usable()) if self.row else {}
        self.wanted = {prefix: members for prefix, members in wanted.items() if self._config.filter.takes(prefix)}
        self.filtered = len(wanted) - len(self.wanted)
        self._retry_at = None
        return self._reconcile(now)

    def _reconcile(self, now: Instant) -> list[ForwarderAction]:
        if self.installed is None or self._in_flight is not None or self._is_settling(now):
            return []
        operations = fib.diff(self.installed, self.wanted)
        if not operations:
            return []
        self._batches += 1
        self._in_flight = ProgramFib(self._batches, operations)
        return [self._in_flight]

    def _is_settling(self, now: Instant) -> bool:
        if self._settle_until is None or self.installed is None:
            return False
        known = set(self._usable().values())
        if now < self._settle_until and not known.issuperset(self.installed.nexthops.values()):
            return True
        if now < self._settle_until and self.row is None:
            return True
        self._settle_until = None
        return False

    def _on_programmed(self, event: FibProgrammed, now: Instant) -> list[ForwarderAction]:
        batch = self._in_flight
        if batch is None or batch.batch != event.batch or self.installed is None:
            return []
        self._in_flight = None
        self.installed = fib.applied(self.installed, batch.operations, event.failures)
        self.refused = len(event.failures)
        if event.failures:
            self._retry_at = after(now, self._retry_wait)
            self._retry_wait = Duration(min(self._retry_wait * 2, self._config.retry_max))
            position, errno = event.failures[0]
            facts = {"operation": str(batch.operations[position]), "errno": errno, "count": self.refused}
            return [Notice("fib.refused", facts)]
        self._retry_wait = self._config.retry_first
        return self._reconcile(now)

    def _on_read(self, installed: Installed, now: Instant) -> list[ForwarderAction]:
        if self.installed is None and installed.routes:
            self._settle_until = after(now, self._config.settle)
        taken = self._taken(installed)
        self.installed = installed
        self._in_flight = None
        actions: list[ForwarderAction] = [Notice("fib.taken", {"count": taken})] if taken else []
        return actions if self._retry_at is not None else actions + self._reconcile(now)

    def _taken(self, now_installed: Installed) -> int:
        """Routes that are gone though a gateway of theirs is there: the kernel does not do that by itself."""
        if self.installed is None or self._in_flight is not None:
            return 0
        present = set(now_installed.nexthops.values()) | {
            gateway for gateway in self.installed.nexthops.values() if gateway in self._gateways.values()
        }
        gone = [prefix for prefix in self.installed.routes if prefix not in now_installed.routes]
        taken = sum(any(gateway in present for gateway, _ in self.wanted.get(prefix, ())) for prefix in gone)
        self.taken += taken
        return taken

    def _on_wake(self, now: Instant) -> list[ForwarderAction]:
        actions: list[ForwarderAction] = []
        if self._check_at is not None and now >= self._check_at:
            self._check_at = None
            actions += self._check_plan(now)
        if self._retry_at is not None and now >= self._retry_at:
            self._retry_at = None
        return actions + self._reconcile(now)


def wanted_routes(row: Row, gateways: Mapping[tuple[NodeId, LinkNumber], Gateway]) -> dict[Prefix, Members]:
    """What the kernel should hold for ``row``, given the adjacencies that are up.

    A prefix that several origins announce goes to the nearest of them, to all of those at equal distance, and a default
    route to the nearest of those that are preferred most; one that no usable gateway leads to is left out.
    """
    groups = [
        {gateways[hop.neighbour, hop.link]: hop.weight for hop in group if (hop.neighbour, hop.link) in gateways}
        for group in row.groups
    ]
    nearest: dict[Prefix, tuple[tuple[int, int], dict[Gateway, int]]] = {}
    for entry in row.entries:
        members = groups[entry.group] if entry.group >= 0 else {}
        for prefix in entry.prefixes:
            rank = (-entry.gateway if prefix.is_default else 0, entry.distance)
            best, known = nearest.get(prefix, (rank, {}))
            if rank < best or prefix not in nearest:
                nearest[prefix] = (rank, members)
            elif rank == best:
                nearest[prefix] = (rank, known | members)
    return {prefix: tuple(sorted(members.items())) for prefix, (_, members) in nearest.items() if members}


def _packed(address: str) -> bytes:
    return ipaddress.IPv6Address(address).packed
