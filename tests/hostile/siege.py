"""A live simulated mesh under attack: by outsiders on the wire, by a stranger in session, by a member gone bad.

Everybody runs the real ``SecureNode`` over simulated cables. Ammunition is what the mesh itself has said, recorded,
with small changes (:mod:`tests.hostile.grammar`), and legal nonsense made from the grammar. What must not happen is
looked for from outside, with the truth in hand: :meth:`Siege.damage` lists what an honest node believes and should not.

attacker | what it has
outsider | every cable, any source address; no key
stranger | a machine on the links with a key and a mesh of its own: sessions, but no certificate of this mesh
traitor  | a member's machine, key and certificate: signs for itself whatever it likes
"""

import random
from collections.abc import Iterator

from dmssd.channels import Channel
from dmssd.events import Datagram, NodeAction, NodeEvent
from dmssd.fragments import Fragments
from dmssd.inner import PeerSpoke
from dmssd.roles.messages import PLAN_CODEC, PlanPush, row_digest
from dmssd.rules.statements import TOPICS
from dmssd.secure import KIND_GREETING, WIRE_VERSION, SecureNode
from dmssd.security.session_events import Connect, LinkPath, Outgoing, Path, RoutedPath
from dmssd.security.signer import STATEMENT_CONTEXT, MeshSigner
from dmssd.sim import mesh, shapes
from dmssd.sim.checkers import unrest
from dmssd.sim.disk import Disk
from dmssd.sim.network import Udp
from dmssd.sim.world import Machine, Start, World, address_of
from gossip.messages import MESSAGE_CODEC
from gossip.statements import REPLICA_CODEC, STATED_CODEC, Push, Statement
from routing.adjacency import HELLO_CODEC
from routing.control import FRAME_CODEC
from routing.discovery import GREETING_CODEC
from routing.flood import FLOOD_CODEC, Flood, FloodItem
from routing.linkstate import SIGNED_CODEC
from routing.lsa import LSA_CODEC, SignedLsa
from routing.plan import ROW_CODEC
from sansio.ids import NodeId
from sansio.instant import MILLISECOND, SECOND, Duration, Instant
from tests.hostile import grammar
from tests.hostile.growth import overgrown

ATTACKERS = ("outsider", "stranger", "traitor")
SHAPE = "grid:2x3"
PROCESSORS = 2
KEPT_MAX = 300  # of each kind of recorded message
ROUND_INPUTS = 50
ROUND = Duration(20 * MILLISECOND)
DIRECT_BYTES = 1100
ROUTED_BYTES = 760

SPOKEN = {
    Channel.HELLO: HELLO_CODEC,
    Channel.FLOOD: FLOOD_CODEC,
    Channel.CONTROL: FRAME_CODEC,
    Channel.SWIM: MESSAGE_CODEC,
    Channel.PLAN: PLAN_CODEC,
    Channel.STATEMENT: REPLICA_CODEC,
}
CODECS = grammar.codecs()


class _Kept:
    """Some of the messages of each kind."""

    def __init__(self) -> None:
        self._by_kind: dict[bytes, list[bytes]] = {}

    def keep(self, kind: bytes, message: bytes) -> None:
        kept = self._by_kind.setdefault(kind, [])
        if len(kept) < KEPT_MAX:
            kept.append(message)

    def pick(self, rng: random.Random) -> bytes:
        return rng.choice(self._by_kind[rng.choice(sorted(self._by_kind))])

    @property
    def kinds(self) -> set[bytes]:
        return set(self._by_kind)


class _Tape:
    """Writes down what peers said inside sessions."""

    def __init__(self, spoken: _Kept) -> None:
        self._spoken = spoken

    def write(self, event: object, now: Instant) -> None:
        if isinstance(event, PeerSpoke):
            self._spoken.keep(event.payload[:2], event.payload)


