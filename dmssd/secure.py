"""A node with its keys: identity, sessions and admission around the protocols of :mod:`dmssd.node`.

This is what the driver and the simulator run. It opens what arrives and seals what leaves; inside, nothing knows a key
and nothing is unauthenticated but greetings. Founding is silent: a node without a membership founds a mesh of one.
Joining another mesh replaces the inner ``Node`` as a whole, since nothing learned in one mesh means anything in the
other; what the kernel holds and which links are up is told to the new one again.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import assert_never

from dmssd import inner
from dmssd.channels import Channel
from dmssd.events import (
    Datagram,
    EchoReplied,
    FibProgrammed,
    FibRead,
    LinkDown,
    LinkUp,
    NodeAction,
    NodeEvent,
    Notice,
    Reply,
    Request,
    SendDatagram,
    SettingsChanged,
)
from dmssd.inner import CarrySealed, GreetingHeard, InnerAction, InnerEvent, PeerSpoke, PeerUp
from dmssd.node import Node
from dmssd.recording import STORED_FOR_REPLAY, NodeBegan, Tap
from dmssd.rules.admission import Admission, AdmissionAction
from dmssd.security import sessions
from dmssd.security.certificate import Credentials, checked_name, found, own_certificate, rename_mesh
from dmssd.security.identity import Identity
from dmssd.security.sessions import LinkPath, Sessions
from dmssd.security.signer import STATEMENT_CONTEXT, MeshSigner, MeshVerifier
from dmssd.settings import NodeSettings
from gossip.replica import StatementsChanged
from routing.lsa import Signer, Verifier
from sansio.core import Persist, Rejected, Wake
from sansio.errors import AdmissionError, RemoteProtocolError, RequestError, StoreError
from sansio.instant import Instant, earliest

WIRE_VERSION = 1
KIND_GREETING = 0
MEMBERSHIP_KEY = "membership"


def stored_membership(chain: bytes) -> dict[str, bytes]:
    """What a member's disk holds: for worlds that begin with everybody admitted."""
    return {MEMBERSHIP_KEY: chain}


