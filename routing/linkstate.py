"""The link-state core: one signed LSA for ourselves, everybody's latest in a database, and databases kept equal.

Theory of operation: a change of our adjacencies, prefixes or name makes a new LSA of ours with the next sequence
number: the first at once, those within the next ``hold_down`` together; after ``burst`` of them in a row one every
``hold_down_long``. LSAs are flooded with acknowledgement and retransmission (:mod:`routing.flood`); nothing is
believed, passed on or acknowledged before its proof was verified, unless it is known already. What flooding misses,
because a neighbour was new, restarted or lost for long, the comparison of databases repairs: on every ``NeighbourUp``
(a summary straight away where it fits one page), again with growing waits until the neighbour has shown an equal
digest, and from then on every ``anti_entropy``.

Sequence numbers never repeat (:class:`sansio.reserve.ReservedCounter`). An LSA of ours that comes back with a higher
number, or with our number and another body, means that our state was lost or our identity cloned: we go above it, at
a bounded rate, and say so; where that goes on, our identity is on two machines, and our LSA says that
(:mod:`routing.contest`).

Deviations from OSPF (RFC 2328): no designated routers and no database exchange states, since digests make
the exchange idempotent; the remaining lifetime travels with each LSA and is never raised (DESIGN 3), instead of an
age set to MaxAge; equal numbers with different bodies are decided by the bodies.

Sequence numbers are held by the key ``lsa-sequence``: eight bytes, big-endian, the end of the reserved range.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import assert_never

from routing.contest import Contest
from routing.flood import (
    CLAIMS_MAX,
    FIRST_ORIGIN,
    FLOOD_CODEC,
    FLOOD_PAYLOAD_MAX,
    LAST_ORIGIN,
    Ack,
    Claim,
    Digest,
    Flood,
    FloodItem,
    Outbox,
    Receipt,
    Request,
    Summary,
    pack,
    requests,
    summarise,
)
from routing.lsa import (
    ADJACENCIES_MAX,
    FLAG_CONTESTED,
    FLAG_DRAINING,
    LSA_CODEC,
    METRIC_MAX,
    PREFIXES_MAX,
    Adjacency,
    Attachment,
    LinkNumber,
    Lsa,
    Prefix,
    SignedLsa,
    Signer,
    Verifier,
)
from routing.lsdb import LSDB_MAX, Entry, Freshness, Lsdb, lsa_problem
from routing.neighbours import NeighbourDown, NeighbourUp
from routing.pace import jittered
from sansio.bounded import TokenBucket
from sansio.core import Persist, Rejected, Wake
from sansio.deadlines import Deadlines
from sansio.errors import RemoteProtocolError
from sansio.ids import NodeId, short
from sansio.instant import MILLISECOND, SECOND, Duration, Instant, after
from sansio.protocol import PROTOCOL
from sansio.reserve import ReservedCounter
from sansio.wire import Codec

SEQUENCE_KEY = "lsa-sequence"
SEQUENCE_SPAN = 1000
SEQUENCE_MAX = 2**63 - 1 - 2 * SEQUENCE_SPAN
SUMMARY_PAGES_MAX = 64
SUMMARY_GAP = Duration(50 * MILLISECOND)
DYING = Duration(2 * SECOND)
"""An LSA with less than this left is not learnt anew: it would be passed to and fro while it dies."""

SIGNED_CODEC: Codec[SignedLsa] = Codec(SignedLsa)


@dataclass(frozen=True, slots=True)
class LinkStateConfig:
    """Timers of the database.

    ``lifetime`` is how long an unreachable node stays known; ours is renewed after a third of it. ``hold_down`` is
    the least time between two LSAs of ours: raising it merges more changes and delays the second of two. ``burst`` of
    them may follow one another at that pace, then one every ``hold_down_long``, which in time earns the next burst:
    raising the one or lowering the other lets a node that keeps changing cost everybody more.
    ``retransmit`` doubles up to ``retransmit_max``. Lowering ``anti_entropy`` mends lost floods sooner and costs two
    small datagrams per neighbour and interval.
    """

    lifetime: Duration = Duration(3600 * SECOND)
    hold_down: Duration = Duration(50 * MILLISECOND)
    hold_down_long: Duration = Duration(500 * MILLISECOND)
    burst: int = 10
    retransmit: Duration = Duration(100 * MILLISECOND)
    retransmit_max: Duration = Duration(2 * SECOND)
    anti_entropy: Duration = Duration(5 * SECOND)


@dataclass(frozen=True, slots=True)
class FloodReceived:
    """A flood payload was opened from the session of member ``neighbour``."""

    neighbour: NodeId
    payload: bytes


@dataclass(frozen=True, slots=True)
class PrefixesSet:
    """These prefixes are reachable at this node; replaces all before.

    ``gateway``: the preference of default routes among them (``Lsa.gateway``).
    """

    prefixes: tuple[Prefix, ...]
    gateway: int = 0


@dataclass(frozen=True, slots=True)
class AttachmentsSet:
    """These of our links are on segments; replaces all before."""

    attachments: tuple[Attachment, ...]


@dataclass(frozen=True, slots=True)
class NameSet:
    """The node is called so from now on."""

    name: str


@dataclass(frozen=True, slots=True)
class DrainSet:
    """Whether others shall take every other way there is: all our links cost the most then (RFC 6987)."""

    draining: bool


@dataclass(frozen=True, slots=True)
class MetricsSet:
    """What our links to these neighbours cost, whatever their adjacencies say; replaces all before."""

    metrics: Mapping[NodeId, int]


@dataclass(frozen=True, slots=True)
class MeasuredSet:
    """What measured links cost, by neighbour and link; replaces all before, and is less than what an operator sets."""

    metrics: Mapping[tuple[NodeId, LinkNumber], int]


@dataclass(frozen=True, slots=True)
class OriginationHeld:
    """Our daemon has restarted while the kernel went on forwarding: say nothing new of ourselves for now.

    Until every adjacency of the LSA that the others still hold of us is up again, or ``until`` has come: an LSA with
    half of them would move traffic that flows (graceful restart, RFC 3623). To be told before anything else.
    """

    until: Instant


@dataclass(frozen=True, slots=True)
class OriginsExpelled:
    """These nodes are no members: their LSAs go, and no further one is held. Replaces those named before."""

    origins: frozenset[NodeId]


@dataclass(frozen=True, slots=True)
class ProofRenewed:
    """Our standing is shown by another proof from now on: say the same again with it."""


@dataclass(frozen=True, slots=True)
class HandedOver:
    """Our machine goes on as ``successor``: our LSA says so, for as long as we speak at all."""

    successor: NodeId


@dataclass(frozen=True, slots=True)
class Succeeding:
    """Our machine was ``predecessor`` before: our LSA says so, for as long as that one's is known."""

    predecessor: NodeId


