"""The member table, and which of two claims about a member wins.

What is believed of a member is a :class:`Standing`: incarnation, state, name. Only the member itself raises its
incarnation; at equal incarnation the worse state wins (SWIM 4.2), and `left`, which the member itself said, is last:

    alive(i) < suspect(i) < dead(i) < left(i) < alive(i + 1)

``join`` is the least upper bound of that order (names, which only people read, are joined beside it), so the order
in which claims arrive never matters, nor how often: members that heard the same claims agree.

Deviation: the paper lets a death win against every incarnation for ever. Here a higher incarnation revives, because
nodes come back and partitions heal (so do memberlist and foca).
"""

import enum
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from sansio.ids import NodeId
from sansio.instant import Instant

MEMBERS_MAX = 16_384
"""Members remembered, the dead and the left included. When full, newcomers are refused with a notice."""

NAME_MAX = 64
"""Characters of a member's name."""

INCARNATION_MAX = 2**62 - 1
"""Nobody counts further. Only `alive` is accepted at this value, so that every other claim can be refuted."""

DIGEST_MASK = 2**64 - 1


class State(enum.IntEnum):
    """SWIM's states, in order of precedence at equal incarnation; the numbers are the wire's."""

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2
    LEFT = 3

    @property
    def up(self) -> bool:
        """Whether such a member is probed and counted: suspicion is no verdict yet."""
        return self <= State.SUSPECT


@dataclass(frozen=True, slots=True)
class Standing:
    """What is claimed or believed of a member: an element of the order above."""

    incarnation: int
    state: State
    name: str


@dataclass(frozen=True, slots=True)
class Member:
    """A member as this node believes it to be; ``since`` is when it entered its present state."""

    node: NodeId
    name: str
    state: State
    incarnation: int
    since: Instant

    @property
    def standing(self) -> Standing:
        """The part that is compared and gossiped."""
        return Standing(self.incarnation, self.state, self.name)


def join(one: Standing, other: Standing) -> Standing:
    """The least standing that is no less than either."""
    if one.incarnation != other.incarnation:
        return one if one.incarnation > other.incarnation else other
    return Standing(one.incarnation, max(one.state, other.state), max(one.name, other.name))


def fingerprint(node: NodeId, incarnation: int, state: State) -> int:
    """64 bits that stand for one line of the table; their sum stands for the table, in whatever order it was filled."""
    line = node + incarnation.to_bytes(8, "big") + bytes((state,))
    return int.from_bytes(hashlib.blake2b(line, digest_size=8).digest(), "big")


class Members:
    """Every other member that this node has heard of."""

    def __init__(self, limit: int = MEMBERS_MAX) -> None:
        self._limit = limit
        self._table: dict[NodeId, Member] = {}
        self._digest = 0
        self._up: tuple[NodeId, ...] | None = None
        self._dead: tuple[NodeId, ...] | None = None

    def __len__(self) -> int:
        return len(self._table)

    def __iter__(self) -> Iterator[Member]:
        return iter(self._table.values())

    @property
    def full(self) -> bool:
        """Whether no newcomer fits."""
        return len(self._table) >= self._limit

    @property
    def digest(self) -> int:
        """64 bits, equal where two tables hold the same nodes at the same incarnations and states."""
        return self._digest

    def get(self, node: NodeId) -> Member | None:
        """What is believed of ``node``, if anything."""
        return self._table.get(node)

    def put(self, node: NodeId, standing: Standing, since: Instant) -> Member:
        """Record a standing; ``since`` counts only if the state is a new one."""
        before = self._table.get(node)
        if before is not None:
            self._digest -= fingerprint(node, before.incarnation, before.state)
            since = before.since if before.state is standing.state else since
        member = Member(node, standing.name, standing.state, standing.incarnation, since)
        self._table[node] = member
        self._digest = (self._digest + fingerprint(node, member.incarnation, member.state)) & DIGEST_MASK
        self._up = self._dead = None
        return member

    def remove(self, node: NodeId) -> None:
        """Forget ``node``; no error if it is unknown."""
        before = self._table.pop(node, None)
        if before is not None:
            self._digest = (self._digest - fingerprint(node, before.incarnation, before.state)) & DIGEST_MASK
            self._up = self._dead = None

    def up(self) -> tuple[NodeId, ...]:
        """The alive and the suspect, in the order of first acquaintance."""
        if self._up is None:
            self._up = tuple(member.node for member in self if member.state.up)
        return self._up

    def dead(self) -> tuple[NodeId, ...]:
        """Those held dead: they may be the far side of a partition. Members that left are not among them."""
        if self._dead is None:
            self._dead = tuple(member.node for member in self if member.state is State.DEAD)
        return self._dead
