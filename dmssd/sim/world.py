"""A world: N machines with one daemon each, cables between them, and the one loop that moves them.

Theory of operation. The world does for each daemon what ``driver/loop.py`` does for a real one: it hands in events one
at a time, performs the returned actions in order, reads the deadline and wakes the daemon no earlier. Daemons know of
one another only what arrives as bytes. A machine outlives its daemon: its kernel answers echoes and forwards by the
routes that the daemon left, its disk keeps what was persisted.

Everything that happens is folded into ``digest()``: two runs with the same digest had the same events in the same
order at the same nanoseconds.

As in the driver, what an action answers (``FibProgrammed``, a reading after a refusal) goes in before any other event,
and a ``Wake`` comes no sooner than a millisecond after the last. Deviation from a real machine: a daemon works in no
time; handling an event or writing a thousand routes takes none of the simulated nanoseconds.
"""

import hashlib
import ipaddress
import random
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from dmssd.events import (
    Datagram,
    EchoReplied,
    FibProgrammed,
    FibRead,
    Halt,
    LinkDown,
    LinkUp,
    NodeAction,
    NodeEvent,
    Notice,
    PinNeighbour,
    ProgramFib,
    Reply,
    Request,
    SendDatagram,
    SendEcho,
    SettingsChanged,
)
from dmssd.rules.rotation import IDENTITY_KEY
from dmssd.security.identity import Identity
from dmssd.settings import NodeSettings
from dmssd.sim.clock import Clock, SimulationError, seeded
from dmssd.sim.disk import Disk
from dmssd.sim.kernel import Interface, Kernel
from dmssd.sim.network import Cable, EchoReply, EchoRequest, Network, Packet, Port, Quality, Udp
from dmssd.sim.shapes import Shape
from routing.lsa import LinkNumber, Prefix
from sansio.core import Persist, Rejected, Wake
from sansio.ids import NodeId
from sansio.instant import MICROSECOND, MILLISECOND, SECOND, Duration, Instant, after
from sansio.wire import DATAGRAM_BYTES_MAX

FIRST_LINK = 2
NOTICES_MAX = 5_000
INBOX_MAX = 4_000
"""What a stalled daemon's socket buffers hold; beyond, packets are lost."""

WAKE_LATENESS_MAX = Duration(500 * MICROSECOND)
CARRIER_LATENESS_MAX = Duration(6 * MILLISECOND)
WAKE_GAP = Duration(1 * MILLISECOND)

WALL_BEGIN_S = 1_900_000_000.0
"""The true time of day when a world begins, seconds since 1970."""
WALL_ERRORS_S = (0.0, -WALL_BEGIN_S, 86_400.0, -86_400.0)
"""What clocks are wrong by at first: right, a board that boots in 1970, a day either way."""


class Daemon(Protocol):
    """What runs on a machine: a ``SecureNode``, or a toy in the simulator's own tests."""

    def handle(self, event: NodeEvent, now: Instant) -> list[NodeAction]:
        """The node's door."""

    def deadline(self) -> Instant | None:
        """When it wants a ``Wake``."""


@dataclass(frozen=True, slots=True)
class Start:
    """One start of one machine's daemon; ``count`` is 1 for the first."""

    machine: "Machine"
    count: int
    stored: Mapping[str, bytes]
    rng: random.Random
    entropy: Callable[[int], bytes]
    wall: Callable[[], float]
    """The time of day as this machine has it, seconds since 1970."""


@dataclass(slots=True)
class Errand:
    """What an operator wants to be so, and asks for again until it is; ``text`` says what is missing until then."""

    text: str
    done: bool = False


@dataclass(slots=True)
class Machine:
    """A machine and, while it runs, its daemon. ``since``: when the daemon last started, went, was held or let go.

    ``settings``: what its configuration says, from the first start on; ``outside``: no member, not yet or not any more.
    """

    number: int
    name: str
    node: NodeId
    prefixes: tuple[Prefix, ...]
    kernel: Kernel
    disk: Disk
    ports: tuple[LinkNumber, ...]
    powered: bool = True
    daemon: Daemon | None = None
    since: Instant = Instant(0)
    starts: int = 0
    wake_at: Instant | None = None
    stalled: int = 0
    stopped: int = 0
    left: bool = False
    outside: bool = False
    settings: NodeSettings | None = None
    torn: bool = False
    wall_error_s: float = 0.0
    inbox: list[NodeEvent] = field(default_factory=list)
    told_up: set[LinkNumber] = field(default_factory=set)
    link_news: bool = False
    replies: dict[int, Reply] = field(default_factory=dict)

    @property
    def running(self) -> bool:
        """Whether the daemon is up and not stalled."""
        return self.daemon is not None and not self.stalled

    def __str__(self) -> str:
        return self.name


