"""Adjacencies: which neighbours are really there, judged in two tiers.

Theory of operation (DESIGN 7, "Liveness in two tiers"): *link* liveness is an ICMPv6 echo that the neighbour's kernel
answers, fast and independent of any daemon; *daemon* liveness is a hello inside the neighbour's session, slower. An
adjacency comes up when a hello shows that the neighbour heard this very instance of us on this very link (OSPF's
two-way check, RFC 2328 10.5, with instance and link number added) and an echo was answered. Then:

- echoes lost (``echo_misses`` in a row): down at once;
- hellos lost, echo alive: *restarting*, kept up until ``hello_lease`` after the last hello that proved both ways;
- another instance heard: *restarting* until it has proved both ways in its turn, which takes one round trip;
- goodbye heard, link lost: down at once.

Neighbours are asked on a common beat: each is drawn to the beat of the one asked before it, so that a node wakes up
once per interval and not once per neighbour, and reads their answers together. A hello that is nearly due goes along.

A neighbour that is down but paired is still asked, so that it is back one interval after it heals; one that has said
nothing for a whole lease is forgotten, and discovery begins again.

Echo losses are judged by echoes that were sent and not answered, never by time alone. The last one of the row is
judged after ``echo_wait`` (or four round trips, up to one interval) instead of a whole interval. A verdict that comes
more than an interval late was delayed by our own stall: it is put off once, for one more echo.

    hello field       | meaning
    instance          | random number of this start of the daemon
    link              | the sender's number for the link
    metric            | the sender's metric for it
    hello_interval_ms | how often the sender says hello
    echo_interval_ms  | how often it asks our kernel
    heard             | node, link and instance of the receiver as last heard, or nil
    seeking           | the sender does not have the adjacency up yet: answer soon
    goodbye           | the sender leaves for good
    rank              | by which it speaks for the segment that the link is on (:mod:`routing.segments`); 0: it does not
    mtu               | the sender's largest packet on the link, bytes; 0: not said

On a segment most pairs are *spared*: they are paired, and say nothing to one another, unless one of them speaks for it.
"""

import random
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Annotated, assert_never

import msgspec

from routing.lsa import LinkNumber, Metric, WireLinkNumber
from routing.neighbours import (
    SPARED,
    SUCCEEDED,
    LinkDown,
    LinkUp,
    NeighbourDown,
    NeighbourRestarting,
    NeighbourSpeaks,
    NeighbourUp,
)
from routing.pace import JITTER, jittered
from sansio.bounded import RecentTable
from sansio.core import Rejected, Wake
from sansio.deadlines import Deadlines
from sansio.errors import RemoteProtocolError
from sansio.ids import NodeId, WireNodeId, short
from sansio.instant import MILLISECOND, SECOND, Duration, Instant, after
from sansio.wire import WIRE, Codec

RADIO = "radio"
NEIGHBOURS_MAX = 256
LINKS_MAX = 256
ECHOES_MAX = 16
FAST_HELLOS_MAX = 60
PIN_INTERVAL = Duration(5 * SECOND)
"""Between two confirmations of a neighbour's entry. The kernel doubts an entry after 15 s at the earliest (RFC 4861 10,
REACHABLE_TIME and MIN_RANDOM_FACTOR) and gives it up some 8 s later: raised beyond that, silent drops heal late."""
HELLO_BYTES_MAX = 256
LOSS_SMOOTHING = 64
"""Echoes over which loss is averaged: raised, a metric measured by it is steadier and later."""

_Instance = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_IntervalMs = Annotated[int, msgspec.Meta(ge=1, le=600_000)]


class Heard(msgspec.Struct, **WIRE):
    """Whom the sender heard, and from which link and instance."""

    node: WireNodeId
    link: WireLinkNumber
    instance: _Instance


class Hello(msgspec.Struct, **WIRE):
    """What two daemons keep saying to each other."""

    instance: _Instance
    link: WireLinkNumber
    metric: Metric
    hello_interval_ms: _IntervalMs
    echo_interval_ms: _IntervalMs
    heard: Heard | None = None
    seeking: bool = False
    goodbye: bool = False
    rank: Annotated[int, msgspec.Meta(ge=0, lt=2**32)] = 0
    mtu: Annotated[int, msgspec.Meta(ge=0, lt=2**32)] = 0


HELLO_CODEC: Codec[Hello] = Codec(Hello)


