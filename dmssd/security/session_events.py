"""The door of :class:`dmssd.security.sessions.Sessions`: paths, events in, actions out."""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from dmssd.security.certificate import Credentials
from routing.lsa import LinkNumber
from sansio.core import Rejected, Wake
from sansio.ids import NodeId, short
from sansio.instant import Duration
from sansio.protocol import PROTOCOL


class LinkPath(msgspec.Struct, frozen=True, tag=True):  # a struct, so that a record can tell the two apart
    """Straight over a link, to a link-local address in text."""

    link: LinkNumber
    address: str


class RoutedPath(msgspec.Struct, frozen=True, tag=True):
    """Over the control network: the datagram travels as the payload of control frames.

    ``route`` is what the control router handed over with a frame, to be passed back for the answer; empty: by table.
    """

    node: NodeId
    route: tuple[bytes, ...] = ()


Path = LinkPath | RoutedPath


def source_of(path: Path) -> str:
    """How a path is called in a ``Rejected``."""
    match path:
        case LinkPath(link, address):
            return f"{address}%{link}"
        case RoutedPath(node):
            return short(node)


@dataclass(frozen=True, slots=True)
class Connect:
    """Have a session with ``peer``, reached by ``path``; answered by one ``SessionUp`` for each new path."""

    peer: NodeId
    path: Path


@dataclass(frozen=True, slots=True)
class Received:
    """A datagram of kind 1 to 4 came by ``path``; ``payload`` begins with the version byte."""

    path: Path
    payload: bytes


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Seal ``plaintext`` (never empty) for ``peer`` and send it by ``path``."""

    peer: NodeId
    path: Path
    plaintext: bytes


@dataclass(frozen=True, slots=True)
class ForgetPeer:
    """Drop every session with ``peer``, what is queued for it and what is known of it."""

    peer: NodeId


@dataclass(frozen=True, slots=True)
class CredentialsChanged:
    """We joined another mesh, or its certificate was renewed; the identity is the same."""

    credentials: Credentials


@dataclass(frozen=True, slots=True)
class PeerKnown:
    """The static key of ``node`` is known from a verified certificate: a handshake with it takes one round trip."""

    node: NodeId
    x25519: bytes


@dataclass(frozen=True, slots=True)
class StandingChanged:
    """Who is refused, though its chain holds, is another one now: judge every peer anew.

    ``refusal`` says why the bearer of a chain is no member any more, ``None`` where it is one.
    """

    refusal: Callable[[bytes], str | None]


@dataclass(frozen=True, slots=True)
class TermsChanged:
    """How old a session may grow, and an epoch: one above the last has all sessions replaced, bit by bit."""

    epoch: int
    lifetime: Duration


SessionsEvent = (
    StandingChanged | Outgoing | Received | Connect | ForgetPeer | CredentialsChanged | PeerKnown | TermsChanged | Wake
)


@dataclass(frozen=True, slots=True)
class Transmit:
    """Send ``payload``, a whole datagram, by ``path``."""

    path: Path
    payload: bytes


@dataclass(frozen=True, slots=True)
class Opened:
    """``peer`` said ``plaintext``, authentic and for the first time. ``member``: of our mesh."""

    peer: NodeId
    path: Path
    plaintext: bytes
    member: bool


@dataclass(frozen=True, slots=True)
class SessionUp:
    """``peer`` may be spoken to by ``path``.

    Given once for each path; again where its standing changed. ``chain`` is what it showed; it holds for our mesh if
    ``member``, and is unverified if not. ``restarted``: a live session was displaced by one of a new start of the peer.
    ``protocol``: the highest that both ends speak.
    """

    peer: NodeId
    path: Path
    chain: bytes | None
    member: bool
    restarted: bool
    protocol: int = PROTOCOL


@dataclass(frozen=True, slots=True)
class SessionFailed:
    """No session with ``peer`` came about, or the last one is gone; what was queued for it is dropped."""

    peer: NodeId
    path: Path
    reason: str


SessionsAction = Transmit | Opened | SessionUp | SessionFailed | Rejected
