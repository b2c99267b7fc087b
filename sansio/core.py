"""The core pattern: one typed door in, actions out, one deadline.

A protocol core is a synchronous state machine. The driver (or the simulator) calls ``handle(event, now)``, performs
the returned actions in order, then reads ``deadline()`` and promises a ``Wake`` no earlier than that instant. Cores
never raise for what came from outside: bad input yields ``Rejected``. An exception from ``handle`` is a bug.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from sansio.instant import Instant

E = TypeVar("E", contravariant=True)
A = TypeVar("A", covariant=True)


class Core(Protocol[E, A]):
    """What the driver and the simulator both run."""

    def handle(self, event: E, now: Instant) -> Sequence[A]:
        """React to one event; the actions are to be performed in list order."""

    def deadline(self) -> Instant | None:
        """When this core next wants a ``Wake``; ``None``: never, unless something else happens."""


@dataclass(frozen=True, slots=True)
class Wake:
    """The deadline has come (or gone by)."""


@dataclass(frozen=True, slots=True)
class Persist:
    """Have ``value`` under ``key`` on disk before the next action is performed: a barrier, off hot paths."""

    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Rejected:
    """Something from outside was refused; state is unchanged. ``reason`` is a short, countable phrase."""

    source: str
    reason: str
