"""Sessions, certificates, proofs and join requests against forgers: what is accepted must be what was made."""

import random
from collections.abc import Callable, Iterable
from typing import Any

from dmssd.security.admission import JOIN_CODEC, Admitted, Issuer, JoinRequest
from dmssd.security.certificate import Credentials, Subject, found, issue, verify_chain
from dmssd.security.identity import Identity
from dmssd.security.introduction import introduce, meet
from dmssd.security.sessions import (
    Connect,
    LinkPath,
    Opened,
    Outgoing,
    Received,
    Sessions,
    SessionsEvent,
    SessionUp,
    Transmit,
)
from dmssd.security.signer import MeshSigner, MeshVerifier
from dmssd.security.token import TokenBook
from sansio.core import Rejected, Wake
from sansio.errors import RemoteProtocolError
from sansio.ids import NodeId
from sansio.instant import MILLISECOND, SECOND, Instant
from tests.hostile import grammar
from tests.hostile.growth import overgrown

PAUSES = (0, MILLISECOND, 20 * MILLISECOND, 200 * MILLISECOND, 3 * SECOND)


def _credentials() -> tuple[Credentials, Credentials, Credentials]:
    """Two members of a mesh, and somebody of another."""
    entropy = random.Random("hostile credentials").randbytes
    ann = found(Identity(b"A" * 32), "ann", "mesh", entropy)
    bob = Identity(b"B" * 32)
    chain = issue(ann, Subject(bob.key, bob.x25519, "bob"), 7)
    return ann, Credentials.load(bob, chain), found(Identity(b"E" * 32), "eve", "evil", entropy)


ANN, BOB, EVE = _credentials()
MEMBERS = {each.identity.node: each for each in (ANN, BOB)}


class SessionBout:
    """Ann and Bob talk over a wire that Eve owns: she drops, repeats, delays, alters, and speaks for herself too."""

    def __init__(self) -> None:
        self.now = Instant(SECOND)
        self.cores = {
            each.certificate.name: Sessions(each, random.Random(each.certificate.name).randbytes)
            for each in (ANN, BOB, EVE)
        }
        self.nodes = {each.certificate.name: each.identity.node for each in (ANN, BOB, EVE)}
        self.flying: list[tuple[str, str, bytes]] = []  # from, to, datagram
        self.said: dict[tuple[str, str], set[bytes]] = {}
        self.heard: list[tuple[str, NodeId, bytes, bool]] = []
        self.words = grammar.Words((ANN.chain, BOB.chain, ANN.mesh))
        self._numbers = 0
        self._still_talks()

    def fight(self, choices: Iterable[int]) -> None:
        """One thing on the wire for each choice; then it is left alone, and the two must still be able to talk."""
        for choice in choices:
            rng = random.Random(choice)
            self.now = Instant(self.now + rng.choice(PAUSES))
            self._step(rng)
        self._still_talks()
        self._judge()

    def _step(self, rng: random.Random) -> None:
        match rng.randrange(10):
            case 0 | 1:
                speaker = rng.choice(("ann", "bob", "eve"))
                listener = rng.choice([name for name in ("ann", "bob") if name != speaker])
                self._say(speaker, listener)
            case 2:
                self._wake_all()
            case 3:
                speaker, listener = rng.choice((("ann", "bob"), ("bob", "ann"), ("eve", "ann")))
                self._tell(speaker, Connect(self.nodes[listener], self._path(listener)))
            case 4 | 5 | 6:
                if self.flying:
                    self._deliver(*(rng.choice(self.flying[-12:]) if rng.random() < 0.5 else self.flying[-1]))
            case _:
                if self.flying:
                    sender, listener, datagram = rng.choice(self.flying)
                    head = rng.choice((1, 2, 3, 6, 10, 14))
                    altered = datagram[:head] + grammar.mangled(datagram[head:], rng)
                    if rng.random() < 0.2:
                        altered = datagram[:6] + rng.choice(self.flying)[2][6:]  # another session's index
                    self._deliver(sender, rng.choice((listener, "ann", "bob")), altered)

    def _path(self, name: str) -> LinkPath:
        return LinkPath(1, f"fe80::{name}")

    def _say(self, speaker: str, listener: str) -> None:
        self._numbers += 1
        text = f"{speaker} {self._numbers}".encode()
        self.said.setdefault((speaker, listener), set()).add(text)
        self._tell(speaker, Outgoing(self.nodes[listener], self._path(listener), text))

    def _wake_all(self) -> None:
        for name, core in self.cores.items():
            due = core.deadline()
            if due is not None and due <= self.now:
                self._tell(name, Wake())
                due = core.deadline()
                assert due is None or due > self.now

    def _deliver(self, sender: str, listener: str, datagram: bytes) -> None:
        if listener in self.cores:
            self._tell(listener, Received(self._path(sender), datagram))

    def _tell(self, name: str, event: SessionsEvent) -> None:
        for action in self.cores[name].handle(event, self.now):
            match action:
                case Transmit(LinkPath(_, address), payload):
                    self.flying.append((name, address.removeprefix("fe80::"), payload))
                case Opened(peer, _, plaintext, member):
                    self.heard.append((name, peer, plaintext, member))
                case SessionUp(peer, _, _, member):
                    assert member == (name in ("ann", "bob") and peer in MEMBERS), f"{name} misjudges {peer.hex()}"
                case Rejected(_, reason):
                    assert 0 < len(reason) <= 120

    def _judge(self) -> None:
        assert len(self.heard) == len(set(self.heard)), "something was opened twice"
        for listener, peer, text, member in self.heard:
            speaker = next(name for name, node in self.nodes.items() if node == peer)
            assert text in self.said.get((speaker, listener), set()), f"{speaker} never said {text!r}"
            assert member == (speaker != "eve" and listener != "eve")
        for core in self.cores.values():
            grown = overgrown(core)
            assert not grown, grown

    def _still_talks(self) -> None:
        self.flying.clear()
        for speaker, listener in (("ann", "bob"), ("bob", "ann")):
            for _ in range(120):
                before = len(self.heard)
                self._say(speaker, listener)
                for _ in range(6):
                    waiting, self.flying = self.flying, []
                    for each in waiting:
                        self._deliver(*each)
                if any(name == listener for name, *_ in self.heard[before:]):
                    break
                self.now = Instant(self.now + SECOND)
                self._wake_all()
            else:
                raise AssertionError(f"{speaker} cannot reach {listener} any more")