@dataclass(frozen=True, slots=True)
class AdjacencyConfig:
    """Timers of liveness.

    ``echo_interval`` x ``echo_misses`` is how long a silent failure goes unseen; lowering either finds it sooner and
    costs datagrams and false alarms. ``echo_wait`` is the least time the last echo of a row is given.
    ``radio_echo_interval`` and ``radio_echo_misses`` are the same for links whose medium is radio.
    ``hello_interval`` x ``hello_misses`` is when a daemon counts as restarting; ``hello_fast`` is the pace while an
    adjacency is coming up. Raising ``hello_lease`` forwards longer over a neighbour whose daemon is away.
    """

    hello_interval: Duration = Duration(333 * MILLISECOND)
    echo_interval: Duration = Duration(100 * MILLISECOND)
    echo_misses: int = 3
    hello_misses: int = 3
    hello_lease: Duration = Duration(60 * SECOND)
    hello_fast: Duration = Duration(50 * MILLISECOND)
    echo_wait: Duration = Duration(40 * MILLISECOND)
    radio_echo_interval: Duration = Duration(1 * SECOND)
    radio_echo_misses: int = 3

    def echo_pace(self, medium: str) -> tuple[Duration, int]:
        """Interval and misses of echoes over a medium."""
        if medium == RADIO:
            return self.radio_echo_interval, self.radio_echo_misses
        return self.echo_interval, self.echo_misses

    @property
    def daemon_missed_after(self) -> Duration:
        """The longest that a neighbour's daemon, set like ours, can be dead before it counts as restarting."""
        return Duration(round((self.hello_misses + 1) * self.hello_interval * (1 + JITTER)))


@dataclass(frozen=True, slots=True)
class Paired:
    """There is an authenticated session with a member over this link and address."""

    node: NodeId
    link: LinkNumber
    address: str


@dataclass(frozen=True, slots=True)
class HelloReceived:
    """A hello was opened from the session of member ``node``; that itself proves the pairing."""

    node: NodeId
    link: LinkNumber
    address: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class EchoReplied:
    """The kernel at this address answered the echo that carried ``nonce``."""

    link: LinkNumber
    address: str
    nonce: int


@dataclass(frozen=True, slots=True)
class SessionRestarted:
    """The node's daemon came back with a new session."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class MetricSet:
    """One of our links has another metric."""

    link: LinkNumber
    metric: int


@dataclass(frozen=True, slots=True)
class Configured:
    """Other timers from now on; what is waited for already is waited for no longer than they say."""

    config: AdjacencyConfig


@dataclass(frozen=True, slots=True)
class RankSet:
    """On this link we speak for the segment, by this rank; 0: we do not."""

    link: LinkNumber
    rank: int


@dataclass(frozen=True, slots=True)
class Spared:
    """On this link exactly these nodes need no adjacency with us, as long as neither they nor we speak there."""

    link: LinkNumber
    nodes: frozenset[NodeId]


@dataclass(frozen=True, slots=True)
class Leaving:
    """We leave for good: say goodbye to everybody and fall silent."""


@dataclass(frozen=True, slots=True)
class GaveUp:
    """Wait no longer for the daemon of a restarting neighbour: what its kernel forwards by has become wrong."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class NodeExpelled:
    """A node is no member any more: be adjacent to it no longer, whatever its kernel answers."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The machine that was ``node`` is ``heir`` from now on (:mod:`routing.succession`): its places are the heir's."""

    node: NodeId
    heir: NodeId


@dataclass(frozen=True, slots=True)
class SendHello:
    """Send a hello to a neighbour, sealed by its session."""

    node: NodeId
    link: LinkNumber
    address: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class SendEcho:
    """Send an ICMPv6 echo request; ``nonce`` has 64 bits."""

    link: LinkNumber
    address: str
    nonce: int


@dataclass(frozen=True, slots=True)
class PinNeighbour:
    """Refresh the kernel's neighbour entry (it decays to INCOMPLETE during a silent drop and delays the recovery)."""

    link: LinkNumber
    address: str


@dataclass(frozen=True, slots=True)
class NeighbourForgotten:
    """Nothing is kept of this pairing any more: discovery may look for it again."""

    node: NodeId
    link: LinkNumber
    address: str