@dataclass(frozen=True, slots=True)
class SendFlood:
    """Send a flood payload to a neighbour, over any link to it, sealed by its session."""

    neighbour: NodeId
    payload: bytes


@dataclass(frozen=True, slots=True)
class LsdbChanged:
    """The LSAs of these origins were replaced, added or removed."""

    origins: tuple[NodeId, ...]


Costs = DrainSet | MetricsSet | MeasuredSet
_Said = PrefixesSet | Costs | AttachmentsSet | NameSet | HandedOver | Succeeding
LinkStateEvent = (
    NeighbourUp | NeighbourDown | FloodReceived | _Said | OriginationHeld | OriginsExpelled | ProofRenewed | Wake
)
LinkStateAction = SendFlood | LsdbChanged | Persist | Rejected

_AdjacencyKey = tuple[NodeId, LinkNumber, LinkNumber]
_Timer = tuple[str, NodeId]


@dataclass(slots=True)
class _Peer:
    """A neighbour node's part in keeping databases equal, however many links lead there."""

    outbox: Outbox
    adjacencies: dict[_AdjacencyKey, None] = field(default_factory=dict)
    synced: bool = False
    sync_wait: Duration = Duration(0)
    summary_after: Instant = Instant(0)
    summary_cursor: NodeId = FIRST_ORIGIN


