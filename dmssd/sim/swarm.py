"""Worlds in which everything is switched on by chance: what a seed draws, it draws here, and nothing else decides.

Swarm testing: a world that uses every feature all the time tests few combinations of them; one that uses a random few
of them tests another combination with every seed. Drawn are: the shape, multi-access segments among them; how many
compute; what the cables are like, and whether some are measured; how fast links are watched, as on wires or on radio;
which kinds of faults happen at all, and how many of them; and what operators do meanwhile: metrics that change, a node
that drains, one that leaves, and each of :mod:`dmssd.sim.operators`.

Whatever was added later draws from a source of its own, so that it changes nothing in the seeds without it.

Source: Groce et al. 2012, *Swarm Testing*.
"""

import itertools
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from dmssd.settings import NodeSettings
from dmssd.sim import faults, mesh, operators, shapes
from dmssd.sim.checkers import Bounds
from dmssd.sim.clock import seeded
from dmssd.sim.faults import Fault, Plan
from dmssd.sim.mesh import MeshOptions
from dmssd.sim.scenario import Report, Scenario, Timeline, timeline_of_seconds
from dmssd.sim.shapes import Shape
from dmssd.sim.world import World
from routing.adjacency import AdjacencyConfig
from sansio.instant import MILLISECOND, SECOND, Duration, Instant, after, seconds

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
PREFERENCES = (50, 100, 200)
DELAYS_MS = (0.5, 4.0, 15.0)
"""Of measured cables, one way."""
OPERATORS = ("metric", "drain", "leave", "clock")
ADMINS = 2
"""The first machines of a world: see :mod:`dmssd.sim.mesh`."""
SHARE = 0.3
"""Of the seeds, for each thing that operators do besides."""

LIVENESS = {
    "wire": AdjacencyConfig(),
    "fast": AdjacencyConfig(echo_interval=Duration(50 * MILLISECOND)),
    "radio": AdjacencyConfig(echo_interval=Duration(1 * SECOND), echo_wait=Duration(300 * MILLISECOND)),
}
SLOWER = {"radio": Duration(4 * SECOND)}
"""How much longer than on wires a silent failure goes unseen."""


@dataclass(frozen=True, slots=True)
class Swarm:
    """What a seed stands for. ``liveness`` is a key of ``LIVENESS``; ``kinds`` are the faults that happen at all.

    ``cast``: who leaves, is expelled, and joins; all others stay connected without any of them.
    """

    seed: int
    shape: Shape
    processors: int
    liveness: str
    kinds: tuple[str, ...]
    fault_count: int
    operators: tuple[str, ...]
    seconds: float
    cast: Mapping[str, int] = field(default_factory=dict)

    @property
    def measured(self) -> bool:
        """Whether some of its cables are."""
        return any(not edge.metric_a for edge in self.shape.edges)

    def __str__(self) -> str:
        what = ", ".join((*self.kinds, *self.operators))
        liveness = f"{self.liveness}, measured" if self.measured else self.liveness
        return f"{self.shape.text}, {self.processors} processors, {liveness}; {self.fault_count} of {what}"


def by_seed(seed: int) -> Swarm:
    """The swarm of a seed."""
    rng = seeded(f"swarm/{seed}")
    shape = shapes.parse(rng.choice(SHAPES)(rng.randint(6, 12)), seed)
    kinds = [kind for kind in faults.KINDS if kind != "clock"]
    chosen = [kind for kind in OPERATORS if rng.random() < 0.5]
    chosen += [kind for kind in operators.KINDS if seeded(f"swarm/on/{kind}/{seed}").random() < SHARE]
    cast = _cast(seed, shape, chosen)
    return Swarm(
        seed=seed,
        shape=_recabled(seed, shape, second="second-link" in chosen),
        processors=rng.randint(0, 4),
        liveness=rng.choice(("wire", "wire", *LIVENESS)),
        kinds=tuple(sorted(rng.sample(kinds, rng.randint(1, len(kinds))))),
        fault_count=rng.randint(1, 8),
        operators=tuple(kind for kind in chosen if kind in cast or kind not in CAST),
        seconds=rng.choice((60.0, 90.0)),
        cast=cast,
    )


CAST = ("leave", "expel", "join")


def _cast(seed: int, shape: Shape, chosen: list[str]) -> dict[str, int]:
    cast: dict[str, int] = {}
    for kind in CAST if shape.nodes > ADMINS else ():
        # An admin may leave, but one is there to the end.
        first = 0 if kind == "leave" else ADMINS
        others = [number for number in range(first, shape.nodes) if number not in cast.values()]
        spare = [number for number in others if _are_spare(shape, {*cast.values(), number})]
        if kind in chosen and spare:
            cast[kind] = seeded(f"swarm/{kind}/{seed}").choice(spare)
    return cast


def _are_spare(shape: Shape, gone: set[int]) -> bool:
    """Whether all others stay connected without any of these."""
    sizes = range(1, len(gone) + 1)
    return all(_is_spare(shape, set(some)) for size in sizes for some in itertools.combinations(sorted(gone), size))


