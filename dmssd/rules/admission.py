"""How a node gets into a mesh, and lets others in: the join exchange tied to sessions and to who greets.

The joiner has a token and the name of a way in: any neighbour that greets. It opens a session with that neighbour,
which knows it for a stranger and will do nothing for it but pass its control frames on to the token's issuer; then,
through the neighbour, a session with the issuer, in which the exchange of :mod:`dmssd.security.admission` runs. All of
it is tried again until it succeeds, is refused, or the time-out has come: the neighbour may become a member while we
wait.
"""

import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dmssd.channels import Channel
from dmssd.events import LinkUp, Notice, Reply, Request
from dmssd.rules.meeting import Meetings
from dmssd.rules.membership import Membership
from dmssd.rules.renewal import Renewals
from dmssd.rules.waiting import APPROVALS_KEY, Approvals, Petition, Porch, petitions
from dmssd.security.acts import Succession, Waiting
from dmssd.security.admission import (
    JOIN_CODEC,
    TOKENS_KEY,
    Admitted,
    Answer,
    Answered,
    Ask,
    Issuer,
    IssuerReached,
    JoinAccepted,
    Joined,
    Joiner,
    JoinerAction,
    JoinFailed,
    JoinRefused,
    WaitNoted,
    WaitRequest,
)
from dmssd.security.certificate import (
    CAPABILITY_ADMIN,
    Certificate,
    Credentials,
    Subject,
    checked_name,
    issue,
    new_serial,
    valid_name,
)
from dmssd.security.petition import Petitioner
from dmssd.security.sessions import Connect, ForgetPeer, LinkPath, Outgoing, Path, RoutedPath, SessionUp
from dmssd.security.token import Token, TokenBook
from gossip.replica import Publish, Replica
from routing.discovery import NeighbourSeen
from sansio.core import Persist, Rejected, Wake
from sansio.errors import RemoteProtocolError, RequestError
from sansio.ids import NODE_ID_BYTES, NodeId, node_id, short
from sansio.instant import MILLISECOND, Duration, Instant, after, earliest, seconds

APPROVAL_TTL_S = 24 * 3_600
EXPELLED = (
    "this node was expelled from that mesh: it can come back only under a new identity (remove the state directory)"
)
ATTEMPT_INTERVAL = Duration(500 * MILLISECOND)
RECONNECT_ATTEMPTS = 8
"""Attempts after which a session that did not come about is begun anew."""

AdmissionAction = Connect | Outgoing | ForgetPeer | Credentials | Publish | Persist | Reply | Notice | Rejected


@dataclass(slots=True)
class _Join:
    request: Request
    peer: str
    name: str
    token: Token | None
    joiner: Joiner | Petitioner | None  # a petitioner begins when PEER has been seen: only then the mesh is known
    meetings: Meetings
    links: Mapping[int, LinkUp]
    gives_up: Instant
    attempt_at: Instant
    way_in: NodeId | None = None
    issuer_path: Path | None = None
    attempts: int = 0

    @property
    def issuer(self) -> NodeId | None:
        """Whom the exchange is with."""
        if self.token is not None:
            return self.token.issuer
        return self.joiner.member if isinstance(self.joiner, Petitioner) else None

    def deadline(self) -> Instant:
        """When something is to be tried again or given up."""
        due = self.joiner.deadline() if self.joiner is not None else self.gives_up
        return min(self.attempt_at, due or self.attempt_at)


