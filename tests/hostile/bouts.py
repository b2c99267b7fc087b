"""Each core by itself against whatever may come through its door: no exception, no growth, no time standing still.

A bout is a fresh core and a number of *choices*, 32-bit numbers that each stand for one event. So hypothesis can
shorten a list of them to the few that matter, and ``make soak`` can draw them by the million.
"""

import random
from collections.abc import Callable, Iterable
from typing import Any

from dmssd.events import FibProgrammed, FibRead
from dmssd.fragments import Fragments
from dmssd.roles.fd import Forwarder, ForwarderConfig, LsdbMoved, PlanReceived
from dmssd.roles.messages import PLAN_CODEC, PlanAck, PlanPush, row_digest
from dmssd.roles.tp import AckReceived, ProcessorConfig, TopologyProcessor
from gossip import replica
from gossip.messages import MESSAGE_CODEC
from gossip.replica import Replica
from gossip.statements import REPLICA_CODEC, STATED_CODEC, Push, Statement
from gossip.swim import Datagram, PathChanged, PeerMet, Swim, SwimConfig
from routing import adjacency, discovery, linkstate
from routing.adjacency import HELLO_CODEC, Adjacencies
from routing.control import FRAME_CODEC, ControlRouter, FrameReceived, NeighboursSet, NextHopsSet, Originate
from routing.discovery import GREETING_CODEC, Discovery
from routing.fib import Installed
from routing.flood import FLOOD_CODEC, Flood, FloodItem
from routing.linkstate import SIGNED_CODEC, LinkState
from routing.lsa import LSA_CODEC, Adjacency, LinkNumber, Lsa, SignedLsa
from routing.lsdb import lsa_problem
from routing.neighbours import LinkDown, LinkUp, NeighbourDown, NeighbourUp
from routing.plan import ROW_CODEC
from sansio.core import Rejected, Wake
from sansio.errors import RemoteProtocolError
from sansio.ids import MeshId, NodeId
from sansio.instant import MILLISECOND, SECOND, Instant
from sansio.wire import Codec
from tests.hostile import grammar
from tests.hostile.growth import overgrown

ME, PEER, OTHER, FAR = (NodeId(letter * 20) for letter in (b"m", b"p", b"q", b"z"))
EVERYBODY = (ME, PEER, OTHER, FAR)
MESH = MeshId(b"M" * 16)
LINK = LinkNumber(1)
TOPIC = "test"
ADDRESS = "fe80::2"
WORDS = grammar.Words((*EVERYBODY, MESH, b"good", bytes(16)))
PAUSES = (0, 0, 0, MILLISECOND, 40 * MILLISECOND, SECOND, 30 * SECOND)
REASON_CHARACTERS_MAX = 120

CODECS = grammar.codecs()

Feed = Callable[[random.Random], Any]


def message(codec: Codec[Any], rng: random.Random) -> bytes:
    """What a peer may send where ``codec`` listens: legal, nearly legal, or noise."""
    fate = rng.random()
    if fate < 0.1:
        return rng.randbytes(rng.randrange(120))
    whole = grammar.legal(codec, rng, WORDS)
    return whole if fate < 0.55 else grammar.mutated(whole, rng, WORDS)


class Gate:
    """Believes what is marked good; marks what it signs."""

    def sign(self, body: bytes) -> bytes:
        return b"good"

    def verify(self, origin: NodeId, body: bytes, proof: bytes) -> bool:
        return proof == b"good"


class Bout:
    """One core and what may happen to it; ``sound`` says what must be true of it afterwards."""

    def __init__(self, core: Any, feeds: Iterable[Feed], sound: Callable[[Any], None] = lambda core: None) -> None:
        self.core = core
        self.now = Instant(SECOND)
        self._feeds = tuple(feeds)
        self._sound = sound

    def fight(self, choices: Iterable[int]) -> None:
        """One event for each choice; raises whatever goes wrong."""
        for choice in choices:
            rng = random.Random(choice)
            self.now = Instant(self.now + rng.choice(PAUSES))
            due = self.core.deadline() if hasattr(self.core, "deadline") else None
            if due is not None and rng.random() < 0.25:
                self.now = max(self.now, due)
                self._handle(Wake())
                after_wake = self.core.deadline()
                assert after_wake is None or after_wake > self.now or after_wake == 0, "time stands still"
            else:
                self._handle(rng.choice(self._feeds)(rng))
        grown = overgrown(self.core)
        assert not grown, grown
        self._sound(self.core)

    def _handle(self, event: Any) -> None:
        for action in self.core.handle(event, self.now):
            if isinstance(action, Rejected):
                assert 0 < len(action.reason) <= REASON_CHARACTERS_MAX


