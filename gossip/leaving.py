"""Our leave: told to some until a few have acknowledged it; they tell the others."""

from gossip.events import SwimAction
from gossip.ground import Ground
from gossip.messages import Leave
from gossip.speech import Speech
from gossip.timers import LeaveEndDue, LeaveRetryDue
from sansio.ids import NodeId
from sansio.instant import Instant, after


class Leaving:
    """Whom we have told, and who has acknowledged it."""

    def __init__(self, ground: Ground, speech: Speech) -> None:
        self._ground = ground
        self._speech = speech
        self._sequence: int | None = None
        self._asked: dict[NodeId, bool] = {}  # whom we told -> whether it acknowledged

    def begin(self, sequence: int, now: Instant) -> list[SwimAction]:
        """Tell some; ``sequence`` is what their receipts will repeat."""
        self._sequence = sequence
        self._speech.spread(self._ground.own.update(), now)
        self._ground.timers.set(LeaveEndDue(), after(now, self._ground.config.leave_timeout))
        return self._tell(self._ground.config.leave_copies, now)

    def on_retry_due(self, now: Instant) -> list[SwimAction]:
        """One more than before: someone who never answers must not hold us up."""
        return self._tell(1, now)

    def on_ack(self, source: NodeId, sequence: int) -> bool:
        """Whether that was the last receipt we wait for."""
        if sequence != self._sequence or source not in self._asked:
            return False
        self._asked[source] = True
        wanted = min(self._ground.config.leave_copies, len(self._ground.members.up()))
        return sum(self._asked.values()) >= wanted

    def _tell(self, more: int, now: Instant) -> list[SwimAction]:
        ground = self._ground
        strangers = [node for node in ground.members.up() if node not in self._asked]
        for node in ground.sample_routed(strangers, more):
            self._asked[node] = False
        ground.timers.set(LeaveRetryDue(), after(now, ground.config.leave_retry))
        sequence = self._sequence or 0
        return [
            self._speech.compose(node, lambda updates: Leave(ground.own.incarnation, sequence, updates))
            for node, acknowledged in self._asked.items()
            if not acknowledged
        ]
