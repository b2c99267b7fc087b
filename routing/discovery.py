"""Greetings: how a node finds out who else is on its links.

Theory of operation: a greeting is multicast on a link as soon as it is up, a few times in quick succession, then
slowly, and slower still once somebody there has a session with us. It is unauthenticated, so it carries only what a
stranger may know, and nothing is believed for it: a greeter is reported as seen, and whoever wants more makes a
session. A node that has just come up says so (``seeking``): it is answered at once by unicast, also by nodes that
have known it for long, so that a restart costs one round trip and not one slow interval. It goes on seeking as long as
somebody of its mesh has greeted with whom it has no session yet: who was known before does not begin one by itself.

    greeting field | meaning
    node           | NodeId of the greeter
    name           | its name, for people, 64 characters at most
    mesh           | MeshId of its mesh
    seeking        | the greeter has just come, and does not know everybody here yet: please answer

Since anybody on the wire can make greetings, all tables are bounded by eviction of the oldest, and both answers and
reports are limited per link.
"""

import random
from dataclasses import dataclass
from typing import Annotated, assert_never

import msgspec

from routing.lsa import LinkNumber
from routing.neighbours import LinkDown, LinkUp
from routing.pace import jittered
from sansio.bounded import RecentTable, TokenBucket
from sansio.core import Rejected, Wake
from sansio.deadlines import Deadlines
from sansio.errors import RemoteProtocolError
from sansio.ids import MeshId, NodeId, WireMeshId, WireNodeId
from sansio.instant import MILLISECOND, SECOND, Duration, Instant, after
from sansio.wire import WIRE, Codec

LINKS_MAX = 256
GREETERS_MAX = 1024
PAIRED_MAX = 1024
GREETING_BYTES_MAX = 512
ANSWERS_PER_SECOND = 2.0
ANSWERS_BURST = 4.0
LINK_EVENTS_PER_SECOND = 100.0
LINK_EVENTS_BURST = 200.0


class Greeting(msgspec.Struct, **WIRE):
    """What a node says to whoever is on the link."""

    node: WireNodeId
    name: Annotated[str, msgspec.Meta(max_length=64)]
    mesh: WireMeshId
    seeking: bool = False


GREETING_CODEC: Codec[Greeting] = Codec(Greeting)


@dataclass(frozen=True, slots=True)
class DiscoveryConfig:
    """How often to greet. Raising an interval saves datagrams; lowering it finds late neighbours sooner."""

    fast_interval: Duration = Duration(100 * MILLISECOND)
    fast_count: int = 5
    alone_interval: Duration = Duration(1 * SECOND)
    paired_interval: Duration = Duration(5 * SECOND)


@dataclass(frozen=True, slots=True)
class GreetingReceived:
    """A greeting came from ``address`` on ``link``."""

    link: LinkNumber
    address: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Paired:
    """There is a session with the node at this address: greeting the link is no longer urgent."""

    link: LinkNumber
    address: str


@dataclass(frozen=True, slots=True)
class Unpaired:
    """That session is no more."""

    link: LinkNumber
    address: str


@dataclass(frozen=True, slots=True)
class MeshChanged:
    """We belong to another mesh, or have another name: say so on every link."""

    mesh: MeshId
    name: str


@dataclass(frozen=True, slots=True)
class SendGreeting:
    """Send a greeting on ``link``: to one address, or to the multicast group where ``address`` is None."""

    link: LinkNumber
    address: str | None
    payload: bytes


@dataclass(frozen=True, slots=True)
class NeighbourSeen:
    """A node without a session greeted, or one greets differently than before. Nothing of this is authenticated."""

    link: LinkNumber
    address: str
    node: NodeId
    name: str
    mesh: MeshId


@dataclass(frozen=True, slots=True)
class OwnIdentitySeen:
    """Somebody greets in our name: ourselves over another link of the segment, or another machine. To be proved."""

    link: LinkNumber
    address: str


DiscoveryEvent = LinkUp | LinkDown | GreetingReceived | Paired | Unpaired | MeshChanged | Wake
DiscoveryAction = SendGreeting | NeighbourSeen | OwnIdentitySeen | Rejected

_Key = tuple[LinkNumber, str]