def _somebody(rng: random.Random) -> NodeId:
    return rng.choice((PEER, PEER, OTHER, FAR, ME, NodeId(rng.randbytes(20))))


def _place(rng: random.Random) -> tuple[LinkNumber, str]:
    return rng.choice((LINK, LINK, LinkNumber(2))), rng.choice((ADDRESS, "fe80::3", f"fe80::{rng.randrange(99):x}"))


def discovery_bout() -> Bout:
    """Greetings from anybody."""
    core = Discovery(ME, "me", MESH, random.Random(1))
    core.handle(LinkUp(LINK, "eth0", 1), Instant(SECOND))
    return Bout(
        core,
        [
            lambda rng: discovery.GreetingReceived(*_place(rng), message(GREETING_CODEC, rng)),
            lambda rng: discovery.GreetingReceived(*_place(rng), message(GREETING_CODEC, rng)),
            lambda rng: rng.choice((discovery.Paired, discovery.Unpaired))(*_place(rng)),
        ],
    )


def adjacency_bout() -> Bout:
    """Hellos of members, echoes of anybody."""
    core = Adjacencies(ME, random.Random(1))
    now = Instant(SECOND)
    core.handle(LinkUp(LINK, "eth0", 1), now)
    core.handle(adjacency.Paired(PEER, LINK, ADDRESS), now)
    return Bout(
        core,
        [
            lambda rng: adjacency.HelloReceived(_somebody(rng), *_place(rng), message(HELLO_CODEC, rng)),
            lambda rng: adjacency.HelloReceived(PEER, LINK, ADDRESS, message(HELLO_CODEC, rng)),
            lambda rng: adjacency.EchoReplied(*_place(rng), rng.getrandbits(64)),
            lambda rng: adjacency.SessionRestarted(_somebody(rng)),
            lambda rng: rng.choice((LinkUp(LinkNumber(2), "eth1", 1), LinkDown(LinkNumber(2)))),
        ],
    )


def _flood(rng: random.Random) -> bytes:
    """LSAs with a proof that holds: what a member may say of itself and, here, of everybody."""
    body = message(LSA_CODEC, rng)
    signed = SIGNED_CODEC.encode(SignedLsa(body, rng.choice((b"good", b"good", b"bad"))))
    return FLOOD_CODEC.encode(Flood((FloodItem(rng.choice((0, 1, 2_500, 3_600_000, 2**40)), signed),)))


def linkstate_bout() -> Bout:
    """Floods of neighbours, with proofs that hold and that do not."""
    core = LinkState(ME, "me", Gate(), Gate(), None, random.Random(1))
    now = Instant(SECOND)
    for peer in (PEER, OTHER):
        core.handle(NeighbourUp(peer, LINK, LINK, ADDRESS, 1), now)

    def sound(core: LinkState) -> None:
        for origin, lsa in core.lsdb.items():
            assert lsa.origin == origin
            assert core.proof(origin) == b"good"
            assert lsa_problem(lsa) is None
        assert core.lsdb[ME] == core.mine

    return Bout(
        core,
        [
            lambda rng: linkstate.FloodReceived(rng.choice((PEER, OTHER)), message(FLOOD_CODEC, rng)),
            lambda rng: linkstate.FloodReceived(rng.choice((PEER, OTHER)), _flood(rng)),
            lambda rng: linkstate.FloodReceived(rng.choice((PEER, OTHER)), _flood(rng)),
            lambda rng: linkstate.FloodReceived(_somebody(rng), message(FLOOD_CODEC, rng)),
            lambda rng: rng.choice(
                (
                    NeighbourDown(OTHER, LINK, "echo lost", LINK, ADDRESS),
                    NeighbourUp(OTHER, LINK, LINK, ADDRESS, 1),
                )
            ),
        ],
        sound,
    )