@dataclass(frozen=True, slots=True)
class NeighbourView:
    """A neighbour as people see it: ``state`` is up, restarting or down; ``rtt_ns`` is smoothed, None before one.

    ``mtu`` is what it says of its end of the link, 0 before that.
    """

    node: NodeId
    link: LinkNumber
    remote_link: LinkNumber | None
    address: str
    state: str
    metric: int
    rtt_ns: Duration | None
    mtu: int = 0
    loss_ppm: int = 0


AdjacencyEvent = (
    LinkUp
    | LinkDown
    | Paired
    | HelloReceived
    | EchoReplied
    | SessionRestarted
    | MetricSet
    | GaveUp
    | Configured
    | NodeExpelled
    | Succeeded
    | RankSet
    | Spared
    | Leaving
    | Wake
)
AdjacencyAction = (
    SendHello
    | SendEcho
    | PinNeighbour
    | NeighbourUp
    | NeighbourDown
    | NeighbourRestarting
    | NeighbourSpeaks
    | NeighbourForgotten
    | Rejected
)

_Key = tuple[LinkNumber, str]
_Timer = tuple[str, LinkNumber, str]


@dataclass(slots=True)
class Neighbour:
    """What is known of one neighbour at one address of one link."""

    node: NodeId
    link: LinkNumber
    address: str
    heard_at: Instant  # last sign of its daemon: a hello, or the pairing
    up: bool = False
    restarting: bool = False
    remote_link: LinkNumber | None = None  # as told in NeighbourUp
    heard: Heard | None = None  # what our hello states
    proven: bool = False  # its latest hello heard this instance of us on this link
    proven_at: Instant = Instant(0)
    lapse_wait: Duration = Duration(0)  # silence after which it counts as restarting
    hello_sent: Instant = Instant(0)
    fast_hellos: int = FAST_HELLOS_MAX
    pinned_at: Instant | None = None
    echoes: OrderedDict[int, Instant] = field(default_factory=OrderedDict)  # nonce -> sent, unanswered
    echo_sent: Instant = Instant(0)
    answered: bool = False
    judging: bool = False  # the echo timer waits for the last of a row
    excused: bool = False  # a verdict was put off once since the last answer
    rtt: Duration | None = None
    rank: int = 0  # as its latest hello says
    mtu: int = 0
    loss_ppm: int = 0  # smoothed share of echoes that nothing came back for

    @property
    def key(self) -> _Key:
        """Where it is."""
        return self.link, self.address