def _accepts_only(attempt: Callable[[], object], wanted: object) -> None:
    try:
        got = attempt()
    except RemoteProtocolError:
        return
    assert got == wanted, f"{got!r} was accepted"


class ForgeryBout:
    """Altered chains, proofs, introductions and join requests."""

    def __init__(self) -> None:
        self.words = grammar.Words(
            (ANN.chain, BOB.chain, EVE.chain, ANN.mesh, EVE.mesh, *MEMBERS, ANN.identity.key, EVE.identity.key)
        )
        entropy = random.Random("hostile token").randbytes
        self.book = TokenBook(None, Instant(0))
        self.token = self.book.create(ANN.mesh, ANN.identity.node, entropy, Instant(0), uses=3, ttl=3600 * SECOND)
        self.issuer = Issuer(ANN, self.book, entropy)
        eve = EVE.identity
        self.request = JoinRequest(self.token.id, self.token.secret, ANN.mesh, "eve", eve.key, eve.x25519, b"n" * 8)

    def fight(self, choices: Iterable[int]) -> None:
        """One forgery for each choice."""
        for choice in choices:
            rng = random.Random(choice)
            rng.choice((self._chain, self._proof, self._introduction, self._join))(rng)

    def _chain(self, rng: random.Random) -> None:
        author = rng.choice((ANN, BOB))
        forged = grammar.mutated(rng.choice((author.chain, EVE.chain)), rng, self.words)
        try:
            certificate = verify_chain(forged, ANN.mesh)
        except RemoteProtocolError:
            return
        # What is signed cannot be altered: at most a chain that says the same was written in another way.
        assert certificate in (ANN.certificate, BOB.certificate)

    def _proof(self, rng: random.Random) -> None:
        author, body = rng.choice((ANN, BOB)), b"body %d" % rng.randrange(3)
        proof = MeshSigner(author).sign(body)
        origin = rng.choice((*MEMBERS, EVE.identity.node))
        said = rng.choice((body, grammar.mangled(body, rng)))
        shown = rng.choice((proof, MeshSigner(EVE).sign(said), grammar.mutated(proof, rng, self.words)))
        if MeshVerifier(ANN.mesh).verify(origin, said, shown):
            assert (origin, said) == (author.identity.node, body)

    def _introduction(self, rng: random.Random) -> None:
        index = b"\1\2\3\4"
        author = rng.choice((ANN, BOB, EVE))
        whole = introduce(author, b"i" * 8, 5, index)
        said = grammar.mutated(whole, rng, self.words)
        proved = rng.choice((author.identity.x25519, EVE.identity.x25519))
        try:
            met = meet(said, proved, index, ANN.mesh)
        except RemoteProtocolError:
            return
        # The binding ties the key that the handshake proved to one identity; nothing else can be claimed with it.
        assert met.x25519 == proved == author.identity.x25519
        assert met.node == author.identity.node
        assert not met.member or author is not EVE

    def _join(self, rng: random.Random) -> None:
        whole = JOIN_CODEC.encode(self.request)
        asked = grammar.mutated(whole, rng, self.words)
        peer = rng.choice((EVE.identity.node, BOB.identity.node))
        for action in self.issuer.on_request(peer, asked, Instant(SECOND)):
            if isinstance(action, Admitted):
                said = JOIN_CODEC.decode(asked, "")
                assert isinstance(said, JoinRequest)
                assert (said.token, said.secret, said.mesh) == (self.token.id, self.token.secret, ANN.mesh)
                assert action.node == peer == EVE.identity.node
                certificate = verify_chain(action.chain, ANN.mesh)
                assert not certificate.is_admin
                assert certificate.key == EVE.identity.key


BOUTS: dict[str, Callable[[], Any]] = {"sessions": SessionBout, "forgeries": ForgeryBout}
"""A maker of a fresh one for each."""
