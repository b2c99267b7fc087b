"""The inner door: what passes between a node's protocols and the security around them.

Everything here is already opened and authenticated, or not yet sealed; it holds no key and no secret of a session.
That makes it the place where events are recorded and replayed.
"""

from dataclasses import dataclass

from dmssd.events import (
    EchoReplied,
    FibProgrammed,
    FibRead,
    Halt,
    LinkDown,
    LinkUp,
    NetworksRead,
    Notice,
    PinNeighbour,
    ProgramFib,
    Reply,
    Request,
    SendEcho,
    SetAddresses,
    SettingsChanged,
    Stopping,
)
from dmssd.security.sessions import Path, RoutedPath
from gossip.replica import Publish, StatementsChanged
from routing.lsa import LinkNumber
from sansio.core import Persist, Rejected, Wake
from sansio.ids import NodeId
from sansio.protocol import PROTOCOL


@dataclass(frozen=True, slots=True)
class GreetingHeard:
    """A greeting in the clear: believed only as a hint whom to talk to."""

    link: LinkNumber
    address: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class PeerUp:
    """A session with ``node`` stands. ``member``: it proved to belong to this mesh; else it is a stranger.

    ``protocol``: the highest that both ends speak (:mod:`sansio.protocol`).
    """

    node: NodeId
    name: str
    path: Path
    member: bool
    restarted: bool
    protocol: int = PROTOCOL


@dataclass(frozen=True, slots=True)
class PeerSpoke:
    """``node`` said ``payload`` (channel byte first) inside its session."""

    node: NodeId
    path: Path
    member: bool
    payload: bytes


@dataclass(frozen=True, slots=True)
class CarrySealed:
    """Bytes already sealed for ``path.node``, to be carried there by the control network.

    ``via``: the neighbour that a joiner, who knows no route yet, has chosen as its way in.
    """

    path: RoutedPath
    payload: bytes
    via: NodeId | None = None


@dataclass(frozen=True, slots=True)
class MembersExpelled:
    """These nodes are members no more, by votes; whoever is not named any more is one again."""

    nodes: frozenset[NodeId]


@dataclass(frozen=True, slots=True)
class ProofRenewed:
    """Membership of this node is shown by another certificate from now on."""


@dataclass(frozen=True, slots=True)
class HandOver:
    """Our machine goes on under another key: make its LSA known, in the payload ``flood``, and change nothing more."""

    successor: NodeId
    flood: bytes


@dataclass(frozen=True, slots=True)
class TakeOver:
    """The first event of a node that succeeds another on this machine: ``floods`` is the database that that one had."""

    floods: tuple[bytes, ...]


InnerEvent = (
    LinkUp
    | LinkDown
    | GreetingHeard
    | PeerUp
    | PeerSpoke
    | CarrySealed
    | EchoReplied
    | FibProgrammed
    | FibRead
    | Publish
    | SettingsChanged
    | MembersExpelled
    | ProofRenewed
    | HandOver
    | TakeOver
    | NetworksRead
    | Request
    | Stopping
    | Wake
)


@dataclass(frozen=True, slots=True)
class SendGreeting:
    """Send a greeting in the clear, to one address or to everyone on the link."""

    link: LinkNumber
    address: str | None
    payload: bytes


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A member may be at the far end of ``path``: have a session with it."""

    node: NodeId
    path: Path


@dataclass(frozen=True, slots=True)
class SendToPeer:
    """Seal ``payload`` (channel byte first) for ``node`` and send it along ``path``."""

    node: NodeId
    path: Path
    payload: bytes


@dataclass(frozen=True, slots=True)
class SealedArrived:
    """The control network brought sealed bytes of ``path.node``; ``path.route`` is the way to answer."""

    path: RoutedPath
    payload: bytes


InnerAction = (
    SendGreeting
    | OpenSession
    | SendToPeer
    | SealedArrived
    | SendEcho
    | PinNeighbour
    | SetAddresses
    | ProgramFib
    | StatementsChanged
    | Persist
    | Reply
    | Notice
    | Rejected
    | Halt
)