class Siege:
    """One mesh of six, at rest when the attack begins."""

    def __init__(self, attacker: str, seed: int) -> None:
        self.spoken, self.wire = _Kept(), _Kept()
        self.inputs = 0
        self._kind = attacker
        self._fragments = Fragments()
        self.world = world = self._world(seed)
        self.attacker = world.machines[-1] if attacker != "outsider" else None
        self.honest = [machine for machine in world.machines if machine is not self.attacker]
        for machine in self.honest if attacker == "stranger" else world.machines:
            world.start(machine)
        self.rest(20 * SECOND)
        if attacker == "stranger":
            world.machines[-1].disk = Disk()
            world.start(world.machines[-1])
        world.run_for(6 * SECOND)
        self._began = world.now
        self._names = {machine.node for machine in self.members}
        self.words = grammar.Words(tuple(self._words()))

    @property
    def members(self) -> list[Machine]:
        """Who belongs to the mesh, the traitor included."""
        return list(self.world.machines) if self._kind == "traitor" else self.honest

    def _world(self, seed: int) -> World:
        def tape(start: Start) -> _Tape:
            return _Tape(self.spoken)

        options = mesh.MeshOptions(processors=PROCESSORS, tape=tape, plant=self._overhear)
        return mesh.build(seed, shapes.parse(SHAPE, seed), options)

    def _overhear(self, secure: SecureNode) -> None:
        handle = secure.handle

        def handle_and_keep(event: NodeEvent, now: Instant) -> list[NodeAction]:
            if isinstance(event, Datagram):
                self.wire.keep(event.payload[:2], event.payload)
            return handle(event, now)

        secure.handle = handle_and_keep  # type: ignore[method-assign]

    def _words(self) -> Iterator[bytes]:
        for machine in self.world.machines:
            secure = mesh.secure_of(machine.daemon)
            yield machine.node
            yield secure.credentials.mesh
            yield secure.credentials.chain
            yield secure.node.linkstate.digest

    # The attack

    def attack(self, choices: list[int]) -> None:
        """Throw one input for each number; let a little time go by after every few."""
        for number, choice in enumerate(choices):
            rng = random.Random(choice)
            {"outsider": self._throw, "stranger": self._say, "traitor": self._say}[self._kind](rng)
            self.inputs += 1
            if number % ROUND_INPUTS == ROUND_INPUTS - 1:
                self.world.run_for(ROUND)
        self.world.run_for(ROUND)

    def _throw(self, rng: random.Random) -> None:
        victim = rng.choice(self.honest)
        link = rng.choice(victim.ports)
        neighbour = self.world.network.cable((victim.number, link))
        side = 0 if neighbour.ends[1] == (victim.number, link) else 1
        near = neighbour.ends[side]
        source = address_of(*near) if rng.random() < 0.5 else f"fe80::bad:{rng.randrange(2**16):x}"
        to = victim.kernel.interfaces[link].address
        self.world.network.send(near, Udp(source, to if rng.random() < 0.9 else None, self._datagram(rng)))

    def _datagram(self, rng: random.Random) -> bytes:
        match rng.randrange(6):
            case 0:
                return self.wire.pick(rng)  # as it was: a replay, often to somebody else
            case 1:
                greeting = grammar.legal(GREETING_CODEC, rng, self.words)
                return bytes((WIRE_VERSION, KIND_GREETING)) + greeting
            case 2:
                return bytes((WIRE_VERSION, rng.randrange(6))) + rng.randbytes(rng.randrange(400))
            case _:
                whole = self.wire.pick(rng)
                head = rng.choice((2, 2, 6, 14))
                return whole[:head] + grammar.mutated(whole[head:], rng, self.words)

    def _say(self, rng: random.Random) -> None:
        machine, world = self.attacker, self.world
        assert machine is not None
        secure = mesh.secure_of(machine.daemon)
        path = self._path(machine, rng)
        target = path[0]
        message = self._message(secure, rng)
        room = DIRECT_BYTES if isinstance(path[1], LinkPath) else ROUTED_BYTES
        pieces = [message]
        if len(message) > room:
            cut = self._fragments.cut(message[: 60 * room], room - 1)
            pieces = [bytes((Channel.FRAGMENT,)) + piece for piece in cut]
        for piece in pieces:
            if not secure.sessions.connected(target):
                self._perform(secure, [*secure.sessions.handle(Connect(target, path[1]), world.now)])
            self._perform(secure, secure.sessions.handle(Outgoing(target, path[1], piece), world.now))

    def _path(self, machine: Machine, rng: random.Random) -> tuple[NodeId, Path]:
        if rng.random() < 0.3 and self._kind == "traitor":
            node = rng.choice(self.honest).node
            return node, RoutedPath(node, ())
        link = rng.choice(machine.ports)
        cable = self.world.network.cable((machine.number, link))
        port = cable.ends[0] if cable.ends[1] == (machine.number, link) else cable.ends[1]
        node = self.world.machines[port[0]].node
        return node, LinkPath(link, address_of(*port))

    def _perform(self, secure: SecureNode, actions: list) -> None:
        out: list[NodeAction] = []
        secure._session_actions(actions, self.world.now, out)
        for action in out:
            self.world._perform(self.attacker, action)

    def _message(self, secure: SecureNode, rng: random.Random) -> bytes:
        match rng.randrange(11):
            case 0:
                return self.spoken.pick(rng)
            case 10:
                return bytes((Channel.STATEMENT,)) + self._statements(secure, rng)
            case 1 | 2 | 3 | 4:
                whole = self.spoken.pick(rng)
                return whole[:1] + grammar.mutated(whole[1:], rng, self.words)
            case 5:
                return bytes((Channel.FLOOD,)) + self._signed_flood(secure, rng)
            case 6:
                row = grammar.legal(ROW_CODEC, rng, self.words)
                row = grammar.mutated(row, rng, self.words) if rng.random() < 0.5 else row
                return bytes((Channel.PLAN,)) + PLAN_CODEC.encode(PlanPush(row_digest(row), row))
            case 7:
                return bytes((rng.choice((*Channel, rng.randrange(256))),)) + rng.randbytes(rng.randrange(60))
            case _:
                channel = rng.choice(sorted(Channel))
                codec = SPOKEN.get(channel) or CODECS[rng.choice(sorted(CODECS))]
                return bytes((channel,)) + grammar.legal(codec, rng, self.words)

    def _signed_flood(self, secure: SecureNode, rng: random.Random) -> bytes:
        """LSAs that the attacker signs as its own, whatever they say: of itself, mostly."""
        items = []
        for _ in range(rng.randint(1, 3)):
            lsa = LSA_CODEC.decode(grammar.legal(LSA_CODEC, rng, self.words), "")
            tree = [secure.node.me, *grammar.tree(lsa)[1:]] if rng.random() < 0.8 else grammar.tree(lsa)
            body = grammar.encoded(tree)
            signed = SIGNED_CODEC.encode(SignedLsa(body, MeshSigner(secure.credentials).sign(body)))
            items.append(FloodItem(rng.choice((0, 1, 5_000, 3_600_000, 2**40)), signed))
        return FLOOD_CODEC.encode(Flood(tuple(items)))

    def _statements(self, secure: SecureNode, rng: random.Random) -> bytes:
        """Statements that the attacker signs as its own, and some that it ascribes to others."""
        signer = MeshSigner(secure.credentials, STATEMENT_CONTEXT)
        statements = []
        for _ in range(rng.randint(1, 3)):
            topic, *rest = grammar.tree(STATED_CODEC.decode(grammar.legal(STATED_CODEC, rng, self.words), ""))
            stated = grammar.encoded([rng.choice((*sorted(TOPICS), topic)), *rest])
            author = secure.node.me if rng.random() < 0.8 else rng.choice(self.honest).node
            statements.append(Statement(author, stated, signer.sign(stated)))
        return REPLICA_CODEC.encode(Push(tuple(statements)))

    # The damage

    def rest(self, within: int) -> None:
        """Run until nothing is out of order among those that run."""
        deadline = self.world.now + within
        while reasons := unrest(self.world, mesh.VIEWS):
            assert self.world.now < deadline, "\n".join(map(str, reasons))
            self.world.run_for(100 * MILLISECOND)

    def ends(self, within: int) -> None:
        """The attack is over, its machine switched off: the others must come to rest by themselves."""
        if self.attacker is not None:
            self.world.stop_machine(self.attacker)
        self.rest(within)

    def deaths(self) -> list[str]:
        """Honest machines that an honest one has held dead since the attack began."""
        names = {machine.node.hex() for machine in self.honest}
        return [
            f"{at}: {who} says {notice}"
            for at, who, notice in self.world.notices
            if at >= self._began and notice.kind == "member.down" and notice.facts.get("node") in names
        ]

    def damage(self) -> list[str]:
        """What honest nodes hold and should not."""
        found: list[str] = []
        for machine in self.honest:
            if machine.daemon is None:
                found.append(f"{machine} has stopped")
                continue
            secure = mesh.secure_of(machine.daemon)
            found += [f"{machine}: {line}" for line in overgrown(secure)]
            found += [f"{machine}: {line}" for line in self._misbeliefs(machine, secure)]
        return found

    def _misbeliefs(self, machine: Machine, secure: SecureNode) -> Iterator[str]:
        node = secure.node
        if not set(node.certified) <= self._names:
            yield "holds somebody certified who is not a member"
        for peer in secure.sessions.peers():
            if secure.sessions.is_member(peer) and peer not in self._names:
                yield f"takes {peer.hex()} for a member"
        for neighbour in node.adjacencies.neighbours():
            if neighbour.state == "up" and neighbour.node not in self._names:
                yield f"is adjacent to {neighbour.node.hex()}, which is no member"
        for member in node.swim.members():
            if member.node not in self._names and self._kind != "traitor":
                yield f"counts {member.node.hex()} among the members"
        source = node.forwarder.plan_source if node.forwarder is not None else "none"
        if self.attacker is not None and source == f"tp {self.attacker.name}":
            yield "forwards by a plan of the attacker's"
        for topic in TOPICS:
            for statement in node.replica.topic(topic):
                if statement.key.author not in self._names:
                    yield f"holds a statement of {statement.key.author.hex()}, which is nobody"
        yield from self._forged_lsas(secure)

    def _forged_lsas(self, secure: SecureNode) -> Iterator[str]:
        for origin, lsa in secure.node.linkstate.lsdb.items():
            author = self.world.by_node.get(origin)
            if author is None or origin not in self._names:
                yield f"holds an LSA of {origin.hex()}, which is nobody"
            elif author is not self.attacker and author.daemon is not None:
                own = mesh.secure_of(author.daemon).node.linkstate.mine
                if lsa.sequence > own.sequence or (lsa.sequence == own.sequence and lsa != own):
                    yield f"holds an LSA of {author} that {author} never made"


def blocks(seed: object, inputs: int, size: int) -> Iterator[list[int]]:
    """``inputs`` choices in blocks of ``size``."""
    rng = random.Random(f"choices/{seed}")
    for start in range(0, inputs, size):
        yield [rng.getrandbits(32) for _ in range(min(size, inputs - start))]


def besiege(attacker: str, seed: int, inputs: int) -> Siege:
    """A whole siege; raises ``AssertionError`` with what went wrong."""
    siege = Siege(attacker, seed)
    for choices in blocks(f"{attacker}/{seed}", inputs, 500):
        siege.attack(choices)
        damage = siege.damage()
        assert not damage, "\n".join(damage[:8])
    if attacker != "traitor":
        assert not siege.deaths(), "\n".join(siege.deaths()[:8])
    siege.ends(60 * SECOND)
    return siege