def _recabled(seed: int, shape: Shape, *, second: bool) -> Shape:
    """The shape with some of its cables measured, and with a second cable beside one of them, the last."""
    rng = seeded(f"swarm/cables/{seed}")
    edges, plain = list(shape.edges), [edge for edge in shape.edges if edge.b < shape.nodes]
    if rng.random() < SHARE:
        measured = {id(edge) for edge in plain if rng.random() < 0.5}
        edges = [replace(edge, metric_a=0, metric_b=0) if id(edge) in measured else edge for edge in edges]
    if second and plain:
        beside = rng.choice(plain)
        edges.append(replace(beside, metric_a=rng.choice(METRICS)))
    return replace(shape, edges=tuple(edges))


def build(swarm: Swarm) -> World:
    """The world, its daemons not yet started."""

    def adjust(number: int, settings: NodeSettings) -> NodeSettings:
        return replace(settings, liveness=LIVENESS[swarm.liveness])

    quality = mesh.quality_by_seed(swarm.seed)
    strangers = frozenset({swarm.cast["join"]} if "join" in swarm.cast else ())
    options = MeshOptions(True, swarm.processors, quality, adjust=adjust, strangers=strangers)
    world = mesh.build(swarm.seed, swarm.shape, options)
    rng = seeded(f"swarm/delays/{swarm.seed}")
    for cable in world.network.cables:
        if not cable.metrics[0]:
            cable.quality = replace(quality, delay=seconds(rng.choice(DELAYS_MS) / 1000))
    if _has_second(swarm):
        world.unplug(world.network.cables[-1])
    return world


def _has_second(swarm: Swarm) -> bool:
    return "second-link" in swarm.operators and any(edge.b < swarm.shape.nodes for edge in swarm.shape.edges)


def bounds(swarm: Swarm) -> Bounds:
    """How long is too long in this world."""
    usual, more = Bounds(), SLOWER.get(swarm.liveness, Duration(0))
    return replace(
        usual,
        death_grace=Duration(usual.death_grace + 2 * more),
        loop=Duration(usual.loop + more),
        hole=Duration(usual.hole + more),
        fresh=Duration(usual.fresh + more),
        # A metric that moves is flooded and planned for as a fault is, without a detection.
        moving=usual.loop if swarm.measured else Duration(0),
    )


def plan(swarm: Swarm, world: World, timeline: Timeline) -> Plan:
    """The faults and what operators do, to be asked before time moves on."""
    rng = seeded(f"swarm/faults/{swarm.seed}")
    first = after(world.now, timeline.cold_start)
    last = after(first, timeline.faulty)
    drawn = list(faults.draw(rng, world, swarm.fault_count, first, last, swarm.kinds))
    for kind in swarm.operators:
        own = rng if kind in OPERATORS else seeded(f"swarm/plan/{kind}/{swarm.seed}")
        begin = Instant(own.randrange(first, last - (last - first) // 4))
        end = Instant(own.randrange(begin + 1, last))
        drawn += [_operate(kind, swarm, begin, end)] if kind in OPERATORS else _ordered(kind, swarm, begin, end, own)
    return tuple(sorted(drawn, key=lambda fault: fault.begin))


def _ordered(kind: str, swarm: Swarm, begin: Instant, end: Instant, rng: random.Random) -> list[Fault]:
    """Of what :mod:`dmssd.sim.operators` lists."""
    admin = 1 if swarm.cast.get("leave") == 0 else 0
    staying = [number for number in range(swarm.shape.nodes) if number not in swarm.cast.values()]
    raised = [number for number in staying if number >= ADMINS]
    targets: tuple[int, ...] = (rng.choice(staying),)
    amount = 0.0
    match kind:
        case "join" | "expel":
            targets, amount = (swarm.cast[kind], admin), float(rng.randrange(2))
        case "grant":
            targets = (rng.choice(raised), admin) if raised else ()
        case "rotate-sessions":
            targets = (admin,)
        case "announce":
            targets = tuple(sorted(rng.sample(staying, rng.randint(1, 2))))
        case "gateway":
            amount = float(rng.choice(PREFERENCES))
        case "filter":
            amount = float(rng.randrange(len(operators.FILTERS)))
        case "settings":
            targets = tuple(rng.sample(staying, 2))
        case "second-link":
            targets = (len(swarm.shape.edges) - 1,) if _has_second(swarm) else ()
    return [Fault(kind, begin, end, targets, amount)] if targets else []


def _operate(kind: str, swarm: Swarm, begin: Instant, end: Instant) -> Fault:
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
            return Fault(kind, begin, end, (swarm.cast["leave"],))


def _is_spare(shape: Shape, gone: set[int]) -> bool:
    """Whether all others stay connected without these."""
    beside: dict[int, set[int]] = {}
    for edge in shape.edges:
        if not gone & {edge.a, edge.b}:
            beside.setdefault(edge.a, set()).add(edge.b)
            beside.setdefault(edge.b, set()).add(edge.a)
    others = {number for number in range(shape.nodes) if number not in gone}
    if not others:
        return False
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
