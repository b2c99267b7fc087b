"""What operators do while a simulated mesh runs, and ask for again until it is so.

kind        | targets              | what happens
announce    | some nodes           | they announce the prefixes of ``ANNOUNCED``; no longer at the end
gateway     | one node             | it leads out of the mesh, by preference ``amount``; no longer at the end
filter      | one node             | it takes routes by ``FILTERS[amount]``; all of them at the end
settings    | one node, another    | it watches its links otherwise and knows of no processor; as the other at the end
second-link | one cable            | plugged in, beside one that there is; pulled at the end
lost-disk   | one node             | power lost, and all that was kept but identity and membership; on again at the end
join        | newcomer, an admin   | let in by a token (``amount`` 0) or approved beforehand (1); for good
expel       | one node, an admin   | put out; for good
grant       | one node, an admin   | made an admin; for good
rotate-key  | one node             | gets another key; for good
rotate-sessions | an admin         | has all sessions of the mesh replaced

A request may be lost with the daemon that it was made to, or refused while a fault is on: as people do, an operator
looks whether it came true, and asks again (:class:`dmssd.sim.world.Errand`). At rest nothing is left undone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dmssd.events import Reply
from dmssd.rules.rotation import IDENTITY_KEY, NEXT_IDENTITY_KEY, RESIGNATION_KEY
from dmssd.secure import MEMBERSHIP_KEY, SecureNode
from dmssd.sim.disk import Disk
from dmssd.sim.mesh import secure_of
from dmssd.sim.world import Errand, Machine, World
from routing.adjacency import AdjacencyConfig
from routing.filter import RouteFilter
from routing.lsa import Prefix
from sansio.instant import MILLISECOND, Duration

ANNOUNCED = (Prefix.parse("198.51.100.0/24"), Prefix.parse("2001:db8:9::/48"))
DEFAULTS = (Prefix.parse("0.0.0.0/0"), Prefix.parse("::/0"))
OWN = (Prefix.parse("10.5.0.0/16"), Prefix.parse("fd05::/16"))
FILTERS = (
    RouteFilter(deny_default=True),
    RouteFilter(deny=ANNOUNCED[:1]),
    RouteFilter(accept=OWN),
    RouteFilter(accept=OWN, accept_default=True),
)
"""None of them leaves out a machine's own address: who cannot be reached from one node is no matter of the mesh."""

OTHER_LIVENESS = AdjacencyConfig(echo_interval=Duration(70 * MILLISECOND))
LOOK_INTERVAL = Duration(250 * MILLISECOND)
JOIN_PATIENCE_S = 5
TOKEN_USES = 3
KEPT = (MEMBERSHIP_KEY, IDENTITY_KEY, NEXT_IDENTITY_KEY, RESIGNATION_KEY)
"""What a lost disk is given back from a backup; without these it would be another node."""


def begin(world: World, kind: str, targets: tuple[int, ...], amount: float) -> None:
    """Let it set in."""
    machines = [world.machines[number] for number in targets] if kind != "second-link" else []
    match kind:
        case "announce":
            for machine in machines:
                _announce(world, machine, ANNOUNCED, on=True)
        case "gateway":
            _announce(world, machines[0], DEFAULTS, on=True, gateway=int(amount))
        case "filter":
            world.reload(machines[0], filter=FILTERS[int(amount)])
        case "settings":
            world.reload(machines[0], liveness=OTHER_LIVENESS, tps=())
        case "second-link":
            world.plug(world.network.cables[targets[0]])
        case "lost-disk":
            _lose_disk(world, machines[0])
        case _:
            _BEGUN[kind](world, *machines, amount)


def end(world: World, kind: str, targets: tuple[int, ...]) -> None:
    """Take back what ``begin`` did, unless that is for good."""
    machine = world.machines[targets[0]] if kind != "second-link" else world.machines[0]
    match kind:
        case "announce":
            for number in targets:
                _announce(world, world.machines[number], ANNOUNCED, on=False)
        case "gateway":
            _announce(world, machine, DEFAULTS, on=False, gateway=0)
        case "filter":
            world.reload(machine, filter=RouteFilter())
        case "settings":
            other = world.machines[targets[1]].settings
            assert other is not None
            world.reload(machine, liveness=other.liveness, tps=other.tps)
        case "second-link":
            world.unplug(world.network.cables[targets[0]])
        case "lost-disk":
            machine.stopped -= 1
            if machine.stopped == 0:
                world.start(machine)


def _announce(world: World, machine: Machine, prefixes: tuple[Prefix, ...], *, on: bool, **others: int) -> None:
    assert machine.settings is not None
    left = tuple(prefix for prefix in machine.settings.announce if prefix not in prefixes)
    world.reload(machine, announce=left + prefixes if on else left, **others)


def _lose_disk(world: World, machine: Machine) -> None:
    machine.stopped += 1
    world.stop_machine(machine)
    machine.disk = Disk({key: value for key, value in machine.disk.read().items() if key in KEPT})
    world.draining.discard(machine.number)


# Errands


def _until(world: World, text: str, is_so: Callable[[], bool], ask: Callable[[], object]) -> None:
    errand = Errand(text)
    world.errands.append(errand)

    def look() -> None:
        errand.done = is_so()
        if not errand.done:
            ask()
        world.clock.after(LOOK_INTERVAL, look)

    look()


