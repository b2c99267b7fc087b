"""Worlds in which everything is switched on by chance: what a seed draws, it draws here, and nothing else decides.

Swarm testing: a world that uses every feature all the time tests few combinations of them; one that uses a random few
of them tests another combination with every seed. Drawn are: the shape, multi-access segments among them; how many
compute; what the cables are like; how fast links are watched, as on wires or on radio; which kinds of faults happen at
all, and how many of them; and what operators do meanwhile: metrics that change, a node that drains, one that leaves.

Source: Groce et al. 2012, *Swarm Testing*.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from dmssd.settings import NodeSettings
from dmssd.sim import faults, mesh, shapes
from dmssd.sim.checkers import Bounds
from dmssd.sim.clock import seeded
from dmssd.sim.faults import Fault, Plan
from dmssd.sim.mesh import MeshOptions
from dmssd.sim.scenario import Report, Scenario, Timeline, timeline_of_seconds
from dmssd.sim.shapes import Shape
from dmssd.sim.world import World
from routing.adjacency import AdjacencyConfig
from sansio.instant import MILLISECOND, SECOND, Duration, Instant, after

SHAPES: tuple[Callable[[int], str], ...] = (
    lambda size: f"ring:{size}",
    lambda size: f"random:{size}",
    lambda size: f"random:{size}",
    lambda size: f"grid:2x{size // 2}",
    lambda size: f"grid:3x{size // 3}",
    lambda size: f"segment:{size}",
    lambda size: f"campus:{size}",
    lambda size: f"campus:{size}",
)
METRICS = (1, 3, 7, 40)

LIVENESS = {
    "wire": AdjacencyConfig(),
    "fast": AdjacencyConfig(echo_interval=Duration(50 * MILLISECOND)),
    "radio": AdjacencyConfig(echo_interval=Duration(1 * SECOND), echo_wait=Duration(300 * MILLISECOND)),
}
SLOWER = {"radio": Duration(4 * SECOND)}
"""How much longer than on wires a silent failure goes unseen."""


@dataclass(frozen=True, slots=True)
class Swarm:
    """What a seed stands for. ``liveness`` is a key of ``LIVENESS``; ``kinds`` are the faults that happen at all."""

    seed: int
    shape: Shape
    processors: int
    liveness: str
    kinds: tuple[str, ...]
    fault_count: int
    operators: tuple[str, ...]
    seconds: float

    def __str__(self) -> str:
        what = ", ".join((*self.kinds, *self.operators))
        return f"{self.shape.text}, {self.processors} processors, {self.liveness}; {self.fault_count} of {what}"


def by_seed(seed: int) -> Swarm:
    """The swarm of a seed."""
    rng = seeded(f"swarm/{seed}")
    shape = shapes.parse(rng.choice(SHAPES)(rng.randint(6, 12)), seed)
    kinds = [kind for kind in faults.KINDS if kind != "clock"]
    operators = [kind for kind in ("metric", "drain", "leave", "clock") if rng.random() < 0.5]
    return Swarm(
        seed=seed,
        shape=shape,
        processors=rng.randint(0, 4),
        liveness=rng.choice(("wire", "wire", *LIVENESS)),
        kinds=tuple(sorted(rng.sample(kinds, rng.randint(1, len(kinds))))),
        fault_count=rng.randint(1, 8),
        operators=tuple(operators),
        seconds=rng.choice((60.0, 90.0)),
    )


def build(swarm: Swarm) -> World:
    """The world, its daemons not yet started."""

    def adjust(number: int, settings: NodeSettings) -> NodeSettings:
        return replace(settings, liveness=LIVENESS[swarm.liveness])

    quality = mesh.quality_by_seed(swarm.seed)
    return mesh.build(swarm.seed, swarm.shape, MeshOptions(True, swarm.processors, quality, adjust=adjust))


def bounds(swarm: Swarm) -> Bounds:
    """How long is too long in this world."""
    usual, more = Bounds(), SLOWER.get(swarm.liveness, Duration(0))
    return replace(
        usual,
        death_grace=Duration(usual.death_grace + 2 * more),
        loop=Duration(usual.loop + more),
        hole=Duration(usual.hole + more),
        fresh=Duration(usual.fresh + more),
    )


def plan(swarm: Swarm, world: World, timeline: Timeline) -> Plan:
    """The faults and what operators do, to be asked before time moves on."""
    rng = seeded(f"swarm/faults/{swarm.seed}")
    first = after(world.now, timeline.cold_start)
    last = after(first, timeline.faulty)
    drawn = list(faults.draw(rng, world, swarm.fault_count, first, last, swarm.kinds))
    for kind in swarm.operators:
        begin = Instant(rng.randrange(first, last - (last - first) // 4))
        end = Instant(rng.randrange(begin + 1, last))
        drawn += [fault for fault in [_operate(kind, swarm, begin, end)] if fault is not None]
    return tuple(sorted(drawn, key=lambda fault: fault.begin))


def _operate(kind: str, swarm: Swarm, begin: Instant, end: Instant) -> Fault | None:
    rng = seeded(f"swarm/{kind}/{swarm.seed}")
    match kind:
        case "metric":
            cable = rng.randrange(len(swarm.shape.edges))
            return Fault(kind, begin, end, (cable,), float(rng.choice(METRICS)))
        case "clock":
            return Fault(kind, begin, end, (rng.randrange(swarm.shape.nodes),), faults.CLOCK_JUMP_S)
        case "drain":
            return Fault(kind, begin, end, (rng.randrange(swarm.shape.nodes),))
        case _:
            spare = [number for number in range(swarm.shape.nodes) if _is_spare(swarm.shape, number)]
            return Fault(kind, begin, end, (rng.choice(spare),)) if spare else None


def _is_spare(shape: Shape, gone: int) -> bool:
    """Whether all others stay connected without the node."""
    beside: dict[int, set[int]] = {}
    for edge in shape.edges:
        if gone not in (edge.a, edge.b):
            beside.setdefault(edge.a, set()).add(edge.b)
            beside.setdefault(edge.b, set()).add(edge.a)
    others = {number for number in range(shape.nodes) if number != gone}
    reached, todo = set[int](), [min(others)]
    while todo:
        here = todo.pop()
        if here not in reached:
            reached.add(here)
            todo += beside.get(here, ())
    return others <= reached


def run(seed: int) -> tuple[Swarm, Report]:
    """Run the swarm of a seed from its cold start to its rest."""
    swarm = by_seed(seed)
    world, timeline = build(swarm), timeline_of_seconds(swarm.seconds)
    return swarm, Scenario(world, mesh.VIEWS, timeline, bounds(swarm)).run(plan(swarm, world, timeline))
