"""One node's protocols, wired together: typed events in, each core's actions handed to whoever they concern.

Read this file as a switchboard. It holds no rule of its own: rules live in the cores (``routing``, ``gossip``,
``dmssd.roles``) or, where they tie two cores together, in a named file of ``dmssd.rules``. It knows no key and no
session; :mod:`dmssd.secure` stands around it and opens and seals what passes (:mod:`dmssd.inner`).

    links ── discovery ── sessions ── adjacencies ──┬── link state ──┬── control routing ── everything end to end
                                                    │                ├── TopologyProcessor ── rows ─┐
                                                    └── Forwarder ───┴────────────────────────────────┘
"""

import dataclasses
import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, assert_never

from dmssd import inner
from dmssd.channels import Channel
from dmssd.events import (
    EchoReplied,
    FibProgrammed,
    FibRead,
    Halt,
    LinkDown,
    LinkUp,
    NetworksRead,
    Notice,
    PinNeighbour,
    ProgramFib,
    Reply,
    Request,
    SendEcho,
    SetAddresses,
    SettingsChanged,
    Stopping,
)
from dmssd.fragments import Fragments
from dmssd.inner import InnerAction, InnerEvent, OpenSession, PeerSpoke, PeerUp, SendToPeer
from dmssd.roles.fd import Forwarder, ForwarderConfigured, LsdbMoved, PlanReceived, Retired, SendPlan
from dmssd.roles.messages import PLAN_CODEC, PlanAck
from dmssd.roles.tp import AckReceived, ProcessorConfig, ProcessorConfigured, TopologyProcessor
from dmssd.rules import traffic
from dmssd.rules.addresses import claim_config, heard, stated
from dmssd.rules.authority import is_admin
from dmssd.rules.doubles import Doubles
from dmssd.rules.meeting import Meetings
from dmssd.rules.names import Names
from dmssd.rules.paths import Paths
from dmssd.rules.processors import computes, forwarder_config, may_compute
from dmssd.rules.reacting import Reaction
from dmssd.rules.relaying import control_routes
from dmssd.rules.restarting import Restarts
from dmssd.rules.statements import STATEMENTS_SINCE, TOPIC_ADDRESS, TOPICS
from dmssd.rules.succession import PREDECESSOR_KEY, inherited, predecessor
from dmssd.rules.traffic import SendTraffic, Traffic
from dmssd.security.sessions import LinkPath, RoutedPath
from dmssd.settings import NodeSettings
from gossip import replica, swim
from gossip.replica import Key, Replica
from gossip.swim import Swim
from routing import adjacency, claims, control, discovery, linkstate, neighbours, segments
from routing.adjacency import Adjacencies
from routing.claims import AddressClaims
from routing.control import ControlRouter
from routing.discovery import Discovery
from routing.linkstate import LinkState
from routing.lsa import LinkNumber, Prefix, Signer, Verifier
from routing.measured import METRIC_UNIT, LinksMeasured, Measured
from routing.neighbours import SPARED, SUCCEEDED, NeighbourDown, NeighbourRestarting, NeighbourSpeaks, NeighbourUp
from routing.segments import Segments, SegmentsEvent
from sansio.bounded import RecentTable
from sansio.core import Persist, Rejected, Wake
from sansio.errors import RemoteProtocolError
from sansio.ids import MeshId, NodeId
from sansio.instant import SECOND, Duration, Instant, after
from sansio.protocol import PROTOCOL, PROTOCOL_FIRST, common

DIRECT_BYTES_MAX = 1160
"""Plaintext that fits a datagram to a neighbour: 1,200 less the seal."""

ROUTED_BYTES_MAX = 800
"""Plaintext that fits a datagram to anyone else: less two seals, the frame and a full recorded route."""


PEERS_MAX = 16_384
"""Members that something is remembered of here; the one least recently told of goes."""


HOLD_ORIGINATION = Duration(3 * SECOND)
"""After a restart with routes in the kernel: how long the LSA that others hold of this node may stand unchanged."""

_PASSED_ON = (SetAddresses, ProgramFib, Persist, Rejected, Notice, Reply, Halt)

_MEMBER_NOTICES: dict[type, str] = {
    swim.MemberSuspected: "member.suspect",
    swim.MemberDown: "member.down",
    swim.MemberLeft: "member.left",
}

_ENDS = {SPARED: "neighbour.spared", SUCCEEDED: "neighbour.succeeded"}
"""Ends of adjacencies with which nothing is wrong."""

_TimedCore = (
    Discovery
    | Adjacencies
    | LinkState
    | Segments
    | Swim
    | Replica
    | AddressClaims
    | Forwarder
    | TopologyProcessor
    | Traffic
    | Measured
)