def _daemon(machine: Machine) -> SecureNode | None:
    """The daemon of a machine where it can be asked something."""
    daemon = machine.daemon
    return secure_of(daemon) if daemon is not None and machine.running and not machine.torn else None


@dataclass(slots=True)
class _Requests:
    """Requests to one machine, one at a time; one whose daemon has gone is answered by nobody. ``number`` 0: none."""

    world: World
    machine: Machine
    number: int = 0
    starts: int = 0

    def ask(self, verb: str, **arguments: Any) -> None:
        """Make a request, unless one is under way or nobody is there to hear it."""
        if self.under_way or _daemon(self.machine) is None:
            return
        self.starts = self.machine.starts
        self.number = self.world.request(self.machine, verb, **arguments)

    @property
    def under_way(self) -> bool:
        """Whether an answer may come yet."""
        alive = self.machine.daemon is not None and self.machine.starts == self.starts
        return alive and self.number > 0 and self.number not in self.machine.replies

    @property
    def reply(self) -> Reply | None:
        """The answer to the latest request."""
        return self.machine.replies.get(self.number)


class _Join:
    """A newcomer asks one neighbour after another, with a new token where the last did not serve."""

    def __init__(self, world: World, newcomer: Machine, admin: Machine, approved: float) -> None:
        self._world = world
        self._newcomer = newcomer
        self._approved = bool(approved)
        self._joins = _Requests(world, newcomer)
        self._letting_in = _Requests(world, admin)
        self._attempts = 0

    def is_so(self) -> bool:
        """Whether the newcomer is a member."""
        daemon = _daemon(self._newcomer)
        members = [_daemon(machine) for machine in self._world.machines if not machine.outside]
        mesh = next((member.credentials.mesh for member in members if member is not None), None)
        if daemon is not None and mesh == daemon.credentials.mesh:
            self._world.set_outside(self._newcomer, False)
        return not self._newcomer.outside

    def ask(self) -> None:
        """Have the newcomer let in, then have it ask."""
        if self._joins.under_way or self._letting_in.under_way:
            return
        reply = self._letting_in.reply
        if reply is None or reply.error is not None or self._joins.reply is not None:
            self._joins.number = 0
            self._let_in()
            return
        way_in = self._ways_in()[self._attempts % len(self._ways_in())]
        self._attempts += 1
        token = {} if self._approved else {"token": reply.value["token"]}
        self._joins.ask("join", peer=way_in.name, timeout_s=JOIN_PATIENCE_S, **token)

    def _let_in(self) -> None:
        if self._approved:
            self._letting_in.ask("admit", nodes=[self._newcomer.node.hex()])
        else:
            self._letting_in.ask("token", uses=TOKEN_USES, ttl_s=600)

    def _ways_in(self) -> list[Machine]:
        """Whom the newcomer can hear, as its operator knows: by its cables and hubs."""
        me = self._newcomer.number
        pairs = [(cable.ends[0][0], cable.ends[1][0]) for cable in self._world.network.cables]
        beside = {far for pair in pairs if me in pair for far in pair if far != me}
        hubs = {hub for hub in beside if hub >= len(self._world.machines)}
        beside |= {node for node, hub in pairs if hub in hubs}
        return [self._world.machines[number] for number in sorted(beside - hubs - {me})]


def _join(world: World, newcomer: Machine, admin: Machine, approved: float) -> None:
    join = _Join(world, newcomer, admin, approved)
    _until(world, f"{newcomer} has not been let in", join.is_so, join.ask)


def _expel(world: World, out: Machine, admin: Machine, _: float) -> None:
    votes = _Requests(world, admin)

    def is_so() -> bool:
        voter = _daemon(admin)
        if voter is None:
            return out.outside
        if out.node in voter.membership.standing.expelled:
            world.set_outside(out, True)
            return True
        return False

    _until(world, f"{out} has not been expelled", is_so, lambda: votes.ask("expel", node=out.node.hex()))


def _grant(world: World, raised: Machine, admin: Machine, _: float) -> None:
    grants = _Requests(world, admin)

    def is_so() -> bool:
        daemon = _daemon(raised)
        return daemon is not None and daemon.credentials.certificate.is_admin

    _until(world, f"{raised} is no admin yet", is_so, lambda: grants.ask("grant", node=raised.node.hex()))


def _rotate_key(world: World, machine: Machine, _: float) -> None:
    before, rotations = machine.node, _Requests(world, machine)
    text = f"{machine} has its old key still"
    _until(world, text, lambda: machine.node != before, lambda: rotations.ask("rotate-key", timeout_s=JOIN_PATIENCE_S))


def _rotate_sessions(world: World, admin: Machine, _: float) -> None:
    rotations = _Requests(world, admin)

    def is_so() -> bool:
        daemon = _daemon(admin)
        return daemon is not None and daemon.terms.epoch > 0

    _until(world, "sessions are not replaced", is_so, lambda: rotations.ask("rotate-sessions"))


_BEGUN: dict[str, Callable[..., None]] = {
    "join": _join,
    "expel": _expel,
    "grant": _grant,
    "rotate-key": _rotate_key,
    "rotate-sessions": _rotate_sessions,
}

KINDS = (
    *("announce", "gateway", "filter", "settings", "second-link", "lost-disk"),
    *_BEGUN,
)
