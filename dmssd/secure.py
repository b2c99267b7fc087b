"""A node with its keys: identity, sessions and admission around the protocols of :mod:`dmssd.node`.

This is what the driver and the simulator run. It opens what arrives and seals what leaves; inside, nothing knows a key
and nothing is unauthenticated but greetings. Founding is silent: a node without a membership founds a mesh of one.
Joining another mesh replaces the inner ``Node`` as a whole, since nothing learned in one mesh means anything in the
other; what the kernel holds and which links are up is told to the new one again.
"""

import contextlib
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import assert_never

from dmssd import inner
from dmssd.channels import Channel
from dmssd.counts import Tally
from dmssd.events import (
    Datagram,
    EchoReplied,
    FibProgrammed,
    FibRead,
    LinkDown,
    LinkUp,
    NetworksRead,
    NodeAction,
    NodeEvent,
    Notice,
    Reply,
    Request,
    SendDatagram,
    SettingsChanged,
    Stopping,
)
from dmssd.inner import CarrySealed, GreetingHeard, InnerAction, InnerEvent, PeerSpoke, PeerUp
from dmssd.node import Node
from dmssd.recording import STORED_FOR_REPLAY, NodeBegan, Tap
from dmssd.roles.fd import Forwarder
from dmssd.rules import rotation
from dmssd.rules.admission import Admission, AdmissionAction
from dmssd.rules.finding import find_node, name_of
from dmssd.rules.membership import Membership
from dmssd.rules.renewal import LOOK_FIRST, LOOK_INTERVAL, Renewals
from dmssd.rules.rotation import IDENTITY_KEY, NEXT_IDENTITY_KEY, RESIGNATION_KEY, Rotation
from dmssd.rules.succession import PREDECESSOR_KEY
from dmssd.rules.terms import TERMS_CODEC, TOPIC_SESSIONS, SessionTerms, inherited_terms, raised, terms_in_force
from dmssd.rules.waiting import APPROVALS_KEY
from dmssd.security import sessions
from dmssd.security.acts import MEMBERSHIP_TOPICS, TOPIC_EXPEL, TOPIC_SUCCEED
from dmssd.security.admission import JOIN_CODEC, Expelled
from dmssd.security.certificate import (
    CAPABILITY_ADMIN,
    CAPABILITY_RECOVERY,
    Credentials,
    Subject,
    checked_name,
    found,
    issue,
    new_serial,
    own_certificate,
    rename_mesh,
)
from dmssd.security.identity import SEED_BYTES, Identity
from dmssd.security.recovery import RECOVERY_NAME, RecoveryKey
from dmssd.security.sessions import LinkPath, Sessions
from dmssd.security.signer import PROOF_CODEC, STATEMENT_CONTEXT, MeshSigner, MeshVerifier
from dmssd.settings import NodeSettings
from gossip.replica import Key, Publish, StatementsChanged
from gossip.statements import PUSH_MAX, REPLICA_CODEC, Push
from routing.lsa import Signer, Verifier
from sansio.core import Persist, Rejected, Wake
from sansio.errors import AdmissionError, RemoteProtocolError, RequestError, StoreError
from sansio.ids import NodeId
from sansio.instant import MILLISECOND, Duration, Instant, after, earliest, seconds

WIRE_VERSION = 1
KIND_GREETING = 0
MEMBERSHIP_KEY = "membership"
JUDGE_AFTER = Duration(100 * MILLISECOND)


def stored_membership(chain: bytes) -> dict[str, bytes]:
    """What a member's disk holds: for worlds that begin with everybody admitted."""
    return {MEMBERSHIP_KEY: chain}


