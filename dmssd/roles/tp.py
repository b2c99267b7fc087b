"""The TopologyProcessor: from the link-state database to every forwarder's row, pushed until acknowledged.

Theory of operation. A plan is a pure function of the LSDB (DESIGN 7), so any number of TopologyProcessors may run
side by side, none leads, and one is enough. On a change the back-off of RFC 8405 says when to compute; the rows are
then computed a few at a time, each slice bounded by the size of the graph, so that no ``handle`` holds the daemon for
long. A row is pushed to its forwarder if it differs from the last one pushed, and again at a growing interval until
the forwarder answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

from dmssd.roles.fd import LsdbMoved, SendPlan
from dmssd.roles.messages import PLAN_CODEC, PlanAck, PlanPush, row_digest
from routing.backoff import BackoffDelays, SpfBackoff
from routing.lsa import Lsa
from routing.plan import ROW_CODEC, Planner
from sansio.core import Wake
from sansio.deadlines import Deadlines
from sansio.ids import NodeId
from sansio.instant import MILLISECOND, Duration, Instant, after, earliest

SLICE_EDGES_MAX = 20_000
"""Edges relaxed per ``handle``: about 4 ms of shortest paths in CPython."""


@dataclass(frozen=True, slots=True)
class ProcessorConfig:
    """Pace of computing and pushing; ``push_attempts`` bounds what an unreachable forwarder costs."""

    delays: BackoffDelays = BackoffDelays()
    push_retry: Duration = Duration(200 * MILLISECOND)
    push_attempts: int = 6
    policy: str = "shortest"


@dataclass(frozen=True, slots=True)
class AckReceived:
    """A forwarder's answer to a push."""

    source: NodeId
    ack: PlanAck


@dataclass(frozen=True, slots=True)
class ProcessorConfigured:
    """Other settings from now on: everything is computed again."""

    config: ProcessorConfig


@dataclass(slots=True)
class _Push:
    digest: bytes
    payload: bytes
    attempts: int = 0
    answered: bool = False


ProcessorEvent = LsdbMoved | AckReceived | ProcessorConfigured | Wake


class TopologyProcessor:
    """Computes for all; ``lsdb`` is a live, read-only view of this node's link-state database."""

    def __init__(self, me: NodeId, lsdb: Mapping[NodeId, Lsa], config: ProcessorConfig) -> None:
        self._me = me
        self._lsdb = lsdb
        self._config = config
        self._backoff = SpfBackoff(config.delays)
        self._compute_at: Instant | None = None
        self._planner: Planner | None = None
        self._queue: list[NodeId] = []
        self._pushes: dict[NodeId, _Push] = {}
        self._retries: Deadlines[NodeId] = Deadlines()
        self.computations = 0

    def handle(self, event: ProcessorEvent, now: Instant) -> list[SendPlan]:
        """The core's door."""
        match event:
            case LsdbMoved() | ProcessorConfigured():
                if isinstance(event, ProcessorConfigured):
                    self._config = event.config
                run = self._backoff.event(now)
                if self._compute_at is None:
                    self._compute_at = run
                return self._on_wake(now)
            case AckReceived():
                return self._on_ack(event)
            case Wake():
                return self._on_wake(now)
            case _:
                assert_never(event)

    def deadline(self) -> Instant | None:
        """When to compute, go on computing, or push again."""
        return earliest(self._compute_at, Instant(0) if self._queue else None, self._retries.next())

    def _on_wake(self, now: Instant) -> list[SendPlan]:
        if self._compute_at is not None and now >= self._compute_at:
            self._compute_at = None
            self._begin()
        return self._compute_slice(now) + self._push_again(now)

    def _begin(self) -> None:
        self._planner = Planner(self._lsdb, self._config.policy)
        # Own row first: this node's forwarding must not wait for everyone else's.
        reachable = self._planner.component(self._me)
        self._queue = sorted(reachable, key=lambda node: (node != self._me, node), reverse=True)
        self.computations += 1
        for node in [node for node in self._pushes if node not in reachable]:
            del self._pushes[node]
            self._retries.cancel(node)

    def _compute_slice(self, now: Instant) -> list[SendPlan]:
        if self._planner is None:
            return []
        actions = []
        budget = SLICE_EDGES_MAX
        while self._queue and budget > 0:
            budget -= self._planner.edge_count + 1
            actions += self._offer(self._queue.pop(), self._planner, now)
        if not self._queue:
            self._planner = None
        return actions

    def _offer(self, forwarder: NodeId, planner: Planner, now: Instant) -> list[SendPlan]:
        row = planner.row(forwarder)
        if row is None:
            return []
        encoded = ROW_CODEC.encode(row)
        digest = row_digest(encoded)
        known = self._pushes.get(forwarder)
        if known is not None and known.digest == digest:
            return []
        self._pushes[forwarder] = _Push(digest, PLAN_CODEC.encode(PlanPush(digest, encoded)))
        return self._push(forwarder, now)

    def _push(self, forwarder: NodeId, now: Instant) -> list[SendPlan]:
        push = self._pushes[forwarder]
        push.attempts += 1
        if push.attempts < self._config.push_attempts:
            wait = Duration(self._config.push_retry << (push.attempts - 1))
            self._retries.set(forwarder, after(now, wait))
        return [SendPlan(forwarder, push.payload)]

    def _push_again(self, now: Instant) -> list[SendPlan]:
        actions = []
        for forwarder in self._retries.pop_due(now):
            if not self._pushes[forwarder].answered:
                actions += self._push(forwarder, now)
        return actions

    def _on_ack(self, event: AckReceived) -> list[SendPlan]:
        push = self._pushes.get(event.source)
        if push is not None and push.digest == event.ack.digest:
            push.answered = True
            self._retries.cancel(event.source)
        return []
