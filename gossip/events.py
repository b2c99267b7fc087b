"""The door of the SWIM core: every event that enters it and every action that leaves it."""

from dataclasses import dataclass

from gossip.config import SwimConfig
from sansio.core import Persist, Rejected, Wake
from sansio.ids import NodeId


@dataclass(frozen=True, slots=True)
class Started:
    """The daemon runs: begin to probe. Implied by whatever other event comes first."""


@dataclass(frozen=True, slots=True)
class PeerMet:
    """That node is certainly a member: it has an authenticated session with us, or its LSA was verified."""

    node: NodeId
    name: str


@dataclass(frozen=True, slots=True)
class Datagram:
    """A message from an authenticated member."""

    source: NodeId
    payload: bytes


@dataclass(frozen=True, slots=True)
class LeaveRequested:
    """Leave the mesh: tell some, then ``Left``."""


@dataclass(frozen=True, slots=True)
class PathChanged:
    """The control route to ``node`` is another one now, or there is one again."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class Configured:
    """Another profile from now on; waits that have begun end when they were to."""

    config: SwimConfig


@dataclass(frozen=True, slots=True)
class MembersExpelled:
    """These are no members any more: forget them and believe nothing of or about them. Replaces those named before."""

    nodes: frozenset[NodeId]


SwimEvent = Started | PeerMet | Datagram | LeaveRequested | PathChanged | Configured | MembersExpelled | Wake


@dataclass(frozen=True, slots=True)
class Send:
    """Send ``payload`` (700 bytes at most) to a member, by whatever way the control network has."""

    to: NodeId
    payload: bytes


@dataclass(frozen=True, slots=True)
class MemberUp:
    """Alive: new, back from the dead or the left, or no longer suspected. ``name`` is empty until it is known."""

    node: NodeId
    name: str


@dataclass(frozen=True, slots=True)
class MemberSuspected:
    """It did not answer and has some time left to refute; still up."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class MemberDown:
    """Dead: nobody refuted the suspicion in time."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class MemberLeft:
    """It said good-bye."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class Refuted:
    """Somebody held us suspect, dead, left or someone else; we are alive at this new incarnation."""

    incarnation: int


@dataclass(frozen=True, slots=True)
class Left:
    """Our leave is spread, or its time is up: stop now. The core does nothing any more."""


SwimAction = Send | MemberUp | MemberSuspected | MemberDown | MemberLeft | Refuted | Left | Persist | Rejected
