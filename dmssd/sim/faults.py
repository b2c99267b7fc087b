"""Named faults, each with a beginning and an end, drawn by seed or written down by a test.

kind            | targets           | what happens
link-down       | one cable         | carrier lost at both ends
silent-drop     | one cable         | nothing passes, carrier stays
one-way-drop    | one cable         | nothing passes in one direction (``amount`` = the side that is not heard, 0 or 1)
partition       | nodes of one side | every cable between them and the rest drops silently
loss-burst      | none              | every cable loses a share ``amount`` of all packets
crash-daemon    | one node          | SIGKILL; kernel and disk stay; started again at the end
torn-daemon     | one node          | the same, between two actions of one batch
crash-machine   | one node          | power lost, no carrier event; disk stays; started again at the end
stall-daemon    | one node          | the process is held, its sockets fill
clock           | one node          | its time of day jumps by ``amount`` seconds, and back at the end

What operators do (not drawn unless asked for):

metric          | one cable         | sending from its first end costs ``amount``; as before at the end
drain           | one node          | its links cost the most, until the end
leave           | one node          | it leaves the mesh for good

and what :mod:`dmssd.sim.operators` lists.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from dmssd.sim import operators
from dmssd.sim.network import Cable
from dmssd.sim.world import World
from sansio.instant import SECOND, Instant, seconds

BURST_LOSS = 0.2
CLOCK_JUMP_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Fault:
    """``begin`` and ``end`` in simulated nanoseconds."""

    kind: str
    begin: Instant
    end: Instant
    targets: tuple[int, ...] = ()
    amount: float = 0.0

    def __str__(self) -> str:
        span = f"{(self.begin - SECOND) / SECOND:.3f}..{(self.end - SECOND) / SECOND:.3f} s"
        return f"{span} {self.kind} {','.join(map(str, self.targets))}".rstrip()


Plan = tuple[Fault, ...]


def begin(world: World, fault: Fault) -> None:
    """Let the fault set in."""
    match fault.kind:
        case "link-down":
            world.unplug(_cable(world, fault))
        case "silent-drop" | "one-way-drop" | "partition":
            _drop(world, fault, 1)
        case "loss-burst":
            for cable in world.network.cables:
                world.begin_burst(cable, fault.amount)
        case "stall-daemon":
            world.stall(world.machines[fault.targets[0]])
        case "clock":
            world.shift_wall(world.machines[fault.targets[0]], fault.amount)
        case "metric" | "drain" | "leave":
            _operate(world, fault)
        case "crash-daemon" | "torn-daemon" | "crash-machine":
            machine = world.machines[fault.targets[0]]
            machine.stopped += 1
            if fault.kind == "crash-machine":
                world.stop_machine(machine)
            else:
                world.stop_daemon(machine, torn=fault.kind == "torn-daemon")
        case kind if kind in operators.KINDS:
            operators.begin(world, kind, fault.targets, fault.amount)
        case _:
            raise ValueError(f"no fault {fault.kind!r}; there are {', '.join(_DRAWS)}")


def end(world: World, fault: Fault) -> None:
    """Heal what ``begin`` did, and only that."""
    match fault.kind:
        case "link-down":
            world.plug(_cable(world, fault))
        case "silent-drop" | "one-way-drop" | "partition":
            _drop(world, fault, -1)
        case "loss-burst":
            for cable in world.network.cables:
                world.end_burst(cable, fault.amount)
        case "stall-daemon":
            world.resume(world.machines[fault.targets[0]])
        case "clock":
            world.shift_wall(world.machines[fault.targets[0]], -fault.amount)
        case "metric":
            world.set_metric(_cable(world, fault), 0, world.shape.edges[fault.targets[0]].metric_a)
        case "drain":
            world.drain(world.machines[fault.targets[0]], on=False)
        case "leave":
            pass
        case kind if kind in operators.KINDS:
            operators.end(world, kind, fault.targets)
        case _:
            machine = world.machines[fault.targets[0]]
            machine.stopped -= 1
            machine.torn = False
            if machine.stopped == 0:
                world.start(machine)


def _operate(world: World, fault: Fault) -> None:
    if fault.kind == "metric":
        world.set_metric(_cable(world, fault), 0, int(fault.amount))
        return
    machine = world.machines[fault.targets[0]]
    if fault.kind == "drain":
        world.drain(machine, on=True)
    elif machine.running:
        world.request(machine, "leave")


def draw(
    rng: random.Random, world: World, count: int, first: Instant, last: Instant, only: tuple[str, ...] = ()
) -> Plan:
    """``count`` faults that begin at ``first`` or later and have ended by ``last``, in order of their beginning.

    ``only``: of these kinds, and nothing else. By default a clock jumps beside them: that is no trouble for anybody, so
    it takes no other fault's place.
    """
    kinds = list(only) or [kind for kind in _DRAWS if kind != "clock"]
    faults = []
    for number in range(count + 1 if count and not only else count):
        kind = rng.choice(kinds) if number < count else "clock"
        length = min(seconds(rng.choice((0.2, 1.0, 3.0, 8.0)) * rng.uniform(0.5, 1.5)), (last - first) // 2)
        start = Instant(rng.randrange(first, last - length))
        targets, amount = _DRAWS[kind](rng, world)
        faults.append(Fault(kind, start, Instant(start + length), targets, amount))
    return tuple(sorted(faults, key=lambda fault: fault.begin))


def _cable(world: World, fault: Fault) -> Cable:
    return world.network.cables[fault.targets[0]]


def _drop(world: World, fault: Fault, count: int) -> None:
    if fault.kind == "one-way-drop":
        world.drop(_cable(world, fault), int(fault.amount), count)
        return
    cables = [_cable(world, fault)]
    if fault.kind == "partition":
        side = set(fault.targets)
        cables = [cable for cable in world.network.cables if len({end[0] in side for end in cable.ends}) == 2]
    for cable in cables:
        world.drop(cable, 0, count)
        world.drop(cable, 1, count)


_Drawn = tuple[tuple[int, ...], float]


def _draw_cable(rng: random.Random, world: World) -> _Drawn:
    return (rng.randrange(len(world.network.cables)),), 0.0


def _draw_side(rng: random.Random, world: World) -> _Drawn:
    return _draw_cable(rng, world)[0], float(rng.randrange(2))


def _draw_node(rng: random.Random, world: World) -> _Drawn:
    return (rng.randrange(len(world.machines)),), 0.0


def _draw_partition(rng: random.Random, world: World) -> _Drawn:
    numbers = range(len(world.machines))
    return tuple(sorted(rng.sample(numbers, rng.randint(1, len(numbers) // 2)))), 0.0


def _draw_burst(rng: random.Random, world: World) -> _Drawn:
    return (), BURST_LOSS


def _draw_clock(rng: random.Random, world: World) -> _Drawn:
    return _draw_node(rng, world)[0], rng.choice((-CLOCK_JUMP_S, CLOCK_JUMP_S))


_DRAWS: dict[str, Callable[[random.Random, World], _Drawn]] = {
    "link-down": _draw_cable,
    "silent-drop": _draw_cable,
    "one-way-drop": _draw_side,
    "partition": _draw_partition,
    "loss-burst": _draw_burst,
    "crash-daemon": _draw_node,
    "torn-daemon": _draw_node,
    "crash-machine": _draw_node,
    "stall-daemon": _draw_node,
    "clock": _draw_clock,
}

KINDS = tuple(_DRAWS)