def address_of(number: int, link: int) -> str:
    """The link-local address of a machine's interface, as the kernel prints it."""
    return str(ipaddress.IPv6Address((0xFE80 << 112) | ((number + 1) << 16) | link))


def prefixes_of(number: int) -> tuple[Prefix, ...]:
    """A machine's own addresses, one of each family."""
    high, low = divmod(number + 1, 250)
    return Prefix.parse(f"10.5.{high}.{low}"), Prefix.parse(f"fd05::{number + 1:x}")


class World:
    """All machines of one run. ``changes`` counts every change of what is up, plugged in or broken."""

    def __init__(
        self,
        seed: int,
        shape: Shape,
        identities: tuple[NodeId, ...],
        boot: Callable[[Start], Daemon],
        quality: Quality | None = None,
        disks: Mapping[int, Mapping[str, bytes]] | None = None,
    ) -> None:
        self.seed = seed
        self.shape = shape
        self.clock = Clock()
        self.rng = seeded(f"world/{seed}")
        self.notices: deque[tuple[Instant, str, Notice]] = deque(maxlen=NOTICES_MAX)
        self.rejected: Counter[str] = Counter()
        self.events = 0
        self.changes = 0
        self._boot = boot
        self._trace = hashlib.blake2b(digest_size=16)
        self._requests = 0
        cables = _cables(shape, quality or Quality())
        self.network = Network(self.clock, self.rng, cables, self._receive, lambda port: address_of(*port))
        plugs: dict[int, dict[LinkNumber, Interface]] = {number: {} for number in range(shape.nodes)}
        for cable in cables:
            for number, link, metric in _plugs(cable):
                address = address_of(number, link)
                packed = ipaddress.IPv6Address(address).packed
                plugs[number][link] = Interface(f"eth{link}", address, packed, metric)
        self.machines = tuple(
            self._machine(number, identities[number], plugs[number], (disks or {}).get(number))
            for number in range(shape.nodes)
        )
        self.by_node = {machine.node: machine for machine in self.machines}
        self.draining: set[int] = set()
        """Machines told to let their links cost the most."""
        self.errands: list[Errand] = []
        self.measured: Callable[[Machine, LinkNumber], int] = lambda machine, link: 1
        """What a machine says that one of its measured links costs."""

    def _machine(
        self, number: int, node: NodeId, interfaces: dict[LinkNumber, Interface], disk: Mapping[str, bytes] | None
    ) -> Machine:
        prefixes = prefixes_of(number)
        kernel = Kernel(f"{self.seed}/{number}".encode(), interfaces, prefixes)
        machine = Machine(number, f"n{number}", node, prefixes, kernel, Disk(disk), tuple(interfaces))
        machine.wall_error_s = seeded(f"wall/{self.seed}/{number}").choice(WALL_ERRORS_S)
        return machine

    # Time

    @property
    def now(self) -> Instant:
        """The present instant."""
        return self.clock.now

    def run_for(self, wait: Duration) -> None:
        """Let time go on by ``wait``. ``SimulationError`` where a core breaks the rules of its door."""
        self.clock.run_until(Instant(self.clock.now + wait))

    def wall(self, machine: Machine) -> float:
        """The time of day that a machine's clock shows."""
        return WALL_BEGIN_S + self.now / SECOND + machine.wall_error_s

    def shift_wall(self, machine: Machine, seconds: float) -> None:
        """Have a machine's time of day jump; its monotonic clock does not."""
        machine.wall_error_s += seconds

    def digest(self) -> str:
        """What happened so far, in 32 hex digits."""
        return self._trace.hexdigest()

    # Machines and daemons

    def start(self, machine: Machine) -> None:
        """Start the daemon, and the machine if need be; no effect where it runs or has left."""
        if machine.daemon is not None or machine.left:
            return
        machine.powered = True
        machine.starts += 1
        machine.since = self.now
        machine.wake_at = None
        machine.torn = False
        machine.inbox.clear()
        machine.told_up.clear()
        self.changes += 1
        label = f"{self.seed}/{machine.number}/{machine.starts}"
        start = Start(
            machine,
            machine.starts,
            machine.disk.read(),
            seeded(f"core/{label}"),
            seeded(f"entropy/{label}").randbytes,
            lambda: self.wall(machine),
        )
        machine.daemon = self._boot(start)
        if machine.stalled:
            machine.link_news = True
            return
        self._read_fib(machine)
        self._tell_links(machine)

    def stop_daemon(self, machine: Machine, torn: bool = False) -> None:
        """SIGKILL: nothing is said, kernel and disk stay. ``torn``: in the middle of its next batch of actions."""
        if torn and machine.running:
            machine.torn = True
            return
        if machine.daemon is not None:
            machine.daemon = None
            machine.since = self.now
            self.changes += 1

    def stop_machine(self, machine: Machine) -> None:
        """Power loss: the kernel forgets, no echo is answered. The neighbours see no carrier loss."""
        self.stop_daemon(machine)
        machine.powered = False
        machine.kernel.forget()
        self.changes += 1

    def stall(self, machine: Machine) -> None:
        """Hold the daemon (SIGSTOP, a busy machine): what comes in waits in its socket."""
        machine.stalled += 1
        machine.since = self.now
        self.changes += 1

    def resume(self, machine: Machine) -> None:
        """Let a stalled daemon go on: it drains its sockets as drivers do (links, echoes, datagrams), then wakes."""
        machine.stalled -= 1
        machine.since = self.now
        self.changes += 1
        if machine.stalled:
            return
        waiting = sorted(machine.inbox, key=lambda event: isinstance(event, Datagram))
        machine.inbox.clear()
        if machine.link_news:
            machine.link_news = False
            self._tell_links(machine)
            self._read_fib(machine)
        for event in waiting:
            self._enter(machine, event)
        self._rearm(machine)

    def request(self, machine: Machine, verb: str, **arguments: Any) -> int:
        """Hand an admin request to a running daemon; the answer appears in ``machine.replies`` under the number."""
        self._requests += 1
        self._enter(machine, Request(self._requests, verb, arguments))
        return self._requests

    def configure(self, machine: Machine, settings: NodeSettings) -> None:
        """Have a running daemon take other settings; then it is shown what its kernel holds, as the driver does."""
        self._enter(machine, SettingsChanged(settings))
        self._read_fib(machine)

    def reload(self, machine: Machine, **changes: Any) -> None:
        """Change a machine's configuration: a running daemon takes it at once, others when they run again."""
        assert machine.settings is not None
        machine.settings = replace(machine.settings, **changes)
        self.changes += 1
        self._enter(machine, SettingsChanged(machine.settings))
        if machine.stalled:
            machine.link_news = True  # and is shown its kernel when it goes on
        else:
            self._read_fib(machine)

    def set_outside(self, machine: Machine, outside: bool) -> None:
        """Count a machine among the members, or no longer."""
        if machine.outside != outside:
            machine.outside = outside
            machine.since = self.now
            self.changes += 1

    # Cables

    def unplug(self, cable: Cable) -> None:
        """Carrier loss at both ends: the kernels act at once, the daemons hear of it a little later."""
        cable.unplugged += 1
        self._disturb(cable)
        if cable.unplugged == 1:
            for number, link, _ in _plugs(cable):
                self._set_carrier((number, link), False)

    def plug(self, cable: Cable) -> None:
        """Undo one ``unplug``."""
        cable.unplugged -= 1
        self._disturb(cable)
        if cable.unplugged == 0:
            for number, link, _ in _plugs(cable):
                self._set_carrier((number, link), True)

    def drop(self, cable: Cable, side: int, count: int) -> None:
        """Begin (+1) or end (-1) one silent drop from ``cable.ends[side]`` to the other end."""
        cable.drops[side] += count
        self._disturb(cable)

    def begin_burst(self, cable: Cable, loss: float) -> None:
        """Begin to lose a share ``loss`` of all packets on the cable."""
        cable.bursts.append(loss)
        self._disturb(cable)

    def end_burst(self, cable: Cable, loss: float) -> None:
        """Undo one ``begin_burst``."""
        cable.bursts.remove(loss)
        self._disturb(cable)

    def set_metric(self, cable: Cable, side: int, metric: int) -> None:
        """Let sending from ``cable.ends[side]`` cost ``metric``, as a reloaded configuration does."""
        number, link = cable.ends[side]
        machine = self.machines[number]
        interface = machine.kernel.interfaces[link]
        cable.metrics = (metric, cable.metrics[1]) if side == 0 else (cable.metrics[0], metric)
        interface.metric = metric
        self._disturb(cable)
        if link in machine.told_up:
            self._enter(machine, LinkUp(link, interface.name, metric, interface.address))

    def metric(self, cable: Cable, side: int) -> int:
        """What sending from ``cable.ends[side]`` costs."""
        number, link = cable.ends[side]
        return cable.metrics[side] or self.measured(self.machines[number], link)

    def drain(self, machine: Machine, on: bool) -> bool:
        """Drain a machine whose daemon runs, or end that; whether it could be told."""
        if not machine.running or machine.torn:
            return False
        (self.draining.add if on else self.draining.discard)(machine.number)
        self.changes += 1
        self.request(machine, "drain", on=on)
        return True

    def _disturb(self, cable: Cable) -> None:
        cable.disturbed = self.now
        self.changes += 1

    def _set_carrier(self, end: Port, carrier: bool) -> None:
        machine, link = self.machines[end[0]], end[1]
        machine.kernel.set_carrier(link, carrier)
        self.clock.after(int(self.rng.random() * CARRIER_LATENESS_MAX), self._announce_links, machine)

    def _announce_links(self, machine: Machine) -> None:
        if machine.stalled:
            machine.link_news = True
            return
        self._tell_links(machine)
        self._read_fib(machine)

    def _tell_links(self, machine: Machine) -> None:
        """What changed since last told: the driver reads afresh at each announcement, so a short flap is no event."""
        interfaces = machine.kernel.interfaces
        for link in sorted(machine.told_up):
            if not interfaces[link].carrier:
                machine.told_up.discard(link)
                self._enter(machine, LinkDown(link))
        for link, interface in interfaces.items():
            if interface.carrier and link not in machine.told_up:
                machine.told_up.add(link)
                self._enter(machine, LinkUp(link, interface.name, interface.metric, interface.address))

    def _read_fib(self, machine: Machine) -> None:
        self._enter(machine, FibRead(machine.kernel.installed()))

    # The loop

    def _receive(self, number: int, link: LinkNumber, packet: Packet) -> None:
        machine = self.machines[number]
        if not machine.powered:
            return
        address = machine.kernel.interfaces[link].address
        if packet.to is not None and packet.to != address:
            return
        match packet:
            case Udp(source, _, payload):
                self._enter(machine, Datagram(link, source, payload))
            case EchoRequest(source, _, nonce):
                self.network.send((number, link), EchoReply(address, source, nonce))
            case EchoReply(source, _, nonce):
                self._enter(machine, EchoReplied(link, source, nonce))

    def _enter(self, machine: Machine, event: NodeEvent) -> None:
        daemon = machine.daemon
        if daemon is None:
            return
        if machine.stalled:
            # What operators say does not come by a socket that can be full.
            if len(machine.inbox) < INBOX_MAX or isinstance(event, Request | SettingsChanged):
                machine.inbox.append(event)
            return
        pending: deque[NodeEvent | None] = deque([event])
        while pending and machine.daemon is daemon:
            current = pending.popleft() or FibRead(machine.kernel.installed())
            answers: list[NodeEvent | None] = []
            for action in self._handle(machine, daemon, current):
                answers += self._perform(machine, action)
            pending.extendleft(reversed(answers))
            if machine.torn:
                machine.torn = False
                self.stop_daemon(machine)
        self._rearm(machine)

    def _handle(self, machine: Machine, daemon: Daemon, event: NodeEvent) -> list[NodeAction]:
        now = self.clock.now
        self.events += 1
        self._trace.update(_fingerprint(machine.number, event, now))
        try:
            actions = daemon.handle(event, now)
        except Exception as problem:
            raise SimulationError(
                now, f"{machine}: {type(event).__name__} made the core raise {problem!r}"
            ) from problem
        return actions[: self.rng.randrange(len(actions) + 1)] if machine.torn else actions

    def _rearm(self, machine: Machine, not_before: Instant | None = None) -> None:
        planned, daemon = machine.wake_at, machine.daemon
        # A wake already due cannot be bettered; asking for the deadline is the dearest part of a small event.
        if daemon is None or (planned is not None and planned <= self.clock.now):
            return
        due = daemon.deadline()
        if due is None or (planned is not None and planned <= due):
            return
        due = max(due, not_before or self.clock.now, self.clock.now)
        machine.wake_at = due
        lateness = int(self.rng.random() * WAKE_LATENESS_MAX)
        self.clock.at(Instant(due + lateness), self._wake, machine, machine.starts, due)

    def _wake(self, machine: Machine, starts: int, planned: Instant) -> None:
        if machine.daemon is None or machine.starts != starts or machine.wake_at != planned:
            return
        machine.wake_at = None
        if machine.stalled:
            return
        # The deadline may have moved on since this wake was planned; then only a new one is.
        due = machine.daemon.deadline()
        if due is not None and due <= self.clock.now:
            # Claimed while the Wake is handled, so that the next one is planned once and with its gap.
            machine.wake_at = Instant(0)
            self._enter(machine, Wake())
            machine.wake_at = None
            self._rearm(machine, not_before=after(self.clock.now, WAKE_GAP))
        else:
            self._rearm(machine)

    def _perform(self, machine: Machine, action: NodeAction) -> tuple[NodeEvent | None, ...]:
        """Do as the driver does; returns what that answers, None standing for a fresh reading of the kernel."""
        match action:
            case SendDatagram(link, address, payload):
                if len(payload) > DATAGRAM_BYTES_MAX:
                    raise SimulationError(self.now, f"{machine} sent a datagram of {len(payload)} bytes")
                source = machine.kernel.interfaces[link].address
                self.network.send((machine.number, link), Udp(source, address, payload))
            case SendEcho(link, address, nonce):
                source = machine.kernel.interfaces[link].address
                self.network.send((machine.number, link), EchoRequest(source, address, nonce))
            case ProgramFib():
                return self._program(machine, action)
            case Persist(key, value):
                machine.disk.write(key, value)
                if key == IDENTITY_KEY:
                    self._rename(machine, Identity(value).node)
            case Reply():
                machine.replies[action.number] = action
            case Notice():
                self.notices.append((self.now, machine.name, action))
            case Rejected(_, reason):
                self.rejected[reason] += 1
            case Halt():
                machine.left = True
                self.stop_daemon(machine)
            case PinNeighbour():
                pass  # neighbour entries do not decay here
        return ()

    def _rename(self, machine: Machine, node: NodeId) -> None:
        """The machine goes on under another key."""
        del self.by_node[machine.node]
        machine.node = node
        self.by_node[node] = machine
        self.changes += 1

    def _program(self, machine: Machine, batch: ProgramFib) -> tuple[NodeEvent | None, ...]:
        failures = machine.kernel.perform(batch.operations)
        self._trace.update(repr(batch).encode())
        programmed = FibProgrammed(batch.batch, failures)
        return (programmed, None) if failures else (programmed,)