@dataclass(slots=True)
class _Intake:
    """What came of one flood payload."""

    receipts: list[Receipt] = field(default_factory=list)
    changed: dict[NodeId, None] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)


class LinkState:
    """The core that originates, floods and keeps LSAs."""

    def __init__(
        self,
        me: NodeId,
        name: str,
        signer: Signer,
        verifier: Verifier,
        stored_sequence: bytes | None,
        rng: random.Random,
        config: LinkStateConfig | None = None,
    ) -> None:
        self._me = me
        self._name = name[:64]
        self._signer = signer
        self._verifier = verifier
        self._rng = rng
        self._config = config or LinkStateConfig()
        self._counter = ReservedCounter(SEQUENCE_KEY, stored_sequence, SEQUENCE_SPAN)
        self._lsdb = Lsdb(me)
        self._adjacent: dict[_AdjacencyKey, int] = {}  # metric
        self._prefixes: tuple[Prefix, ...] = ()
        self._gateway = 0
        self._draining = False
        self._metrics: dict[NodeId, int] = {}  # by neighbour, over what adjacencies say
        self._attachments: tuple[Attachment, ...] = ()
        self._measured: dict[tuple[NodeId, LinkNumber], int] = {}
        self._successor: NodeId | None = None
        self._predecessor: NodeId | None = None
        self._peers: dict[NodeId, _Peer] = {}
        self._timers: Deadlines[_Timer] = Deadlines()
        self._contests: TokenBucket[NodeId] = TokenBucket(1.0, 5.0, 1)
        self._contest = Contest()
        self._contested = False
        self._stale = True  # our LSA may no longer say what is the case
        self._renew = True  # ... or needs a higher number though it does
        self._floor = 0
        self._originated: Instant | None = None
        self._earned = Instant(0)  # when all LSAs of ours so far will have been earned at the long pace
        self._held_until: Instant | None = None
        self._heard_out = Instant(0)  # not before then is what was recalled said anew
        self._expelled: frozenset[NodeId] = frozenset()
        self._mine = self._compose(self._counter.value)
        # What happened during one event, until its actions are returned:
        self._touched: dict[NodeId, None] = {}  # peers whose outbox was written
        self._changed: dict[NodeId, None] = {}  # origins whose LSA is another

    @property
    def lsdb(self) -> Mapping[NodeId, Lsa]:
        """The current LSA of every known origin, ourselves included, as read by who computes. Read-only, and live."""
        return self._lsdb.view

    @property
    def mine(self) -> Lsa:
        """Our own LSA as last originated (before the first event: as it would be, unsent)."""
        return self._mine

    @property
    def heirs(self) -> Mapping[NodeId, NodeId]:
        """Nodes that go on under another key, and which (:mod:`routing.succession`)."""
        return self._lsdb.heirs

    def proof(self, origin: NodeId) -> bytes:
        """The proof of ``origin``'s current LSA; ``KeyError`` if none is held."""
        entry = self._lsdb.get(origin)
        if entry is None:
            raise KeyError(origin)
        return entry.proof

    def is_flooded(self, origin: NodeId) -> bool:
        """Whether every neighbour has acknowledged what is held here of ``origin``."""
        return not any(peer.outbox.holds(origin) for peer in self._peers.values())

    def everything(self, now: Instant) -> list[bytes]:
        """The whole database as flood payloads: what a successor on this machine is to begin with."""
        return pack(self._lsdb.between(FIRST_ORIGIN, LAST_ORIGIN), self._config.lifetime, now)

    def twin(self, now: Instant) -> Lsa | None:
        """What another machine with our identity said last, where there is one."""
        return self._contest.other(now)

    @property
    def digest(self) -> bytes:
        """16 bytes, equal on nodes whose databases are equal."""
        return self._lsdb.digest

    def handle(self, event: LinkStateEvent, now: Instant) -> list[LinkStateAction]:
        """React to one event."""
        actions = self._dispatch(event, now)
        if self._stale:
            actions += self._originate_if_allowed(now)
        for neighbour in self._touched:
            actions += self._pump(neighbour, now)
        self._touched.clear()
        if self._changed:
            # Last, so that whoever computes on it does not hold up the flood.
            actions.append(LsdbChanged(tuple(self._changed)))
            self._changed.clear()
        return actions

    def deadline(self) -> Instant | None:
        """When something is next due; at once until the first LSA of ours is out, unless that is held."""
        unsaid = self._originated is None and self._held_until is None
        return Instant(0) if unsaid else self._timers.next()

    def _dispatch(self, event: LinkStateEvent, now: Instant) -> list[LinkStateAction]:
        match event:
            case NeighbourUp():
                return self._on_neighbour_up(event, now)
            case NeighbourDown(node, link, _, remote_link):
                return self._on_neighbour_down(node, (node, link, remote_link))
            case FloodReceived(neighbour, payload):
                return self._on_payload(neighbour, payload, now)
            case OriginsExpelled(origins):
                self._on_expelled(origins)
                return []
            case ProofRenewed():
                self._stale = self._renew = True
                return []
            case OriginationHeld(until):
                self._held_until = until
                self._timers.set(("originate", self._me), until)
                return []
            case Wake():
                return self._on_wake(now)
            case _:
                self._on_said(event)
                return []

    def _on_said(self, event: _Said) -> None:
        """Something that our LSA is to say is another."""
        self._stale = True
        match event:
            case PrefixesSet(prefixes, gateway):
                self._prefixes = tuple(sorted(set(prefixes)))[:PREFIXES_MAX]
                self._gateway = gateway
            case DrainSet(draining):
                self._draining = draining
            case MetricsSet(metrics):
                self._metrics = dict(metrics)
            case MeasuredSet(measured):
                self._measured = dict(measured)
            case AttachmentsSet(attachments):
                self._attachments = attachments
            case NameSet(name):
                self._name = name[:64]
            case HandedOver(successor):
                self._successor = successor
            case Succeeding(predecessor):
                self._predecessor = predecessor
            case _:
                assert_never(event)

    # Neighbours

    def _on_neighbour_up(self, event: NeighbourUp, now: Instant) -> list[LinkStateAction]:
        key = (event.node, event.link, event.remote_link)
        if key not in self._adjacent and len(self._adjacent) >= ADJACENCIES_MAX:
            return [Rejected(short(event.node), "more adjacencies than an LSA holds")]
        self._adjacent[key] = event.metric
        self._stale = True
        peer = self._peers.get(event.node)
        if peer is None:
            peer = _Peer(Outbox(self._config.retransmit, self._config.retransmit_max))
            self._peers[event.node] = peer
        peer.adjacencies[key] = None
        self._unsync(event.node, peer, now, restart=True)
        if len(self._lsdb) > CLAIMS_MAX:
            return [self._digest_to(event.node, ask=True)]
        return self._summary_to(event.node, peer, now)

    def _on_neighbour_down(self, node: NodeId, key: _AdjacencyKey) -> list[LinkStateAction]:
        self._adjacent.pop(key, None)
        self._stale = True
        peer = self._peers.get(node)
        if peer is not None:
            peer.adjacencies.pop(key, None)
            if not peer.adjacencies:
                del self._peers[node]
                self._timers.cancel(("sync", node))
                self._timers.cancel(("outbox", node))
        return []

    def _on_expelled(self, origins: frozenset[NodeId]) -> None:
        self._expelled = origins - {self._me}
        for origin in sorted(self._expelled):
            if self._lsdb.get(origin) is not None:
                self._timers.cancel(("expire", origin))
                self._purge(origin)

    # Our own LSA

    def _compose(self, sequence: int) -> Lsa:
        adjacencies = sorted(
            Adjacency(neighbour, link, remote_link, self._advertised(neighbour, link, metric))
            for (neighbour, link, remote_link), metric in self._adjacent.items()
        )
        flags = (FLAG_DRAINING if self._draining else 0) | (FLAG_CONTESTED if self._contested else 0)
        return Lsa(
            self._me,
            sequence,
            self._name,
            tuple(adjacencies),
            self._prefixes,
            flags,
            PROTOCOL,
            gateway=self._gateway,
            attachments=self._attachments,
            successor=self._successor,
            predecessor=self._named_predecessor(),
        )

    def _named_predecessor(self) -> NodeId | None:
        known = self._predecessor is not None and self._lsdb.get(self._predecessor) is not None
        return self._predecessor if known else None

    def _advertised(self, neighbour: NodeId, link: LinkNumber, metric: int) -> int:
        if self._draining:
            return METRIC_MAX
        return self._metrics.get(neighbour) or self._measured.get((neighbour, link), metric)

    def _is_held(self, now: Instant) -> bool:
        if self._held_until is None or now >= self._held_until or self._has_recovered(now):
            self._held_until = None
            return False
        due = self._heard_out if now < self._heard_out else self._held_until
        self._timers.set(("originate", self._me), due)
        return True

    def _has_recovered(self, now: Instant) -> bool:
        """Whether all that our last LSA before the restart said is the case again."""
        before = self.lsdb.get(self._me)
        return (
            now >= self._heard_out
            and before is not None
            and all(
                (adjacency.neighbour, adjacency.link, adjacency.remote_link) in self._adjacent
                for adjacency in before.adjacencies
            )
        )

    def _originate_if_allowed(self, now: Instant) -> list[LinkStateAction]:
        if self._is_held(now):
            return []
        if not self._renew and self._compose(self._mine.sequence) == self._mine:
            self._stale = False
            return []
        if self._originated is not None:
            allowed = max(after(self._originated, self._config.hold_down), self._burst_over())
            if now < allowed:
                self._timers.set(("originate", self._me), allowed)
                return []
        return self._originate(now)

    def _burst_over(self) -> Instant:
        # The generic cell rate algorithm (ITU-T I.371): one instant stands for a bucket and its tokens.
        return Instant(self._earned - self._config.burst * self._config.hold_down_long)

    def _originate(self, now: Instant) -> list[LinkStateAction]:
        sequence, persist = self._next_sequence(self._floor)
        self._stale = self._renew = False
        self._earned = after(max(self._earned, now), self._config.hold_down_long)
        self._originated = now
        self._mine = self._compose(sequence)
        body = LSA_CODEC.encode(self._mine)
        proof = self._signer.sign(body)
        self._lsdb.put(Entry(self._mine, body, proof, SIGNED_CODEC.encode(SignedLsa(body, proof)), None))
        self._timers.cancel(("originate", self._me))
        refresh = Duration(self._config.lifetime // 3)
        self._timers.set(("refresh", self._me), after(now, jittered(self._rng, refresh)))
        self._changed[self._me] = None
        self._flood([self._me], None, now)
        return list(persist)

    def _next_sequence(self, floor: int) -> tuple[int, list[Persist]]:
        """A sequence number above all that we ever used and ``floor``, and what must be on disk before it is used."""
        persist = self._counter.raise_above(floor)
        return self._counter.value, persist

    def _recall(self, lsa: Lsa, signed: SignedLsa, encoded: bytes, intake: _Intake, now: Instant) -> None:
        # What we said before the restart, and still holds for everyone: for us too, until we say something new.
        intake.receipts.append(Receipt(lsa.origin, lsa.sequence))
        intake.changed[lsa.origin] = None
        self._floor = max(self._floor, lsa.sequence)
        # Not in the same breath: what it says of segments is for others here to read, and to have us say again.
        self._heard_out = after(now, self._config.hold_down)
        self._lsdb.put(Entry(lsa, signed.body, signed.proof, encoded, None))

    def _on_own(
        self, source: NodeId, item: FloodItem, signed: SignedLsa, lsa: Lsa, intake: _Intake, now: Instant
    ) -> None:
        # Verified, and above what we last said: older state of ours, or somebody with our key.
        if self._held_until is not None and lsa.sequence < SEQUENCE_MAX:
            self._recall(lsa, signed, item.signed, intake, now)
            return
        intake.rejected.append(Rejected(short(source), "LSA of ours that we did not send"))
        if lsa.sequence >= SEQUENCE_MAX:
            return
        intake.receipts.append(Receipt(lsa.origin, lsa.sequence))
        self._contest.outbid(lsa, self._mine.sequence, now)
        self._judge_contest(now)
        self._floor = max(self._floor, lsa.sequence)
        self._renew = True
        if self._contests.admit(self._me, now):
            self._stale = True
        elif ("originate", self._me) not in self._timers:
            self._timers.set(("originate", self._me), after(now, Duration(1 * SECOND)))

    def _judge_contest(self, now: Instant) -> None:
        contested = self._contest.other(now) is not None
        if contested != self._contested:
            self._contested, self._stale = contested, True
        if contested and self._contest.shown_until is not None:
            self._timers.set(("contest", self._me), self._contest.shown_until)

    # What comes in

    def _on_payload(self, neighbour: NodeId, payload: bytes, now: Instant) -> list[LinkStateAction]:
        if len(payload) > FLOOD_PAYLOAD_MAX:
            return [Rejected(short(neighbour), "flood payload too long")]
        try:
            message = FLOOD_CODEC.decode(payload, short(neighbour))
        except RemoteProtocolError:
            return [Rejected(short(neighbour), "flood payload cannot be decoded")]
        if isinstance(message, Flood):
            return self._on_flood(neighbour, message, now)
        peer = self._peers.get(neighbour)
        if peer is None:
            # It may have us up before we have it: floods are taken, the rest will come again.
            return []
        match message:
            case Ack(receipts):
                for receipt in receipts:
                    peer.outbox.acknowledge(receipt.origin, receipt.sequence)
                self._touched[neighbour] = None
                return []
            case Digest(digest, ask):
                return self._on_digest(neighbour, peer, digest, ask, now)
            case Summary():
                return self._on_summary(neighbour, peer, message, now)
            case Request(origins):
                for origin in origins:
                    self._queue(neighbour, peer, origin)
                return []
            case _:
                assert_never(message)

    def _on_flood(self, neighbour: NodeId, flood: Flood, now: Instant) -> list[LinkStateAction]:
        intake = _Intake()
        for item in flood.lsas:
            problem = self._take_in(neighbour, item, intake, now)
            if problem is not None:
                intake.rejected.append(Rejected(short(neighbour), problem))
        actions: list[LinkStateAction] = [*intake.rejected]
        if intake.receipts:
            actions.append(SendFlood(neighbour, FLOOD_CODEC.encode(Ack(tuple(intake.receipts)))))
        if intake.changed:
            self._changed.update(intake.changed)
            self._flood(list(intake.changed), neighbour, now)
        return actions

    def _take_in(self, neighbour: NodeId, item: FloodItem, intake: _Intake, now: Instant) -> str | None:
        """Judge one LSA; returns why it is refused."""
        try:
            signed = SIGNED_CODEC.decode(item.signed, short(neighbour))
            lsa = LSA_CODEC.decode(signed.body, short(neighbour))
        except RemoteProtocolError:
            return "LSA cannot be decoded"
        if lsa.origin in self._expelled:
            # Acknowledged: who sends it does not know yet, and is not to repeat it.
            self._settle(neighbour, lsa, intake)
            return None
        held = self._lsdb.get(lsa.origin)
        match self._lsdb.freshness(lsa, signed.body):
            case Freshness.SAME:
                self._settle(neighbour, lsa, intake)
                return None
            case Freshness.OLDER:
                self._send_back(neighbour, lsa)
                return self._conflict(held, lsa)
            case Freshness.NEWER:
                pass
        problem = lsa_problem(lsa) or self._no_room(held)
        if problem is not None:
            return problem
        if not self._verifier.verify(lsa.origin, signed.body, signed.proof):
            return "LSA with a bad proof"
        if lsa.origin == self._me:
            self._on_own(neighbour, item, signed, lsa, intake, now)
            return None
        self._settle(neighbour, lsa, intake)
        remaining = Duration(min(item.remaining_ms * MILLISECOND, self._config.lifetime))
        if held is not None or remaining >= DYING:
            self._hold(lsa, signed, item.signed, after(now, remaining))
            intake.changed[lsa.origin] = None
        return self._conflict(held, lsa)

    def _no_room(self, held: Entry | None) -> str | None:
        return "database full" if held is None and len(self._lsdb) >= LSDB_MAX else None

    def _conflict(self, held: Entry | None, lsa: Lsa) -> str | None:
        conflict = held is not None and held.lsa.sequence == lsa.sequence
        return "conflicting LSA" if conflict else None

    def _hold(self, lsa: Lsa, signed: SignedLsa, encoded: bytes, expires: Instant) -> None:
        self._lsdb.put(Entry(lsa, signed.body, signed.proof, encoded, expires))
        self._timers.set(("expire", lsa.origin), expires)

    def _settle(self, neighbour: NodeId, lsa: Lsa, intake: _Intake) -> None:
        # What a neighbour sends us it has: no receipt of its own is needed.
        intake.receipts.append(Receipt(lsa.origin, lsa.sequence))
        peer = self._peers.get(neighbour)
        if peer is not None:
            peer.outbox.acknowledge(lsa.origin, lsa.sequence)

    def _send_back(self, neighbour: NodeId, lsa: Lsa) -> None:
        # RFC 2328 13 (8): the sender of an older LSA gets the newer one; not more often than retransmission would.
        peer = self._peers.get(neighbour)
        if peer is not None:
            self._queue(neighbour, peer, lsa.origin)

    # Sending

    def _flood(self, origins: list[NodeId], sender: NodeId | None, now: Instant) -> None:
        """Have the LSAs of ``origins`` sent at once to every neighbour but the one they came from."""
        for neighbour, peer in self._peers.items():
            if neighbour == sender:
                continue
            for origin in origins:
                entry = self._lsdb.get(origin)
                if entry is not None:
                    peer.outbox.urgent(origin, entry.lsa.sequence, now)
            self._touched[neighbour] = None

    def _queue(self, neighbour: NodeId, peer: _Peer, origin: NodeId) -> None:
        entry = self._lsdb.get(origin)
        if entry is not None:
            peer.outbox.queue(origin, entry.lsa.sequence)
            self._touched[neighbour] = None

    def _pump(self, neighbour: NodeId, now: Instant) -> list[LinkStateAction]:
        peer = self._peers.get(neighbour)
        if peer is None:
            return []
        entries = [entry for origin in peer.outbox.take(now) if (entry := self._lsdb.get(origin)) is not None]
        if peer.outbox.exhausted:
            peer.outbox.exhausted = False
            self._unsync(neighbour, peer, now)
        due = peer.outbox.next()
        if due is None:
            self._timers.cancel(("outbox", neighbour))
        else:
            self._timers.set(("outbox", neighbour), due)
        return [SendFlood(neighbour, payload) for payload in pack(entries, self._config.lifetime, now)]

    # Comparing databases

    def _unsync(self, neighbour: NodeId, peer: _Peer, now: Instant, *, restart: bool = False) -> None:
        # Only a peer that had shown an equal database starts again with short waits: an LSA that one of us cannot
        # accept must not keep the two of us comparing at full speed.
        if peer.synced or restart:
            peer.synced = False
            peer.sync_wait = self._config.retransmit
            self._timers.set(("sync", neighbour), after(now, jittered(self._rng, peer.sync_wait)))

    def _digest_to(self, neighbour: NodeId, *, ask: bool) -> SendFlood:
        return SendFlood(neighbour, FLOOD_CODEC.encode(Digest(self._lsdb.digest, ask)))

    def _summary_to(self, neighbour: NodeId, peer: _Peer, now: Instant) -> list[LinkStateAction]:
        if now < peer.summary_after:
            return []
        peer.summary_after = after(now, SUMMARY_GAP)
        pages, peer.summary_cursor = summarise(self._lsdb, peer.summary_cursor, SUMMARY_PAGES_MAX)
        return [SendFlood(neighbour, page) for page in pages]

    def _on_digest(
        self, neighbour: NodeId, peer: _Peer, digest: bytes, ask: bool, now: Instant
    ) -> list[LinkStateAction]:
        if digest != self._lsdb.digest:
            self._unsync(neighbour, peer, now)
            return self._summary_to(neighbour, peer, now)
        if not peer.synced:
            peer.synced = True
            self._timers.set(("sync", neighbour), after(now, jittered(self._rng, self._config.anti_entropy)))
        return [self._digest_to(neighbour, ask=False)] if ask else []

    def _on_summary(self, neighbour: NodeId, peer: _Peer, summary: Summary, now: Instant) -> list[LinkStateAction]:
        claims = {claim.origin: claim for claim in summary.claims}
        if any(not summary.first <= origin <= summary.last for origin in claims):
            return [Rejected(short(neighbour), "summary claims more than it covers")]
        wanted = [claim.origin for claim in summary.claims if self._wants(claim)]
        for entry in list(self._lsdb.between(summary.first, summary.last)):
            if self._lacks(claims.get(entry.lsa.origin), entry):
                self._queue(neighbour, peer, entry.lsa.origin)
        if wanted or neighbour in self._touched:
            self._unsync(neighbour, peer, now)
        return [SendFlood(neighbour, payload) for payload in requests(wanted)]

    def _wants(self, claim: Claim) -> bool:
        held = self._lsdb.get(claim.origin)
        if claim.origin in self._expelled:
            return False
        return held is None or held.lsa.sequence < claim.sequence

    def _lacks(self, claim: Claim | None, entry: Entry) -> bool:
        # Same number, other body: send ours; whose is the smaller gets the greater one back.
        if claim is None or claim.sequence < entry.lsa.sequence:
            return True
        return claim.sequence == entry.lsa.sequence and claim.body != entry.claim_digest

    # Timers

    def _on_wake(self, now: Instant) -> list[LinkStateAction]:
        actions: list[LinkStateAction] = []
        for kind, node in self._timers.pop_due(now):
            match kind:
                case "originate":
                    self._stale = True
                case "refresh":
                    self._stale = self._renew = True
                case "outbox":
                    self._touched[node] = None
                case "contest":
                    self._judge_contest(now)
                case "sync":
                    actions += self._on_sync_due(node, now)
                case _:
                    self._purge(node)
        return actions

    def _purge(self, origin: NodeId) -> None:
        self._lsdb.remove(origin)
        self._stale = self._stale or origin == self._predecessor
        self._changed[origin] = None
        for neighbour, peer in self._peers.items():
            peer.outbox.forget(origin)
            self._touched[neighbour] = None

    def _on_sync_due(self, neighbour: NodeId, now: Instant) -> list[LinkStateAction]:
        peer = self._peers.get(neighbour)
        if peer is None:
            return []
        wait = self._config.anti_entropy
        if not peer.synced:
            peer.sync_wait = Duration(min(2 * peer.sync_wait, self._config.anti_entropy))
            wait = peer.sync_wait
        self._timers.set(("sync", neighbour), after(now, jittered(self._rng, wait)))
        return [self._digest_to(neighbour, ask=True)]
