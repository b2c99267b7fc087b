"""The join exchange: a token becomes a certificate.

The joiner opens an end-to-end session to the token's issuer (through whichever member it reached), and speaks only if
the peer of that session is the NodeId in the token and shows a chain that holds for the token's mesh id: the token
authenticates the mesh to the joiner, the secret the joiner to the mesh. Then, over the rpc channel:

    JoinRequest  (tag 1) | token id, secret, mesh, name, key, x25519, nonce
    JoinAccepted (tag 2) | nonce, chain
    JoinRefused  (tag 3) | nonce, reason
    WaitRequest  (tag 4) | mesh, name, key, x25519, nonce: without a token (:mod:`dmssd.security.petition`)
    WaitNoted    (tag 5) | nonce
    Expelled     (tag 6) | statements: a push of gossip.statements with the votes, told to one who comes back

The request is repeated until answered. The issuer grants the same joiner the same certificate again as long as the
token lives, so a lost answer costs nothing. The key in the request must be that of the session: nobody can have
somebody else's key certified.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, assert_never

import msgspec

from dmssd.security.certificate import (
    CHAIN_BYTES_MAX,
    Credentials,
    Subject,
    WireKey,
    WireName,
    checked_name,
    issue,
    new_serial,
    verify_chain,
)
from dmssd.security.identity import Identity
from dmssd.security.token import SECRET_BYTES, TOKEN_ID_BYTES, Grant, Token, TokenBook
from sansio.core import Persist, Rejected, Wake
from sansio.errors import AdmissionError, RemoteProtocolError
from sansio.ids import NodeId, WireMeshId, node_id, short
from sansio.instant import MILLISECOND, SECOND, Duration, Instant, after
from sansio.wire import WIRE, Codec

NONCE_BYTES = 8
REASON_CHARACTERS_MAX = 300
REQUEST_RETRY_FIRST = Duration(300 * MILLISECOND)
REQUEST_RETRY_LIMIT = Duration(2 * SECOND)
JOIN_TIMEOUT = Duration(60 * SECOND)
TOKENS_KEY = "tokens"

WireNonce = Annotated[bytes, msgspec.Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]


class JoinRequest(msgspec.Struct, tag=1, **WIRE):
    """Admit me, on the strength of this token."""

    token: Annotated[bytes, msgspec.Meta(min_length=TOKEN_ID_BYTES, max_length=TOKEN_ID_BYTES)]
    secret: Annotated[bytes, msgspec.Meta(min_length=SECRET_BYTES, max_length=SECRET_BYTES)]
    mesh: WireMeshId
    name: WireName
    key: WireKey
    x25519: WireKey
    nonce: WireNonce


class JoinAccepted(msgspec.Struct, tag=2, **WIRE):
    """You are a member, and this is your chain."""

    nonce: WireNonce
    chain: Annotated[bytes, msgspec.Meta(max_length=CHAIN_BYTES_MAX)]


class JoinRefused(msgspec.Struct, tag=3, **WIRE):
    """You are not, and this is why: a sentence that says what to do."""

    nonce: WireNonce
    reason: Annotated[str, msgspec.Meta(max_length=REASON_CHARACTERS_MAX)]


class WaitRequest(msgspec.Struct, tag=4, **WIRE):
    """Admit me when an admin has agreed; I shall ask again."""

    mesh: WireMeshId
    name: WireName
    key: WireKey
    x25519: WireKey
    nonce: WireNonce


class WaitNoted(msgspec.Struct, tag=5, **WIRE):
    """You are remembered as waiting, and the admins can see you."""

    nonce: WireNonce


class Expelled(msgspec.Struct, tag=6, **WIRE):
    """You are no member any more: these are the votes, for you to check."""

    statements: bytes


JoinMessage = JoinRequest | JoinAccepted | JoinRefused | WaitRequest | WaitNoted | Expelled
JOIN_CODEC: Codec[JoinMessage] = Codec(JoinMessage)


# -- the joiner


@dataclass(frozen=True, slots=True)
class IssuerReached:
    """A session with ``peer`` is up; ``chain`` is what it showed, unverified."""

    peer: NodeId
    chain: bytes | None


@dataclass(frozen=True, slots=True)
class Answered:
    """``peer`` said ``payload`` on the rpc channel."""

    peer: NodeId
    payload: bytes


@dataclass(frozen=True, slots=True)
class Ask:
    """Send ``payload`` to ``peer`` on the rpc channel of an end-to-end session."""

    peer: NodeId
    payload: bytes


@dataclass(frozen=True, slots=True)
class Joined:
    """We are a member now; ``credentials`` are to be stored before they are used."""

    credentials: Credentials


@dataclass(frozen=True, slots=True)
class JoinFailed:
    """It is not; ``reason`` says what to do. Ends the joiner."""

    reason: str


JoinerEvent = IssuerReached | Answered | Wake
JoinerAction = Ask | Joined | JoinFailed | Rejected


class Joiner:
    """One attempt to join, as a core. Ends with ``Joined`` or ``JoinFailed``; silent after that.

    ``AdmissionError`` where ``name`` may not be used.
    """

    def __init__(
        self,
        token: Token,
        identity: Identity,
        name: str,
        entropy: Callable[[int], bytes],
        now: Instant,
        timeout: Duration = JOIN_TIMEOUT,
    ) -> None:
        self.token = token
        self._identity = identity
        nonce = entropy(NONCE_BYTES)
        self._nonce = nonce
        self._request = JOIN_CODEC.encode(
            JoinRequest(token.id, token.secret, token.mesh, checked_name(name), identity.key, identity.x25519, nonce)
        )
        self._gives_up = after(now, timeout)
        self._ask_again: Instant | None = None
        self._wait = REQUEST_RETRY_FIRST
        self._reached = False
        self.finished = False

    def handle(self, event: JoinerEvent, now: Instant) -> list[JoinerAction]:
        """React to one event."""
        if self.finished:
            return []
        match event:
            case IssuerReached(peer, chain):
                return self._on_reached(peer, chain, now)
            case Answered(peer, payload):
                return self._on_answer(peer, payload)
            case Wake():
                return self._on_wake(now)
            case _:
                assert_never(event)

    def deadline(self) -> Instant | None:
        """When the request is repeated or given up."""
        if self.finished:
            return None
        return self._gives_up if self._ask_again is None else min(self._ask_again, self._gives_up)

    def _on_reached(self, peer: NodeId, chain: bytes | None, now: Instant) -> list[JoinerAction]:
        if peer != self.token.issuer or self._reached:
            return []  # told once for each path: one is enough
        try:
            genuine = verify_chain(chain or b"", self.token.mesh).node == peer
        except RemoteProtocolError:
            genuine = False
        if not genuine:
            return self._fail(
                "the token's issuer is not a member of the token's mesh: make a new token on a member of the mesh"
            )
        self._reached = True
        return self._ask(now)

    def _ask(self, now: Instant) -> list[JoinerAction]:
        self._ask_again = after(now, self._wait)
        self._wait = Duration(min(2 * self._wait, REQUEST_RETRY_LIMIT))
        return [Ask(self.token.issuer, self._request)]

    def _on_answer(self, peer: NodeId, payload: bytes) -> list[JoinerAction]:
        if peer != self.token.issuer or not self._reached:
            return [Rejected(short(peer), "join answer from another node")]
        try:
            message = JOIN_CODEC.decode(payload, short(peer))
        except RemoteProtocolError:
            return [Rejected(short(peer), "join answer cannot be decoded")]
        match message:
            case JoinRequest() | WaitRequest() | WaitNoted() | Expelled():
                return [Rejected(short(peer), "join request to a joiner")]
            case JoinAccepted(nonce) | JoinRefused(nonce) if nonce != self._nonce:
                return [Rejected(short(peer), "join answer to another request")]
            case JoinRefused(_, reason):
                return self._fail(reason)
            case JoinAccepted(_, chain):
                return self._accept(peer, chain)
            case _:
                assert_never(message)

    def _accept(self, peer: NodeId, chain: bytes) -> list[JoinerAction]:
        try:
            credentials = Credentials.load(self._identity, chain)
        except RemoteProtocolError as problem:
            return [Rejected(short(peer), problem.reason)]
        if credentials.mesh != self.token.mesh:
            return [Rejected(short(peer), "certificate of another mesh")]
        self.finished = True
        return [Joined(credentials)]

    def _on_wake(self, now: Instant) -> list[JoinerAction]:
        if now >= self._gives_up:
            if self._reached:
                return self._fail("the token's issuer does not answer any more: check that it is up, and try again")
            return self._fail(
                "the token's issuer cannot be reached: check that it is up and that PEER is a member of its mesh"
            )
        return self._ask(now) if self._ask_again is not None and now >= self._ask_again else []

    def _fail(self, reason: str) -> list[JoinerAction]:
        self.finished = True
        return [JoinFailed(reason)]


# -- the issuer


@dataclass(frozen=True, slots=True)
class Answer:
    """Send ``payload`` to ``peer`` on the rpc channel of its session."""

    peer: NodeId
    payload: bytes


@dataclass(frozen=True, slots=True)
class Admitted:
    """``node`` is a member now. Given once, not for a repeated request."""

    node: NodeId
    name: str
    chain: bytes


IssuerAction = Persist | Answer | Admitted | Rejected


class Issuer:
    """Redeems this node's tokens. ``credentials`` may be replaced; the book is the caller's to keep and export."""

    def __init__(self, credentials: Credentials, book: TokenBook, entropy: Callable[[int], bytes]) -> None:
        self.credentials = credentials
        self._book = book
        self._entropy = entropy

    def on_request(
        self, peer: NodeId, payload: bytes, now: Instant, *, capabilities: int = 0, expiry: int = 0
    ) -> list[IssuerAction]:
        """A join message from the session peer ``peer``.

        ``capabilities`` and ``expiry`` (unix seconds, 0: none) are what a new member gets; that is the caller's
        policy. The caller limits the rate by limiting strangers' sessions.
        """
        try:
            request = JOIN_CODEC.decode(payload, short(peer))
        except RemoteProtocolError:
            return [Rejected(short(peer), "join request cannot be decoded")]
        if not isinstance(request, JoinRequest):
            return [Rejected(short(peer), "join answer nobody waits for")]
        if node_id(request.key) != peer:
            return [Rejected(short(peer), "join request for somebody else's key")]
        try:
            return self._admit(peer, request, now, capabilities, expiry)
        except AdmissionError as problem:
            refusal = JoinRefused(request.nonce, str(problem)[:REASON_CHARACTERS_MAX])
            return [Rejected(short(peer), _refusal(problem)), Answer(peer, JOIN_CODEC.encode(refusal))]

    def _admit(
        self, peer: NodeId, request: JoinRequest, now: Instant, capabilities: int, expiry: int
    ) -> list[IssuerAction]:
        if request.mesh != self.credentials.mesh:
            raise AdmissionError(
                "this token is of another mesh than its issuer is in now: make a new one with 'dmssd token create'"
            )
        subject = Subject(request.key, request.x25519, request.name)
        wanted = Grant(peer, new_serial(self._entropy), capabilities, expiry)
        # Issued first, redeemed second: a request that cannot be granted must not use the token up.
        chain = issue(self.credentials, subject, wanted.serial, wanted.capabilities, wanted.expiry)
        grant = self._book.redeem(request.token, request.secret, wanted, now)
        if grant is not wanted:
            chain = issue(self.credentials, subject, grant.serial, grant.capabilities, grant.expiry)
        answer = Answer(peer, JOIN_CODEC.encode(JoinAccepted(request.nonce, chain)))
        if grant is not wanted:
            return [answer]
        return [Persist(TOKENS_KEY, self._book.export(now)), answer, Admitted(peer, request.name, chain)]


def _refusal(problem: AdmissionError) -> str:
    """The short phrase under which a refusal is counted: what stands before the colon never varies."""
    return "join refused: " + str(problem).partition(":")[0]
