"""Probes, and pings relayed for others (SWIM 3.1, 4.3; Lifeguard IV.A)."""

from gossip.claims import Claims
from gossip.events import SwimAction
from gossip.ground import Ground
from gossip.members import Member, State
from gossip.messages import PingReq
from gossip.probes import NACK_AFTER, RELAYS_MAX, Probe, ProbeOrder, Relay, direct_wait, indirect_wait
from gossip.speech import Speech
from gossip.timers import DeadDue, PeriodDue, ProbeDue, RelayDue
from sansio.bounded import TokenBucket
from sansio.core import Rejected
from sansio.ids import NodeId, short
from sansio.instant import MILLISECOND, Duration, Instant, after

PROBES_MAX = 32
"""Probes on their way at one time. When full, a period passes without a new one."""

SUSPECT_PINGS_MAX = 4
"""Suspects that are pinged again in one period, chosen at random."""

SOURCES_MAX = 1024
"""Members whose rates are remembered; the least recently seen is forgotten."""


class Probing:
    """Asks whether members are there, each in its turn; and asks for others."""

    def __init__(self, ground: Ground, speech: Speech, claims: Claims) -> None:
        self._ground = ground
        self._speech = speech
        self._claims = claims
        self._order = ProbeOrder(ground.rng)
        self._probes: dict[int, Probe] = {}
        self._relays: dict[int, Relay] = {}
        self._ping_rate: TokenBucket[NodeId] = TokenBucket(1.0, 2.0, SOURCES_MAX)

    def begin(self, now: Instant) -> None:
        """The next period, at a random phase: daemons that begin together do not probe together."""
        config = self._ground.config
        self._ground.timers.set(PeriodDue(), after(now, self._ground.random_part(config.period)))

    def begin_with_the_dead(self, now: Instant) -> None:
        """The next ping to one of the dead, at a random phase."""
        self._ground.timers.set(DeadDue(), after(now, self._ground.random_part(self._ground.config.dead_interval)))

    def end(self) -> None:
        """Begin no more, and wait for nothing."""
        self._ground.timers.cancel(PeriodDue())
        self._ground.timers.cancel(DeadDue())
        for probe in list(self._probes.values()):
            self._end_probe(probe)

    def take_turns_with(self, node: NodeId) -> None:
        """Probe it from now on."""
        self._order.add(node)

    def forget(self, node: NodeId) -> None:
        """Ask nothing any more of a member that is dead or has left."""
        self._order.remove(node)
        for probe in [probe for probe in self._probes.values() if probe.target == node]:
            self._end_probe(probe)

    def absorb_stall(self, stalled: int) -> None:
        """Let no time have passed for the probes that are on their way."""
        for sequence in self._probes:
            at = self._ground.timers.when(ProbeDue(sequence))
            if at is not None:
                self._ground.timers.set(ProbeDue(sequence), Instant(at + stalled))

    # Probes of ours

    def on_period(self, now: Instant) -> list[SwimAction]:
        """One member in its turn; and some suspects, so that the suspicion reaches them."""
        ground = self._ground
        ground.timers.set(PeriodDue(), after(now, Duration(ground.config.period * ground.health.factor)))
        running = ground.suspicions.items()
        asked = [node for node, suspicion in running if suspicion.held_by(ground.own.node) or suspicion.is_late(now)]
        actions: list[SwimAction] = [self._ping(node) for node in ground.sample(asked, SUSPECT_PINGS_MAX)]
        target = self._order.next()
        if target is not None and len(self._probes) < PROBES_MAX:
            actions += self._probe(target, now)
        return actions

    def on_dead_due(self, now: Instant) -> list[SwimAction]:
        """One of the dead is asked, so that partitions heal."""
        ground = self._ground
        ground.timers.set(DeadDue(), after(now, ground.config.dead_interval))
        return [self._ping(node) for node in ground.sample(ground.members.dead(), 1)]

    def _ping(self, node: NodeId) -> SwimAction:
        return self._speech.ping(node, self.new_sequence())

    def _probe(self, target: NodeId, now: Instant) -> list[SwimAction]:
        probe = Probe(target, self.new_sequence(), routed=self._ground.hops(target) is not None)
        self._probes[probe.sequence] = probe
        self._await_answer(probe, now)
        return [self._speech.ping(target, probe.sequence)]

    def _await_answer(self, probe: Probe, now: Instant) -> None:
        wait = self._indirect_wait(probe) if probe.indirect else self._direct_wait(probe)
        self._ground.timers.set(ProbeDue(probe.sequence), after(now, wait))

    def _direct_wait(self, probe: Probe) -> Duration:
        ground = self._ground
        return direct_wait(ground.config, ground.health.factor, ground.hops(probe.target) or 0)

    def _indirect_wait(self, probe: Probe) -> Duration:
        ground = self._ground
        return indirect_wait(ground.config, ground.health.factor, ground.hops(probe.target) or 0)

    def on_probe_due(self, sequence: int, now: Instant) -> list[SwimAction]:
        """No answer to one stage of a probe: the next, or the suspicion."""
        probe = self._probes.get(sequence)
        if probe is None:
            # Its target was declared dead by a timer that fell due with this one.
            return []
        if probe.indirect:
            self._end_probe(probe)
            if self._blames_us(probe):
                self._ground.health.worse()
            return self._claims.suspect(probe.target, now)
        return self._ask_through_others(probe, now)

    def _ask_through_others(self, probe: Probe, now: Instant) -> list[SwimAction]:
        ground = self._ground
        probe.indirect = True
        self._await_answer(probe, now)
        probe.relays = self._choose_relays(probe.target)
        wait_ms = max(1, min(600_000, self._indirect_wait(probe) // MILLISECOND))
        # A relay that no route leads to cannot be blamed on our own health when its nack stays away.
        probe.nacks_due = {relay: None for relay in probe.relays if ground.hops(relay) is not None}
        requests = [
            self._speech.compose(
                relay,
                lambda updates: PingReq(ground.own.incarnation, probe.sequence, updates, probe.target, wait_ms),
            )
            for relay in probe.relays
        ]
        return [self._speech.ping(probe.target, probe.sequence), *requests]

    def _choose_relays(self, target: NodeId) -> tuple[NodeId, ...]:
        ground = self._ground
        others = [node for node in self._speech.near() if node != target and node not in ground.suspicions]
        return tuple(ground.sample_routed(others, ground.config.indirect_probes))

    def _blames_us(self, probe: Probe) -> bool:
        """Whether a failed probe speaks against our own health (table in :mod:`gossip.health`)."""
        if not probe.routed:
            return False
        return bool(probe.nacks_due) or not probe.relays

    def _end_probe(self, probe: Probe) -> None:
        del self._probes[probe.sequence]
        self._ground.timers.cancel(ProbeDue(probe.sequence))

    def on_path_changed(self, held: Member, now: Instant) -> list[SwimAction]:
        """There is another way to a member: what was asked by the old one is asked again."""
        actions: list[SwimAction] = []
        for probe in [probe for probe in self._probes.values() if probe.target == held.node and not probe.restarted]:
            probe.restarted = True
            probe.routed = self._ground.hops(held.node) is not None
            self._await_answer(probe, now)
            actions.append(self._speech.ping(held.node, probe.sequence))
        if not actions and held.state is not State.ALIVE and self._ping_rate.admit(held.node, now):
            # A way to one that we hold suspect or dead: the ping says so, and it refutes at once.
            actions.append(self._ping(held.node))
        return actions

    # Answers

    def on_ack(self, source: NodeId, sequence: int) -> list[SwimAction]:
        """The end of a probe, or of a relayed ping. Any other is late: what it carried has been read."""
        probe = self._probes.get(sequence)
        if probe is not None:
            if source != probe.target and source not in probe.relays:
                return [Rejected(short(source), "ack from neither target nor relay")]
            self._end_probe(probe)
            self._ground.health.better()
            return []
        relay = self._relays.get(sequence)
        if relay is None:
            return []
        if source != relay.target:
            return [Rejected(short(source), "ack from neither target nor relay")]
        self._end_relay(sequence)
        return [self._speech.ack(relay.origin, relay.sequence)]

    def on_nack(self, source: NodeId, sequence: int) -> list[SwimAction]:
        """A relay has no answer, but is there."""
        probe = self._probes.get(sequence)
        if probe is None:
            return []
        if source not in probe.relays:
            return [Rejected(short(source), "nack from no relay")]
        probe.nacks_due.pop(source, None)
        return []

    # Pings for others

    def on_ping_req(self, source: NodeId, request: PingReq, now: Instant) -> list[SwimAction]:
        """Ping somebody for ``source``."""
        if request.target == self._ground.own.node:
            return [self._speech.ack(source, request.sequence)]
        if self._ground.members.get(request.target) is None:
            return [self._speech.nack(source, request.sequence)]
        if len(self._relays) >= RELAYS_MAX:
            full = Rejected(short(source), "too many pings to relay")
            return [self._speech.nack(source, request.sequence), full]
        wait = request.wait_ms * MILLISECOND
        nack_in = Duration(round(wait * NACK_AFTER))
        sequence = self.new_sequence()
        self._relays[sequence] = Relay(source, request.sequence, request.target, Duration(wait - nack_in))
        self._ground.timers.set(RelayDue(sequence), after(now, nack_in))
        return [self._speech.ping(request.target, sequence)]

    def on_relay_due(self, sequence: int, now: Instant) -> list[SwimAction]:
        """Its target has not answered: say so, and wait a little more."""
        relay = self._relays[sequence]
        if relay.nacked:
            self._end_relay(sequence)
            return []
        relay.nacked = True
        self._ground.timers.set(RelayDue(sequence), after(now, relay.remaining))
        return [self._speech.nack(relay.origin, relay.sequence)]

    def _end_relay(self, sequence: int) -> None:
        del self._relays[sequence]
        self._ground.timers.cancel(RelayDue(sequence))

    def new_sequence(self) -> int:
        """A number that no message under way bears."""
        while True:
            sequence = self._ground.rng.getrandbits(32)
            if sequence not in self._probes and sequence not in self._relays:
                return sequence