class SecureNode:
    """The outermost core: ``NodeEvent`` in, ``NodeAction`` out.

    ``stored`` is what earlier ``Persist`` actions wrote; ``entropy(n)`` gives n unpredictable bytes; ``tap`` is shown
    every event that passes the inner door.
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
    ) -> None:
        self._stored = dict(stored)
        self._rng = rng
        self._entropy = entropy
        self._tap = tap
        self._settings = settings
        self._unsaved: list[Persist] = []
        self._links: dict[int, LinkUp] = {}
        self.credentials = self._load_or_found(identity)
        self.sessions = Sessions(self.credentials, entropy)
        self.admission = Admission(self.credentials, self._stored.get("tokens"), entropy)
        self.node = self._new_node()

    @property
    def mesh_name(self) -> str:
        """What the founder called the mesh."""
        return self.credentials.mesh_name

    # The door

    def handle(self, event: NodeEvent, now: Instant) -> list[NodeAction]:
        """The core's door."""
        out: list[NodeAction] = list(self._unsaved)
        self._unsaved = []
        match event:
            case Datagram():
                self._on_datagram(event, now, out)
            case LinkUp() | LinkDown():
                self._on_link(event, now, out)
            case Wake():
                self._on_wake(now, out)
            case Request():
                self._on_request(event, now, out)
            case EchoReplied() | FibProgrammed() | FibRead():
                self._inner(event, now, out)
            case SettingsChanged(settings):
                self._settings = settings
                self._inner(SettingsChanged(self._certified(settings)), now, out)
            case _:
                assert_never(event)
        self._remember(out)
        return out

    def deadline(self) -> Instant | None:
        """The earliest deadline of sessions, admission and the protocols."""
        return earliest(self.sessions.deadline(), self.admission.deadline(), self.node.deadline())

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
        out.append(Reply(request.number, {"mesh": renamed.mesh.hex(), "mesh_name": renamed.mesh_name}))

    def _check_alone(self, request: Request) -> None:
        others = [member for member in self.node.swim.members() if member.node != self.node.me]
        present = [member for member in others if member.state.up]
        if present and not request.arguments.get("leave_first"):
            names = ", ".join(sorted(member.name for member in present)[:4])
            raise RequestError(
                f"this node is in mesh {self.mesh_name!r} with {len(present)} other members ({names}): "
                "joining another would abandon them; say --leave-first if that is meant"
            )

    # The inner node

    def _inner(self, event: InnerEvent, now: Instant, out: list[NodeAction]) -> None:
        actions = self.node.handle(event, now)
        if self._tap is not None:
            self._tap.handled(event, now, actions)
        self._inner_actions(actions, now, out)

    def _inner_actions(self, actions: list[InnerAction], now: Instant, out: list[NodeAction]) -> None:
        for certificate in self._verifier.learned():
            self.sessions.handle(sessions.PeerKnown(certificate.node, certificate.x25519), now)
        for action in actions:
            match action:
                case inner.SendToPeer(node, path, payload):
                    sealed = self.sessions.handle(sessions.Outgoing(node, path, payload), now)
                    self._session_actions(sealed, now, out)
                case inner.SendGreeting(link, address, payload):
                    out.append(SendDatagram(link, address, bytes((WIRE_VERSION, KIND_GREETING)) + payload))
                case inner.OpenSession(node, path):
                    self._session_actions(self.sessions.handle(sessions.Connect(node, path), now), now, out)
                case inner.SealedArrived(path, payload):
                    self._session_actions(self.sessions.handle(sessions.Received(path, payload), now), now, out)
                case StatementsChanged():
                    pass
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

    def _transmit(self, path: sessions.Path, payload: bytes, now: Instant, out: list[NodeAction]) -> None:
        if isinstance(path, LinkPath):
            out.append(SendDatagram(path.link, path.address, payload))
        else:
            self._inner(CarrySealed(path, payload, self.admission.way_in(path.node)), now, out)

    def _on_opened(self, opened: sessions.Opened, now: Instant, out: list[NodeAction]) -> None:
        if opened.plaintext[0] == Channel.RPC:
            actions = self.admission.heard(opened.peer, opened.path, opened.plaintext[1:], now)
            self._admission_actions(actions, now, out)
        else:
            self._inner(PeerSpoke(opened.peer, opened.path, opened.member, opened.plaintext), now, out)

    def _on_session_up(self, up: sessions.SessionUp, now: Instant, out: list[NodeAction]) -> None:
        name = own_certificate(up.chain).name if up.member and up.chain is not None else ""
        self._inner(PeerUp(up.peer, name, up.path, up.member, up.restarted, up.protocol), now, out)
        self._admission_actions(self.admission.session_up(up, now), now, out)

    # Admission

    def _admission_actions(self, actions: list[AdmissionAction], now: Instant, out: list[NodeAction]) -> None:
        for action in actions:
            match action:
                case sessions.Connect() | sessions.Outgoing() | sessions.ForgetPeer():
                    self._session_actions(self.sessions.handle(action, now), now, out)
                case Credentials():
                    self._adopt(action, now, out)
                case Persist() | Reply() | Notice() | Rejected():
                    out.append(action)
                case _:
                    assert_never(action)

    def _adopt(self, credentials: Credentials, now: Instant, out: list[NodeAction]) -> None:
        out.append(Persist(MEMBERSHIP_KEY, credentials.chain))
        self.credentials = credentials
        self.admission.credentials_changed(credentials)
        self._remember(out)
        forwarder = self.node.forwarder
        self.node = self._new_node()
        for link in list(self._links.values()):
            self._inner(link, now, out)
        if forwarder is not None and forwarder.installed is not None:
            self._inner(FibRead(forwarder.installed), now, out)
        # Last, so that the new node is told which sessions stand on.
        self._session_actions(self.sessions.handle(sessions.CredentialsChanged(credentials), now), now, out)

    def _remember(self, out: list[NodeAction]) -> None:
        self._stored |= {action.key: action.value for action in out if isinstance(action, Persist)}

    def _load_or_found(self, identity: Identity) -> Credentials:
        chain = self._stored.get(MEMBERSHIP_KEY)
        if chain is not None:
            return _loaded(identity, chain)
        credentials = found(identity, self._settings.name, self._settings.name, self._entropy)
        self._unsaved.append(Persist(MEMBERSHIP_KEY, credentials.chain))
        return credentials

    def _certified(self, settings: NodeSettings) -> NodeSettings:
        # A member is called what its certificate says, whatever its configuration says since.
        return replace(settings, name=self.credentials.certificate.name)

    def _new_node(self) -> Node:
        credentials = self.credentials
        self._verifier = MeshVerifier(credentials.mesh)
        signer: Signer = MeshSigner(credentials)
        verifier: Verifier = self._verifier
        stating_signer: Signer = MeshSigner(credentials, STATEMENT_CONTEXT)
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
