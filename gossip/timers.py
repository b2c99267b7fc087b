"""What the SWIM core waits for: one key per timer, all in one table of deadlines."""

from dataclasses import dataclass

from sansio.ids import NodeId


@dataclass(frozen=True, slots=True)
class PeriodDue:
    """The next protocol period begins."""


@dataclass(frozen=True, slots=True)
class GossipDue:
    """News goes out by itself."""


@dataclass(frozen=True, slots=True)
class SyncDue:
    """Push-pull with a random member."""


@dataclass(frozen=True, slots=True)
class DeadDue:
    """One of the dead is pinged."""


@dataclass(frozen=True, slots=True)
class ProbeDue:
    """A stage of a probe ends without an answer."""

    sequence: int


@dataclass(frozen=True, slots=True)
class RelayDue:
    """A relayed ping has no answer."""

    sequence: int


@dataclass(frozen=True, slots=True)
class SuspicionDue:
    """A suspicion becomes a verdict."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class SyncRetryDue:
    """A push-pull was not answered."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class ReapDue:
    """The absence lease of a dead or left member ends."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class LeaveRetryDue:
    """Some have not acknowledged our leave."""


@dataclass(frozen=True, slots=True)
class LeaveEndDue:
    """We have waited long enough for them."""


Timer = (
    PeriodDue
    | GossipDue
    | SyncDue
    | DeadDue
    | ProbeDue
    | RelayDue
    | SuspicionDue
    | SyncRetryDue
    | ReapDue
    | LeaveRetryDue
    | LeaveEndDue
)
