"""Several ``Sessions`` cores and the wires between them, which may lose, delay, reorder and duplicate."""

import heapq
import random
from collections.abc import Callable

from dmssd.security.certificate import CAPABILITY_ADMIN, Credentials, Subject, found, issue
from dmssd.security.identity import Identity
from dmssd.security.sessions import (
    LinkPath,
    Opened,
    Path,
    Received,
    RoutedPath,
    Sessions,
    SessionsAction,
    SessionsEvent,
    Transmit,
)
from sansio.core import Wake
from sansio.ids import NodeId
from sansio.instant import MILLISECOND, SECOND, Duration, Instant


def entropy_of(seed: object) -> Callable[[int], bytes]:
    return random.Random(str(seed)).randbytes


def mesh_of(*names: str, seed: int = 0) -> list[Credentials]:
    """A mesh founded by the first, which admitted the others."""
    entropy = entropy_of(("mesh", seed))
    founder = found(Identity(entropy(32)), names[0], "test-mesh", entropy)
    members = [founder]
    for serial, name in enumerate(names[1:], start=1):
        identity = Identity(entropy(32))
        chain = issue(founder, Subject(identity.key, identity.x25519, name), serial, CAPABILITY_ADMIN)
        members.append(Credentials.load(identity, chain))
    return members


class Wires:
    """Each node is on link 1 at the address ``fe80::NAME``; links 2, 3, ... are parallel to it."""

    def __init__(self, seed: int = 0, *, loss: float = 0.0, duplicate: float = 0.0, jitter_ms: int = 0) -> None:
        self.now = Instant(1_000 * SECOND)
        self.loss, self.duplicate, self.jitter_ms = loss, duplicate, jitter_ms
        self._rng = random.Random(seed)
        self._seed = seed
        self._starts = 0
        self._flying: list[tuple[Instant, int, str, Path, bytes]] = []
        self._order = 0
        self.cores: dict[str, Sessions] = {}
        self.credentials: dict[str, Credentials] = {}
        self.log: dict[str, list[SessionsAction]] = {}
        self.sent: list[tuple[str, str, bytes]] = []  # everything ever put on a wire
        self.cut: set[str] = set()

    def start(self, name: str, credentials: Credentials) -> None:
        """Start, or restart with nothing remembered."""
        self._starts += 1
        self.credentials[name] = credentials
        self.cores[name] = Sessions(credentials, entropy_of((self._seed, name, self._starts)))
        self.log[name] = []

    def node(self, name: str) -> NodeId:
        return self.credentials[name].identity.node

    def tell(self, name: str, event: SessionsEvent) -> list[SessionsAction]:
        actions = self.cores[name].handle(event, self.now)
        self.log[name] += actions
        for action in actions:
            if isinstance(action, Transmit):
                self._send(name, action.path, action.payload)
        return actions

    def to(self, name: str, link: int = 1) -> LinkPath:
        return LinkPath(link, f"fe80::{name}")

    def routed(self, name: str) -> RoutedPath:
        return RoutedPath(self.node(name))

    def _send(self, sender: str, path: Path, payload: bytes) -> None:
        if isinstance(path, LinkPath):
            receiver = path.address.removeprefix("fe80::")
            back: Path = LinkPath(path.link, f"fe80::{sender}")
        else:
            receiver = next(name for name in self.cores if self.node(name) == path.node)
            back = RoutedPath(self.node(sender))
        self.sent.append((sender, receiver, payload))
        for _ in range(1 + (self._rng.random() < self.duplicate)):
            if self._rng.random() >= self.loss and not {sender, receiver} & self.cut:
                delay = 1 + self._rng.randint(0, self.jitter_ms)
                self._order += 1
                arrival = Instant(self.now + delay * MILLISECOND)
                heapq.heappush(self._flying, (arrival, self._order, receiver, back, payload))

    def run(self, duration: Duration) -> None:
        """Let time pass: deliver what flies and wake whose deadline comes."""
        end = Instant(self.now + duration)
        while True:
            due = [(at, name) for name in sorted(self.cores) if (at := self.cores[name].deadline()) is not None]
            wake = min(due, default=None)
            arrival = self._flying[0][0] if self._flying else None
            if arrival is not None and arrival <= end and (wake is None or arrival <= wake[0]):
                at, _, receiver, back, payload = heapq.heappop(self._flying)
                self.now = max(self.now, at)
                if receiver in self.cores:
                    self.tell(receiver, Received(back, payload))
            elif wake is not None and wake[0] <= end:
                self.now = max(self.now, wake[0])
                self.tell(wake[1], Wake())
            else:
                self.now = end
                return

    def opened(self, name: str) -> list[bytes]:
        return [action.plaintext for action in self.log[name] if isinstance(action, Opened)]

    def of(self, name: str, kind: type[SessionsAction]) -> list[SessionsAction]:
        return [action for action in self.log[name] if isinstance(action, kind)]