class Adjacencies:
    """The core that says hello, asks kernels, and judges both."""

    def __init__(self, me: NodeId, rng: random.Random, config: AdjacencyConfig | None = None) -> None:
        self._me = me
        self._rng = rng
        self._config = config or AdjacencyConfig()
        self._instance = rng.getrandbits(63)
        self._metrics: dict[LinkNumber, int] = {}
        self._mtus: dict[LinkNumber, int] = {}
        self._media: dict[LinkNumber, str] = {}
        self._ranks: dict[LinkNumber, int] = {}
        self._spared: dict[LinkNumber, frozenset[NodeId]] = {}
        self._neighbours: dict[_Key, Neighbour] = {}
        self._timers: Deadlines[_Timer] = Deadlines()
        self._beat = Instant(0)  # when echoes were last told to go out
        self._departed: RecentTable[NodeId, int] = RecentTable(NEIGHBOURS_MAX)  # instances that said goodbye
        self._succeeded: RecentTable[NodeId, None] = RecentTable(NEIGHBOURS_MAX)  # whose places are their heirs'
        self._leaving = False

    def handle(self, event: AdjacencyEvent, now: Instant) -> list[AdjacencyAction]:
        """React to one event."""
        match event:
            case LinkUp() | LinkDown() | MetricSet() | RankSet() | Spared():
                return self._on_our_link(event, now)
            case Paired(node, link, address):
                return self._on_paired(node, link, address, now)
            case HelloReceived(node, link, address, payload):
                return self._on_hello(node, link, address, payload, now)
            case EchoReplied(link, address, nonce):
                return self._on_echo(link, address, nonce, now)
            case SessionRestarted(node):
                return self._on_session_restarted(node, now)
            case GaveUp(node):
                return self._on_gave_up(node)
            case Configured(config):
                return self._on_configured(config, now)
            case NodeExpelled(node):
                return self._on_expelled(node)
            case Succeeded(node, heir):
                return self._on_succeeded(node, heir, now)
            case Leaving():
                return self._on_leaving(now)
            case Wake():
                return self._on_wake(now)
            case _:
                assert_never(event)

    def deadline(self) -> Instant | None:
        """When the next hello, echo or verdict is due."""
        return self._timers.next()

    def neighbours(self) -> list[NeighbourView]:
        """Every paired neighbour, in order of link and address."""
        return [self._view(self._neighbours[key]) for key in sorted(self._neighbours)]

    def announced(self) -> list[NeighbourUp]:
        """Every adjacency that is up, as it was last told."""
        return [self._announce(self._neighbours[key]) for key in sorted(self._neighbours) if self._neighbours[key].up]

    def holder(self, link: LinkNumber, address: str) -> NodeId | None:
        """Who is paired at that place."""
        neighbour = self._neighbours.get((link, address))
        return neighbour.node if neighbour is not None else None

    def path(self, node: NodeId) -> _Key | None:
        """The best link and address to reach a neighbour node by: up before restarting before merely paired."""
        candidates = [neighbour for neighbour in self._neighbours.values() if neighbour.node == node]
        if not candidates:
            return None
        return min(candidates, key=lambda n: (not n.up, n.restarting, self._metrics[n.link], n.key)).key

    def _view(self, neighbour: Neighbour) -> NeighbourView:
        state = ("restarting" if neighbour.restarting else "up") if neighbour.up else "down"
        metric = self._metrics[neighbour.link]
        return NeighbourView(
            neighbour.node,
            neighbour.link,
            neighbour.remote_link,
            neighbour.address,
            state,
            metric,
            neighbour.rtt,
            neighbour.mtu,
            neighbour.loss_ppm,
        )

    # Links and pairings

    def _on_our_link(
        self, event: LinkUp | LinkDown | MetricSet | RankSet | Spared, now: Instant
    ) -> list[AdjacencyAction]:
        match event:
            case LinkUp():
                return self._on_link_up(event)
            case LinkDown(link):
                return self._on_link_down(link)
            case MetricSet(link, metric):
                return self._on_metric(link, metric, False)
            case RankSet(link, rank):
                return self._on_rank(link, rank, now)
            case Spared(link, nodes):
                return self._on_spared(link, nodes)
            case _:
                assert_never(event)

    def _on_metric(self, link: LinkNumber, metric: int, may_be_new: bool) -> list[AdjacencyAction]:
        before = self._metrics.get(link)
        if before is None and (not may_be_new or len(self._metrics) >= LINKS_MAX):
            return [Rejected(f"link {link}", "more links than can be used" if may_be_new else "no such link")]
        self._metrics[link] = metric
        if before in (None, metric):
            return []
        return [self._announce(n) for n in self._on_link(link) if n.up]

    def _on_link_up(self, event: LinkUp) -> list[AdjacencyAction]:
        actions = self._on_metric(event.link, event.metric, True)
        if event.link in self._metrics:
            self._mtus[event.link] = event.mtu
            self._media[event.link] = event.medium
        return actions

    def _on_link_down(self, link: LinkNumber) -> list[AdjacencyAction]:
        actions: list[AdjacencyAction] = []
        for neighbour in self._on_link(link):
            actions += self._forget(neighbour, "link down")
        for table in (self._metrics, self._mtus, self._media, self._ranks, self._spared):
            table.pop(link, None)
        return actions

    # Segments

    def _on_rank(self, link: LinkNumber, rank: int, now: Instant) -> list[AdjacencyAction]:
        if link not in self._metrics:
            return []
        self._ranks[link] = rank
        actions: list[AdjacencyAction] = []
        for neighbour in self._on_link(link):
            actions += self._hello(neighbour, now)
        return actions

    def _on_spared(self, link: LinkNumber, nodes: frozenset[NodeId]) -> list[AdjacencyAction]:
        if link not in self._metrics:
            return []
        self._spared[link] = nodes
        actions: list[AdjacencyAction] = []
        for neighbour in self._on_link(link):
            if self._is_spared(neighbour.node, link, neighbour.rank):
                # Not forgotten: it is well, and can be asked again. A restarting one goes too, it forwards for none.
                actions += self._lose(neighbour, SPARED)
                self._drop(neighbour)
        return actions

    def _is_spared(self, node: NodeId, link: LinkNumber, rank: int) -> bool:
        return not rank and not self._ranks.get(link) and node in self._spared.get(link, frozenset())

    def _on_link(self, link: LinkNumber) -> list[Neighbour]:
        return [neighbour for neighbour in self._neighbours.values() if neighbour.link == link]

    def _on_paired(
        self, node: NodeId, link: LinkNumber, address: str, now: Instant, rank: int = 0
    ) -> list[AdjacencyAction]:
        if link not in self._metrics:
            return [Rejected(short(node), "paired on a link that is not up")]
        if node == self._me:
            return [Rejected(address, "paired with our own identity")]
        if self._is_spared(node, link, rank) or node in self._succeeded:
            return []
        actions: list[AdjacencyAction] = []
        neighbour = self._neighbours.get((link, address))
        if neighbour is not None and neighbour.node != node:
            actions += self._forget(neighbour, "address taken over by another node")
            neighbour = None
        if neighbour is None:
            if len(self._neighbours) >= NEIGHBOURS_MAX and not self._make_room(actions):
                return [*actions, Rejected(short(node), "more neighbours than can be kept")]
            neighbour = Neighbour(node, link, address, heard_at=now)
            self._neighbours[link, address] = neighbour
            actions.append(self._echo(neighbour, now))
        neighbour.heard_at = now
        neighbour.fast_hellos = FAST_HELLOS_MAX
        actions += self._hello(neighbour, now)
        self._arm_lapse(neighbour)
        return actions

    def _make_room(self, actions: list[AdjacencyAction]) -> bool:
        # Whoever is up stays; of the others the one silent for longest goes.
        idle = [neighbour for neighbour in self._neighbours.values() if not neighbour.up]
        if not idle:
            return False
        actions += self._forget(min(idle, key=lambda n: n.heard_at), "")
        return True

    def _forget(self, neighbour: Neighbour, reason: str) -> list[AdjacencyAction]:
        actions = self._lose(neighbour, reason)
        self._drop(neighbour)
        return [*actions, NeighbourForgotten(neighbour.node, neighbour.link, neighbour.address)]

    def _drop(self, neighbour: Neighbour) -> None:
        del self._neighbours[neighbour.key]
        for kind in ("hello", "echo", "lapse"):
            self._timers.cancel((kind, *neighbour.key))

    def _on_session_restarted(self, node: NodeId, now: Instant) -> list[AdjacencyAction]:
        actions: list[AdjacencyAction] = []
        for neighbour in self._neighbours.values():
            if neighbour.node == node:
                neighbour.heard = None
                neighbour.proven = False
                neighbour.fast_hellos = FAST_HELLOS_MAX
                actions += self._doubt(neighbour)
                actions += self._hello(neighbour, now)
        return actions

    def _on_gave_up(self, node: NodeId) -> list[AdjacencyAction]:
        actions: list[AdjacencyAction] = []
        for neighbour in self._neighbours.values():
            if neighbour.node == node and neighbour.restarting:
                actions += self._lose(neighbour, "restarting while the topology changed")
        return actions

    def _on_configured(self, config: AdjacencyConfig, now: Instant) -> list[AdjacencyAction]:
        if config == self._config or self._leaving:
            return []
        self._config = config
        self._beat = Instant(0)
        actions: list[AdjacencyAction] = []
        for neighbour in self._neighbours.values():
            # The hello tells the other side our new pace before it could miss one of the old.
            actions += self._hello(neighbour, now)
            if not neighbour.judging:
                timer: _Timer = ("echo", *neighbour.key)
                due = self._next_echo(now, self._pace(neighbour)[0])
                self._timers.set(timer, min(self._timers.when(timer) or now, due))
            self._arm_lapse(neighbour)
        return actions

    def _on_expelled(self, node: NodeId) -> list[AdjacencyAction]:
        actions: list[AdjacencyAction] = []
        for neighbour in [neighbour for neighbour in self._neighbours.values() if neighbour.node == node]:
            actions += self._forget(neighbour, "expelled from the mesh")
        return actions

    def _on_succeeded(self, node: NodeId, heir: NodeId, now: Instant) -> list[AdjacencyAction]:
        """As after a restart: the kernel there is the same, and the daemon has to prove both ways anew."""
        self._succeeded[node] = None
        actions: list[AdjacencyAction] = []
        for neighbour in [each for each in self._neighbours.values() if each.node == node]:
            ended = self._farewell(neighbour, SUCCEEDED) if neighbour.up else None
            neighbour.node, neighbour.heard, neighbour.proven = heir, None, False
            neighbour.heard_at = now
            neighbour.fast_hellos = FAST_HELLOS_MAX
            if ended is not None:
                # Up first: nobody shall see the machine without an adjacency.
                neighbour.restarting = False
                actions += [self._announce(neighbour), ended]
                if neighbour.rank:
                    actions.append(NeighbourSpeaks(heir, neighbour.link, neighbour.rank))
                actions += self._doubt(neighbour)
            actions += self._hello(neighbour, now)
        return actions

    def _on_leaving(self, now: Instant) -> list[AdjacencyAction]:
        self._leaving = True
        goodbyes: list[AdjacencyAction] = [
            SendHello(n.node, n.link, n.address, self._payload(n, goodbye=True)) for n in self._neighbours.values()
        ]
        self._timers.pop_due(Instant(2**63))
        return goodbyes

    # Hellos

    def _on_hello(
        self, node: NodeId, link: LinkNumber, address: str, payload: bytes, now: Instant
    ) -> list[AdjacencyAction]:
        if len(payload) > HELLO_BYTES_MAX:
            return [Rejected(short(node), "hello too long")]
        try:
            hello = HELLO_CODEC.decode(payload, short(node))
        except RemoteProtocolError:
            return [Rejected(short(node), "hello cannot be decoded")]
        if self._leaving:
            return []
        if self._departed.get(node) == hello.instance:
            return [Rejected(short(node), "hello after goodbye")]
        neighbour = self._neighbours.get((link, address))
        if hello.goodbye:
            return self._on_goodbye(node, neighbour, hello)
        actions: list[AdjacencyAction] = []
        if neighbour is None or neighbour.node != node:
            actions += self._on_paired(node, link, address, now, hello.rank)
            neighbour = self._neighbours.get((link, address))
            if neighbour is None or neighbour.node != node:
                return actions
        return actions + self._on_greeted(neighbour, hello, now)

    def _on_goodbye(self, node: NodeId, neighbour: Neighbour | None, hello: Hello) -> list[AdjacencyAction]:
        self._departed[node] = hello.instance
        if neighbour is None or neighbour.node != node:
            return []
        return self._forget(neighbour, "said goodbye")

    def _on_greeted(self, neighbour: Neighbour, hello: Hello, now: Instant) -> list[AdjacencyAction]:
        actions: list[AdjacencyAction] = []
        heard = Heard(neighbour.node, hello.link, hello.instance)
        if neighbour.heard is not None and neighbour.heard.instance != hello.instance:
            actions += self._doubt(neighbour)
        if neighbour.rank != hello.rank:
            neighbour.rank = hello.rank
            actions.append(NeighbourSpeaks(neighbour.node, neighbour.link, hello.rank))
        neighbour.mtu = hello.mtu
        proven = self._two_way(neighbour, hello)
        news = (neighbour.heard, neighbour.proven) != (heard, proven)
        neighbour.heard = heard
        neighbour.heard_at = now
        neighbour.proven = proven
        if proven:
            neighbour.proven_at = now
            interval = hello.hello_interval_ms * MILLISECOND * (1 + JITTER)
            neighbour.lapse_wait = Duration(round(self._config.hello_misses * interval))
        if neighbour.pinned_at is None or now >= after(neighbour.pinned_at, PIN_INTERVAL):
            neighbour.pinned_at = now
            actions.append(PinNeighbour(neighbour.link, neighbour.address))
        actions += self._judge(neighbour)
        self._arm_lapse(neighbour)
        if news:
            actions += self._hello(neighbour, now)
        elif hello.seeking:
            self._hasten(neighbour, now)
        return actions

    def _two_way(self, neighbour: Neighbour, hello: Hello) -> bool:
        """Whether this hello shows that the neighbour hears us: this instance, on the link it came by."""
        return hello.heard == Heard(self._me, neighbour.link, self._instance)

    def _hello(self, neighbour: Neighbour, now: Instant) -> list[AdjacencyAction]:
        if self._leaving:
            return []
        config = self._config
        fast = not neighbour.up and neighbour.fast_hellos > 0
        if fast:
            neighbour.fast_hellos -= 1
        neighbour.hello_sent = now
        wait = config.hello_fast if fast else config.hello_interval
        self._timers.set(("hello", *neighbour.key), after(now, jittered(self._rng, wait)))
        return [SendHello(neighbour.node, neighbour.link, neighbour.address, self._payload(neighbour))]

    def _hasten(self, neighbour: Neighbour, now: Instant) -> None:
        # It still seeks although nothing is new: our last answer was probably lost. Not before the fast pace allows.
        timer: _Timer = ("hello", *neighbour.key)
        due = self._timers.when(timer)
        soon = max(now, after(neighbour.hello_sent, self._config.hello_fast))
        if due is not None and soon < due:
            self._timers.set(timer, Instant(soon))

    def _payload(self, neighbour: Neighbour, *, goodbye: bool = False) -> bytes:
        hello = Hello(
            instance=self._instance,
            link=neighbour.link,
            metric=self._metrics[neighbour.link],
            hello_interval_ms=max(1, self._config.hello_interval // MILLISECOND),
            echo_interval_ms=max(1, self._pace(neighbour)[0] // MILLISECOND),
            heard=neighbour.heard,
            seeking=not neighbour.up or neighbour.restarting,
            goodbye=goodbye,
            rank=self._ranks.get(neighbour.link, 0),
            mtu=self._mtus.get(neighbour.link, 0),
        )
        return HELLO_CODEC.encode(hello)

    # Echoes

    def _echo(self, neighbour: Neighbour, now: Instant) -> SendEcho:
        nonce = self._rng.getrandbits(64)
        neighbour.echoes[nonce] = now
        if len(neighbour.echoes) > ECHOES_MAX:
            neighbour.echoes.popitem(last=False)
        neighbour.echo_sent = now
        interval, misses = self._pace(neighbour)
        neighbour.judging = neighbour.up and len(neighbour.echoes) >= misses
        due = after(now, self._verdict_wait(neighbour)) if neighbour.judging else self._next_echo(now, interval)
        self._timers.set(("echo", *neighbour.key), due)
        return SendEcho(neighbour.link, neighbour.address, nonce)

    def _pace(self, neighbour: Neighbour) -> tuple[Duration, int]:
        return self._config.echo_pace(self._media.get(neighbour.link, ""))

    def _next_echo(self, last: Instant, interval: Duration) -> Instant:
        """One interval on, together with another neighbour where that costs at most a shorter interval."""
        early, late = after(last, Duration(interval // 2)), after(last, Duration(round(interval * (1 + JITTER))))
        if not early <= self._beat <= late:
            self._beat = after(last, jittered(self._rng, interval))
        return self._beat

    def _verdict_wait(self, neighbour: Neighbour) -> Duration:
        wait = max(self._config.echo_wait, 4 * (neighbour.rtt or 0))
        return Duration(min(wait, self._pace(neighbour)[0]))

    def _on_echo(self, link: LinkNumber, address: str, nonce: int, now: Instant) -> list[AdjacencyAction]:
        neighbour = self._neighbours.get((link, address))
        sent = neighbour.echoes.get(nonce) if neighbour is not None else None
        if neighbour is None or sent is None:
            return [Rejected(address, "answer to no echo of ours")]
        while neighbour.echoes.popitem(last=False)[0] != nonce:
            neighbour.loss_ppm += (1_000_000 - neighbour.loss_ppm) // LOSS_SMOOTHING
        neighbour.loss_ppm -= neighbour.loss_ppm // LOSS_SMOOTHING
        rtt = Duration(now - sent)
        neighbour.rtt = rtt if neighbour.rtt is None else Duration((7 * neighbour.rtt + rtt) // 8)
        back = not neighbour.answered
        neighbour.answered = True
        neighbour.excused = False
        interval, misses = self._pace(neighbour)
        if neighbour.judging and len(neighbour.echoes) < misses:
            neighbour.judging = False
            due = self._next_echo(neighbour.echo_sent, interval)
            self._timers.set(("echo", *neighbour.key), Instant(max(now, due)))
        actions = self._judge(neighbour)
        if back and not neighbour.up:
            neighbour.fast_hellos = FAST_HELLOS_MAX
            actions += self._hello(neighbour, now)
        return actions

    def _echo_alive(self, neighbour: Neighbour) -> bool:
        return neighbour.answered and len(neighbour.echoes) < self._pace(neighbour)[1]

    # Verdicts

    def _judge(self, neighbour: Neighbour) -> list[AdjacencyAction]:
        """Bring an adjacency up, or confirm it after a restart, once both tiers speak for it."""
        if not neighbour.proven or neighbour.heard is None:
            return []
        actions: list[AdjacencyAction] = []
        if not neighbour.up:
            if not self._echo_alive(neighbour):
                return []
        elif neighbour.remote_link != neighbour.heard.link:
            actions.append(self._farewell(neighbour, "link number changed"))
        elif not neighbour.restarting:
            return []
        neighbour.up = True
        neighbour.restarting = False
        neighbour.remote_link = neighbour.heard.link
        self._arm_lapse(neighbour)
        return [*actions, self._announce(neighbour)]

    def _announce(self, neighbour: Neighbour) -> NeighbourUp:
        assert neighbour.remote_link is not None
        metric = self._metrics[neighbour.link]
        return NeighbourUp(neighbour.node, neighbour.link, neighbour.remote_link, neighbour.address, metric)

    def _farewell(self, neighbour: Neighbour, reason: str) -> NeighbourDown:
        assert neighbour.remote_link is not None
        return NeighbourDown(neighbour.node, neighbour.link, reason, neighbour.remote_link, neighbour.address)

    def _lose(self, neighbour: Neighbour, reason: str) -> list[AdjacencyAction]:
        # Both ways must be proved anew by hellos sent after this moment; what was heard before does not count.
        was_up = neighbour.up
        neighbour.up = neighbour.restarting = neighbour.proven = neighbour.answered = False
        neighbour.judging = neighbour.excused = False
        neighbour.heard = None
        neighbour.rank = 0
        self._arm_lapse(neighbour)
        return [self._farewell(neighbour, reason)] if was_up else []

    def _doubt(self, neighbour: Neighbour) -> list[AdjacencyAction]:
        if not neighbour.up or neighbour.restarting:
            return []
        neighbour.restarting = True
        neighbour.proven = False
        self._arm_lapse(neighbour)
        return [NeighbourRestarting(neighbour.node, neighbour.link)]

    def _arm_lapse(self, neighbour: Neighbour) -> None:
        if not neighbour.up:
            due = after(neighbour.heard_at, self._config.hello_lease)
        elif neighbour.restarting:
            due = after(neighbour.proven_at, self._config.hello_lease)
        else:
            due = after(neighbour.proven_at, min(neighbour.lapse_wait, self._config.hello_lease))
        self._timers.set(("lapse", *neighbour.key), due)

    # Timers

    def _on_wake(self, now: Instant) -> list[AdjacencyAction]:
        actions: list[AdjacencyAction] = []
        while (due := self._timers.next()) is not None and due <= now:
            for kind, link, address in self._timers.pop_due(due):
                neighbour = self._neighbours.get((link, address))
                if neighbour is None:
                    continue
                late = Duration(now - due)
                if kind == "hello":
                    actions += self._hello(neighbour, now)
                elif kind == "echo":
                    actions += self._on_echo_due(neighbour, late, now)
                else:
                    actions += self._on_lapse(neighbour, late, now)
        return actions

    def _on_echo_due(self, neighbour: Neighbour, late: Duration, now: Instant) -> list[AdjacencyAction]:
        actions: list[AdjacencyAction] = []
        interval, misses = self._pace(neighbour)
        if neighbour.judging and len(neighbour.echoes) >= misses:
            if late > interval and not neighbour.excused:
                neighbour.excused = True
            else:
                actions += self._lose(neighbour, "echo lost")
        actions.append(self._echo(neighbour, now))
        if neighbour.up and self._is_hello_next(neighbour):
            actions += self._hello(neighbour, now)
        return actions

    def _is_hello_next(self, neighbour: Neighbour) -> bool:
        """Whether a hello would be due before the next echo: then it may as well go with this one."""
        hello, echo = (self._timers.when((kind, *neighbour.key)) for kind in ("hello", "echo"))
        return hello is not None and echo is not None and hello < echo

    def _on_lapse(self, neighbour: Neighbour, late: Duration, now: Instant) -> list[AdjacencyAction]:
        if late > self._config.hello_interval:
            # We were stalled ourselves, and hellos may still be waiting to be read: judge one interval from now.
            self._timers.set(("lapse", *neighbour.key), after(now, self._config.hello_interval))
            return []
        if not neighbour.up:
            return self._forget(neighbour, "")
        if now >= after(neighbour.proven_at, self._config.hello_lease):
            actions = self._lose(neighbour, "hello lease ended")
            if now >= after(neighbour.heard_at, self._config.hello_lease):
                actions += self._forget(neighbour, "")
            return actions
        return self._doubt(neighbour)
