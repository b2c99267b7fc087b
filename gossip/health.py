"""The local health multiplier: a member that may itself be slow judges others more slowly (Lifeguard IV.A).

A saturating counter, 0 (well) to S. Probe period and probe time-out are multiplied by counter + 1.

    event                                           | counter
    a probe was answered, directly or through others| -1
    a suspicion of ourselves had to be refuted      | +1
    a probe failed and a relay's nack did not come  | +1
    a probe failed and there was no relay to ask    | +1
    we were not run for longer than a period        | +1

Deviations. A failed probe for which every relay sent its nack costs nothing, as in memberlist: those nacks prove that
we receive, so it was not us (the paper counts every failed probe). A probe to a member to which no control route was
known costs nothing either: routing already explains the miss, and a node that has lost a link should not become slow
to notice the rest. Being stalled is counted because it is the very thing that this measures.
"""


class LocalHealth:
    """The counter."""

    def __init__(self, worst: int) -> None:
        self._worst = worst
        self.score = 0

    @property
    def factor(self) -> int:
        """What periods and time-outs are multiplied by: 1 when well."""
        return self.score + 1

    def better(self) -> None:
        """One step towards well."""
        self.score = max(0, self.score - 1)

    def worse(self) -> None:
        """One step away from it."""
        self.score = min(self._worst, self.score + 1)
