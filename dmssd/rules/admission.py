"""How a node gets into a mesh, and lets others in: the join exchange tied to sessions and to who greets.

The joiner has a token and the name of a way in: any neighbour that greets. It opens a session with that neighbour,
which knows it for a stranger and will do nothing for it but pass its control frames on to the token's issuer; then,
through the neighbour, a session with the issuer, in which the exchange of :mod:`dmssd.security.admission` runs. All of
it is tried again until it succeeds, is refused, or the time-out has come: the neighbour may become a member while we
wait.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dmssd.channels import Channel
from dmssd.events import LinkUp, Notice, Reply, Request
from dmssd.rules.meeting import Meetings
from dmssd.rules.membership import Membership
from dmssd.security.admission import (
    TOKENS_KEY,
    Admitted,
    Answer,
    Answered,
    Ask,
    Issuer,
    IssuerReached,
    Joined,
    Joiner,
    JoinerAction,
    JoinFailed,
)
from dmssd.security.certificate import Credentials, checked_name
from dmssd.security.sessions import Connect, ForgetPeer, LinkPath, Outgoing, Path, RoutedPath, SessionUp
from dmssd.security.token import Token, TokenBook
from gossip.replica import Publish
from routing.discovery import NeighbourSeen
from sansio.core import Persist, Rejected, Wake
from sansio.errors import RequestError
from sansio.ids import NodeId
from sansio.instant import MILLISECOND, Duration, Instant, after, earliest, seconds

ATTEMPT_INTERVAL = Duration(500 * MILLISECOND)
RECONNECT_ATTEMPTS = 8
"""Attempts after which a session that did not come about is begun anew."""

AdmissionAction = Connect | Outgoing | ForgetPeer | Credentials | Publish | Persist | Reply | Notice | Rejected


@dataclass(slots=True)
class _Join:
    request: Request
    peer: str
    joiner: Joiner
    meetings: Meetings
    links: Mapping[int, LinkUp]
    attempt_at: Instant
    way_in: NodeId | None = None
    issuer_path: Path | None = None
    attempts: int = 0


class Admission:
    """Both sides of joining. ``membership`` has this node's present credentials."""

    def __init__(self, membership: Membership, stored_tokens: bytes | None, entropy: Callable[[int], bytes]) -> None:
        self.membership = membership
        self._stored_tokens = stored_tokens
        self._entropy = entropy
        self._book: TokenBook | None = None
        TokenBook(stored_tokens, Instant(0))  # damage is told at the start, not to the first stranger who asks
        self._join: _Join | None = None

    @property
    def _credentials(self) -> Credentials:
        return self.membership.credentials

    def deadline(self) -> Instant | None:
        """When a join under way wants to be woken."""
        return earliest(self._join.attempt_at, self._join.joiner.deadline()) if self._join else None

    def way_in(self, node: NodeId) -> NodeId | None:
        """The neighbour through which a joiner reaches the issuer ``node``; ``None`` for everyone else."""
        join = self._join
        return join.way_in if join is not None and node == join.joiner.token.issuer else None

    # Letting others in

    def create_token(self, arguments: Mapping[str, Any], now: Instant) -> tuple[dict[str, Any], Persist]:
        """A token and what must be on disk before it is given out; ``AdmissionError`` where it cannot be made."""
        if not self.membership.is_admin:
            raise RequestError("this node may not admit members: create the token on one that has the admin capability")
        uses, ttl_s = int(arguments.get("uses", 1)), float(arguments.get("ttl_s", 600))
        book = self._tokens(now)
        me = self._credentials.identity.node
        token = book.create(self._credentials.mesh, me, self._entropy, now, uses=uses, ttl=seconds(ttl_s))
        return {"token": str(token), "uses": uses, "ttl_s": ttl_s}, Persist(TOKENS_KEY, book.export(now))

    def heard(self, peer: NodeId, path: Path, payload: bytes, members: int, now: Instant) -> list[AdmissionAction]:
        """Something came on the rpc channel; ``members``: how many the mesh has."""
        if self._join is not None and peer == self._join.joiner.token.issuer:
            return self._joiner_actions(self._join.joiner.handle(Answered(peer, payload), now))
        issuer = Issuer(self._credentials, self._tokens(now), self._entropy)
        actions: list[AdmissionAction] = []
        capabilities = self.membership.capabilities_for_newcomer(members)
        for action in issuer.on_request(peer, payload, now, capabilities=capabilities):
            match action:
                case Answer(to, answer):
                    actions.append(Outgoing(to, path, bytes((Channel.RPC,)) + answer))
                case Admitted(node, name, chain):
                    # Stated before it is handed out, so that whoever has the certificate was heard of.
                    actions.insert(0, self.membership.admission(chain))
                    actions.append(Notice("member.admitted", {"node": node.hex(), "name": name}))
                case _:
                    actions.append(action)
        return actions

    def _tokens(self, now: Instant) -> TokenBook:
        # Made on first use: a book counts time from the instant at which it is read.
        if self._book is None:
            self._book = TokenBook(self._stored_tokens, now)
        return self._book

    # Getting in

    def join(
        self, request: Request, meetings: Meetings, links: Mapping[int, LinkUp], now: Instant
    ) -> list[AdmissionAction]:
        """Begin to join; the request is answered when that has ended. One join at a time."""
        if self._join is not None:
            raise RequestError("this node is joining already: wait until that has ended")
        arguments = request.arguments
        token = Token.parse(str(arguments.get("token", "")))
        if token.mesh == self._credentials.mesh:
            raise RequestError(f"this node is a member of that mesh already, as {self._credentials.certificate.name}")
        name = checked_name(str(arguments.get("name") or self._credentials.certificate.name))
        timeout = seconds(float(arguments.get("timeout_s", 60)))
        joiner = Joiner(token, self._credentials.identity, name, self._entropy, now, timeout)
        self._join = _Join(request, str(arguments.get("peer", "")), joiner, meetings, links, now)
        return self._attempt(now)

    def session_up(self, up: SessionUp, now: Instant) -> list[AdmissionAction]:
        """A session stands: with the way in, which leads to the issuer, or with the issuer itself."""
        join = self._join
        if join is None:
            return []
        issuer = join.joiner.token.issuer
        if up.peer == issuer:
            join.issuer_path = up.path
            return self._joiner_actions(join.joiner.handle(IssuerReached(issuer, up.chain), now))
        if up.peer == join.way_in and isinstance(up.path, LinkPath):
            return [Connect(issuer, RoutedPath(issuer, ()))]
        return []

    def wake(self, now: Instant) -> list[AdmissionAction]:
        """Try again, repeat the request, or give up."""
        actions: list[AdmissionAction] = []
        if self._join is not None and now >= self._join.attempt_at:
            actions += self._attempt(now)
        if self._join is not None:
            due = self._join.joiner.deadline()
            if due is not None and now >= due:
                actions += self._joiner_actions(self._join.joiner.handle(Wake(), now))
        return actions

    def _attempt(self, now: Instant) -> list[AdmissionAction]:
        join = self._join
        if join is None:
            return []
        join.attempt_at = after(now, ATTEMPT_INTERVAL)
        join.attempts += 1
        if join.issuer_path is not None or (join.way_in is not None and join.attempts % RECONNECT_ATTEMPTS):
            return []
        seen = self._find_peer(join)
        if seen is None:
            return []
        join.way_in = seen.node
        # Forgotten first: a session left over from an earlier try would not be told again.
        forget: list[AdmissionAction] = [ForgetPeer(node) for node in {seen.node: 0, join.joiner.token.issuer: 0}]
        return [*forget, Connect(seen.node, LinkPath(seen.link, seen.address))]

    def _find_peer(self, join: _Join) -> NeighbourSeen | None:
        """The greeter that PEER names and that is a member of the token's mesh."""
        address, _, interface = join.peer.partition("%")
        for seen in join.meetings.seen_at.values():
            link = join.links.get(seen.link)
            if seen.mesh != join.joiner.token.mesh or link is None:
                continue
            if interface and link.name == interface and address in ("", seen.address):
                return seen
            if not interface and join.peer in (seen.name, seen.node.hex()):
                return seen
        return None

    def _joiner_actions(self, actions: list[JoinerAction]) -> list[AdmissionAction]:
        join = self._join
        if join is None:
            return []
        out: list[AdmissionAction] = []
        for action in actions:
            match action:
                case Ask(peer, payload):
                    path = join.issuer_path or RoutedPath(peer, ())
                    out.append(Outgoing(peer, path, bytes((Channel.RPC,)) + payload))
                case Joined(credentials):
                    self._join = None
                    certificate = credentials.certificate
                    value = {
                        "mesh": credentials.mesh.hex(),
                        "mesh_name": credentials.mesh_name,
                        "name": certificate.name,
                    }
                    out += [credentials, Reply(join.request.number, value)]
                case JoinFailed(reason):
                    self._join = None
                    out.append(Reply(join.request.number, error=self._explain(join, reason)))
                case Rejected():
                    out.append(action)
        return out

    def _explain(self, join: _Join, reason: str) -> str:
        """Why a join failed, more precisely where what was seen on the links tells."""
        if join.way_in is not None or self._find_peer(join) is not None:
            return reason
        greeters = sorted({seen.name for seen in join.meetings.seen_at.values()})
        heard = f"heard here: {', '.join(greeters)}" if greeters else "nobody greets on this node's links"
        return f"no member of the token's mesh called {join.peer!r} was heard in time ({heard})"