class SecureNode:
    """The outermost core: ``NodeEvent`` in, ``NodeAction`` out.

    ``stored`` is what earlier ``Persist`` actions wrote; ``entropy(n)`` gives n unpredictable bytes; ``tap`` is shown
    every event that passes the inner door; ``wall`` gives seconds since 1970, for the expiry of certificates alone.
    """

    def __init__(
        self,
        settings: NodeSettings,
        identity: Identity,
        stored: Mapping[str, bytes],
        rng: random.Random,
        entropy: Callable[[int], bytes],
        *,
        tap: Tap | None = None,
        wall: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._stored = dict(stored)
        self._rng = rng
        self._entropy = entropy
        self._tap = tap
        self._settings = settings
        self._unsaved: list[Persist] = []
        self.sent, self.received = Tally(), Tally()  # messages by channel
        self._links: dict[int, LinkUp] = {}
        self._judge_again = True
        self._expelled: frozenset[NodeId] = frozenset()
        self._networks: NetworksRead | None = None
        self._alone = False  # founded in this run, so that nobody has stated anything before
        self.credentials = self._load_or_found(identity)
        self.rotation = self._resumed_rotation()
        self._resign_at: Instant | None = None
        self._linger: dict[NodeId, Instant] = {}  # members with a successor of ours -> when we vote them out
        self.sessions = Sessions(self.credentials, entropy)
        self.terms = SessionTerms()
        self.membership = Membership(self.credentials, settings.admins)
        stored_tokens, stored_approvals = self._stored.get("tokens"), self._stored.get(APPROVALS_KEY)
        self.renewals = Renewals(wall, settings.certificate_days)
        self._look_at: Instant | None = None
        self._judge_at: Instant | None = None
        self.admission = Admission(self.membership, stored_tokens, stored_approvals, entropy, self.renewals)
        self.node = self._new_node()
        if self._resignation() is not None:
            self._resign_at = Instant(0)

    @property
    def mesh_name(self) -> str:
        """What the founder called the mesh."""
        return self.credentials.mesh_name

    def admins(self) -> set[NodeId]:
        """The members that are known to have the admin capability."""
        members = self.membership.members(self._chains())
        return {node for node, certificate in members.items() if certificate.is_admin}

    # The door

    def handle(self, event: NodeEvent, now: Instant) -> list[NodeAction]:
        """The core's door."""
        out: list[NodeAction] = list(self._unsaved)
        self._unsaved = []
        if self._look_at is None:
            self._look_at = after(now, LOOK_FIRST)
        match event:
            case Datagram():
                self._on_datagram(event, now, out)
            case LinkUp() | LinkDown():
                self._on_link(event, now, out)
            case Wake():
                self._on_wake(now, out)
            case Request():
                self._on_request(event, now, out)
            case NetworksRead():
                self._networks = event
                self._inner(event, now, out)
            case EchoReplied() | FibProgrammed() | FibRead() | Stopping():
                self._inner(event, now, out)
            case SettingsChanged(settings):
                self._settings = settings
                self.membership.first_admins = settings.admins
                self.renewals.set_days(settings.certificate_days)
                self._inner(SettingsChanged(self._certified(settings)), now, out)
            case _:
                assert_never(event)
        self._pursue_rotation(now, out)
        self._remember(out)
        return out

    def deadline(self) -> Instant | None:
        """The earliest deadline of sessions, admission and the protocols."""
        own = (self._look_at, self._judge_at, self._resign_at, *self._linger.values())
        rotating = self.rotation.deadline() if self.rotation is not None else None
        return earliest(self.sessions.deadline(), self.admission.deadline(), self.node.deadline(), rotating, *own)

    # Events

    def _on_datagram(self, event: Datagram, now: Instant, out: list[NodeAction]) -> None:
        payload = event.payload
        path = LinkPath(event.link, event.address)
        if len(payload) >= 2 and payload[0] == WIRE_VERSION and payload[1] == KIND_GREETING:
            self._inner(GreetingHeard(event.link, event.address, payload[2:]), now, out)
        else:
            self._session_actions(self.sessions.handle(sessions.Received(path, payload), now), now, out)

    def _on_link(self, event: LinkUp | LinkDown, now: Instant, out: list[NodeAction]) -> None:
        if isinstance(event, LinkUp):
            self._links[event.link] = event
        else:
            self._links.pop(event.link, None)
        self._inner(event, now, out)

    def _on_wake(self, now: Instant, out: list[NodeAction]) -> None:
        if _due(self.sessions.deadline(), now):
            self._session_actions(self.sessions.handle(Wake(), now), now, out)
        if _due(self._judge_at, now):
            self._on_statements(now, out)
        if self._look_at is not None and now >= self._look_at:
            self._look_for_old(now, out)
        if _due(self._resign_at, now):
            self._resign(now, out)
        for node in [node for node, due in self._linger.items() if due <= now]:
            del self._linger[node]
            self._vote(node, rotation.REASON, now, out)
        if _due(self.admission.deadline(), now):
            self._admission_actions(self.admission.wake(now), now, out)
        if _due(self.node.deadline(), now):
            self._inner(Wake(), now, out)

    def _on_request(self, request: Request, now: Instant, out: list[NodeAction]) -> None:
        try:
            match request.verb:
                case "init":
                    self._init(request, now, out)
                case "token":
                    value, persist = self.admission.create_token(request.arguments, now)
                    out += [persist, Reply(request.number, value)]
                case "expel":
                    self._expel(request, now, out)
                case "admit":
                    self._admit(request, now, out)
                case "renew":
                    self._renew(request, now, out)
                case "rotate-key":
                    self._rotate_key(request, now, out)
                case "rotate-sessions":
                    self._rotate_sessions(request, now, out)
                case "grant":
                    self._grant(request, now, out)
                case "recover":
                    self._recover(request, now, out)
                case "join":
                    self._check_alone(request)
                    actions = self.admission.join(request, self.node.meetings, self.node.links, now)
                    self._admission_actions(actions, now, out)
                case _:
                    self._inner(request, now, out)
        except (RequestError, AdmissionError, StoreError) as problem:
            out.append(Reply(request.number, error=str(problem)))

    def _init(self, request: Request, now: Instant, out: list[NodeAction]) -> None:
        others = [member for member in self.node.swim.members() if member.node != self.node.me]
        if others or not self.credentials.certificate.founding:
            raise RequestError("this node is already in a populated mesh: `dmssd leave` first, or name another node")
        renamed = rename_mesh(self.credentials, checked_name(str(request.arguments.get("name", ""))))
        self._adopt(renamed, now, out)
        value = {"mesh": renamed.mesh.hex(), "mesh_name": renamed.mesh_name}
        if request.arguments.get("recovery"):
            value |= self._make_recovery_key(now, out)
        out.append(Reply(request.number, value))

    def _admit(self, request: Request, now: Instant, out: list[NodeAction]) -> None:
        arguments = dict(request.arguments)
        replaced: NodeId | None = None
        if arguments.get("replaces"):
            members = self.membership.members(self._chains())
            replaced = find_node(self.node, str(arguments["replaces"]), members)
            if replaced not in members:
                raise RequestError("the node to be replaced is no member: admit the new one without --replaces")
            arguments["name"] = members[replaced].name
        value, admitting = self.admission.admit(arguments, self.node.replica, now)
        if replaced is not None:
            self._vote(replaced, "replaced by another board", now, out)
            value["replaced"] = replaced in self.membership.standing.expelled
        self._admission_actions([*admitting, Reply(request.number, value)], now, out)

    def _vote(self, target: NodeId, reason: str, now: Instant, out: list[NodeAction]) -> None:
        if target not in self.membership.standing.expelled:
            chains = self._chains()
            members = {*self.membership.members(chains), *(member.node for member in self.node.swim.members())}
            self._inner(self.membership.vote(target, reason, chains, members), now, out)

    def _expel(self, request: Request, now: Instant, out: list[NodeAction]) -> None:
        arguments = request.arguments
        target = find_node(self.node, str(arguments.get("node", "")), self.membership.members(self._chains()))
        if arguments.get("withdraw"):
            self._inner(self.membership.withdrawal(target, self.node.replica), now, out)
        else:
            self._vote(target, str(arguments.get("reason") or ""), now, out)
        standing = self.membership.standing
        value = {
            "node": target.hex(),
            "name": name_of(self.node, target),
            "expelled": target in standing.expelled,
            "voters": [name_of(self.node, voter) for voter in standing.voters(target)],
        }
        out.append(Reply(request.number, value))

    def _grant(self, request: Request, now: Instant, out: list[NodeAction]) -> None:
        members = self.membership.members(self._chains())
        target = find_node(self.node, str(request.arguments.get("node", "")), members)
        certificate = members.get(target)
        if certificate is None:
            raise RequestError("that node is no member: admit it first")
        if not certificate.is_admin:
            actions = self.admission.grant(certificate, certificate.capabilities | CAPABILITY_ADMIN)
            self._admission_actions(actions, now, out)
        out.append(Reply(request.number, {"node": target.hex(), "name": certificate.name}))

    def _renew(self, request: Request, now: Instant, out: list[NodeAction]) -> None:
        self.admission.check_admin("renew certificates")
        members = self.membership.members(self._chains())
        chosen = list(members)
        if request.arguments.get("node"):
            chosen = [find_node(self.node, str(request.arguments["node"]), members)]
        # A founder's own certificate stands at the end of all chains, and has no expiry.
        certificates = [members[node] for node in chosen if node in members and not members[node].founding]
        for certificate in certificates:
            self._admission_actions(self.admission.grant(certificate, certificate.capabilities), now, out)
        out.append(Reply(request.number, {"renewed": sorted(certificate.name for certificate in certificates)}))

    def _rotate_sessions(self, request: Request, now: Instant, out: list[NodeAction]) -> None:
        self.admission.check_admin("set the terms of sessions")
        terms = raised(self.terms, request.arguments.get("lifetime_s"))
        self._inner(Publish(TOPIC_SESSIONS, b"", TERMS_CODEC.encode(terms)), now, out)
        out.append(Reply(request.number, {"epoch": terms.epoch, "lifetime_s": terms.lifetime_s}))

    def _look_for_old(self, now: Instant, out: list[NodeAction]) -> None:
        self._look_at = after(now, LOOK_INTERVAL)
        if not self.membership.is_admin:
            return
        members = self.membership.members(self._chains())
        for certificate in self.renewals.due(members.values(), self.node.me):
            self._admission_actions(self.admission.grant(certificate, certificate.capabilities), now, out)

    def _recover(self, request: Request, now: Instant, out: list[NodeAction]) -> None:
        key = RecoveryKey.parse(str(request.arguments.get("key", "")))
        if key.mesh != self.credentials.mesh:
            raise RequestError("this recovery key is of another mesh than this node is in: join that mesh first")
        issuer = self.membership.recovery(Identity(key.seed), self.node.replica)
        mine = self.credentials.certificate
        subject = Subject(mine.key, mine.x25519, mine.name)
        capabilities = mine.capabilities | CAPABILITY_ADMIN
        chain = issue(issuer, subject, new_serial(self._entropy), capabilities, self.renewals.expiry())
        self._renewed(Credentials.load(self.credentials.identity, chain), now, out)
        out.append(Reply(request.number, {"mesh": key.mesh.hex(), "name": mine.name}))

    def _make_recovery_key(self, now: Instant, out: list[NodeAction]) -> dict[str, str]:
        key = RecoveryKey(self.credentials.mesh, self._entropy(SEED_BYTES))
        identity = Identity(key.seed)
        subject = Subject(identity.key, identity.x25519, RECOVERY_NAME)
        capabilities = CAPABILITY_ADMIN | CAPABILITY_RECOVERY
        chain = issue(self.credentials, subject, new_serial(self._entropy), capabilities)
        self._inner(self.membership.admission(chain), now, out)
        return {"recovery_key": str(key), "recovery_id": identity.node.hex()}

    def _count_members(self) -> int:
        return len(self.membership.members(self._chains()))

    def _chains(self) -> list[bytes]:
        """The certificate chains by which LSAs are proved."""
        linkstate = self.node.linkstate
        found = []
        for origin in sorted(linkstate.lsdb):
            with contextlib.suppress(KeyError, RemoteProtocolError):
                found.append(PROOF_CODEC.decode(linkstate.proof(origin), "proof").chain)
        return found

    def _check_alone(self, request: Request) -> None:
        others = [member for member in self.node.swim.members() if member.node != self.node.me]
        present = [member for member in others if member.state.up]
        if present and not request.arguments.get("leave_first"):
            names = ", ".join(sorted(member.name for member in present)[:4])
            raise RequestError(
                f"this node is in mesh {self.mesh_name!r} with {len(present)} other members ({names}): "
                "joining another would abandon them, and meshes are not merged: each node joins by itself; "
                "say --leave-first if that is meant"
            )

    # Another key for this machine (dmssd/rules/rotation.py)

    def _rotate_key(self, request: Request, now: Instant, out: list[NodeAction]) -> None:
        if self.node.me in self._expelled:
            raise RequestError("this node is no member of its mesh any more: there is no membership to hand on")
        old = sorted(lsa.name for lsa in self.node.linkstate.lsdb.values() if lsa.protocol < rotation.PROTOCOL_NEEDED)
        if old:
            raise RequestError(f"{', '.join(old[:4])} could not follow, being of version 0.1.0: upgrade first")
        if self.rotation is None:
            seed = self._entropy(SEED_BYTES)
            out.append(Persist(NEXT_IDENTITY_KEY, seed))
            self.rotation = Rotation(Identity(seed))
        until = after(now, seconds(float(request.arguments.get("timeout_s") or 60)))
        self.rotation.asked.append((request, until))
        self._judge_again = True
        self._inner(rotation.stated(self.rotation.identity, self.node.me, self.credentials.mesh), now, out)

    def _admit_successors(self, now: Instant, out: list[NodeAction]) -> None:
        if not self.membership.is_admin:
            return
        standing = self.membership.standing
        for node in rotation.lingering(standing, self.node.me):
            self._linger.setdefault(node, after(now, rotation.LINGER))
        wishes = self.node.replica.topic(TOPIC_SUCCEED)
        if not wishes:
            return
        members = self.membership.members(self._chains())
        for author, wanted in rotation.to_admit(wishes, members):
            with contextlib.suppress(AdmissionError):  # too far from the founder to admit: somebody else may be nearer
                self._admission_actions(self.admission.succeed(members[author], wanted), now, out)

    def _pursue_rotation(self, now: Instant, out: list[NodeAction]) -> None:
        pending = self.rotation
        if pending is None:
            return
        out += [Reply(request.number, error=rotation.UNANSWERED) for request in pending.impatient(now)]
        if pending.uninformed and self._is_informed:
            pending.uninformed = False
            self._hand_over(now, out)
        if pending.becomes is not None and (self._is_handed_over(pending) or _due(pending.switch_at, now)):
            self._take_over(pending, pending.becomes, now, out)

    def _hand_over(self, now: Instant, out: list[NodeAction]) -> None:
        """Begin to be the next one, if an admin has admitted it."""
        pending, me = self.rotation, self.node.me
        if pending is None or pending.becomes is not None:
            return
        pending.uninformed = not self._is_informed
        if pending.uninformed:
            return
        chain = self.membership.offered(pending.identity.node, self.node.replica)
        if chain is None:
            return
        next_ = Credentials.load(pending.identity, chain)
        resignation = self.membership.resignation(rotation.REASON, self._chains())
        out += [
            Persist(RESIGNATION_KEY, rotation.signed_resignation(resignation, me, self._signers[1])),
            Persist(PREDECESSOR_KEY, me),
            # Whoever starts after this line starts under the next key.
            Persist(MEMBERSHIP_KEY, next_.chain),
            Persist(IDENTITY_KEY, next_.identity.seed),
        ]
        pending.becomes, pending.switch_at = next_, after(now, rotation.HAND_OVER_MAX)
        flood = rotation.first_flood(self.node.linkstate.mine, next_)
        self._inner(inner.HandOver(next_.identity.node, flood), now, out)

    @property
    def _is_informed(self) -> bool:
        """Whether we know what our key has signed: what a resignation does not name is void from then on."""
        return self.node.informed or self._alone

    def _is_handed_over(self, pending: Rotation) -> bool:
        linkstate = self.node.linkstate
        said = linkstate.mine.successor == pending.identity.node
        return said and linkstate.is_flooded(self.node.me) and linkstate.is_flooded(pending.identity.node)

    def _take_over(self, pending: Rotation, credentials: Credentials, now: Instant, out: list[NodeAction]) -> None:
        before = self.node
        floods = tuple(before.linkstate.everything(now))
        self.rotation = None
        out += [self.admission.void_tokens(now)]
        self._be_member(credentials)
        self._remember(out)
        self.sessions, self.terms = Sessions(credentials, self._entropy), SessionTerms()
        self.node = self._new_node()
        self._inner(inner.TakeOver(floods), now, out)
        self._tell_machine(before.resting, now, out)
        self._resign_at = after(now, rotation.RESIGN_AFTER)
        facts = {"node": self.node.me.hex(), "before": before.me.hex(), "name": credentials.certificate.name}
        out.append(Notice("key.rotated", facts))
        out += [Reply(request.number, facts) for request, _ in pending.asked]

    def _resign(self, now: Instant, out: list[NodeAction]) -> None:
        self._resign_at = None
        said = self._resignation()
        if said is not None:
            told = bytes((Channel.STATEMENT,)) + said
            self._inner(PeerSpoke(self.node.me, self.node.paths.to(self.node.me), member=True, payload=told), now, out)
            out.append(Persist(RESIGNATION_KEY, b""))

    def _resignation(self) -> bytes | None:
        """What our former key signed and we have not said yet; nothing while that key is still ours."""
        former = self._stored.get(PREDECESSOR_KEY)
        return self._stored.get(RESIGNATION_KEY) or None if former != self.credentials.identity.node else None

    def _resumed_rotation(self) -> Rotation | None:
        seed = self._stored.get(NEXT_IDENTITY_KEY)
        if not seed or Identity(seed).node == self.credentials.identity.node:
            return None
        return Rotation(Identity(seed))

    # The inner node

    def _inner(self, event: InnerEvent, now: Instant, out: list[NodeAction]) -> None:
        actions = self.node.handle(event, now)
        if self._tap is not None:
            self._tap.handled(event, now, actions)
        self._inner_actions(actions, now, out)
        if self._judge_again:
            self._judge_again = False
            self._on_statements(now, out)

    def _on_statements_changed(self, topic: str, keys: tuple[Key, ...], now: Instant, out: list[NodeAction]) -> None:
        if topic == TOPIC_SESSIONS:
            self._set_terms(now, out)
        elif topic == TOPIC_EXPEL or (topic in MEMBERSHIP_TOPICS and any(key.author == self.node.me for key in keys)):
            self._judge_again = True
        elif topic in MEMBERSHIP_TOPICS and self._judge_at is None:
            # What others admit changes nothing at once: while a large mesh grows, many are judged together.
            self._judge_at = after(now, JUDGE_AFTER)

    def _on_statements(self, now: Instant, out: list[NodeAction]) -> None:
        """Somebody admitted or voted, or we have something to state ourselves."""
        self._judge_at = None
        if self.membership.refresh(self.node.replica):
            self._on_expelled(now, out)
        self._set_terms(now, out)
        unstated = self.membership.unstated(self._chains(), self.node.replica)
        if self.membership.is_admin:
            unstated += inherited_terms(self.node.replica, self._stored.get(PREDECESSOR_KEY), self.node.me)
        for statement in unstated:
            self._inner(statement, now, out)
        self._admission_actions(self.admission.approve(self.node.replica, self._count_members, now), now, out)
        self._admit_successors(now, out)
        self._hand_over(now, out)
        better = self.membership.better(self.node.replica)
        if better is not None:
            self._renewed(better, now, out)

    def _set_terms(self, now: Instant, out: list[NodeAction]) -> None:
        terms = terms_in_force(self.node.replica.topic(TOPIC_SESSIONS), self.membership.standing)
        if terms == self.terms:
            return
        self.terms = terms
        out.append(Notice("sessions.terms", {"epoch": terms.epoch, "lifetime_s": terms.lifetime_s}))
        told = sessions.TermsChanged(terms.epoch, seconds(terms.lifetime_s))
        self._session_actions(self.sessions.handle(told, now), now, out)

    def _on_expelled(self, now: Instant, out: list[NodeAction]) -> None:
        standing = self.membership.standing
        expelled = frozenset(standing.expelled)
        news, self._expelled = sorted(expelled - self._expelled), expelled
        self._verifier.refusal = standing.refusal
        for node in news:
            facts = {"node": node.hex(), "name": name_of(self.node, node)}
            if standing.expelled[node].voters == (node,):
                out.append(Notice("member.resigned", facts | {"reason": standing.expelled[node].reason}))
                continue
            out.append(
                Notice("member.expelled", facts | {"by": [name_of(self.node, v) for v in standing.voters(node)]})
            )
            if node != self.node.me:
                self._tell_expelled(node, now, out)
        self._inner(inner.MembersExpelled(expelled - {self.node.me}), now, out)
        self._session_actions(self.sessions.handle(sessions.StandingChanged(standing.refusal), now), now, out)
        for node in news:
            self._session_actions(self.sessions.handle(sessions.ForgetPeer(node), now), now, out)

    def _tell_expelled(self, node: NodeId, now: Instant, out: list[NodeAction]) -> None:
        """Show one that was expelled the votes, if it can be reached at once: it can check them."""
        votes = [each.statement for each in self.node.replica.topic(TOPIC_EXPEL) if each.key.subject == node]
        if not votes or not self.sessions.connected(node):
            return
        push = REPLICA_CODEC.encode(Push(tuple(votes[:PUSH_MAX])))
        message = bytes((Channel.RPC,)) + JOIN_CODEC.encode(Expelled(push))
        path = self.node.paths.to(node)
        self._seal(sessions.Outgoing(node, path, message), now, out)

    def _renewed(self, credentials: Credentials, now: Instant, out: list[NodeAction]) -> None:
        """Show our membership by a better certificate from now on; nothing else changes."""
        out.append(Persist(MEMBERSHIP_KEY, credentials.chain))
        self.credentials = self.membership.credentials = credentials
        for signer in self._signers:
            signer.credentials = credentials
        facts = {"admin": credentials.certificate.is_admin, "expiry": credentials.certificate.expiry}
        out.append(Notice("certificate.renewed", facts))
        self._inner(inner.ProofRenewed(), now, out)
        self._session_actions(self.sessions.handle(sessions.CredentialsChanged(credentials), now), now, out)
        self._judge_again = True

    def _inner_actions(self, actions: list[InnerAction], now: Instant, out: list[NodeAction]) -> None:
        for certificate in self._verifier.learned():
            self.sessions.handle(sessions.PeerKnown(certificate.node, certificate.x25519), now)
            if certificate.issuer == self.node.me and self.membership.is_admin:
                self._judge_again = True
        for action in actions:
            match action:
                case inner.SendToPeer(node, path, payload):
                    self._seal(sessions.Outgoing(node, path, payload), now, out)
                case inner.SendGreeting(link, address, payload):
                    out.append(SendDatagram(link, address, bytes((WIRE_VERSION, KIND_GREETING)) + payload))
                case inner.OpenSession(node, path):
                    self._session_actions(self.sessions.handle(sessions.Connect(node, path), now), now, out)
                case inner.SealedArrived(path, payload):
                    self._session_actions(self.sessions.handle(sessions.Received(path, payload), now), now, out)
                case StatementsChanged(topic, keys):
                    self._on_statements_changed(topic, keys, now, out)
                case _:
                    out.append(action)

    # Sessions

    def _session_actions(self, actions: list[sessions.SessionsAction], now: Instant, out: list[NodeAction]) -> None:
        for action in actions:
            match action:
                case sessions.Transmit(path, payload):
                    self._transmit(path, payload, now, out)
                case sessions.Opened():
                    self._on_opened(action, now, out)
                case sessions.SessionUp():
                    self._on_session_up(action, now, out)
                case sessions.SessionFailed(peer, _, reason):
                    out.append(Notice("session.failed", {"node": peer.hex(), "reason": reason}))
                case Rejected():
                    out.append(action)

    def _seal(self, message: sessions.Outgoing, now: Instant, out: list[NodeAction]) -> None:
        self.sent.add(message.plaintext[0], len(message.plaintext))
        self._session_actions(self.sessions.handle(message, now), now, out)

    def _transmit(self, path: sessions.Path, payload: bytes, now: Instant, out: list[NodeAction]) -> None:
        if isinstance(path, LinkPath):
            out.append(SendDatagram(path.link, path.address, payload))
        else:
            self._inner(CarrySealed(path, payload, self.admission.way_in(path.node)), now, out)

    def _on_opened(self, opened: sessions.Opened, now: Instant, out: list[NodeAction]) -> None:
        self.received.add(opened.plaintext[0], len(opened.plaintext))
        if opened.plaintext[0] == Channel.RPC:
            self._on_rpc(opened, now, out)
        else:
            self._inner(PeerSpoke(opened.peer, opened.path, opened.member, opened.plaintext), now, out)

    def _on_rpc(self, opened: sessions.Opened, now: Instant, out: list[NodeAction]) -> None:
        payload = opened.plaintext[1:]
        with contextlib.suppress(RemoteProtocolError):
            message = JOIN_CODEC.decode(payload, "")
            if isinstance(message, Expelled):
                # What it holds are statements like any other, and are checked like any other.
                told = bytes((Channel.STATEMENT,)) + message.statements
                self._inner(PeerSpoke(opened.peer, opened.path, opened.member, told), now, out)
                return
        actions = self.admission.heard(opened.peer, opened.path, payload, self._count_members, self.node.replica, now)
        self._admission_actions(actions, now, out)

    def _on_session_up(self, up: sessions.SessionUp, now: Instant, out: list[NodeAction]) -> None:
        name = own_certificate(up.chain).name if up.member and up.chain is not None else ""
        self._inner(PeerUp(up.peer, name, up.path, up.member, up.restarted, up.protocol), now, out)
        self._admission_actions(self.admission.session_up(up, now), now, out)
        if up.peer in self.node.expelled:
            self._tell_expelled(up.peer, now, out)

    # Admission

    def _admission_actions(self, actions: list[AdmissionAction], now: Instant, out: list[NodeAction]) -> None:
        for action in actions:
            match action:
                case sessions.Outgoing():
                    self._seal(action, now, out)
                case sessions.Connect() | sessions.ForgetPeer():
                    self._session_actions(self.sessions.handle(action, now), now, out)
                case Credentials():
                    self._adopt(action, now, out)
                case Publish():
                    self._inner(action, now, out)
                case Persist() | Reply() | Notice() | Rejected():
                    out.append(action)
                case _:
                    assert_never(action)

    def _adopt(self, credentials: Credentials, now: Instant, out: list[NodeAction]) -> None:
        out.append(Persist(MEMBERSHIP_KEY, credentials.chain))
        if self.rotation is not None:
            # In the other mesh nobody knows of it.
            self.rotation = None
            out.append(Persist(NEXT_IDENTITY_KEY, b""))
        self._be_member(credentials)
        self.sessions.handle(sessions.StandingChanged(lambda chain: None), now)
        self._remember(out)
        forwarder = self.node.forwarder
        self.node = self._new_node()
        self._tell_machine(forwarder, now, out)
        # Last, so that the new node is told which sessions stand on.
        self._session_actions(self.sessions.handle(sessions.CredentialsChanged(credentials), now), now, out)

    def _be_member(self, credentials: Credentials) -> None:
        self.credentials = credentials
        self._alone = self._alone and bool(credentials.certificate.founding)
        self.membership = self.admission.membership = Membership(credentials, self._settings.admins)
        self._expelled, self._judge_again = frozenset(), True
        self._linger = {}

    def _tell_machine(self, forwarder: Forwarder | None, now: Instant, out: list[NodeAction]) -> None:
        """Tell a new inner node what it is on: networks, links, and what the kernel holds of ours."""
        if self._networks is not None:
            self._inner(self._networks, now, out)
        for link in list(self._links.values()):
            self._inner(link, now, out)
        if forwarder is not None and forwarder.installed is not None:
            self._inner(FibRead(forwarder.installed), now, out)

    def _remember(self, out: list[NodeAction]) -> None:
        self._stored |= {action.key: action.value for action in out if isinstance(action, Persist)}

    def _load_or_found(self, identity: Identity) -> Credentials:
        chain = self._stored.get(MEMBERSHIP_KEY)
        if chain is not None:
            return _loaded(self._identity_of(chain, identity), chain)
        credentials = found(identity, self._settings.name, self._settings.name, self._entropy)
        self._alone = True
        self._unsaved.append(Persist(MEMBERSHIP_KEY, credentials.chain))
        return credentials

    def _identity_of(self, chain: bytes, identity: Identity) -> Identity:
        """The next identity, where a change of key got as far as the certificate and no further."""
        seed = self._stored.get(NEXT_IDENTITY_KEY)
        with contextlib.suppress(RemoteProtocolError):
            key = own_certificate(chain).key
            if seed and key != identity.key and Identity(seed).key == key:
                self._unsaved.append(Persist(IDENTITY_KEY, seed))
                return Identity(seed)
        return identity

    def _certified(self, settings: NodeSettings) -> NodeSettings:
        # A member is called what its certificate says, whatever its configuration says since.
        return replace(settings, name=self.credentials.certificate.name)

    def _new_node(self) -> Node:
        credentials = self.credentials
        self._verifier = MeshVerifier(credentials.mesh)
        self._signers = (MeshSigner(credentials), MeshSigner(credentials, STATEMENT_CONTEXT))
        signer: Signer = self._signers[0]
        verifier: Verifier = self._verifier
        stating_signer: Signer = self._signers[1]
        stating_verifier: Verifier = MeshVerifier(credentials.mesh, STATEMENT_CONTEXT)
        stored = {key: value for key, value in self._stored.items() if key in STORED_FOR_REPLAY}
        began = NodeBegan(
            credentials.identity.node,
            credentials.mesh,
            self._certified(self._settings),
            stored,
            self._rng.getrandbits(63),
        )
        if self._tap is not None:
            self._tap.began(began)
            signer, verifier = self._tap.signer(signer), self._tap.verifier(verifier)
            stating_signer = self._tap.signer(stating_signer)
            stating_verifier = self._tap.verifier(stating_verifier)
        rng = random.Random(began.seed)  # noqa: S311 - protocol jitter, not keys
        stating = (stating_signer, stating_verifier)
        return Node(began.me, began.mesh, began.settings, signer, verifier, stating, stored, rng)


def _loaded(identity: Identity, chain: bytes) -> Credentials:
    try:
        return Credentials.load(identity, chain)
    except RemoteProtocolError as problem:
        raise StoreError(
            f"the stored certificate is not usable ({problem.reason}): restore the state directory from a backup, "
            "or remove it whole to start as a new node"
        ) from None


def _due(deadline: Instant | None, now: Instant) -> bool:
    return deadline is not None and deadline <= now