def seconds_of(world: World) -> float:
    """Simulated seconds since the world began."""
    return (world.now - SECOND) / SECOND


def _cables(shape: Shape, quality: Quality) -> tuple[Cable, ...]:
    next_link = [FIRST_LINK] * (shape.nodes + shape.hubs)
    cables = []
    for number, edge in enumerate(shape.edges):
        ends = []
        for node in (edge.a, edge.b):
            ends.append((node, LinkNumber(next_link[node])))
            next_link[node] += 1
        metrics = (edge.metric_a, edge.metric_b)
        cables.append(Cable(number, (ends[0], ends[1]), metrics, quality, has_hub=edge.b >= shape.nodes))
    return tuple(cables)


def _plugs(cable: Cable) -> list[tuple[int, LinkNumber, int]]:
    """The machines' ends of a cable: number, link and metric."""
    ends = [(number, link, metric) for (number, link), metric in zip(cable.ends, cable.metrics, strict=True)]
    return ends[:1] if cable.has_hub else ends


def _fingerprint(number: int, event: NodeEvent, now: Instant) -> bytes:
    head = now.to_bytes(8, "big") + number.to_bytes(4, "big")
    match event:
        case Datagram(link, _, payload):
            return b"%bD%d " % (head, link) + payload
        case EchoReplied(link, _, nonce):
            return b"%bE%d %d" % (head, link, nonce)
        case Wake():
            return head + b"W"
        case SettingsChanged(settings):
            # A set is told in an order that depends on the process.
            told = (sorted(settings.roles), replace(settings, roles=frozenset()))
            return head + repr(told).encode()
        case _:
            return head + repr(event).encode()