def control_bout() -> Bout:
    """Frames of neighbours, members and not."""
    core = ControlRouter(ME)
    now = Instant(SECOND)
    core.handle(NeighboursSet((PEER, OTHER)), now)
    core.handle(NextHopsSet({FAR: OTHER, PEER: PEER, OTHER: OTHER}), now)
    return Bout(
        core,
        [
            lambda rng: FrameReceived(rng.choice((PEER, OTHER)), message(FRAME_CODEC, rng), rng.random() < 0.3),
            lambda rng: Originate(_somebody(rng), rng.randbytes(20)),
        ],
    )


def swim_bout() -> Bout:
    """Messages of members."""
    core = Swim(ME, "me", SwimConfig(), random.Random(0), None, lambda node: 1 if node == PEER else None)
    for node in (PEER, OTHER):
        core.handle(PeerMet(node, "n"), Instant(SECOND))

    def sound(core: Swim) -> None:
        first, *others = core.members()
        assert first.node == ME
        assert first.state.up
        assert all(member.node != ME for member in others)

    return Bout(
        core,
        [
            lambda rng: Datagram(rng.choice((PEER, OTHER, _somebody(rng))), message(MESSAGE_CODEC, rng)),
            lambda rng: Datagram(rng.choice((PEER, OTHER)), message(MESSAGE_CODEC, rng)),
            lambda rng: rng.choice((PeerMet(_somebody(rng), "x"), PathChanged(_somebody(rng)))),
        ],
        sound,
    )


def _statements(rng: random.Random) -> bytes:
    """Statements with a proof that holds: what a member may say for itself and, here, for everybody."""
    batch = []
    for _ in range(rng.randint(1, 4)):
        topic, *rest = grammar.tree(STATED_CODEC.decode(grammar.legal(STATED_CODEC, rng, WORDS), ""))
        signed = grammar.encoded([rng.choice((TOPIC, TOPIC, topic)), *rest])
        signed = grammar.mutated(signed, rng, WORDS) if rng.random() < 0.2 else signed
        author = _somebody(rng)
        batch.append(Statement(author, signed, b"bad" if author == ME else rng.choice((b"good", b"good", b"bad"))))
    return REPLICA_CODEC.encode(Push(tuple(batch)))


def replica_bout() -> Bout:
    """Statements, and comparisons of sets, from members."""
    topics = {TOPIC: replica.TopicRules(author_max=4, body_bytes_max=60)}
    core = Replica(ME, MESH, Gate(), Gate(), random.Random(1), {}, topics, lambda: (ME, PEER, OTHER))
    core.handle(replica.Started(), Instant(SECOND))
    core.handle(replica.Publish(TOPIC, b"mine", b"true"), Instant(SECOND))

    def sound(core: Replica) -> None:
        mine = core.get(TOPIC, ME, b"mine")
        assert mine is not None
        authors = [statement.key.author for statement in core.topic(TOPIC)]
        assert all(authors.count(author) <= 4 for author in authors)
        assert all(statement.statement.proof == b"good" for statement in core.topic(TOPIC))

    return Bout(
        core,
        [
            lambda rng: replica.Received(rng.choice((PEER, OTHER)), message(REPLICA_CODEC, rng)),
            lambda rng: replica.Received(rng.choice((PEER, OTHER)), _statements(rng)),
            lambda rng: rng.choice(
                (
                    replica.MemberMet(_somebody(rng)),
                    replica.AuthorsRefused(frozenset({OTHER} if rng.random() < 0.5 else ())),
                )
            ),
        ],
        sound,
    )


def _lsdb() -> dict[NodeId, Lsa]:
    pairs = ((ME, PEER), (PEER, ME), (PEER, OTHER), (OTHER, PEER))
    lsas: dict[NodeId, Lsa] = {}
    for near, far in pairs:
        before = lsas[near].adjacencies if near in lsas else ()
        lsas[near] = Lsa(near, 5, "n", (*before, Adjacency(far, LINK, LINK, 1)), ())
    return lsas


def _push(rng: random.Random) -> PlanReceived:
    row = message(ROW_CODEC, rng)
    digest = row_digest(row) if rng.random() < 0.95 else bytes(16)
    return PlanReceived(PEER, "peer", PlanPush(digest, row))


