"""What :class:`dmssd.security.sessions.Sessions` remembers: of each peer, handshake and session."""

from collections import deque
from dataclasses import dataclass, field

from dmssd.security.introduction import Met
from dmssd.security.noise import Handshake
from dmssd.security.session_events import Path
from dmssd.security.transport import Transport
from sansio.ids import NodeId
from sansio.instant import Instant

PATHS_MAX = 8  # of one peer; the one least recently wanted goes
RETIRED_MAX = 4  # starts of one peer that a later one displaced
QUEUE_MAX = 16  # messages of one peer that wait for its handshake; the oldest goes

_NEVER = Instant(0)


@dataclass(slots=True, eq=False)
class Initiation:
    """A handshake that we began; it waits for message 2."""

    index: bytes
    peer: NodeId
    protocol: bytes
    handshake: Handshake
    message1: bytes
    generation: int
    tries: int = 1


@dataclass(slots=True, eq=False)
class Response:
    """An XX handshake that a still unknown peer began; it waits for message 3."""

    index: bytes
    remote_index: bytes
    handshake: Handshake
    message1: bytes  # its digest
    message2: bytes


@dataclass(slots=True, eq=False)
class Session:
    """Keys shared with an authenticated peer.

    ``confirmed``: the far end has shown, by a message under these keys, that it holds them too.
    """

    index: bytes
    transport: Transport
    met: Met
    order: tuple[int, NodeId]  # (generation, initiator): both ends rank their common sessions alike
    initiated: bool
    confirmed: bool
    path: Path  # where the peer was last heard
    heard: Instant
    begun: Instant  # when its handshake was finished here
    unanswered: int = 0  # messages sent since the peer was last heard
    unanswered_since: Instant = _NEVER
    tries: int = 1
    message1: bytes = b""  # responder, IK: its digest
    message2: bytes = b""  # responder, IK: sent again for the same message 1 until confirmed
    message3: bytes = b""  # initiator, XX: sent again until confirmed. Responder, XX: its digest, to know a duplicate


@dataclass(slots=True, eq=False)
class Peer:
    """Everything about one peer; exists while there is a session or a handshake of ours."""

    node: NodeId
    current: Session | None = None  # what we seal with
    sessions: list[Session] = field(default_factory=list)
    initiation: Initiation | None = None
    retired: deque[bytes] = field(default_factory=lambda: deque(maxlen=RETIRED_MAX))  # instances that may not return
    queue: deque[tuple[Path, bytes]] = field(default_factory=lambda: deque(maxlen=QUEUE_MAX))
    wanted: dict[Path, None] = field(default_factory=dict)  # paths to try, in the order wanted
    announced: dict[Path, None] = field(default_factory=dict)  # paths that SessionUp was given for

    def want(self, path: Path) -> None:
        """Try ``path`` too, and before those wanted earlier."""
        remember(self.wanted, path)

    @property
    def heard(self) -> Instant:
        """When the peer was last heard on any session."""
        return max((session.heard for session in self.sessions), default=_NEVER)


def remember(paths: dict[Path, None], path: Path) -> None:
    """Put ``path`` last; of more than ``PATHS_MAX`` the first goes."""
    paths.pop(path, None)
    paths[path] = None
    if len(paths) > PATHS_MAX:
        del paths[next(iter(paths))]
