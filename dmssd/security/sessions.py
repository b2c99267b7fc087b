"""Sessions: every datagram after a greeting is sealed by one; this core makes, keeps and replaces them.

*Handshake.* Noise XX at first contact, Noise IK where the peer's static key is known (from its certificate, or from
an earlier session):

    1  version kind pattern(1: XX, 2: IK) sender index(4)         noise message 1
    2  version kind receiver index(4) sender index(4)             noise message 2
    3  version kind receiver index(4)                             noise message 3 (XX only)
    4  version kind receiver index(4) counter(8)                  sealed (:mod:`dmssd.security.transport`)

The initiator repeats message 1 (150 ms, doubling to 2 s, seven times; an IK that stays unanswered is tried as XX from
the fourth, should the known key be wrong) by each path it was asked to try in turn. The responder answers the same
message 1 with the same message 2 for ten seconds. From message 2 on the initiator knows the peer to be there. It
repeats message 3 (IK: an empty sealed datagram) until it hears something sealed, which the responder sends at once.

*Displacement.* The responder of an IK cannot tell message 1 from a replay, so it gives up nothing for it: the session
counts from its first sealed datagram (XX: from message 3, which cannot be replayed). Peers say in the handshake which
start of their daemon speaks (``instance``). A session of a new instance displaces those of the earlier one and is
told as ``restarted``; a further session of the same instance just joins them. A displaced instance does not come back:
what is late of it, or of a second machine with the same key, is refused and counted under a name that says so.

*Both at once.* Two peers that begin at the same time finish both handshakes. Every initiator numbers its handshake
above all that it has seen (``generation``, a Lamport clock), so both ends rank their common sessions alike by
(generation, initiator's NodeId) and send by the highest that is confirmed. They open datagrams of all of them.

*Silence.* Sessions send nothing by themselves once confirmed; hellos do. After ``SILENT_MESSAGES`` sent over at least
``SILENT_AFTER`` with nothing heard, the next message also begins a new handshake, the old session staying in use: the
peer may have lost its half. Deviation from WireGuard's habit of answering to an unknown index: an unauthenticated
"unknown session" would be a lever for forgers, and is not needed, for a restarted peer begins a handshake itself as
soon as it hears a greeting or has something to say.

*Age.* A session is replaced by a further one of the same kind when it has grown too old or the mesh's admins want all
replaced (``TermsChanged``, :mod:`dmssd.security.renewing`). Nobody is told: it is the same peer by the same paths.

*End to end.* Sessions with members that are spoken to over the control network alone are kept while they are among the
``END_TO_END_MAX`` last used: a mesh of thousands costs a node no more than that. Whoever gives one up says so under its
keys (``CLOSING``, from protocol 2 on), so that the peer begins a new one with its next word instead of speaking to
nobody. Where that was lost, or we have restarted, what comes for a session that we do not have makes us begin a
handshake with the member it comes from, at a bounded rate: relays vouch for where a frame comes from, so no outsider
can bring that about. Sessions with neighbours are not counted.

*Bounds.* Handshake messages cost public-key work, so each source has a token bucket, and all sources together another;
what is refused is counted. A flood can at worst delay handshakes; it never touches a session.

A handshake message 2 of XX is larger than message 1 (some 500 bytes to 39): an amplifier of at most ten messages a
second for each source address, on the link only.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import assert_never

from dmssd.security.certificate import Credentials
from dmssd.security.introduction import INSTANCE_BYTES, Met, Refusal, introduce, is_member, meet
from dmssd.security.noise import IK, XX, Handshake, HandshakeKeys
from dmssd.security.renewing import Renewing
from dmssd.security.session_events import (
    Connect,
    CredentialsChanged,
    ForgetPeer,
    LinkPath,
    Opened,
    Outgoing,
    Path,
    PeerKnown,
    Received,
    RoutedPath,
    SessionFailed,
    SessionsAction,
    SessionsEvent,
    SessionUp,
    StandingChanged,
    TermsChanged,
    Transmit,
    source_of,
)
from dmssd.security.session_state import Initiation, Peer, Response, Session, remember
from dmssd.security.transport import INDEX_BYTES, KIND_SEALED, OVERHEAD_BYTES, VERSION, Transport
from dmssd.security.twins import Twins
from sansio.bounded import RecentTable, TokenBucket
from sansio.core import Rejected, Wake
from sansio.deadlines import Deadlines
from sansio.errors import LocalProtocolError, RemoteProtocolError
from sansio.ids import NodeId
from sansio.instant import MILLISECOND, SECOND, Duration, Instant, after, earliest

__all__ = [
    "Connect",
    "CredentialsChanged",
    "ForgetPeer",
    "LinkPath",
    "Opened",
    "Outgoing",
    "Path",
    "PeerKnown",
    "Received",
    "RoutedPath",
    "SessionFailed",
    "SessionUp",
    "Sessions",
    "SessionsAction",
    "SessionsEvent",
    "StandingChanged",
    "TermsChanged",
    "Transmit",
]

KIND_MESSAGE1 = 1
KIND_MESSAGE2 = 2
KIND_MESSAGE3 = 3

END_TO_END_MAX = 256  # sessions with members that are no neighbours; the one least recently used goes
SESSIONS_MAX = 4096  # peers; the one least recently heard goes
STRANGERS_MAX = 64  # of them not members; the one least recently heard goes
SESSIONS_PER_PEER_MAX = 4  # the lowest ranked goes
HANDSHAKES_MAX = 256  # begun by others and not finished; the oldest goes
INITIATIONS_MAX = 256  # begun by us and not answered; the oldest goes
KNOWN_MAX = 16384  # static keys; the one least recently learned goes
SOURCES_MAX = 1024  # remembered by the rate limit

HANDSHAKE_RATE_PER_S, HANDSHAKE_BURST = 10.0, 20.0  # for each source
HANDSHAKES_RATE_PER_S, HANDSHAKES_BURST = 500.0, 1000.0  # for all of them: about a quarter of a core

FORGOTTEN_RATE_PER_S, FORGOTTEN_BURST = 10.0, 20.0  # handshakes begun for what comes in sessions that we do not have

CLOSING = b"\x00"
"""The plaintext that ends a session: no channel has this number."""
CLOSING_SINCE = 2  # protocol

RETRY_FIRST = Duration(150 * MILLISECOND)
RETRY_LIMIT = Duration(2 * SECOND)
TRIES_MAX = 7
TRIES_IK_MAX = 3
RESPONSE_WINDOW = Duration(10 * SECOND)
IDLE_LIMIT = Duration(3600 * SECOND)  # a session not heard for so long is dropped
SUPERSEDED_LIMIT = Duration(60 * SECOND)  # and one that we no longer send by
SILENT_MESSAGES = 20
SILENT_AFTER = Duration(10 * SECOND)
GENERATION_LEAP_MAX = 2**32  # a peer may not push the Lamport clock further at once

EARLIER_START = "an earlier start of this peer speaks; is its key on two machines"

_PATTERNS = {1: XX, 2: IK}
_PATTERN_NUMBERS = {XX: 1, IK: 2}

_Entry = Initiation | Response | Session


class Sessions:
    """The core; see the module's docstring. ``entropy(n)`` gives n random bytes: keys, indices, the instance."""

    def __init__(self, credentials: Credentials, entropy: Callable[[int], bytes]) -> None:
        self._me = credentials
        self._entropy = entropy
        self._instance = entropy(INSTANCE_BYTES)
        self.twins = Twins()
        self._refusal: Refusal = lambda chain: None
        self._generation = 0
        self._peers: dict[NodeId, Peer] = {}
        self._by_index: dict[bytes, _Entry] = {}
        self._pending: dict[bytes, None] = {}  # indices of unconfirmed handshakes begun by others, oldest first
        self._answered: RecentTable[bytes, bytes] = RecentTable(HANDSHAKES_MAX)  # digest of message 1 -> index
        self._known: RecentTable[NodeId, bytes] = RecentTable(KNOWN_MAX)
        self._initiations: dict[bytes, None] = {}  # indices, oldest first
        self._routed: OrderedDict[NodeId, None] = OrderedDict()  # spoken to end to end alone, last used last
        self._timers: Deadlines[bytes] = Deadlines()
        self._renewing = Renewing(credentials.identity.node)
        self._each: TokenBucket[Path | NodeId] = TokenBucket(HANDSHAKE_RATE_PER_S, HANDSHAKE_BURST, SOURCES_MAX)
        self._forgotten: TokenBucket[None] = TokenBucket(FORGOTTEN_RATE_PER_S, FORGOTTEN_BURST, 1)
        self._all: TokenBucket[None] = TokenBucket(HANDSHAKES_RATE_PER_S, HANDSHAKES_BURST, 1)

    # -- the door

    def handle(self, event: SessionsEvent, now: Instant) -> list[SessionsAction]:
        """React to one event; never raises for what came from outside."""
        match event:
            case Outgoing(peer, path, plaintext):
                return self._on_outgoing(peer, path, plaintext, now)
            case Received(path, payload):
                return self._on_received(path, payload, now)
            case Connect(peer, path):
                return self._on_connect(peer, path, now)
            case ForgetPeer(peer):
                return self._on_forget(peer)
            case CredentialsChanged(credentials):
                return self._on_credentials(credentials, now)
            case StandingChanged(refusal):
                return self._on_standing(refusal)
            case TermsChanged(epoch, lifetime):
                return self._on_terms(epoch, lifetime, now)
            case PeerKnown(node, x25519):
                self._known[node] = x25519
                return []
            case Wake():
                return self._on_wake(now)
            case _:
                assert_never(event)

    def deadline(self) -> Instant | None:
        """When a repetition, an expiry, an idle check or a renewal is next due."""
        return earliest(self._timers.next(), self._renewing.deadline())

    # -- queries

    def connected(self, node: NodeId) -> bool:
        """Whether a message for ``node`` would be sealed at once."""
        peer = self._peers.get(node)
        return peer is not None and peer.current is not None

    def is_member(self, node: NodeId) -> bool:
        """Whether the session with ``node`` is with a member of our mesh."""
        peer = self._peers.get(node)
        return peer is not None and peer.current is not None and peer.current.met.member

    def connecting(self, node: NodeId) -> bool:
        """Whether a handshake of ours with ``node`` is under way."""
        peer = self._peers.get(node)
        return peer is not None and peer.initiation is not None

    def chain(self, node: NodeId) -> bytes | None:
        """The chain that ``node`` showed; verified if ``is_member``."""
        peer = self._peers.get(node)
        return peer.current.met.chain if peer is not None and peer.current is not None else None

    def peers(self) -> list[NodeId]:
        """Every node that there is a session with."""
        return [node for node, peer in self._peers.items() if peer.current is not None]

    def ages(self) -> tuple[int, int]:
        """With how many members there is a session, and how many of these are of an earlier epoch than the present."""
        begun = [peer.current.begun for peer in self._peers.values() if peer.current and peer.current.met.member]
        return len(begun), sum(map(self._renewing.is_behind, begun))

    # -- sealing and opening: the hot path

    def _on_outgoing(self, node: NodeId, path: Path, plaintext: bytes, now: Instant) -> list[SessionsAction]:
        peer = self._peers.get(node)
        if peer is None or (session := peer.current) is None:
            return self._queue(node, path, plaintext, now)
        if node in self._routed:
            self._use(node, path)
        session.unanswered += 1
        if session.unanswered == 1:
            session.unanswered_since = now
        sealed = Transmit(path, session.transport.seal(plaintext))
        if session.unanswered >= SILENT_MESSAGES and now - session.unanswered_since >= SILENT_AFTER:
            session.unanswered = 0  # the next attempt is due only after the same silence again
            return [sealed, *self._begin(peer, path, now)]
        return [sealed]

    def _on_received(self, path: Path, payload: bytes, now: Instant) -> list[SessionsAction]:
        if len(payload) < OVERHEAD_BYTES:
            return [Rejected(source_of(path), "truncated datagram")]
        if payload[0] != VERSION:
            return [Rejected(source_of(path), "unknown version")]
        if payload[1] != KIND_SEALED:
            return self._on_handshake(path, payload, now)
        session = self._by_index.get(payload[2:6])
        if type(session) is not Session:
            return [Rejected(source_of(path), "unknown session"), *self._call_back(path, now)]
        try:
            plaintext = session.transport.open(payload)
        except RemoteProtocolError as problem:
            return [Rejected(source_of(path), problem.reason)]
        session.heard = now
        session.path = path
        session.unanswered = 0
        if session.met.node in self._routed:
            self._use(session.met.node, path)
        if plaintext and session.confirmed and plaintext != CLOSING:
            return [Opened(session.met.node, path, plaintext, session.met.member)]
        return self._on_unusual(session, path, plaintext, now)

    def _on_unusual(self, session: Session, path: Path, plaintext: bytes, now: Instant) -> list[SessionsAction]:
        """A datagram that confirms its session, closes it, or carries nothing."""
        if plaintext == CLOSING:
            return self._on_closing(session)
        actions: list[SessionsAction] = []
        if not session.confirmed:
            actions = self._confirm(session, path, now)
            if not session.confirmed:
                return actions
        if plaintext:
            actions.append(Opened(session.met.node, path, plaintext, session.met.member))
        elif not session.initiated and not actions:
            # Only an initiator that has not heard us yet sends empty datagrams; answering ends that. A responder's
            # own are not answered, so two peers never keep each other busy.
            actions.append(Transmit(path, session.transport.seal(b"")))
        return actions

    # -- end to end

    def _use(self, node: NodeId, path: Path) -> None:
        if isinstance(path, RoutedPath):
            self._routed.move_to_end(node)
        else:
            del self._routed[node]  # a neighbour from now on

    def _keep_routed(self, peer: Peer, path: Path) -> list[SessionsAction]:
        """Count the peer's session among those end to end, if it is one; give up what is then too many."""
        current = peer.current
        if current is None or not current.met.member or not isinstance(path, RoutedPath):
            return []
        if any(isinstance(each, LinkPath) for each in peer.announced):
            return []
        self._routed[peer.node] = None
        self._routed.move_to_end(peer.node)
        return self._give_up_routed() if len(self._routed) > END_TO_END_MAX else []

    def _give_up_routed(self) -> list[SessionsAction]:
        peer = self._peers[next(iter(self._routed))]
        current = peer.current
        actions: list[SessionsAction] = []
        if current is not None and current.met.protocol >= CLOSING_SINCE:
            # By table: the way it was last heard may have gone since.
            actions = [Transmit(RoutedPath(peer.node), current.transport.seal(CLOSING))]
        self._drop_peer(peer)
        return actions

    def _on_closing(self, session: Session) -> list[SessionsAction]:
        peer = self._peers.get(session.met.node)
        if peer is None or session not in peer.sessions:
            self._drop_entry(session.index)
            return []
        self._drop_session(peer, session)
        if peer.current is None:
            self._routed.pop(peer.node, None)
            peer.announced.clear()
            if not peer.wanted:
                self._end_initiation(peer)  # the session that is gone had settled it
        self._drop_if_empty(peer)
        return []

    def _call_back(self, path: Path, now: Instant) -> list[SessionsAction]:
        if not isinstance(path, RoutedPath) or path.node not in self._known or path.node == self._me.identity.node:
            return []
        peer = self._peers.get(path.node)
        if peer is not None and (peer.current is not None or peer.initiation is not None):
            return []
        return self._begin(self._peer(path.node), path, now) if self._forgotten.admit(None, now) else []

    # -- beginning a handshake

    def _queue(self, node: NodeId, path: Path, plaintext: bytes, now: Instant) -> list[SessionsAction]:
        if node == self._me.identity.node:
            raise LocalProtocolError("a message to this node itself needs no session")
        peer = self._peer(node)
        peer.queue.append((path, plaintext))
        return self._want(peer, path, now)

    def _on_connect(self, node: NodeId, path: Path, now: Instant) -> list[SessionsAction]:
        if node == self._me.identity.node and not self.twins.may_probe(now):
            return []
        peer = self._peer(node)
        if peer.current is not None:
            return self._announce(peer, path, restarted=False) if path not in peer.announced else []
        return self._want(peer, path, now)

    def _want(self, peer: Peer, path: Path, now: Instant) -> list[SessionsAction]:
        if peer.initiation is None:
            return self._begin(peer, path, now)
        if path in peer.wanted:
            return []
        peer.want(path)
        return [Transmit(path, peer.initiation.message1)]

    def _begin(self, peer: Peer, path: Path, now: Instant) -> list[SessionsAction]:
        if peer.initiation is not None:
            return []
        peer.want(path)
        self._generation += 1
        protocol = IK if peer.node in self._known else XX
        initiation = self._initiate(peer, protocol, self._generation, now)
        return [*self._give_up_oldest(), Transmit(path, initiation.message1)]

    def _give_up_oldest(self) -> list[SessionsAction]:
        # The oldest, not the newest: a live peer answers in a round trip, so what is old was never going to be
        # answered. Greetings are unauthenticated, and forged ones must not keep true peers from being called.
        if len(self._initiations) <= INITIATIONS_MAX:
            return []
        oldest = self._by_index[next(iter(self._initiations))]
        assert isinstance(oldest, Initiation)
        return self._give_up(self._peers[oldest.peer], "displaced: too many handshakes in progress")

    def _give_up(self, peer: Peer, reason: str) -> list[SessionsAction]:
        """End our handshake; tell of it unless a session stays in use, which is judged by its own silence."""
        self._end_initiation(peer)
        path = next(reversed(peer.wanted), None)
        peer.wanted.clear()
        if peer.current is not None or path is None:
            return []
        failed = self._failed(peer, path, reason)
        self._drop_if_empty(peer)
        return failed

    def _initiate(self, peer: Peer, protocol: bytes, generation: int, now: Instant) -> Initiation:
        index = self._new_index()
        remote_static = self._known[peer.node] if protocol == IK else None
        handshake = self._handshake(protocol, initiator=True, remote_static=remote_static)
        payload = introduce(self._me, self._instance, generation, index) if protocol == IK else b""
        header = bytes((VERSION, KIND_MESSAGE1, _PATTERN_NUMBERS[protocol])) + index
        message1 = header + handshake.write(payload)
        initiation = Initiation(index, peer.node, protocol, handshake, message1, generation)
        peer.initiation = initiation
        self._by_index[index] = initiation
        self._initiations[index] = None
        self._timers.set(index, after(now, RETRY_FIRST))
        return initiation

    def _handshake(self, protocol: bytes, *, initiator: bool, remote_static: bytes | None = None) -> Handshake:
        static = self._me.identity.x25519_private
        return Handshake(HandshakeKeys(protocol, initiator, static, self._entropy(32), remote_static))

    def _new_index(self) -> bytes:
        while (index := self._entropy(INDEX_BYTES)) in self._by_index:
            pass
        return index

    # -- handshake messages

    def _on_handshake(self, path: Path, payload: bytes, now: Instant) -> list[SessionsAction]:
        source: Path | NodeId = path.node if isinstance(path, RoutedPath) else path
        if not self._each.admit(source, now) or not self._all.admit(None, now):
            return [Rejected(source_of(path), "too many handshake messages")]
        try:
            match payload[1]:
                case 1:
                    return self._on_message1(path, payload, now)
                case 2:
                    return self._on_message2(path, payload, now)
                case 3:
                    return self._on_message3(path, payload, now)
                case _:
                    return [Rejected(source_of(path), "unknown kind of datagram")]
        except RemoteProtocolError as problem:
            return [Rejected(source_of(path), problem.reason)]

    def _on_message1(self, path: Path, payload: bytes, now: Instant) -> list[SessionsAction]:
        digest = _digest(payload)
        answered = self._by_index.get(self._answered.get(digest, b""))
        if isinstance(answered, Response | Session) and answered.message1 == digest:
            if not answered.message2:
                raise RemoteProtocolError("handshake", "replayed handshake")
            return [Transmit(path, answered.message2)]
        protocol, remote_index = _PATTERNS.get(payload[2]), payload[3:7]
        if protocol is None:
            raise RemoteProtocolError("handshake", "unknown handshake pattern")
        handshake, index = self._handshake(protocol, initiator=False), self._new_index()
        said = handshake.read(payload[7:])
        header = bytes((VERSION, KIND_MESSAGE2)) + remote_index + index
        if protocol == XX:
            message2 = header + handshake.write(introduce(self._me, self._instance, 0, index))
            self._remember_pending(Response(index, remote_index, handshake, digest, message2), now)
            return [Transmit(path, message2)]
        met = self._meet(said, handshake, remote_index, path, now)
        message2 = header + handshake.write(introduce(self._me, self._instance, 0, index))
        session = self._session(handshake, index, remote_index, met, path, now, generation=met.generation)
        session.message1, session.message2 = digest, message2
        self._remember_pending(session, now)
        return [Transmit(path, message2)]

    def _remember_pending(self, entry: Response | Session, now: Instant) -> None:
        self._by_index[entry.index] = entry
        self._answered[entry.message1] = entry.index
        self._pending[entry.index] = None
        self._timers.set(entry.index, after(now, RESPONSE_WINDOW))
        if len(self._pending) > HANDSHAKES_MAX:
            self._drop_entry(next(iter(self._pending)))

    def _on_message2(self, path: Path, payload: bytes, now: Instant) -> list[SessionsAction]:
        initiation = self._by_index.get(payload[2:6])
        if not isinstance(initiation, Initiation):
            raise RemoteProtocolError("handshake", "unknown handshake")
        handshake, remote_index = initiation.handshake, payload[6:10]
        said = handshake.read(payload[10:])
        try:
            met = self._meet(said, handshake, remote_index, path, now)
            if met.node != initiation.peer:
                raise RemoteProtocolError("handshake", "another node answered")
        except RemoteProtocolError:
            handshake.unread()
            if initiation.peer == self._me.identity.node:
                self._drop_peer(self._peers[initiation.peer])  # that was what we wanted to know
            raise
        index, message3 = initiation.index, b""
        if initiation.protocol == XX:
            mine = introduce(self._me, self._instance, initiation.generation, index)
            message3 = bytes((VERSION, KIND_MESSAGE3)) + remote_index + handshake.write(mine)
        session = self._session(
            handshake, index, remote_index, met, path, now, generation=initiation.generation, initiated=True
        )
        session.message3 = message3
        peer = self._peers[initiation.peer]
        self._end_initiation(peer)
        self._by_index[index] = session
        self._timers.set(index, after(now, RETRY_FIRST))
        finish = Transmit(path, message3 or session.transport.seal(b""))
        return [finish, *self._established(peer, session, path)]

    def _on_message3(self, path: Path, payload: bytes, now: Instant) -> list[SessionsAction]:
        response = self._by_index.get(payload[2:6])
        digest = _digest(payload)
        if isinstance(response, Session) and not response.initiated and response.message3 == digest:
            return [Transmit(path, response.transport.seal(b""))]  # ours, which ends the repetition, was lost
        if not isinstance(response, Response):
            raise RemoteProtocolError("handshake", "unknown handshake")
        handshake = response.handshake
        said = handshake.read(payload[6:])
        try:
            met = self._meet(said, handshake, response.remote_index, path, now)
        except RemoteProtocolError:
            handshake.unread()
            raise
        index = response.index
        session = self._session(handshake, index, response.remote_index, met, path, now, generation=met.generation)
        session.message1, session.message3 = response.message1, digest
        self._by_index[index] = session
        return self._confirm(session, path, now)

    def _meet(self, said: bytes, handshake: Handshake, remote_index: bytes, path: Path, now: Instant) -> Met:
        met = meet(said, handshake.remote_static, remote_index, self._me.mesh, self._refusal)
        if met.node == self._me.identity.node:
            if met.instance == self._instance:
                raise RemoteProtocolError("handshake", "our own handshake over another link")
            self.twins.own(source_of(path), now)
            raise RemoteProtocolError("handshake", "another machine has this node's identity")
        if self._is_retired(met):
            current = self._peers[met.node].current
            if current is not None:
                self.twins.refused(met.node, source_of(current.path), source_of(path), now)
            raise RemoteProtocolError("handshake", EARLIER_START)
        if met.generation > self._generation + GENERATION_LEAP_MAX:
            raise RemoteProtocolError("handshake", "handshake generation out of reach")
        return met

    def _is_retired(self, met: Met) -> bool:
        peer = self._peers.get(met.node)
        return peer is not None and met.instance in peer.retired

    def _session(
        self,
        handshake: Handshake,
        index: bytes,
        remote_index: bytes,
        met: Met,
        path: Path,
        now: Instant,
        *,
        generation: int,
        initiated: bool = False,
    ) -> Session:
        initiator = self._me.identity.node if initiated else met.node
        return Session(
            index=index,
            transport=Transport(handshake.split(), remote_index),
            met=met,
            order=(generation, initiator),
            initiated=initiated,
            confirmed=False,
            path=path,
            heard=now,
            begun=now,
        )

    # -- a session comes up

    def _confirm(self, session: Session, path: Path, now: Instant) -> list[SessionsAction]:
        """The far end has shown that it holds the keys."""
        if self._is_retired(session.met):
            self._drop_entry(session.index)
            return [Rejected(source_of(path), EARLIER_START)]
        session.confirmed = True
        self._pending.pop(session.index, None)
        self._timers.set(session.index, after(now, IDLE_LIMIT))
        if session.initiated:
            session.message3 = b""
            return self._settle(self._peers[session.met.node], path, peer_instance=session.met.instance)
        session.message2 = b""
        self._generation = max(self._generation, session.order[0])
        actions = self._established(self._peer(session.met.node), session, path)
        return [Transmit(path, session.transport.seal(b"")), *actions]

    def _established(self, peer: Peer, session: Session, path: Path) -> list[SessionsAction]:
        """The peer is there and holds, or is about to hold, the keys of ``session``."""
        self._known[peer.node] = session.met.x25519
        peer.sessions.append(session)
        actions = self._settle(peer, path, peer_instance=session.met.instance)
        return [*self._make_room(peer), *self._keep_routed(peer, path), *actions]

    def _settle(self, peer: Peer, path: Path, *, peer_instance: bytes) -> list[SessionsAction]:
        """Choose what to send by; tell what that changes; send what waited."""
        before = peer.current
        for old in list(peer.sessions):
            if old.met.instance != peer_instance:
                self._drop_session(peer, old)
                if old.met.instance not in peer.retired:
                    peer.retired.append(old.met.instance)
        self._choose(peer)
        current = peer.current
        assert current is not None
        restarted = before is not None and before.met.instance != peer_instance
        if before is None or restarted or _standing(before) != _standing(current):
            peer.announced.clear()
        wanted, peer.wanted = peer.wanted, {}
        actions: list[SessionsAction] = []
        for each in (path, *wanted):
            if isinstance(each, RoutedPath) and before is not None and _has_routed(peer):
                continue  # a member end to end is reached by whichever way: that a further one was taken is no news
            if each not in peer.announced:
                actions += self._announce(peer, each, restarted=restarted and not peer.announced)
        actions += [Transmit(each, current.transport.seal(text)) for each, text in peer.queue]
        peer.queue.clear()
        return actions

    def _announce(self, peer: Peer, path: Path, *, restarted: bool) -> list[SessionsAction]:
        assert peer.current is not None
        met = peer.current.met
        remember(peer.announced, path)
        return [SessionUp(peer.node, path, met.chain, met.member, restarted, met.protocol)]

    def _choose(self, peer: Peer) -> None:
        """Send by the highest ranked confirmed session; by an unconfirmed one of ours only if there is no other."""
        confirmed = [session for session in peer.sessions if session.confirmed]
        best = max(confirmed or peer.sessions, key=lambda session: session.order, default=None)
        for session in confirmed:
            if session is not best:
                self._timers.set(session.index, after(session.heard, SUPERSEDED_LIMIT))
        if best is not None and best is not peer.current:
            self._watch_age(peer.node, best)
        peer.current = best

    # -- bounds and ends

    def _peer(self, node: NodeId) -> Peer:
        peer = self._peers.get(node)
        if peer is None:
            peer = self._peers[node] = Peer(node)
        return peer

    def _make_room(self, peer: Peer) -> list[SessionsAction]:
        while len(peer.sessions) > SESSIONS_PER_PEER_MAX:
            spare = [session for session in peer.sessions if session is not peer.current]
            self._drop_session(peer, min(spare, key=lambda session: session.order))
        others = [other for other in self._peers.values() if other.current is not None and other is not peer]
        actions: list[SessionsAction] = []
        if len(others) >= SESSIONS_MAX:
            actions += self._evict(others)
        assert peer.current is not None
        if not peer.current.met.member:
            strangers = [other for other in others if other.current is not None and not other.current.met.member]
            if len(strangers) >= STRANGERS_MAX:
                actions += self._evict(strangers)
        return actions

    def _evict(self, candidates: Iterable[Peer]) -> list[SessionsAction]:
        peer = min(candidates, key=lambda candidate: candidate.heard)
        assert peer.current is not None
        failed = self._failed(peer, peer.current.path, "displaced: too many sessions")
        self._drop_peer(peer)
        return failed

    def _failed(self, peer: Peer, path: Path, reason: str) -> list[SessionsAction]:
        peer.queue.clear()
        return [SessionFailed(peer.node, path, reason)]

    def _end_initiation(self, peer: Peer) -> None:
        if peer.initiation is not None:
            self._drop_entry(peer.initiation.index)
            peer.initiation = None

    def _drop_entry(self, index: bytes) -> None:
        self._by_index.pop(index, None)
        self._pending.pop(index, None)
        self._initiations.pop(index, None)
        self._timers.cancel(index)

    def _drop_session(self, peer: Peer, session: Session) -> None:
        self._drop_entry(session.index)
        peer.sessions.remove(session)
        if peer.current is session:
            peer.current = None
            self._choose(peer)

    def _drop_peer(self, peer: Peer) -> None:
        self._end_initiation(peer)
        for session in peer.sessions:
            self._drop_entry(session.index)
        peer.sessions.clear()
        peer.current = None
        self._routed.pop(peer.node, None)
        self._renewing.forget(peer.node)
        del self._peers[peer.node]

    def _drop_if_empty(self, peer: Peer) -> None:
        if not peer.sessions and peer.initiation is None:
            self._routed.pop(peer.node, None)
            self._renewing.forget(peer.node)
            self._peers.pop(peer.node, None)

    def _on_forget(self, node: NodeId) -> list[SessionsAction]:
        self._known.pop(node, None)
        peer = self._peers.get(node)
        if peer is not None:
            self._drop_peer(peer)
        for index in list(self._pending):
            entry = self._by_index[index]
            if isinstance(entry, Session) and entry.met.node == node:
                self._drop_entry(index)
        return []

    # -- our own standing changes

    def _on_credentials(self, credentials: Credentials, now: Instant) -> list[SessionsAction]:
        """Judge every peer anew, and show each of them the new chain by a new handshake."""
        if credentials.identity.node != self._me.identity.node:
            raise LocalProtocolError("a node's identity never changes")
        self._me = credentials
        for index in list(self._pending):
            self._drop_entry(index)  # what they said of us is outdated; their initiators ask again
        actions: list[SessionsAction] = []
        for peer in list(self._peers.values()):
            path = peer.current.path if peer.current is not None else next(reversed(peer.wanted))
            self._end_initiation(peer)
            actions += self._judge(peer)
            if peer.node in self._peers:
                actions += self._begin(peer, path, now)
        return actions

    def _on_standing(self, refusal: Refusal) -> list[SessionsAction]:
        self._refusal = refusal
        for index in list(self._pending):
            self._drop_entry(index)  # judged by what was known before
        actions: list[SessionsAction] = []
        for peer in list(self._peers.values()):
            actions += self._judge(peer)
        return actions

    def _judge(self, peer: Peer) -> list[SessionsAction]:
        current = peer.current
        if current is None:
            return []
        before = current.met.member
        for session in peer.sessions:
            met = session.met
            try:
                session.met = replace(
                    met, member=is_member(met.chain, met.node, met.x25519, self._me.mesh, self._refusal)
                )
            except RemoteProtocolError as problem:
                failed = self._failed(peer, current.path, problem.reason)
                self._drop_peer(peer)
                return failed
        if current.met.member == before:
            return []
        peer.announced.clear()
        return self._announce(peer, current.path, restarted=False)

    # -- age

    def _watch_age(self, node: NodeId, session: Session) -> None:
        self._renewing.watch(node, session.begun, initiated=session.initiated, sessions=len(self._peers))

    def _on_terms(self, epoch: int, lifetime: Duration, now: Instant) -> list[SessionsAction]:
        self._renewing.set_terms(epoch, lifetime, now)
        for peer in self._peers.values():
            if peer.current is not None:
                self._watch_age(peer.node, peer.current)
        return []

    def _renew(self, node: NodeId, now: Instant) -> list[SessionsAction]:
        peer = self._peers.get(node)
        if peer is None or (current := peer.current) is None:
            return []
        self._renewing.again(node, now)
        if not current.met.member:
            return []
        # By table: the way it was last heard may have gone since.
        path = current.path if isinstance(current.path, LinkPath) else RoutedPath(node)
        return self._begin(peer, path, now)

    # -- time

    def _on_wake(self, now: Instant) -> list[SessionsAction]:
        actions: list[SessionsAction] = []
        for index in self._timers.pop_due(now):
            match self._by_index.get(index):
                case Initiation() as initiation:
                    actions += self._retry(initiation, now)
                case Session() as session if session.initiated and not session.confirmed:
                    actions += self._finish_again(session, now)
                case Session() as session if session.confirmed:
                    actions += self._check_idle(session, now)
                case Response() | Session():
                    self._drop_entry(index)
                case None:
                    pass
                case entry:
                    assert_never(entry)
        due = self._renewing.due(now)
        return actions if due is None else [*actions, *self._renew(due, now)]

    def _retry(self, initiation: Initiation, now: Instant) -> list[SessionsAction]:
        peer = self._peers[initiation.peer]
        current = peer.current
        if current is not None and current.order[0] >= initiation.generation:
            return self._give_up(peer, "")  # the peer's own handshake came first
        if initiation.tries >= TRIES_MAX:
            return self._give_up(peer, "no answer")
        path = next(iter(peer.wanted), None) or peer.sessions[-1].path
        remember(peer.wanted, path)
        tries = initiation.tries + 1
        if initiation.protocol == IK and tries > TRIES_IK_MAX:
            self._drop_entry(initiation.index)
            initiation = self._initiate(peer, XX, initiation.generation, now)
        initiation.tries = tries
        self._timers.set(initiation.index, after(now, _backoff(tries)))
        return [Transmit(path, initiation.message1)]

    def _finish_again(self, session: Session, now: Instant) -> list[SessionsAction]:
        if session.tries >= TRIES_MAX:
            peer = self._peers[session.met.node]
            self._drop_session(peer, session)
            failed = self._failed(peer, session.path, "handshake was not confirmed") if peer.current is None else []
            self._drop_if_empty(peer)
            return failed
        session.tries += 1
        self._timers.set(session.index, after(now, _backoff(session.tries)))
        return [Transmit(session.path, session.message3 or session.transport.seal(b""))]

    def _check_idle(self, session: Session, now: Instant) -> list[SessionsAction]:
        peer = self._peers[session.met.node]
        until = after(session.heard, IDLE_LIMIT if session is peer.current else SUPERSEDED_LIMIT)
        if now < until:
            self._timers.set(session.index, until)
            return []
        self._drop_session(peer, session)
        failed = self._failed(peer, session.path, "not heard for long") if peer.current is None else []
        self._drop_if_empty(peer)
        return failed


def _digest(message: bytes) -> bytes:
    return hashlib.blake2b(message, digest_size=16).digest()


def _backoff(tries: int) -> Duration:
    return Duration(min(RETRY_FIRST << (tries - 1), RETRY_LIMIT))


def _has_routed(peer: Peer) -> bool:
    return any(isinstance(path, RoutedPath) for path in peer.announced)


def _standing(session: Session) -> tuple[bytes | None, bool]:
    return session.met.chain, session.met.member