def forwarder_bout() -> Bout:
    """Plans of a member that may compute, and a kernel that refuses now and then."""
    core = Forwarder(ME, _lsdb(), ForwarderConfig())
    core.handle(FibRead(Installed()), Instant(SECOND))
    core.handle(NeighbourUp(PEER, LINK, LINK, ADDRESS, 1), Instant(SECOND))

    def sound(core: Forwarder) -> None:
        usable = set(core.neighbours_by_gateway())
        assert all({gateway for gateway, _ in members} <= usable for members in core.wanted.values())
        assert core.row is None or core.row.forwarder == ME

    return Bout(
        core,
        [
            _push,
            _push,
            lambda rng: FibProgrammed(rng.randrange(1, 40), ((0, 17),) if rng.random() < 0.3 else ()),
            lambda rng: rng.choice(
                (
                    NeighbourDown(PEER, LINK, "echo lost", LINK, ADDRESS),
                    NeighbourUp(PEER, LINK, LINK, ADDRESS, 1),
                    LsdbMoved(),
                )
            ),
        ],
        sound,
    )


def processor_bout() -> Bout:
    """Acknowledgements of anybody."""
    core = TopologyProcessor(ME, _lsdb(), ProcessorConfig())
    core.handle(LsdbMoved(), Instant(SECOND))

    def ack(rng: random.Random) -> AckReceived:
        said = PLAN_CODEC.decode(grammar.legal(PLAN_CODEC, rng, WORDS), "")
        digest = said.digest
        return AckReceived(_somebody(rng), said if isinstance(said, PlanAck) else PlanAck(digest, True))

    return Bout(core, [ack, ack, lambda rng: LsdbMoved()])


class CodecBout:
    """Every codec of the project: what is legal survives, what is not is refused with one kind of error."""

    def fight(self, choices: Iterable[int]) -> None:
        """One legal message and one altered one of some codec for each choice."""
        names = sorted(CODECS)
        for choice in choices:
            rng = random.Random(choice)
            codec = CODECS[rng.choice(names)]
            whole = grammar.legal(codec, rng, WORDS)
            self._survives(codec, whole)
            for attempt in (grammar.mutated(whole, rng, WORDS), rng.randbytes(rng.randrange(60))):
                try:
                    codec.decode(attempt, "test")
                except RemoteProtocolError:
                    continue
                self._survives(codec, attempt)

    def _survives(self, codec: Codec[Any], data: bytes) -> None:
        # Bytes are compared, since a NaN is not equal to itself.
        again = codec.encode(codec.decode(data, "test"))
        assert codec.encode(codec.decode(again, "test")) == again


class FragmentBout:
    """Pieces of several senders, in any order, with impossible ones among them."""

    def fight(self, choices: Iterable[int]) -> None:
        """One piece for each choice."""
        core = Fragments()
        sent: dict[NodeId, list[bytes]] = {PEER: [], OTHER: []}
        pieces: list[tuple[NodeId, bytes]] = []
        for choice in choices:
            rng = random.Random(choice)
            source = rng.choice((PEER, OTHER))
            if not pieces or rng.random() < 0.2:
                whole = rng.randbytes(rng.randrange(40, 400))
                sent[source].append(whole)
                pieces += [(source, piece) for piece in core.cut(whole, 40)]
            at = rng.randrange(len(pieces))
            author, piece = pieces.pop(at) if rng.random() < 0.8 else pieces[at]
            honest = rng.random() < 0.7
            try:
                whole_again = core.collect(author, piece if honest else grammar.mangled(piece[:8], rng) + piece[8:])
            except RemoteProtocolError:
                continue
            if whole_again is not None and honest:
                assert len(whole_again) <= 64 * 40
        grown = overgrown(core)
        assert not grown, grown


BOUTS: dict[str, Callable[[], Any]] = {
    "codecs": CodecBout,
    "fragments": FragmentBout,
    "discovery": discovery_bout,
    "adjacencies": adjacency_bout,
    "link state": linkstate_bout,
    "control": control_bout,
    "swim": swim_bout,
    "forwarder": forwarder_bout,
    "processor": processor_bout,
    "replica": replica_bout,
}
"""A maker of a fresh one for each."""