class Discovery:
    """The core that greets and listens to greetings."""

    def __init__(
        self, me: NodeId, name: str, mesh: MeshId, rng: random.Random, config: DiscoveryConfig | None = None
    ) -> None:
        self._me = me
        self._name = name[:64]
        self._mesh = mesh
        self._rng = rng
        self._config = config or DiscoveryConfig()
        self._links: dict[LinkNumber, int] = {}  # greetings sent since the link came up
        self._seen: RecentTable[_Key, Greeting] = RecentTable(GREETERS_MAX)
        self._paired: RecentTable[_Key, None] = RecentTable(PAIRED_MAX)
        self._timers: Deadlines[LinkNumber] = Deadlines()
        self._answers: TokenBucket[_Key] = TokenBucket(ANSWERS_PER_SECOND, ANSWERS_BURST, GREETERS_MAX)
        self._pressure: TokenBucket[LinkNumber] = TokenBucket(LINK_EVENTS_PER_SECOND, LINK_EVENTS_BURST, LINKS_MAX)

    def handle(self, event: DiscoveryEvent, now: Instant) -> list[DiscoveryAction]:
        """React to one event."""
        match event:
            case LinkUp(link):
                return self._on_link_up(link, now)
            case LinkDown(link):
                return self._on_link_down(link)
            case GreetingReceived(link, address, payload):
                return self._on_greeting(link, address, payload, now)
            case Paired(link, address):
                if link in self._links:
                    self._paired[link, address] = None
                return []
            case Unpaired(link, address):
                return self._on_unpaired(link, address, now)
            case MeshChanged(mesh, name):
                return self._on_mesh_changed(mesh, name, now)
            case Wake():
                return [self._greet(link, now) for link in self._timers.pop_due(now)]
            case _:
                assert_never(event)

    def deadline(self) -> Instant | None:
        """When the next greeting is due."""
        return self._timers.next()

    def _on_link_up(self, link: LinkNumber, now: Instant) -> list[DiscoveryAction]:
        if link in self._links:
            return []
        if len(self._links) >= LINKS_MAX:
            return [Rejected(f"link {link}", "more links than can be greeted")]
        self._links[link] = 0
        return [self._greet(link, now)]

    def _on_link_down(self, link: LinkNumber) -> list[DiscoveryAction]:
        self._links.pop(link, None)
        self._timers.cancel(link)
        for table in (self._seen, self._paired):
            for key in [key for key in table if key[0] == link]:
                del table[key]
        return []

    def _on_unpaired(self, link: LinkNumber, address: str, now: Instant) -> list[DiscoveryAction]:
        self._paired.pop((link, address), None)
        self._seen.pop((link, address), None)
        if link in self._links and not self._is_paired(link):
            self._timers.set(link, after(now, jittered(self._rng, self._config.fast_interval)))
        return []

    def _on_mesh_changed(self, mesh: MeshId, name: str, now: Instant) -> list[DiscoveryAction]:
        if (mesh, name[:64]) == (self._mesh, self._name):
            return []
        self._mesh, self._name = mesh, name[:64]
        self._seen.clear()  # what was uninteresting for the old mesh may matter to the new one
        for link in self._links:
            self._links[link] = 0
        return [self._greet(link, now) for link in self._links]

    def _on_greeting(self, link: LinkNumber, address: str, payload: bytes, now: Instant) -> list[DiscoveryAction]:
        if link not in self._links:
            return [Rejected(address, "greeting on a link that is not up")]
        if len(payload) > GREETING_BYTES_MAX:
            return [Rejected(address, "greeting too long")]
        if not self._pressure.admit(link, now):
            return [Rejected(address, "too many greetings")]
        try:
            greeting = GREETING_CODEC.decode(payload, address)
        except RemoteProtocolError:
            return [Rejected(address, "greeting cannot be decoded")]
        if not greeting.name.isprintable():
            return [Rejected(address, "greeting with an unprintable name")]
        if greeting.node == self._me:
            # Our own multicast back over a second link on the same segment, or somebody with our key.
            return [Rejected(address, "greeting carries our own identity"), OwnIdentitySeen(link, address)]
        return self._on_greeter(link, address, greeting, now)

    def _on_greeter(self, link: LinkNumber, address: str, greeting: Greeting, now: Instant) -> list[DiscoveryAction]:
        key = (link, address)
        before = self._seen.get(key)
        self._seen[key] = greeting
        new = before is None or (before.node, before.name, before.mesh) != (greeting.node, greeting.name, greeting.mesh)
        actions: list[DiscoveryAction] = []
        if (new or greeting.seeking) and self._answers.admit(key, now):
            actions.append(SendGreeting(link, address, self._payload(seeking=False)))
        if new or key not in self._paired:
            actions.append(NeighbourSeen(link, address, greeting.node, greeting.name, greeting.mesh))
        return actions

    def _greet(self, link: LinkNumber, now: Instant) -> SendGreeting:
        self._links[link] += 1
        fast = self._links[link] < self._config.fast_count
        if fast:
            interval = self._config.fast_interval
        else:
            paired = self._is_paired(link)
            interval = self._config.paired_interval if paired else self._config.alone_interval
        self._timers.set(link, after(now, jittered(self._rng, interval)))
        seeking = not self._is_paired(link) or (fast and self._is_wanting(link))
        return SendGreeting(link, None, self._payload(seeking=seeking))

    def _is_paired(self, link: LinkNumber) -> bool:
        return any(key[0] == link for key in self._paired)

    def _is_wanting(self, link: LinkNumber) -> bool:
        return any(
            key[0] == link and key not in self._paired and greeting.mesh == self._mesh
            for key, greeting in self._seen.items()
        )

    def _payload(self, *, seeking: bool) -> bytes:
        return GREETING_CODEC.encode(Greeting(self._me, self._name, self._mesh, seeking))
