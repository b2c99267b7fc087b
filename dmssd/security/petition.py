"""Joining without a token: a stranger asks a member to be let in, and waits until an admin has said yes.

The stranger opens a session to a member that greets on its link and asks it, again and again, over the rpc channel
(:mod:`dmssd.security.admission` has the messages). The member remembers it as waiting and says so to all (topic
``waiting``), so that every admin sees it; an admin's word is its ``admit`` statement, which holds the certificate and
comes to every member. The member hands that out at the next time of asking. So nobody has to reach anybody else, and
the admin need not be up when the stranger asks, nor the stranger when the admin answers.

What the stranger knows of the mesh is what people compare: the mesh id and the member's NodeId, which both sides show.
The session proves the NodeId, the member's chain the mesh id.
"""

from collections.abc import Callable
from typing import assert_never

from dmssd.security.admission import (
    JOIN_CODEC,
    NONCE_BYTES,
    Answered,
    Ask,
    IssuerReached,
    JoinAccepted,
    Joined,
    JoinerAction,
    JoinerEvent,
    JoinFailed,
    JoinRefused,
    WaitNoted,
    WaitRequest,
)
from dmssd.security.certificate import Credentials, checked_name, verify_chain
from dmssd.security.identity import Identity
from sansio.core import Rejected, Wake
from sansio.errors import RemoteProtocolError
from sansio.ids import MeshId, NodeId, short
from sansio.instant import SECOND, Duration, Instant, after

ASK_INTERVAL = Duration(1 * SECOND)


class Petitioner:
    """One attempt to be let in to ``mesh`` by its member ``member``, as a core; the counterpart of ``Joiner``.

    ``AdmissionError`` where ``name`` may not be used.
    """

    def __init__(
        self,
        member: NodeId,
        mesh: MeshId,
        identity: Identity,
        name: str,
        entropy: Callable[[int], bytes],
        now: Instant,
        timeout: Duration,
    ) -> None:
        self.member = member
        self.mesh = mesh
        self.noted = False
        self._identity = identity
        self._nonce = entropy(NONCE_BYTES)
        self._request = JOIN_CODEC.encode(
            WaitRequest(mesh, checked_name(name), identity.key, identity.x25519, self._nonce)
        )
        self._gives_up = after(now, timeout)
        self._ask_again: Instant | None = None
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
        try:
            genuine = peer == self.member and verify_chain(chain or b"", self.mesh).node == peer
        except RemoteProtocolError:
            genuine = False
        if not genuine:
            return self._fail("who greets there is no member of the mesh it claims: do not trust it")
        if self._ask_again is not None:
            return []
        self._ask_again = after(now, ASK_INTERVAL)
        return [Ask(self.member, self._request)]

    def _on_answer(self, peer: NodeId, payload: bytes) -> list[JoinerAction]:
        if peer != self.member:
            return [Rejected(short(peer), "join answer from another node")]
        try:
            message = JOIN_CODEC.decode(payload, short(peer))
        except RemoteProtocolError:
            return [Rejected(short(peer), "join answer cannot be decoded")]
        match message:
            case JoinAccepted(nonce) | JoinRefused(nonce) | WaitNoted(nonce) if nonce != self._nonce:
                return [Rejected(short(peer), "join answer to another request")]
            case WaitNoted():
                self.noted = True
                return []
            case JoinRefused(_, reason):
                return self._fail(reason)
            case JoinAccepted(_, chain):
                return self._accept(peer, chain)
            case _:
                return [Rejected(short(peer), "join request to a joiner")]

    def _accept(self, peer: NodeId, chain: bytes) -> list[JoinerAction]:
        try:
            credentials = Credentials.load(self._identity, chain)
        except RemoteProtocolError as problem:
            return [Rejected(short(peer), problem.reason)]
        if credentials.mesh != self.mesh:
            return [Rejected(short(peer), "certificate of another mesh")]
        self.finished = True
        return [Joined(credentials)]

    def _on_wake(self, now: Instant) -> list[JoinerAction]:
        if now >= self._gives_up:
            return self._fail(self._why())
        if self._ask_again is None or now < self._ask_again:
            return []
        self._ask_again = after(now, ASK_INTERVAL)
        return [Ask(self.member, self._request)]

    def _why(self) -> str:
        me = self._identity.node.hex()
        if self.noted:
            return (
                f"nobody admitted this node in time: say dmssd admit {me[:8]} on an admin, before or while joining "
                "again, or join with a token"
            )
        return "the member does not answer: it may run an older version; join with a token of dmssd token create"

    def _fail(self, reason: str) -> list[JoinerAction]:
        self.finished = True
        return [JoinFailed(reason)]
