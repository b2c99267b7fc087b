"""A run in two phases: *safety*, with faults on and the checkers watching, then *liveness*, healed and in a hurry.

    0           a               b              end
    | cold start | faults        | healed       |
    | converges  | safety checks | converges    | at rest

Safety checkers run throughout, at every beginning and end of a fault and every 100 ms between. A world must be at rest
by the end of its cold start, again within a bound after everything has healed, and still at the very end.
"""

from dataclasses import dataclass, field

from dmssd.sim import faults
from dmssd.sim.checkers import Bounds, FalseDeaths, Finding, Forwarding, Views, unrest
from dmssd.sim.clock import SimulationError, seeded
from dmssd.sim.world import World, seconds_of
from sansio.instant import MILLISECOND, SECOND, Duration, Instant, after, seconds

CHECK_INTERVAL = Duration(100 * MILLISECOND)
FINDINGS_MAX = 50
START_SPREAD = Duration(500 * MILLISECOND)


@dataclass(frozen=True, slots=True)
class Timeline:
    """Lengths of the phases; ``converge``: how long after healing the world may take to come to rest."""

    cold_start: Duration
    faulty: Duration
    healed: Duration
    converge: Duration

    @classmethod
    def of(cls, total: Duration) -> "Timeline":
        """The usual division of ``total``: a sixth, a half, a third."""
        cold, faulty = Duration(total // 6), Duration(total // 2)
        healed = Duration(total - cold - faulty)
        return cls(cold, faulty, healed, Duration(healed - healed // 10))


@dataclass(slots=True)
class Report:
    """What a run came to. ``cold_start_s`` and ``healed_s`` are simulated; None where rest was never reached."""

    findings: list[Finding] = field(default_factory=list)
    plan: faults.Plan = ()
    cold_start_s: float | None = None
    healed_s: float | None = None
    worst_loop_s: float = 0.0
    worst_hole_s: float = 0.0
    events: int = 0
    digest: str = ""


class Scenario:
    """One run of one world under one plan."""

    def __init__(self, world: World, views: Views, timeline: Timeline, bounds: Bounds | None = None) -> None:
        self.world = world
        self._views = views
        self._timeline = timeline
        self._report = Report()
        self._bounds = bounds or Bounds()
        self._deaths = FalseDeaths(world, views, bounds or Bounds())
        self._forwarding = Forwarding(world, bounds or Bounds())

    def run(self, plan: faults.Plan | None = None, fault_count: int = 0) -> Report:
        """Start everything and play ``plan``, or ``fault_count`` faults drawn by the world's seed, to the end."""
        world, report, timeline = self.world, self._report, self._timeline
        begin = world.now
        heal_at = after(after(begin, timeline.cold_start), timeline.faulty)
        if plan is None:
            plan = draw_plan(world, timeline, fault_count)
        report.plan = plan
        try:
            self._cold_start()
            self._play(plan, heal_at)
            report.healed_s = self._converge(timeline.converge, "after everything healed")
            self._watch(after(heal_at, timeline.healed))
            if report.healed_s is not None:
                self._converge(self._bounds.moving, "at the end")
        except SimulationError as problem:
            report.findings.append(Finding(seconds_of(world), "core", str(problem)))
        report.worst_loop_s = self._forwarding.worst_loop / SECOND
        report.worst_hole_s = self._forwarding.worst_hole / SECOND
        report.events, report.digest = world.events, world.digest()
        return report

    def _cold_start(self) -> None:
        world = self.world
        begin = world.now
        for machine in world.machines:
            world.clock.after(int(world.rng.random() * START_SPREAD), world.start, machine)
        world.run_for(START_SPREAD)
        self._report.cold_start_s = self._converge(self._timeline.cold_start, "after a cold start")
        self._watch(after(begin, self._timeline.cold_start))

    def _play(self, plan: faults.Plan, until: Instant) -> None:
        moments = [(fault.begin, 0, number) for number, fault in enumerate(plan)]
        # One that would end later stays for good: then rest is judged by what the world has become.
        moments += [(fault.end, 1, number) for number, fault in enumerate(plan) if fault.end <= until]
        for moment, is_end, number in sorted(moments):
            self._watch(moment)
            (faults.end if is_end else faults.begin)(self.world, plan[number])
            self._check()
        self._watch(until)

    def _watch(self, until: Instant) -> None:
        while self.world.now < until:
            self.world.run_for(Duration(min(CHECK_INTERVAL, until - self.world.now)))
            self._check()

    def _check(self) -> None:
        if len(self._report.findings) < FINDINGS_MAX:
            self._report.findings += self._deaths.check() + self._forwarding.check()

    def _converge(self, bound: Duration, when: str) -> float | None:
        begin = self.world.now
        last = after(begin, bound)
        while reasons := unrest(self.world, self._views):
            if self.world.now >= last:
                self._report.findings.append(
                    Finding(seconds_of(self.world), "unrest", f"no rest within {bound / SECOND:.1f} s {when}:")
                )
                self._report.findings += reasons
                return None
            self._watch(min(last, after(self.world.now, CHECK_INTERVAL)))
        return (self.world.now - begin) / SECOND


def draw_plan(world: World, timeline: Timeline, count: int) -> faults.Plan:
    """The faults that a world's seed stands for; to be asked before time moves on."""
    first = after(world.now, timeline.cold_start)
    return faults.draw(seeded(f"faults/{world.seed}"), world, count, first, after(first, timeline.faulty))


def timeline_of_seconds(total: float) -> Timeline:
    """The usual division of a run of ``total`` simulated seconds."""
    return Timeline.of(seconds(total))