class Admission:
    """Both sides of joining. ``membership`` has this node's present credentials."""

    def __init__(
        self,
        membership: Membership,
        stored_tokens: bytes | None,
        stored_approvals: bytes | None,
        entropy: Callable[[int], bytes],
        renewals: Renewals,
    ) -> None:
        self.membership = membership
        self.renewals = renewals
        self._porch = Porch()
        self._stored_approvals = stored_approvals
        self._approvals: Approvals | None = None
        Approvals(stored_approvals, Instant(0))
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
        return earliest(self._join.deadline() if self._join else None, self._porch.deadline())

    def way_in(self, node: NodeId) -> NodeId | None:
        """The neighbour through which a joiner reaches the issuer ``node``; ``None`` for everyone else."""
        join = self._join
        return join.way_in if join is not None and node == join.issuer else None

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

    def admit(
        self, arguments: Mapping[str, Any], replica: Replica, now: Instant
    ) -> tuple[dict[str, Any], list[AdmissionAction]]:
        """Admit those who wait, approve the others; ``RequestError``, and nothing done, where one is unclear."""
        self.check_admin("admit members")
        waiting = petitions(replica)
        chosen: dict[NodeId, Petition] = {}
        approved: list[str] = []
        for text in arguments.get("nodes", ()):
            fits = [each for each in waiting if _is_called(each, text)]
            if len(fits) > 1:
                raise RequestError(f"{len(fits)} nodes that wait are called {text!r}: give the id (dmssd pending)")
            if fits:
                chosen[fits[0].node] = fits[0]
            else:
                approved.append(_approvable(text))
        name = arguments.get("name")
        if name is not None and (len(chosen) != 1 or approved):
            raise RequestError("a name can be given to one node that waits: admit the others without --name")
        capabilities = CAPABILITY_ADMIN if arguments.get("admin") else 0
        actions: list[AdmissionAction] = []
        if approved:
            approvals = self._approved(now)
            approvals.add(approved, seconds(float(arguments.get("ttl_s") or APPROVAL_TTL_S)), now)
            actions.append(Persist(APPROVALS_KEY, approvals.export(now)))
        for petition in chosen.values():
            actions += self._let_in(petition, str(name or petition.waiting.name), capabilities)
        admitted = [{"node": each.node.hex(), "name": name or each.waiting.name} for each in chosen.values()]
        return {"admitted": admitted, "approved": approved}, actions

    def approve(self, replica: Replica, members: Callable[[], int], now: Instant) -> list[AdmissionAction]:
        """Admit those who wait and were approved beforehand."""
        if not self.membership.is_admin or not len(self._approved(now)):
            return []
        actions: list[AdmissionAction] = []
        admitted: list[NodeId] = []
        for petition in petitions(replica):
            if self.membership.offered(petition.node, replica) is not None:
                continue
            if self._approved(now).take(petition.node, petition.waiting.name, now):
                capabilities = self.membership.capabilities_for_newcomer(members() + len(admitted))
                actions += self._let_in(petition, petition.waiting.name, capabilities)
                admitted.append(petition.node)
        return [Persist(APPROVALS_KEY, self._approved(now).export(now)), *actions] if actions else []

    def grant(self, certificate: Certificate, capabilities: int) -> list[AdmissionAction]:
        """A certificate for a member with these capabilities, in place of the one it has; it finds it by itself."""
        self.check_admin("grant anything")
        subject = Subject(certificate.key, certificate.x25519, certificate.name)
        chain = issue(self._credentials, subject, new_serial(self._entropy), capabilities, self.renewals.expiry())
        facts = {
            "node": certificate.node.hex(),
            "name": certificate.name,
            "admin": bool(capabilities & CAPABILITY_ADMIN),
        }
        return [self.membership.admission(chain), Notice("member.certified", facts)]

    def succeed(self, certificate: Certificate, wanted: Succession) -> list[AdmissionAction]:
        """Admit under its next key the machine that has this certificate, with the same name and capabilities."""
        subject = Subject(wanted.key, wanted.x25519, certificate.name)
        chain = issue(
            self._credentials, subject, new_serial(self._entropy), certificate.capabilities, self.renewals.expiry()
        )
        facts = {"node": node_id(wanted.key).hex(), "name": certificate.name, "succeeds": certificate.node.hex()}
        return [self.membership.admission(chain, certificate.node), Notice("member.admitted", facts)]

    def void_tokens(self, now: Instant) -> Persist:
        """Forget all tokens: they name an issuer that this node is not any more."""
        self._book = TokenBook(None, now)
        return Persist(TOKENS_KEY, self._book.export(now))

    def check_admin(self, doing: str) -> None:
        """``RequestError`` where this node may not do that."""
        if not self.membership.is_admin:
            raise RequestError(
                f"this node may not {doing}: do it on one that has the admin capability, which dmssd member list shows"
            )

    def _let_in(self, petition: Petition, name: str, capabilities: int) -> list[AdmissionAction]:
        subject = Subject(petition.waiting.key, petition.waiting.x25519, name)
        chain = issue(self._credentials, subject, new_serial(self._entropy), capabilities, self.renewals.expiry())
        facts = {"node": petition.node.hex(), "name": name}
        return [self.membership.admission(chain), Notice("member.admitted", facts)]

    def _approved(self, now: Instant) -> Approvals:
        if self._approvals is None:
            self._approvals = Approvals(self._stored_approvals, now)
        return self._approvals

    def heard(
        self, peer: NodeId, path: Path, payload: bytes, members: Callable[[], int], replica: Replica, now: Instant
    ) -> list[AdmissionAction]:
        """Something came on the rpc channel; ``members`` tells how many the mesh has."""
        join = self._join
        if join is not None and join.joiner is not None and peer == join.issuer:
            return self._joiner_actions(join.joiner.handle(Answered(peer, payload), now))
        with contextlib.suppress(RemoteProtocolError):
            message = JOIN_CODEC.decode(payload, "")
            if isinstance(message, WaitRequest):
                return self._on_wait(peer, path, message, replica, now)
        issuer = Issuer(self._credentials, self._tokens(now), self._entropy)
        actions: list[AdmissionAction] = []
        # Counting takes time, and anybody may speak here: only where there is a token to redeem at all.
        live = self.membership.is_admin and bool(self._tokens(now).tokens(now))
        capabilities = self.membership.capabilities_for_newcomer(members()) if live else 0
        for action in issuer.on_request(peer, payload, now, capabilities=capabilities, expiry=self.renewals.expiry()):
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

    def _on_wait(
        self, peer: NodeId, path: Path, request: WaitRequest, replica: Replica, now: Instant
    ) -> list[AdmissionAction]:
        if node_id(request.key) != peer:
            return [Rejected(short(peer), "join request for somebody else's key")]
        answer: JoinAccepted | JoinRefused | WaitNoted
        chain = self.membership.offered(peer, replica)
        if request.mesh != self._credentials.mesh:
            answer = JoinRefused(request.nonce, "this member is in another mesh by now: look again who greets")
        elif peer in self.membership.standing.expelled:
            answer = JoinRefused(request.nonce, EXPELLED)
        elif chain is not None:
            self._porch.admitted(peer, now)
            answer = JoinAccepted(request.nonce, chain)
        elif self._porch.asked(peer, Waiting(request.key, request.x25519, request.name), now):
            answer = WaitNoted(request.nonce)
        else:
            answer = JoinRefused(request.nonce, "too many wait here: try another member, or a token")
        return [Outgoing(peer, path, bytes((Channel.RPC,)) + JOIN_CODEC.encode(answer))]

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
        token = Token.parse(str(arguments["token"])) if arguments.get("token") is not None else None
        if token is not None and token.mesh == self._credentials.mesh:
            raise RequestError(f"this node is a member of that mesh already, as {self._credentials.certificate.name}")
        name = checked_name(str(arguments.get("name") or self._credentials.certificate.name))
        timeout = seconds(float(arguments.get("timeout_s", 60)))
        identity = self._credentials.identity
        joiner = Joiner(token, identity, name, self._entropy, now, timeout) if token is not None else None
        peer = str(arguments.get("peer", ""))
        self._join = _Join(request, peer, name, token, joiner, meetings, links, after(now, timeout), now)
        return self._attempt(now)

    def session_up(self, up: SessionUp, now: Instant) -> list[AdmissionAction]:
        """A session stands: with the way in, which leads to the issuer, or with the issuer itself."""
        join = self._join
        if join is None or join.joiner is None:
            return []
        issuer = join.issuer
        if up.peer == issuer and issuer is not None:
            join.issuer_path = up.path
            return self._joiner_actions(join.joiner.handle(IssuerReached(issuer, up.chain), now))
        if issuer is not None and up.peer == join.way_in and isinstance(up.path, LinkPath):
            return [Connect(issuer, RoutedPath(issuer, ()))]
        return []

    def wake(self, now: Instant) -> list[AdmissionAction]:
        """Try again, repeat the request, or give up."""
        actions: list[AdmissionAction] = [*self._porch.wake(now)]
        if self._join is not None and self._join.joiner is None and now >= self._join.gives_up:
            actions += self._joiner_actions([JoinFailed("")])
        if self._join is not None and now >= self._join.attempt_at:
            actions += self._attempt(now)
        if self._join is not None and self._join.joiner is not None:
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
        if join.joiner is None:
            identity, wait = self._credentials.identity, Duration(join.gives_up - now)
            join.joiner = Petitioner(seen.node, seen.mesh, identity, join.name, self._entropy, now, wait)
        join.way_in = seen.node
        # Forgotten first: a session left over from an earlier try would not be told again.
        forget: list[AdmissionAction] = [ForgetPeer(node) for node in {seen.node: 0, join.issuer or seen.node: 0}]
        return [*forget, Connect(seen.node, LinkPath(seen.link, seen.address))]

    def _find_peer(self, join: _Join) -> NeighbourSeen | None:
        """The greeter that PEER names and that is a member of the token's mesh."""
        address, _, interface = join.peer.partition("%")
        for seen in join.meetings.seen_at.values():
            link = join.links.get(seen.link)
            if link is None or not self._is_way_in(join, seen):
                continue
            if interface and link.name == interface and address in ("", seen.address):
                return seen
            if not interface and join.peer in (seen.name, seen.node.hex()):
                return seen
        return None

    def _is_way_in(self, join: _Join, seen: NeighbourSeen) -> bool:
        if join.token is not None:
            return seen.mesh == join.token.mesh
        if isinstance(join.joiner, Petitioner):
            return seen.node == join.joiner.member and seen.mesh == join.joiner.mesh
        return seen.mesh != self._credentials.mesh

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
        if join.token is None:
            return f"nobody of another mesh called {join.peer!r} was heard in time ({heard})"
        return f"no member of the token's mesh called {join.peer!r} was heard in time ({heard})"


_DIGITS = re.compile(r"[0-9a-f]{8,40}")


def _is_called(petition: Petition, text: str) -> bool:
    return petition.waiting.name == text or (
        _DIGITS.fullmatch(text) is not None and petition.node.hex().startswith(text)
    )


def _approvable(text: str) -> str:
    """An id or a name that may be approved beforehand; ``RequestError`` where it is neither."""
    if _DIGITS.fullmatch(text) and len(text) < 2 * NODE_ID_BYTES:
        raise RequestError(f"nobody who waits has the id {text}: to approve it beforehand, give the whole id")
    if not valid_name(text):
        raise RequestError(f"{text!r} is neither an id nor a name of somebody who waits: dmssd pending shows who does")
    return text
