"""Every device of a daemon, opened together: what :class:`dmssd.driver.loop.Runner` performs a node's actions on."""

import contextlib
import errno
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from dmssd.counts import KIND_ECHO, Tally
from dmssd.driver.disk import Store
from dmssd.driver.echo import ECHO_BYTES, EchoSocket
from dmssd.driver.fib import KernelFib
from dmssd.driver.fibwatch import FibWatch
from dmssd.driver.guard import Guard, remove_leftover
from dmssd.driver.kernel import KernelSettings, Sysctl, boot_id, require_capabilities
from dmssd.driver.links import LinkRule, Links, LinksRead, LinkStatus
from dmssd.driver.loop import FibSuspect, Source
from dmssd.driver.neighbours import NeighbourTable
from dmssd.driver.netlink import NetlinkSocket
from dmssd.driver.originals import IPV6_OPENED_KEY, ORIGINALS_KEY, Recording
from dmssd.driver.rtnetlink import Link
from dmssd.driver.udp import UdpSocket
from dmssd.events import LinkDown, LinkUp, NetworksRead, NodeEvent, PinNeighbour, SendDatagram, SendEcho, SetAddresses
from routing.fib import FibOperation, Installed
from routing.lsa import LinkNumber, Prefix
from sansio.errors import ConfigError

_log = logging.getLogger("dmssd")


@dataclass(frozen=True, slots=True)
class DeviceSettings:
    """``hash_seed`` (32 bits, not 0) should differ between nodes.

    ``guard`` is one of ``config.schema.GUARD_POLICIES``; ``announced`` are the prefixes that it lets through.
    """

    port: int
    links: tuple[LinkRule, ...]
    hash_seed: int
    guard: str = "strict"
    announced: tuple[Prefix, ...] = ()


@dataclass(frozen=True, slots=True)
class DevicesCounted:
    """``sent`` and ``received`` by the kinds of :data:`dmssd.metrics.KINDS`; the rest as :class:`KernelFib` counts."""

    sent: Tally
    received: Tally
    fib_performed: dict[int, int]
    fib_refused: dict[int, int]
    fib_reads: int


