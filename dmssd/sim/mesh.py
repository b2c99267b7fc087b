"""Worlds of real ``SecureNode``s: identities and memberships by the seed, everybody admitted or everybody alone."""

import hashlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from dmssd.recording import Tap, Tape
from dmssd.rules.rotation import IDENTITY_KEY
from dmssd.secure import SecureNode, stored_membership
from dmssd.security.certificate import CAPABILITY_ADMIN, Credentials, Subject, found, issue, new_serial
from dmssd.security.identity import Identity
from dmssd.settings import NodeSettings
from dmssd.sim.checkers import Views
from dmssd.sim.network import Quality
from dmssd.sim.shapes import Shape
from dmssd.sim.world import Daemon, Machine, Start, World, prefixes_of
from routing.lsa import LinkNumber, Lsa
from routing.measured import METRIC_UNIT
from sansio.ids import NodeId

MESH_NAME = "sim"
PROCESSORS = 3

Plant = Callable[[SecureNode], None]
"""Alters a daemon after its start: how tests plant bugs."""


@dataclass(frozen=True, slots=True)
class MeshOptions:
    """``admitted``: all start as members of one mesh; else each founds its own and must join by token.

    ``tape``: what records a daemon's events for a replay, asked for at each start. ``adjust``: another configuration
    for a machine than all have, asked for once. ``strangers``: machines that are no members yet, though the others are.
    """

    admitted: bool = True
    processors: int = PROCESSORS
    quality: Quality = field(default_factory=Quality)
    plant: Plant | None = None
    tape: Callable[[Start], Tape | None] = lambda start: None
    adjust: Callable[[int, NodeSettings], NodeSettings] = lambda number, settings: settings
    strangers: frozenset[int] = frozenset()


def quality_by_seed(seed: int) -> Quality:
    """What the cables are like: clean for every third seed; else some loss, duplication and reordering."""
    if seed % 3 == 0:
        return Quality()
    rng = random.Random(f"{seed}/quality")  # noqa: S311 - a simulation
    return Quality(loss=rng.uniform(0, 0.01), duplication=rng.uniform(0, 0.03), reordering=rng.uniform(0, 0.05))


def build(seed: int, shape: Shape, options: MeshOptions | None = None) -> World:
    """A world of ``shape``, its daemons not yet started; without ``options`` its cables are as the seed has them."""
    chosen = options or MeshOptions(quality=quality_by_seed(seed))
    identities = tuple(Identity(identity_seed(seed, number)) for number in range(shape.nodes))
    disks = _memberships(seed, identities) if chosen.admitted else {}
    for number in chosen.strangers:
        disks.pop(number, None)
    # The processors are spread over the shape, not crowded in one corner.
    spread = max(1, shape.nodes // chosen.processors) if chosen.processors else shape.nodes
    tps = tuple(f"n{number}" for number in range(0, shape.nodes, spread))[: chosen.processors]

    def boot(start: Start) -> Daemon:
        machine = start.machine
        if machine.settings is None:
            plain = NodeSettings(name=machine.name, prefixes=prefixes_of(machine.number), tps=tps)
            machine.settings = chosen.adjust(machine.number, plain)
        kept = start.stored.get(IDENTITY_KEY)
        identity = Identity(kept) if kept else identities[machine.number]
        tape = chosen.tape(start)
        tap = Tap(tape) if tape is not None else None
        secure = SecureNode(
            machine.settings, identity, start.stored, start.rng, start.entropy, tap=tap, wall=start.wall
        )
        if chosen.plant is not None:
            chosen.plant(secure)
        return secure

    world = World(seed, shape, tuple(identity.node for identity in identities), boot, chosen.quality, disks)
    for number in chosen.strangers:
        world.machines[number].outside = True
    known: dict[tuple[int, LinkNumber], int] = {}
    world.measured = lambda machine, link: _measured(machine, link, known)
    return world


def identity_seed(seed: int, number: int) -> bytes:
    """The secret key of a machine: 32 bytes, secret only in these worlds."""
    return _bytes(seed, "identity", number, 32)


def secure_of(daemon: Daemon) -> SecureNode:
    """The node that a machine of these worlds runs."""
    assert isinstance(daemon, SecureNode)
    return daemon


def _members(daemon: Daemon) -> dict[NodeId, str]:
    return {member.node: member.state.name.lower() for member in secure_of(daemon).node.swim.members()}


def _lsdb(daemon: Daemon) -> Mapping[NodeId, Lsa]:
    return secure_of(daemon).node.linkstate.lsdb


def _statements(daemon: Daemon) -> bytes:
    return secure_of(daemon).node.replica.digest


def _measured(machine: Machine, link: LinkNumber, known: dict[tuple[int, LinkNumber], int]) -> int:
    """What a machine says that a link costs, or said last."""
    lsa = secure_of(machine.daemon).node.linkstate.mine if machine.daemon is not None else None
    for adjacency in lsa.adjacencies if lsa is not None and not lsa.draining else ():
        if adjacency.link == link:
            known[machine.number, link] = adjacency.metric
    return known.get((machine.number, link), METRIC_UNIT)


VIEWS = Views(_members, _lsdb, _statements)


def _memberships(seed: int, identities: tuple[Identity, ...]) -> dict[int, dict[str, bytes]]:
    founder = found(identities[0], "n0", MESH_NAME, lambda size: _bytes(seed, "founding", 0, size))
    # One other admin admits every third member, so that chains of different lengths meet.
    deputy = Credentials.load(identities[1], _issue(founder, identities[1], 1, seed, CAPABILITY_ADMIN))
    disks = {0: stored_membership(founder.chain), 1: stored_membership(deputy.chain)}
    for number in range(2, len(identities)):
        issuer = deputy if number % 3 == 0 else founder
        disks[number] = stored_membership(_issue(issuer, identities[number], number, seed))
    return disks


def _issue(issuer: Credentials, identity: Identity, number: int, seed: int, capabilities: int = 0) -> bytes:
    subject = Subject(identity.key, identity.x25519, f"n{number}")
    return issue(issuer, subject, new_serial(lambda size: _bytes(seed, "serial", number, size)), capabilities)


def _bytes(seed: int, purpose: str, number: int, size: int) -> bytes:
    return hashlib.blake2b(f"{seed}/{purpose}/{number}".encode(), digest_size=size).digest()
