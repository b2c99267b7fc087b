"""What must hold, judged from outside with the truth in hand. Each checker returns findings with their reason.

*Always*, with faults going on:

- :class:`FalseDeaths`: nobody is held dead who was running, reachable and undisturbed for longer than a grace.
- :class:`Forwarding`: no packet loops, and none is lost between connected machines, for longer than a bound.

*At rest* (:func:`unrest`), once faults have healed: databases equal and nobody taken for two machines, forwarding
tables equal to naive Bellman-Ford on the true topology, everyone alive in everyone's view, test packets of several
flows arriving on shortest paths.

A machine whose daemon is away or held keeps forwarding by what it last knew (DESIGN 7, fail static). That is promised,
and so is not held against the others: where the true shortest paths lead over such a machine, nothing is judged. Its
neighbours keep it only while nothing else changes (as RFC 3623 3.2 has it): after that its links may count or not,
so only pairs that need not care are judged. While nothing changes it must stay reachable.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dmssd.sim import packets, truth
from dmssd.sim.world import Daemon, Machine, World, seconds_of
from routing.fib import Gateway
from routing.lsa import Lsa, Prefix
from sansio.ids import NodeId
from sansio.instant import SECOND, Duration, Instant

FLOWS = range(4)
FINDINGS_PER_CHECK_MAX = 8


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule broken; ``at`` in simulated seconds."""

    at: float
    checker: str
    text: str

    def __str__(self) -> str:
        return f"{self.at:9.3f} s  {self.checker}: {self.text}"