class KernelDevices:
    """The devices of this machine, or network namespace. ``lacking`` names optional kernel settings not found."""

    def __init__(self, settings: DeviceSettings, store: Store) -> None:
        """Open everything; ``ConfigError`` or ``KernelError`` says what is missing, and nothing stays open."""
        require_capabilities()
        with contextlib.ExitStack() as opened:
            self._netlink = NetlinkSocket()
            opened.callback(self._netlink.close)
            self._udp = UdpSocket(settings.port)
            opened.callback(self._udp.close)
            self._echo = EchoSocket()
            opened.callback(self._echo.close)
            self._kernel = kernel = KernelSettings(self._netlink, _recorded(store))
            self.guard = _guard(settings, self._netlink, kernel, store)
            if self.guard is not None:
                opened.callback(self.guard.close)
            cover = self.guard.cover if self.guard is not None else lambda _: None
            self._links = Links(self._netlink, settings.links, lambda link: _prepare(kernel, link), cover)
            opened.callback(self._links.close)
            # Before anything is switched on: a board must not be an open router for a moment.
            if problem := cover([link.name for link, _ in self._links.selected()]):
                raise ConfigError("guard", f'{problem}, or set guard = "off" if a firewall of yours does its work')
            self.lacking = kernel.prepare_node([], settings.hash_seed)
            self._watch = FibWatch(self._netlink.port)
            opened.callback(self._watch.close)
            self._close = opened.pop_all().close
        self._fib = KernelFib(self._netlink)
        self._networks: tuple[Prefix, ...] | None = None
        self._neighbours = NeighbourTable(self._netlink)
        self._store = store

    def close(self) -> None:
        """Close every socket; routes and addresses stay."""
        self._close()

    @property
    def links(self) -> dict[LinkNumber, LinkStatus]:
        """Every link that the configuration selects, usable or not."""
        return self._links.table

    @property
    def dropped(self) -> dict[str, int]:
        """Datagrams refused or lost here, by reason."""
        counts = {f"udp {reason}": count for reason, count in self._udp.dropped.items()}
        return counts | {f"echo {reason}": count for reason, count in self._echo.dropped.items()}

    def counted(self) -> "DevicesCounted":
        """What passed here since the devices were opened."""
        sent, received = (
            _joined_tally(self._udp.sent, self._echo.sent),
            _joined_tally(self._udp.received, self._echo.received),
        )
        fib = self._fib
        return DevicesCounted(sent, received, dict(fib.performed), dict(fib.refused), fib.reads)

    def configure(self, rules: Sequence[LinkRule], announced: Sequence[Prefix]) -> list[NodeEvent | FibSuspect]:
        """Have other links and let other prefixes through from now on; the events that follow."""
        if self.guard is not None:
            self.guard.announced = tuple(announced)
        return [*self._joined(self._links.set_rules(rules)), FibSuspect()]

    # What Runner asks of Devices

    def sources(self) -> Sequence[Source]:
        """Link changes first: what arrives on a link that has gone is then refused."""
        guard = () if self.guard is None else (self.guard,)
        return (_LinkSource(self), *guard, self._watch, self._echo, self._udp)

    def start(self) -> Sequence[NodeEvent | FibSuspect]:
        """What the last daemon left in the table, then the links."""
        return (FibSuspect(), *self._networks_changed(), *self._joined(self._links.read()))

    def send(self, action: SendDatagram) -> None:
        """By UDP."""
        self._udp.send(action.link, action.address, action.payload)

    def echo(self, action: SendEcho) -> None:
        """By ICMPv6."""
        self._echo.send(action.link, action.address, action.nonce)

    def pin(self, action: PinNeighbour) -> None:
        """By rtnetlink."""
        self._neighbours.pin(action.link, action.address)

    def set_addresses(self, action: SetAddresses) -> None:
        """By rtnetlink: the new ones first, then routes that start from them, then the old ones go."""
        packed = [address.network for address in action.addresses]
        self._kernel.add_addresses(packed)
        by_size: dict[int, bytes] = {}
        for address in packed:
            by_size.setdefault(len(address), address)
        self._fib.set_sources(by_size.get(4), by_size.get(16))
        self._kernel.remove_addresses_but(packed)

    def program(self, operations: Sequence[FibOperation]) -> tuple[tuple[int, int], ...]:
        """By rtnetlink."""
        return self._fib.perform(operations)

    def read_fib(self) -> Installed:
        """By rtnetlink."""
        return self._fib.read()

    def persist(self, key: str, value: bytes) -> None:
        """Into the state directory."""
        self._store.write(key, value)

    def link_changes(self) -> list[NodeEvent | FibSuspect]:
        """Read what the kernel announced about links."""
        read = self._links.receive()
        if read is None:
            return []
        events = [*self._networks_changed(), *self._joined(read)]
        # After the link events: a repair made on LinkDown holds only nexthops that are alive, whatever else is stale.
        return [*events, FibSuspect()] if read.fib_suspect else events

    def links_fileno(self) -> int:
        """For the event loop."""
        return self._links.fileno()

    def _networks_changed(self) -> list[NodeEvent | FibSuspect]:
        networks = self._kernel.networks()
        if networks == self._networks:
            return []
        self._networks = networks
        return [NetworksRead(networks)]

    def _joined(self, read: LinksRead) -> list[NodeEvent | FibSuspect]:
        events: list[NodeEvent | FibSuspect] = []
        for event in read.events:
            if isinstance(event, LinkDown):
                self._udp.leave(event.link)
                events.append(event)
            elif self._join(event):
                events.append(event)
        return events

    def _join(self, event: LinkUp) -> bool:
        try:
            self._udp.join(event.link)
        except OSError as problem:
            self._links.forget(event.link)
            # Gone again already (its own announcement follows), or out of memberships.
            if problem.errno != errno.ENODEV:
                _log.warning("link %s is not used: its multicast group cannot be joined (%s)", event.name, problem)
            return False
        return True


def _joined_tally(datagrams: Tally, echoes: int) -> Tally:
    tally = Tally()
    tally.count.update(datagrams.count)
    tally.bytes.update(datagrams.bytes)
    tally.count[KIND_ECHO] = echoes
    tally.bytes[KIND_ECHO] = echoes * ECHO_BYTES
    return tally


def _guard(settings: DeviceSettings, netlink: NetlinkSocket, kernel: KernelSettings, store: Store) -> Guard | None:
    if settings.guard == "off":
        remove_leftover()
        return None
    boot = kernel.boot_id().encode()

    def opens_ipv6(has_links: bool) -> bool:
        # The first link has it switched on. Where somebody else had done that before, it is not this daemon's doing.
        if not kernel.forwards_ipv6():
            if not has_links:
                return False
            store.write(IPV6_OPENED_KEY, boot)
        return settings.guard == "strict" and store.read(IPV6_OPENED_KEY) == boot

    return Guard(netlink, settings.announced, opens_ipv6)


def _recorded(store: Store) -> Sysctl:
    """The kernel's settings; what each was before it is changed is kept in ``store``."""
    plain = Sysctl()

    def write(value: bytes) -> None:
        store.write(ORIGINALS_KEY, value, durable=False)

    recording = Recording(store.read(ORIGINALS_KEY), boot_id(plain), write, plain.forwarding6)
    return Sysctl(changing=recording.changing)


def _prepare(kernel: KernelSettings, link: Link) -> str | None:
    problem = kernel.prepare_link(link)
    if problem is not None:
        _log.warning("link %s is not used: %s", link.name, problem)
    return problem


class _LinkSource:
    def __init__(self, devices: KernelDevices) -> None:
        self._devices = devices

    def fileno(self) -> int:
        return self._devices.links_fileno()

    def receive(self) -> tuple[list[NodeEvent | FibSuspect], bool]:
        # One reading stands for every announcement before it, so there is never more to wait for here.
        return self._devices.link_changes(), False
