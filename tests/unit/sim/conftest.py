"""Toy daemons for the simulator's own tests: they greet, echo and remember, and route nothing."""

from dataclasses import dataclass, field

import pytest

from dmssd.events import Datagram, FibRead, LinkUp, NodeAction, NodeEvent, SendDatagram, SendEcho
from dmssd.sim import truth
from dmssd.sim.checkers import Views
from dmssd.sim.network import Quality
from dmssd.sim.shapes import parse
from dmssd.sim.world import Start, World
from routing.fib import Gateway, SetGroup, SetNexthop, SetRoute
from routing.lsa import Lsa
from sansio.core import Persist, Wake
from sansio.ids import NODE_ID_BYTES, NodeId
from sansio.instant import MILLISECOND, Instant

PERIOD = 100 * MILLISECOND


@dataclass
class Toy:
    """Greets on every link each period, echoes whoever greets, counts its starts on disk."""

    me: NodeId
    stored: dict[str, bytes]
    links: list[int] = field(default_factory=list)
    told_up: list[LinkUp] = field(default_factory=list)
    heard: list[NodeEvent] = field(default_factory=list)
    members: dict[NodeId, str] = field(default_factory=dict)
    lsdb: dict[NodeId, Lsa] = field(default_factory=dict)
    due: Instant | None = None
    woken: list[Instant] = field(default_factory=list)

    def handle(self, event: NodeEvent, now: Instant) -> list[NodeAction]:
        match event:
            case Wake():
                self.woken.append(now)
                self.due = Instant(now + PERIOD)
                return [SendDatagram(link, None, b"hello") for link in self.links]
            case LinkUp(link, _, _):
                self.told_up.append(event)
                self.links.append(link)
                self.due = self.due or now
            case Datagram(link, address, payload):
                self.heard.append(event)
                return [SendEcho(link, address, 7)] if payload == b"hello" else []
            case FibRead():
                starts = int(self.stored.get("starts", b"0")) + 1
                return [Persist("starts", b"%d" % starts)]
            case _:
                self.heard.append(event)
        return []

    def deadline(self) -> Instant | None:
        return self.due


def node_of(number: int) -> NodeId:
    return NodeId(bytes([number]) * NODE_ID_BYTES)


def build(text: str, seed: int = 1, quality: Quality | None = None) -> World:
    shape = parse(text, seed)
    identities = tuple(node_of(number) for number in range(shape.nodes))

    def boot(start: Start) -> Toy:
        return Toy(start.machine.node, dict(start.stored))

    return World(seed, shape, identities, boot, quality)


def program(world: World) -> None:
    """Give every kernel the routes that naive Bellman-Ford finds now, as a perfect mesh would."""
    numbers = [machine.number for machine in world.machines if machine.powered]
    routes = truth.bellman_ford(truth.hops(world, numbers), numbers)
    for machine in world.machines:
        machine.kernel.forget()
        ids: dict[Gateway, int] = {}
        for destination in world.machines:
            hops = routes.next_hops.get(destination.number, {}).get(machine.number, ())
            for gateway in sorted(truth.gateways(hops)):
                ids.setdefault(gateway, len(ids) + 1)
                machine.kernel.perform((SetNexthop(ids[gateway], gateway),))
            members = tuple((ids[gateway], 1) for gateway in sorted(truth.gateways(hops)))
            if members:
                group = 1000 + destination.number
                operations = (SetGroup(group, members), *(SetRoute(prefix, group) for prefix in destination.prefixes))
                assert machine.kernel.perform(operations) == ()


VIEWS = Views(lambda daemon: daemon.members, lambda daemon: daemon.lsdb)


@dataclass
class Toys:
    """What tests take from here, since test folders import nothing from one another."""

    build = staticmethod(build)
    program = staticmethod(program)
    node_of = staticmethod(node_of)
    views = VIEWS

    @staticmethod
    def start(world: World) -> World:
        for machine in world.machines:
            world.start(machine)
        return world

    @staticmethod
    def settle(world: World) -> None:
        """Make every toy hold the opinions of a perfect mesh, and the kernels its routes."""
        lsas = {machine.node: Lsa(machine.node, 1, machine.name, (), machine.prefixes) for machine in world.machines}
        for machine in world.machines:
            machine.daemon.members = {other.node: "alive" for other in world.machines}
            machine.daemon.lsdb = dict(lsas)
        program(world)


@pytest.fixture
def toys() -> Toys:
    return Toys()