@dataclass(frozen=True, slots=True)
class Views:
    """How to read a daemon's opinions: SWIM states by member, its link-state database, a digest of all statements."""

    members: Callable[[Daemon], Mapping[NodeId, str]]
    lsdb: Callable[[Daemon], Mapping[NodeId, Lsa]]
    statements: Callable[[Daemon], bytes] = lambda daemon: b""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long is too long.

    ``death_grace`` covers a suspicion, its spreading and its refutation; ``loop`` and ``hole`` a detection, a flood and
    a plan, and for ``hole`` also finding a neighbour again; ``fresh``: how long after its start a daemon may still
    forward by what it found in the kernel. ``moving``: how long the world may be on the move at the very end, where
    links are measured and may change at any time.
    """

    death_grace: Duration = Duration(15 * SECOND)
    loop: Duration = Duration(3 * SECOND)
    hole: Duration = Duration(8 * SECOND)
    fresh: Duration = Duration(9 * SECOND)
    moving: Duration = Duration(0)


class FalseDeaths:
    """No false death without a fault.

    The subject's excuses: its daemon was not running, some running daemon could not reach it through running daemons
    over working cables, or a loss burst was on. A rumour that began with an excuse must be refuted within the grace.
    """

    def __init__(self, world: World, views: Views, bounds: Bounds) -> None:
        self._world = world
        self._views = views
        self._grace = bounds.death_grace
        self._excused: dict[int, Instant] = {machine.number: world.now for machine in world.machines}
        self._current: list[int] = []
        self._judged = -1
        self._reported: set[tuple[int, int]] = set()

    def check(self) -> list[Finding]:
        """Look at every running daemon's members; each observer's error about a subject is reported once."""
        world = self._world
        if world.changes != self._judged:
            for number in self._current:  # the excuse lasted until this change
                self._excused[number] = world.now
            self._judged = world.changes
            self._current = self._disturbed()
        for number in self._current:
            self._excused[number] = world.now
        findings = []
        for observer in world.machines:
            if not observer.running or observer.daemon is None or not self._is_undisturbed(observer):
                continue
            for node, state in self._views.members(observer.daemon).items():
                subject = world.by_node.get(node)
                if state != "dead" or subject is None or not self._is_undisturbed(subject):
                    continue
                pair = (observer.number, subject.number)
                if pair not in self._reported:
                    self._reported.add(pair)
                    waited = (world.now - self._excused[subject.number]) / SECOND
                    text = f"{observer} holds {subject} dead, which nothing has disturbed for {waited:.1f} s"
                    findings.append(Finding(seconds_of(world), "false death", text))
        return findings[:FINDINGS_PER_CHECK_MAX]

    def _is_undisturbed(self, machine: Machine) -> bool:
        return self._world.now - self._excused[machine.number] > self._grace

    def _disturbed(self) -> list[int]:
        world = self._world
        everyone = [machine.number for machine in world.machines]
        if any(cable.lossy for cable in world.network.cables):
            return everyone
        running = [machine.number for machine in world.machines if machine.running and not machine.outside]
        parts = truth.components(truth.hops(world, running), running)
        return everyone if len(set(parts.values())) != 1 else [n for n in everyone if n not in parts]


class Forwarding:
    """No lasting loop and no lasting black hole.

    All ways of all packets between all machines are followed through the programmed tables whenever those or the world
    have changed. ``worst_loop`` and ``worst_hole`` keep the longest seen, within bounds or not.
    """

    def __init__(self, world: World, bounds: Bounds) -> None:
        self._world = world
        self._bounds = bounds
        self._bad: dict[tuple[int, Prefix], tuple[Instant, packets.Trace]] = {}
        self._unfair: dict[tuple[int, int], Instant] = {}
        self._reported: set[tuple[int, Prefix]] = set()
        self._traced: tuple[int, int] = (-1, -1)
        self._judged: tuple[int, frozenset[int], tuple[int, ...]] | None = None
        self._judgeable: set[tuple[int, int]] = set()
        self.worst_loop = Duration(0)
        self.worst_hole = Duration(0)

    def check(self) -> list[Finding]:
        """Follow packets, then judge what has been bad for too long."""
        self._judge_fairness()
        self._trace()
        findings = []
        for (source, prefix), (since, trace) in self._bad.items():
            destination = trace_target(self._world, prefix)
            finding = self._finding(source, destination, since, trace)
            if finding and (source, prefix) not in self._reported:
                self._reported.add((source, prefix))
                findings.append(Finding(seconds_of(self._world), *finding))
        return findings[:FINDINGS_PER_CHECK_MAX]

    def _finding(self, source: int, destination: int, since: Instant, trace: packets.Trace) -> tuple[str, str] | None:
        now = self._world.now
        if (source, destination) not in self._judgeable:
            return None
        lasted = Duration(now - max(since, self._unfair.get((source, destination), since)))
        way = " > ".join(str(self._world.machines[number]) for number in trace.path)
        names = f"{self._world.machines[source]} to {self._world.machines[destination]}"
        if trace.is_loop:
            self.worst_loop = max(self.worst_loop, lasted)
            text = f"{names} has looped for {lasted / SECOND:.1f} s: {way}"
            return ("lasting loop", text) if lasted > self._bounds.loop else None
        self.worst_hole = max(self.worst_hole, lasted)
        text = f"{names} has been lost for {lasted / SECOND:.1f} s: {way}: {trace.problem}"
        return ("lasting black hole", text) if lasted > self._bounds.hole else None

    def _trace(self) -> None:
        world = self._world
        state = (world.changes, sum(machine.kernel.changes for machine in world.machines))
        if state == self._traced:
            return
        self._traced = state
        bad = {}
        for destination in world.machines:
            for prefix in destination.prefixes if destination.powered else ():
                for source, trace in packets.spread(world, prefix).items():
                    if trace.problem:
                        since = self._bad.get((source, prefix), (world.now, trace))[0]
                        bad[source, prefix] = (since, trace)
        self._bad = bad
        self._reported &= bad.keys()

    def _judge_fairness(self) -> None:
        world = self._world
        stale = frozenset(machine.number for machine in world.machines if self._is_stale(machine))
        measured = tuple(
            world.metric(cable, side) for cable in world.network.cables for side in (0, 1) if not cable.metrics[side]
        )
        if self._judged != (world.changes, stale, measured):
            self._judged = (world.changes, stale, measured)
            lossy = any(cable.lossy for cable in world.network.cables)
            fair = set() if lossy else self._fair_pairs(stale)
            for pair in fair - self._judgeable:
                self._unfair[pair] = world.now
            self._judgeable = fair

    def _is_stale(self, machine: Machine) -> bool:
        if not machine.powered:
            return False
        return not machine.running or self._world.now - machine.since <= self._bounds.fresh

    def _fair_pairs(self, stale: frozenset[int]) -> set[tuple[int, int]]:
        # Who has left is nobody's way and nobody's destination any more.
        powered = [machine.number for machine in self._world.machines if machine.powered and not machine.left]
        hops = truth.hops(self._world, powered)
        doubtful = {number for number in stale if self._is_doubtful(self._world.machines[number])}
        fair = _clean_pairs(hops, powered, stale)
        if doubtful:
            sure = [hop for hop in hops if hop.source not in doubtful and hop.target not in doubtful]
            fair &= _clean_pairs(sure, powered, stale)
        return fair

    def _is_doubtful(self, machine: Machine) -> bool:
        """Whether a machine without a working daemon may have lost its adjacencies: something changed since it went."""
        if machine.running:
            return False
        changed = [cable.disturbed for cable in self._world.network.cables]
        changed += [other.since for other in self._world.machines if other is not machine]
        return max(changed) > machine.since


def _clean_pairs(hops: list[truth.Hop], powered: list[int], stale: frozenset[int]) -> set[tuple[int, int]]:
    """The (source, destination) whose shortest paths lead over no stale machine."""
    routes = truth.bellman_ford(hops, powered)
    pairs = set()
    for destination in powered:
        # In order of distance, so that every next hop is judged before those that use it (metrics are above 0).
        clean = {destination}
        distance = routes.distance[destination]
        for source in sorted(distance, key=lambda node: distance[node]):
            following = routes.next_hops[destination].get(source, ())
            if following and source not in stale and all(hop.target in clean for hop in following):
                clean.add(source)
                pairs.add((source, destination))
    return pairs


def trace_target(world: World, prefix: Prefix) -> int:
    """Whose address ``prefix`` is."""
    return next(machine.number for machine in world.machines if machine.kernel.is_local(prefix))


def unrest(world: World, views: Views) -> list[Finding]:
    """Why the world is not at rest; empty when everything is as it should be."""
    present = [machine for machine in world.machines if machine.daemon is not None and not machine.outside]
    texts = [("operators", errand.text) for errand in world.errands if not errand.done]
    texts += [("members", text) for text in _members(present, views)]
    texts += [("lsdb", text) for text in _databases(present, views)]
    texts += [("outside", text) for text in _outsiders(world, present, views)]
    texts += [("statements", text) for text in _statements(present, views)]
    if not texts:
        texts = [("fib", text) for text in _tables(world, present)]
    if not texts:
        texts = [("packets", text) for text in _packets(world, present)]
    return [Finding(seconds_of(world), checker, text) for checker, text in texts[:FINDINGS_PER_CHECK_MAX]]


def _members(present: list[Machine], views: Views) -> list[str]:
    texts = []
    for observer in present:
        assert observer.daemon is not None
        states = views.members(observer.daemon)
        seen = ((subject, states.get(subject.node, "unknown")) for subject in present if subject is not observer)
        texts += [f"{observer} holds {subject} {state}, which runs" for subject, state in seen if state != "alive"]
    return texts


def _databases(present: list[Machine], views: Views) -> list[str]:
    texts = []
    expected = {machine.node: machine for machine in present}
    databases = {machine.number: views.lsdb(machine.daemon) for machine in present if machine.daemon}
    for holder in present:
        lsdb = databases[holder.number]
        for node, origin in expected.items():
            own, held = databases[origin.number].get(node), lsdb.get(node)
            if held is None:
                texts.append(f"{holder} has no LSA of {origin}")
            elif own is not None and held != own:
                texts.append(f"{holder} has {_summary(held)} of {origin}, which says {_summary(own)}")
            if held is not None and held.contested:
                texts.append(f"{holder} is told that the identity of {origin} is on two machines")
    return texts


def _outsiders(world: World, present: list[Machine], views: Views) -> list[str]:
    texts = []
    for stranger in (machine for machine in world.machines if machine.outside):
        for observer in present:
            assert observer.daemon is not None
            if stranger.node in views.lsdb(observer.daemon):
                texts.append(f"{observer} has an LSA of {stranger}, which is no member")
            if views.members(observer.daemon).get(stranger.node) in ("alive", "suspect"):
                texts.append(f"{observer} holds {stranger} a member, which it is not")
    return texts


def _statements(present: list[Machine], views: Views) -> list[str]:
    digests = {machine.name: views.statements(machine.daemon) for machine in present if machine.daemon is not None}
    first = next(iter(digests), "")
    differ = [name for name, digest in digests.items() if digest != digests[first]]
    return [f"other statements than {first} hold {', '.join(differ)}"] if differ else []


def _summary(lsa: Lsa) -> str:
    links = " ".join(f"{adjacency.link}:{adjacency.metric}" for adjacency in lsa.adjacencies)
    return f"sequence {lsa.sequence} [{links}]"


def _tables(world: World, present: list[Machine]) -> list[str]:
    texts = []
    for number, wanted in truth.tables(world, present).items():
        machine = world.machines[number]
        held = machine.kernel.programmed()
        for prefix in sorted(held.keys() | wanted.keys()):
            has, needs = held.get(prefix, frozenset()), wanted.get(prefix, frozenset())
            if has != needs:
                whose = _announcers(present, prefix)
                text = f"{machine} sends {prefix} ({whose}) by [{_links(has)}], Bellman-Ford by [{_links(needs)}]"
                texts.append(text)
    return texts


def _announcers(present: list[Machine], prefix: Prefix) -> str:
    names = [machine.name for machine in present if prefix in machine.prefixes]
    names += [machine.name for machine in present if machine.settings and prefix in machine.settings.announce]
    return " ".join(names) or "nobody's"


def _links(gateways: frozenset[Gateway]) -> str:
    return " ".join(str(link) for link in sorted(gateway.link for gateway in gateways))


def _packets(world: World, present: list[Machine]) -> list[str]:
    texts = []
    numbers = [machine.number for machine in present]
    parts = truth.components(truth.hops(world, numbers), numbers)
    for source in present:
        for destination in present:
            if parts[source.number] != parts[destination.number]:
                continue
            for prefix in destination.prefixes:
                traces = [packets.send(world, source.number, prefix, flow) for flow in FLOWS]
                texts += [f"{source} to {prefix}: {trace.problem}" for trace in traces if trace.problem]
    return texts