class Node:
    """The protocols of one node in one mesh. Joining another mesh means a new ``Node``.

    ``signer`` and ``verifier`` are for LSAs, the two in ``stating`` for statements.
    """

    def __init__(
        self,
        me: NodeId,
        mesh: MeshId,
        settings: NodeSettings,
        signer: Signer,
        verifier: Verifier,
        stating: tuple[replica.Signer, replica.Verifier],
        stored: Mapping[str, bytes],
        rng: random.Random,
    ) -> None:
        self.me = me
        self.mesh = mesh
        self.settings = settings
        self.discovery = Discovery(me, settings.name, mesh, rng)
        self.adjacencies = Adjacencies(me, rng, settings.liveness)
        self.linkstate = LinkState(me, settings.name, signer, verifier, stored.get("lsa-sequence"), rng)
        self.control = ControlRouter(me)
        self.segments = Segments(me, self.linkstate.lsdb)
        self.swim = Swim(me, settings.name, settings.swim, rng, stored.get("incarnation"), self.hops_to)
        self.claims = AddressClaims(me, mesh, claim_config(settings))
        self.replica = Replica(me, mesh, *stating, rng, stored, TOPICS, self._stating_peers)
        # Whether what was stated before is known here: it was kept, or compared with what another member holds.
        self.informed = len(self.replica) > 0
        lsdb = self.linkstate.lsdb
        self.forwarder = Forwarder(me, lsdb, forwarder_config(settings)) if "fd" in settings.roles else None
        self.processor = (
            TopologyProcessor(me, lsdb, ProcessorConfig(policy=settings.mwt)) if computes(me, settings) else None
        )
        self.retiring: Forwarder | None = None  # gave up its role, and is taking its routes out of the kernel
        self.resting: Forwarder | None = None  # handed over: its routes stay as they are, for the successor
        self._predecessor = predecessor(stored.get(PREDECESSOR_KEY))
        self._followed: dict[NodeId, NodeId] = {}  # who goes on under another key, as far as we have acted on it
        self.traffic = Traffic(
            me, stored.get(traffic.STORED_KEY), lsdb, self.speaks, lambda who: is_admin(self.linkstate, who)
        )
        self.measured = Measured(self.adjacencies.neighbours)
        self.paths = Paths()
        self.meetings = Meetings(me, mesh)
        self.doubles = Doubles()
        self.links: dict[int, LinkUp] = {}
        self.certified: RecentTable[NodeId, str] = RecentTable(PEERS_MAX)  # for rules: what certificates say
        self.names = Names(me, settings.name, self.certified)  # for people: greetings and LSAs are believed here
        self._spoken: RecentTable[NodeId, int] = RecentTable(PEERS_MAX)  # in sessions with members
        self.expelled: frozenset[NodeId] = frozenset()
        self.restarts = Restarts(me, settings.liveness.daemon_missed_after)
        self._away: RecentTable[NodeId, None] = RecentTable(PEERS_MAX)  # members that gossip does not hold alive
        self._hops: Mapping[NodeId, int] = {}
        self._routes: Mapping[NodeId, NodeId] = {}  # the control network's next hops, by the database
        self._detours: dict[NodeId, NodeId] = {}
        self._fragments = Fragments()
        self._pending: deque[object] = deque()
        self._out: list[InnerAction] = []
        self._reaction = Reaction()
        self._started = False
        self._leaving: int | None = None
        self._performers = self._table()
        self._timed = self._cores()

    # The door

    def handle(self, event: InnerEvent, now: Instant) -> list[InnerAction]:
        """React to one event; everything the cores say to one another in consequence is settled before returning."""
        self._out = []
        if not self._started:
            self._start(event, now)
        self._enter(event, now)
        self._settle(now)
        return self._out

    def deadline(self) -> Instant | None:
        """The earliest deadline of any core."""
        first = self._reaction.deadline()
        for core in self._timed:
            due = core.deadline()
            if due is not None and (first is None or due < first):
                first = due
        return first

    def hops_to(self, node: NodeId) -> int | None:
        """Length of the control path to a node; ``None`` where none is known."""
        if node in self._hops:
            return self._hops[node]
        return 1 if self.paths.direct(node) else None

    @property
    def addresses(self) -> tuple[Prefix, ...]:
        """The node's own addresses in the mesh."""
        return self.claims.addresses

    def speaks(self, node: NodeId) -> int:
        """The highest protocol to use with ``node``: as its session settled, else as its LSA says, else the first."""
        if node == self.me:
            return PROTOCOL
        if node in self._spoken:
            return self._spoken[node]
        lsa = self.linkstate.lsdb.get(node)
        return common([lsa.protocol]) if lsa is not None else PROTOCOL_FIRST

    def _cores(self) -> tuple[_TimedCore, ...]:
        optional = (self.forwarder, self.retiring, self.processor)
        always = (self.discovery, self.adjacencies, self.linkstate, self.segments, self.swim, self.replica, self.claims)
        return (*always, self.traffic, self.measured, *(core for core in optional if core is not None))

    def _start(self, first: InnerEvent, now: Instant) -> None:
        self._started = True
        if isinstance(first, inner.TakeOver) or (isinstance(first, FibRead) and first.installed.routes):
            held = linkstate.OriginationHeld(after(now, HOLD_ORIGINATION))
            self._pending += self.linkstate.handle(held, now)
        if self._predecessor is not None:
            self._pending += self.linkstate.handle(linkstate.Succeeding(self._predecessor), now)
        self._pending += self.swim.handle(swim.Started(), now)
        for said in self.traffic.handle(traffic.Began(), now):
            self._perform(said, now)
        # What was persisted first: the addresses of before are this node's still.
        self._hear_claims([each.key for each in self.replica.topic(TOPIC_ADDRESS)], now)
        self._pending += self.claims.handle(claims.Started(), now)
        self._announce(now)
        self._pending += self.replica.handle(replica.Started(), now)

    # Events from outside

    def _enter(self, event: InnerEvent, now: Instant) -> None:
        match event:
            case PeerSpoke():
                self._on_peer_spoke(event, now)
            case Wake():
                self._wake(now)
            case EchoReplied(link, address, nonce):
                self._pending += self.adjacencies.handle(adjacency.EchoReplied(link, address, nonce), now)
            case inner.GreetingHeard(link, address, payload):
                self._pending += self.discovery.handle(discovery.GreetingReceived(link, address, payload), now)
            case inner.CarrySealed(path, payload, via):
                self._carry(path, payload, via, now)
            case PeerUp():
                self._on_peer_up(event, now)
            case LinkUp() | LinkDown() | FibProgrammed() | FibRead() | NetworksRead() | Stopping():
                self._on_machine(event, now)
            case SettingsChanged(settings):
                self._on_settings(settings, now)
            case replica.Publish() | inner.MembersExpelled() | inner.ProofRenewed():
                self._on_standing(event, now)
            case inner.HandOver() | inner.TakeOver():
                self._on_succession(event, now)
            case Request():
                self._on_request(event, now)
            case _:
                assert_never(event)

    def _wake(self, now: Instant) -> None:
        for core in self._timed:
            due = core.deadline()
            if due is not None and due <= now:
                self._pending += core.handle(Wake(), now)

    def _on_machine(
        self, event: LinkUp | LinkDown | FibProgrammed | FibRead | NetworksRead | Stopping, now: Instant
    ) -> None:
        match event:
            case LinkUp() | LinkDown():
                self._on_link(event, now)
            case NetworksRead(networks):
                self._pending += self.claims.handle(claims.NetworksRead(networks), now)
            case FibProgrammed() | FibRead():
                self._on_fib(event, now)
            case Stopping():
                self._pending += self.replica.handle(replica.PersistNow(), now)
            case _:
                assert_never(event)

    def _on_link(self, event: LinkUp | LinkDown, now: Instant) -> None:
        told: neighbours.LinkUp | neighbours.LinkDown
        if isinstance(event, LinkUp):
            self.links[event.link] = event
            told = neighbours.LinkUp(
                *dataclasses.astuple(dataclasses.replace(event, metric=event.metric or METRIC_UNIT))
            )
        else:
            self.links.pop(event.link, None)
            self.paths.lost(event.link)
            self.meetings.lost(event.link)
            told = neighbours.LinkDown(event.link)
        self._pending += self.discovery.handle(told, now)
        self._pending += self.adjacencies.handle(told, now)
        self._to_segments(told, now)
        links = frozenset(up.link for up in self.links.values() if not up.metric)
        self._pending += self.measured.handle(LinksMeasured(links), now)
        self._tell_neighbours(now)

    def _on_request(self, event: Request, now: Instant) -> None:
        if event.verb == "leave":
            self._pending += self.swim.handle(swim.LeaveRequested(), now)
            self._give_back(now)
            self._pending += self.linkstate.handle(linkstate.PrefixesSet(()), now)
            self._leaving = event.number
        elif event.verb in traffic.VERBS:
            asked = traffic.Asked(event.number, event.verb, event.arguments)
            self._pending += self.traffic.handle(asked, now)
        else:
            self._out.append(Reply(event.number, error=f"this node knows no request {event.verb!r}"))

    def _on_standing(self, event: replica.Publish | inner.MembersExpelled | inner.ProofRenewed, now: Instant) -> None:
        match event:
            case replica.Publish():
                self._pending += self.replica.handle(event, now)
            case inner.MembersExpelled(nodes):
                self._on_expelled(nodes, now)
            case inner.ProofRenewed():
                self._pending += self.linkstate.handle(linkstate.ProofRenewed(), now)

    # One machine, another key

    def _on_succession(self, event: inner.HandOver | inner.TakeOver, now: Instant) -> None:
        match event:
            case inner.HandOver(successor, flood):
                # The successor first: nobody shall hear of a heir that it cannot look up.
                self._pending += self.linkstate.handle(linkstate.FloodReceived(self.me, flood), now)
                self._pending += self.linkstate.handle(linkstate.HandedOver(successor), now)
                self._pending += self.replica.handle(replica.PersistNow(), now)
                self.resting, self.forwarder, self.processor = self.forwarder, None, None
                self._timed = self._cores()
            case inner.TakeOver(floods):
                for payload in floods:
                    self._pending += self.linkstate.handle(linkstate.FloodReceived(self.me, payload), now)

    def _follow_successions(self, now: Instant) -> None:
        """Neighbours that go on under another key are the same neighbours."""
        lsdb, heirs = self.linkstate.lsdb, self.linkstate.heirs
        news = {node: heir for node, heir in heirs.items() if self._followed.get(node) != heir}
        self._followed = dict(heirs)
        for node, heir in sorted(news.items()):
            self.certified.pop(node, None)
            self.names.succeeded(node)
            self.names.told(heir, lsdb[heir].name)
            self._out.append(self._notice("member.succeeded", heir, before=node.hex()))
            self.restarts.succeeded(lsdb, now)
            self.paths.succeeded(node, heir)
            self._to_segments(segments.Succeeded(node, heir), now)
            for said in self.adjacencies.handle(adjacency.Succeeded(node, heir), now):
                self._perform(said, now)
        if news:
            self._tell_neighbours(now)
            self._pending += self.swim.handle(swim.MembersExpelled(self.expelled | self._followed.keys()), now)

    def _on_expelled(self, nodes: frozenset[NodeId], now: Instant) -> None:
        self.expelled = nodes
        for node in sorted(nodes):
            self.certified.pop(node, None)
            self._pending += self.adjacencies.handle(adjacency.NodeExpelled(node), now)
        self._pending += self.linkstate.handle(linkstate.OriginsExpelled(nodes), now)
        self._pending += self.swim.handle(swim.MembersExpelled(nodes | self._followed.keys()), now)
        self._pending += self.replica.handle(replica.AuthorsRefused(nodes), now)

    def _give_back(self, now: Instant) -> None:
        for action in self.claims.handle(claims.GiveBack(), now):
            self._perform(action, now)
        self._pending += self.replica.handle(replica.PushNow(), now)

    def _on_left(self, action: swim.Left, now: Instant) -> None:
        # The members know; neighbours are told last, so that until then they carry the farewell.
        self._pending += self.adjacencies.handle(adjacency.Leaving(), now)
        if self._leaving is not None:
            self._pending.append(Reply(self._leaving, {}))
        self._pending.append(Halt())

    def _on_fib(self, event: FibProgrammed | FibRead, now: Instant) -> None:
        forwarder = self.forwarder or self.retiring or self.resting
        if forwarder is None:
            return
        self._pending += forwarder.handle(event, now)
        if forwarder.gone:
            self.retiring = None
            self._timed = self._cores()

    # Settings

    def _on_settings(self, settings: NodeSettings, now: Instant) -> None:
        before, self.settings = self.settings, settings
        if settings.liveness != before.liveness:
            self._pending += self.adjacencies.handle(adjacency.Configured(settings.liveness), now)
            self.restarts.window = settings.liveness.daemon_missed_after
        if settings.swim != before.swim:
            self._pending += self.swim.handle(swim.Configured(settings.swim), now)
        if self._leaving is None:
            self._pending += self.claims.handle(claims.ConfigSet(claim_config(settings)), now)
            self._announce(now)
        self._set_forwarder(before, now)
        self._set_processor(before, now)
        self._timed = self._cores()

    def _set_forwarder(self, before: NodeSettings, now: Instant) -> None:
        config = forwarder_config(self.settings)
        if "fd" not in self.settings.roles:
            if self.forwarder is not None:
                self.retiring, self.forwarder = self.forwarder, None
                self._pending += self.retiring.handle(Retired(), now)
        elif self.forwarder is None:
            self.forwarder, old, self.retiring = Forwarder(self.me, self.linkstate.lsdb, config), self.retiring, None
            for up in self.adjacencies.announced():
                self._pending += self.forwarder.handle(up, now)
            self._pending += self.forwarder.handle(self.segments.gateways(), now)
            if old is not None and old.installed is not None:
                self._pending += self.forwarder.handle(FibRead(old.installed), now)
            self._pending += self.forwarder.handle(LsdbMoved(), now)
        elif config != forwarder_config(before):
            self._pending += self.forwarder.handle(ForwarderConfigured(config), now)

    def _set_processor(self, before: NodeSettings, now: Instant) -> None:
        config = ProcessorConfig(policy=self.settings.mwt)
        if not computes(self.me, self.settings):
            self.processor = None
        elif self.processor is None:
            self.processor = TopologyProcessor(self.me, self.linkstate.lsdb, config)
            self._pending += self.processor.handle(LsdbMoved(), now)
        elif self.settings.mwt != before.mwt:
            self._pending += self.processor.handle(ProcessorConfigured(config), now)

    # Peers

    def _on_peer_up(self, event: PeerUp, now: Instant) -> None:
        if isinstance(event.path, LinkPath):
            self.paths.met(event.node, event.path.link, event.path.address)
            self._tell_neighbours(now)
        if not event.member:
            return
        self.certified[event.node] = event.name
        if self._spoken.get(event.node) != event.protocol or event.restarted:
            self._spoken[event.node] = event.protocol
            self._met_stating(event.node, now)
        if event.restarted:
            self._pending += self.adjacencies.handle(adjacency.SessionRestarted(event.node), now)
        if isinstance(event.path, LinkPath):
            self._pair(event.node, event.path.link, event.path.address, now)
        for link, address in self.meetings.where(event.node):
            self._try_pair(event.node, link, address, now)
        self._pending += self.swim.handle(swim.PeerMet(event.node, event.name), now)

    def _try_pair(self, node: NodeId, link: LinkNumber, address: str, now: Instant) -> None:
        # A greeting is anybody's word: it may start a hello to a free place, and displaces nobody.
        if self.adjacencies.holder(link, address) is None:
            self._to_segments(segments.Met(node, link, address, self.speaks(node)), now)

    def _pair(self, node: NodeId, link: LinkNumber, address: str, now: Instant) -> None:
        self.paths.met(node, link, address)
        self._tell_neighbours(now)
        self._pending += self.discovery.handle(discovery.Paired(link, address), now)
        if self.adjacencies.holder(link, address) == node:
            self._pending += self.adjacencies.handle(adjacency.Paired(node, link, address), now)
        else:
            self._to_segments(segments.Met(node, link, address, self.speaks(node)), now)

    # Segments

    def _to_segments(self, event: SegmentsEvent, now: Instant) -> None:
        # Performed at once: where packets go comes before who is told.
        for action in self.segments.handle(event, now):
            self._perform(action, now)

    def _on_pair_wanted(self, action: segments.PairWanted, now: Instant) -> None:
        if self.adjacencies.holder(action.link, action.address) is None:
            paired = adjacency.Paired(action.node, action.link, action.address)
            self._pending += self.adjacencies.handle(paired, now)

    def _on_unmet(self, action: segments.Unmet, now: Instant) -> None:
        self._pending += self.discovery.handle(discovery.Unpaired(action.link, action.address), now)

    def _on_rank_set(self, action: segments.RankSet, now: Instant) -> None:
        self._pending += self.adjacencies.handle(adjacency.RankSet(action.link, action.rank), now)
        self._out.append(Notice("segment.speaker", {"interface": self._interface(action.link), "rank": action.rank}))

    def _on_spared(self, action: segments.Spared, now: Instant) -> None:
        self._pending += self.adjacencies.handle(adjacency.Spared(action.link, action.nodes), now)

    def _on_attachments(self, action: segments.AttachmentsSet, now: Instant) -> None:
        self._pending += self.linkstate.handle(linkstate.AttachmentsSet(action.attachments), now)

    def _on_gateways(self, action: segments.GatewaysSet, now: Instant) -> None:
        self.paths.beside(action.addresses)
        if self.forwarder is not None:
            self._pending += self.forwarder.handle(action, now)

    def _on_neighbour_speaks(self, action: NeighbourSpeaks, now: Instant) -> None:
        self._to_segments(action, now)

    def _on_peer_spoke(self, event: PeerSpoke, now: Instant) -> None:
        source, path = event.node, event.path
        channel, payload = event.payload[0], event.payload[1:]
        if not event.member and channel != Channel.CONTROL:
            self._out.append(Rejected(source.hex(), "message of a stranger"))
            return
        if channel == Channel.FRAGMENT:
            self._on_fragment(event, payload, now)
        elif channel in (Channel.HELLO, Channel.FLOOD, Channel.CONTROL):
            if isinstance(path, LinkPath):
                self._on_link_message(event, path, channel, payload, now)
            else:
                self._out.append(Rejected(source.hex(), "link message from afar"))
        elif channel == Channel.SWIM:
            self._pending += self.swim.handle(swim.Datagram(source, payload), now)
        elif channel == Channel.PLAN:
            self._on_plan_message(source, payload, now)
        elif channel == Channel.TRAFFIC:
            self._pending += self.traffic.handle(traffic.Heard(source, payload), now)
        elif channel == Channel.STATEMENT:
            self._pending += self.replica.handle(replica.Received(source, payload), now)
        else:
            self._out.append(Rejected(source.hex(), "message on an unknown channel"))

    def _on_link_message(self, event: PeerSpoke, path: LinkPath, channel: int, payload: bytes, now: Instant) -> None:
        if channel == Channel.HELLO:
            if self.paths.met(event.node, path.link, path.address):
                self._pair(event.node, path.link, path.address, now)
            heard = adjacency.HelloReceived(event.node, path.link, path.address, payload)
            self._pending += self.adjacencies.handle(heard, now)
        elif channel == Channel.FLOOD:
            self._pending += self.linkstate.handle(linkstate.FloodReceived(event.node, payload), now)
        else:
            received = control.FrameReceived(event.node, payload, stranger=not event.member)
            self._pending += self.control.handle(received, now)

    def _on_fragment(self, event: PeerSpoke, payload: bytes, now: Instant) -> None:
        try:
            whole = self._fragments.collect(event.node, payload)
        except RemoteProtocolError as problem:
            self._out.append(Rejected(problem.source, problem.reason))
            return
        if whole and whole[0] != Channel.FRAGMENT:
            self._on_peer_spoke(PeerSpoke(event.node, event.path, event.member, whole), now)

    def _on_plan_message(self, source: NodeId, payload: bytes, now: Instant) -> None:
        name = self.settings.name if source == self.me else self.certified.get(source, source.hex())
        try:
            message = PLAN_CODEC.decode(payload, name)
        except RemoteProtocolError:
            self._out.append(Rejected(name, "plan message cannot be decoded"))
            return
        if isinstance(message, PlanAck):
            if self.processor is not None:
                self._pending += self.processor.handle(AckReceived(source, message), now)
        elif not may_compute(source, name, self.settings):
            self._out.append(Rejected(name, "plan of a node that is not named in mesh.tp"))
        elif self.forwarder is not None:
            self._pending += self.forwarder.handle(PlanReceived(source, name, message), now)

    # Actions of the cores

    def _settle(self, now: Instant) -> None:
        while self._pending or self._reaction.take(now):
            if self._pending:
                self._perform(self._pending.popleft(), now)
            else:
                self._on_lsdb_moved(now)

    def _perform(self, action: object, now: Instant) -> None:
        performer = self._performers.get(type(action))
        if performer is not None:
            performer(action, now)
        elif isinstance(action, _PASSED_ON):
            self._out.append(action)
        else:
            self._out.append(self._told(action))

    def _table(self) -> dict[type, Callable[[Any, Instant], None]]:
        """Whose action goes where. Everything else is passed on as it is, or told to people."""
        return {
            discovery.SendGreeting: self._on_send_greeting,
            discovery.NeighbourSeen: self._on_neighbour_seen,
            discovery.OwnIdentitySeen: self._on_own_identity_seen,
            adjacency.SendHello: self._on_send_hello,
            adjacency.SendEcho: self._on_send_echo,
            adjacency.PinNeighbour: self._on_pin,
            adjacency.NeighbourForgotten: self._on_neighbour_forgotten,
            NeighbourSpeaks: self._on_neighbour_speaks,
            segments.PairWanted: self._on_pair_wanted,
            segments.Unmet: self._on_unmet,
            segments.RankSet: self._on_rank_set,
            segments.Spared: self._on_spared,
            segments.AttachmentsSet: self._on_attachments,
            segments.GatewaysSet: self._on_gateways,
            NeighbourUp: self._on_neighbour,
            NeighbourDown: self._on_neighbour,
            NeighbourRestarting: self._on_neighbour_restarting,
            linkstate.SendFlood: self._on_send_flood,
            linkstate.LsdbChanged: self._on_lsdb_changed,
            control.Forward: self._on_forward,
            control.Arrived: self._on_arrived,
            swim.Send: self._on_swim_send,
            swim.MemberUp: self._on_member_up,
            swim.MemberSuspected: self._on_member_away,
            swim.MemberDown: self._on_member_away,
            swim.MemberLeft: self._on_member_away,
            swim.Left: self._on_left,
            replica.Send: self._on_statement_send,
            replica.StatementsChanged: self._on_statements_changed,
            replica.SetsEqual: self._on_sets_equal,
            claims.PublishClaim: self._on_publish_claim,
            claims.AddressesChosen: self._on_addresses_chosen,
            SendPlan: self._on_send_plan,
            SendTraffic: self._on_send_traffic,
            linkstate.DrainSet: self._on_costs,
            linkstate.MetricsSet: self._on_costs,
            linkstate.MeasuredSet: self._on_costs,
        }

    def _told(self, action: object) -> Notice:
        """What only people want to know, as a notice."""
        match action:
            case swim.Refuted(incarnation):
                return Notice("member.refuted", {"incarnation": incarnation})
            case control.Unreachable(destination):
                return self._notice("control.unreachable", destination)
            case claims.ClaimLost(block, to):
                return self._notice("address.lost", to, block=str(block))
            case claims.PoolFull(family):
                return Notice("address.none_free", {"family": family})
            case _:
                raise AssertionError(f"no one performs {action!r}")

    def _on_send_greeting(self, action: discovery.SendGreeting, now: Instant) -> None:
        self._out.append(inner.SendGreeting(action.link, action.address, action.payload))

    def _on_send_hello(self, action: adjacency.SendHello, now: Instant) -> None:
        self._send_on_link(action.node, LinkPath(action.link, action.address), Channel.HELLO, action.payload)

    def _on_send_echo(self, action: adjacency.SendEcho, now: Instant) -> None:
        self._out.append(SendEcho(action.link, action.address, action.nonce))

    def _on_pin(self, action: adjacency.PinNeighbour, now: Instant) -> None:
        self._out.append(PinNeighbour(action.link, action.address))

    def _on_neighbour_forgotten(self, action: adjacency.NeighbourForgotten, now: Instant) -> None:
        self.paths.forget(action.node, action.link)
        self._to_segments(segments.Forgotten(action.node, action.link, action.address), now)
        self._pending += self.discovery.handle(discovery.Unpaired(action.link, action.address), now)

    def _on_send_flood(self, action: linkstate.SendFlood, now: Instant) -> None:
        if (path := self.paths.direct(action.neighbour)) is not None:
            self._send_on_link(action.neighbour, path, Channel.FLOOD, action.payload)

    def _on_lsdb_changed(self, action: linkstate.LsdbChanged, now: Instant) -> None:
        self.doubles.moved(action.origins, self.linkstate.lsdb)
        renamed = self.linkstate.heirs != self._followed  # to be followed before anything else is made of it
        self._reaction.moved(now, at_once=renamed or self.me in action.origins)

    def _on_forward(self, action: control.Forward, now: Instant) -> None:
        if (path := self.paths.direct(action.neighbour)) is not None:
            self._send_on_link(action.neighbour, path, Channel.CONTROL, action.payload)

    def _on_arrived(self, action: control.Arrived, now: Instant) -> None:
        self._out.append(inner.SealedArrived(RoutedPath(action.source, action.route), action.payload))

    def _on_swim_send(self, action: swim.Send, now: Instant) -> None:
        self._send(action.to, Channel.SWIM, action.payload, now)

    def _on_statement_send(self, action: replica.Send, now: Instant) -> None:
        self._send(action.to, Channel.STATEMENT, action.payload, now)

    def _on_statements_changed(self, action: replica.StatementsChanged, now: Instant) -> None:
        """Whom a topic concerns: inside, here; those that need keys, outside."""
        if action.topic == TOPIC_ADDRESS:
            self._hear_claims(action.keys, now)
        else:
            self._out.append(action)

    def _hear_claims(self, keys: Iterable[Key], now: Instant) -> None:
        told = heard(self.replica, keys)
        for family, payload in inherited(told, self._predecessor, self.me).items():
            self._pending += self.claims.handle(claims.Inherited(family, payload), now)
        for claim in told:
            if claim.node != self._predecessor:
                self._pending += self.claims.handle(claim, now)

    def _on_sets_equal(self, action: replica.SetsEqual, now: Instant) -> None:
        self.informed = True
        self._pending += self.claims.handle(claims.Compared(), now)

    def _on_publish_claim(self, action: claims.PublishClaim, now: Instant) -> None:
        self._pending += self.replica.handle(stated(action), now)

    def _on_addresses_chosen(self, action: claims.AddressesChosen, now: Instant) -> None:
        # The machine first: nobody shall be told of an address that is not there yet.
        self._out.append(SetAddresses(action.addresses))
        self._announce(now)

    def _announce(self, now: Instant) -> None:
        self._pending += self.linkstate.handle(_reachable(self.claims.addresses, self.settings), now)

    def _stating_peers(self) -> list[NodeId]:
        """Whom to exchange statements with."""
        up = (member.node for member in self.swim.members() if member.state.up)
        return [node for node in up if node != self.me and self.speaks(node) >= STATEMENTS_SINCE]

    def _met_stating(self, node: NodeId, now: Instant) -> None:
        if self.speaks(node) >= STATEMENTS_SINCE:
            self._pending += self.replica.handle(replica.MemberMet(node), now)

    def _on_send_plan(self, action: SendPlan, now: Instant) -> None:
        self._send(action.to, Channel.PLAN, action.payload, now)

    def _on_send_traffic(self, action: SendTraffic, now: Instant) -> None:
        self._send(action.to, Channel.TRAFFIC, action.payload, now)

    def _on_costs(self, action: linkstate.Costs, now: Instant) -> None:
        self._pending += self.linkstate.handle(action, now)

    def _on_member_up(self, action: swim.MemberUp, now: Instant) -> None:
        self.names.told(action.node, action.name)
        self._out.append(self._notice("member.up", action.node))
        self._met_stating(action.node, now)
        if self._away.pop(action.node, action) is None:
            self._reroute_control(now)

    def _on_member_away(self, action: swim.MemberSuspected | swim.MemberDown | swim.MemberLeft, now: Instant) -> None:
        if action.node not in self._followed:
            self._out.append(self._notice(_MEMBER_NOTICES[type(action)], action.node))
        if action.node not in self._away:
            self._away[action.node] = None
            self._reroute_control(now)

    def _on_neighbour_restarting(self, action: NeighbourRestarting, now: Instant) -> None:
        interface = self._interface(action.link)
        self._out.append(self._notice("neighbour.restarting", action.node, interface=interface))
        self._to_segments(action, now)
        self.restarts.began(action.node, now)
        self._give_up_stale(now)
        self._reroute_control(now)

    def _give_up_stale(self, now: Instant) -> None:
        for node in self.restarts.to_give_up(self.linkstate.lsdb):
            self._pending += self.adjacencies.handle(adjacency.GaveUp(node), now)

    def _notice(self, kind: str, node: NodeId, **facts: object) -> Notice:
        return Notice(kind, {"node": node.hex(), "name": self.names.get(node), **facts})

    def _interface(self, link: int) -> str:
        return self.links[link].name if link in self.links else str(link)

    def _on_neighbour_seen(self, seen: discovery.NeighbourSeen, now: Instant) -> None:
        self.names.greeted(seen.node, seen.name)
        stands = seen.node in self.certified
        if seen.node in self.expelled:
            return  # it may call us, as any stranger
        if self.meetings.seen(seen, stands):
            self._out.append(OpenSession(seen.node, LinkPath(seen.link, seen.address)))
        elif stands and seen.mesh == self.mesh:
            self._try_pair(seen.node, seen.link, seen.address, now)

    def _on_own_identity_seen(self, seen: discovery.OwnIdentitySeen, now: Instant) -> None:
        self._out.append(OpenSession(self.me, LinkPath(seen.link, seen.address)))

    def _on_neighbour(self, event: NeighbourUp | NeighbourDown, now: Instant) -> None:
        interface = self._interface(event.link)
        if self.restarts.ended(event.node):
            self._reroute_control(now)
        if isinstance(event, NeighbourUp):
            self.paths.up(event)
            self._out.append(self._notice("neighbour.up", event.node, interface=interface))
        else:
            self.paths.down(event)
            kind = _ENDS.get(event.reason, "neighbour.down")
            self._out.append(self._notice(kind, event.node, interface=interface, reason=event.reason))
        self._tell_neighbours(now)
        # The data plane first: the dead gateway leaves its groups before anyone is told.
        self._to_segments(event, now)
        if self.forwarder is not None:
            self._pending += self.forwarder.handle(event, now)
        self._pending += self.linkstate.handle(event, now)

    def _on_lsdb_moved(self, now: Instant) -> None:
        if self.resting is not None:
            return  # by now it is about the successor, and read by it
        self._follow_successions(now)
        self._to_segments(segments.LsdbMoved(), now)
        self.restarts.moved(self.linkstate.lsdb, now)
        self._give_up_stale(now)
        self._reroute_control(now)
        if self.processor is not None:
            self._pending += self.processor.handle(LsdbMoved(), now)
        if self.forwarder is not None:
            self._pending += self.forwarder.handle(LsdbMoved(), now)

    def _reroute_control(self, now: Instant) -> None:
        lsdb = self.linkstate.lsdb
        routes = control_routes(lsdb, self.me, self._away.keys() | self.restarts.nodes)
        before = self.paths.next_hops
        news = [node for node in routes.next_hops if node not in self._hops]
        moved = [node for node, via in routes.next_hops.items() if node not in news and before.get(node) != via]
        self._hops = routes.hops
        self._routes = routes.next_hops
        self._set_next_hops(now)
        for node in news:
            self.names.told(node, lsdb[node].name)
            self._pending += self.swim.handle(swim.PeerMet(node, lsdb[node].name), now)
        for node in news + moved:
            self._pending += self.swim.handle(swim.PathChanged(node), now)

    def _set_next_hops(self, now: Instant) -> None:
        self.paths.next_hops = {**self._detours, **self._routes}
        self._pending += self.control.handle(control.NextHopsSet(dict(self.paths.next_hops)), now)

    def _tell_neighbours(self, now: Instant) -> None:
        self._pending += self.control.handle(control.NeighboursSet(self.paths.neighbours()), now)

    # Sending

    def _carry(self, path: RoutedPath, payload: bytes, via: NodeId | None, now: Instant) -> None:
        if via is not None and self._detours.get(path.node) != via:
            self._detours = {path.node: via}
            self._set_next_hops(now)
        self._pending += self.control.handle(control.Originate(path.node, payload, path.route), now)

    def _send(self, to: NodeId, channel: Channel, payload: bytes, now: Instant) -> None:
        message = bytes((channel,)) + payload
        path = self.paths.to(to)
        if to == self.me:
            self._on_peer_spoke(PeerSpoke(to, path, member=True, payload=message), now)
            return
        room = DIRECT_BYTES_MAX if isinstance(path, LinkPath) else ROUTED_BYTES_MAX
        if len(message) <= room:
            self._out.append(SendToPeer(to, path, message))
        else:
            self._send_cut(to, path, message, room)

    def _send_on_link(self, node: NodeId, path: LinkPath, channel: Channel, payload: bytes) -> None:
        message = bytes((channel,)) + payload
        if len(message) <= DIRECT_BYTES_MAX:
            self._out.append(SendToPeer(node, path, message))
        else:
            self._send_cut(node, path, message, DIRECT_BYTES_MAX)

    def _send_cut(self, to: NodeId, path: LinkPath | RoutedPath, message: bytes, room: int) -> None:
        for piece in self._fragments.cut(message, room - 1):
            self._out.append(SendToPeer(to, path, bytes((Channel.FRAGMENT,)) + piece))


def _reachable(addresses: tuple[Prefix, ...], settings: NodeSettings) -> linkstate.PrefixesSet:
    return linkstate.PrefixesSet(addresses + settings.announce, settings.gateway)
