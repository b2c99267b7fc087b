"""A network of Swim cores in virtual time: seeded loss and delay, crashes, freezes, partitions. Bytes only."""

import heapq
import itertools
import random
from collections.abc import Callable

from gossip.swim import (
    Datagram,
    LeaveRequested,
    Left,
    MemberDown,
    PeerMet,
    Send,
    Started,
    State,
    Swim,
    SwimAction,
    SwimConfig,
    SwimEvent,
)
from sansio.core import Persist, Rejected, Wake
from sansio.ids import NodeId
from sansio.instant import MILLISECOND, SECOND, Instant


def identity(number: int) -> NodeId:
    return NodeId(number.to_bytes(2, "big") * 10)


class Net:
    def __init__(
        self,
        count: int,
        seed: int,
        loss: float = 0.0,
        delay_ms: tuple[float, float] = (1, 20),
        config: SwimConfig | None = None,
        swim: Callable[..., Swim] = Swim,
        chain: bool = True,
    ) -> None:
        self.rng = random.Random(seed)
        self.loss = loss
        self.delay_ms = delay_ms
        self.config = config or SwimConfig()
        self.make = swim
        self.now = Instant(0)
        self.names = {identity(n): f"node-{n}" for n in range(1, count + 1)}
        self.nodes = list(self.names)
        self.cores: dict[NodeId, Swim] = {}
        self.stored: dict[NodeId, bytes] = {}
        self.frozen: dict[NodeId, list[tuple[NodeId, bytes]]] = {}
        self.side: dict[NodeId, int] = {}
        self.notices: list[tuple[int, NodeId, SwimAction]] = []
        self.halted: set[NodeId] = set()
        self.sent_bytes: dict[NodeId, int] = dict.fromkeys(self.nodes, 0)
        self.sent: dict[NodeId, int] = dict.fromkeys(self.nodes, 0)
        self.longest = 0
        self._queue: list[tuple[int, int, NodeId, NodeId, bytes]] = []
        self._count = itertools.count()
        for node in self.nodes:
            self.start(node)
        if chain:
            for one, other in itertools.pairwise(self.nodes):
                self.meet(one, other)

    # What happens to nodes

    def start(self, node: NodeId) -> None:
        self.halted.discard(node)
        rng = random.Random(self.rng.getrandbits(64))
        self.cores[node] = self.make(node, self.names[node], self.config, rng, self.stored.get(node), self.hops(node))
        self.event(node, Started())

    def hops(self, me: NodeId) -> Callable[[NodeId], int | None]:
        return lambda node: 1 if self.side.get(me) == self.side.get(node) else None

    def meet(self, one: NodeId, other: NodeId) -> None:
        self.event(one, PeerMet(other, self.names[other]))
        self.event(other, PeerMet(one, self.names[one]))

    def kill(self, node: NodeId) -> None:
        del self.cores[node]
        self.frozen.pop(node, None)

    def freeze(self, node: NodeId) -> None:
        self.frozen[node] = []

    def thaw(self, node: NodeId) -> None:
        for source, payload in self.frozen.pop(node):
            self.event(node, Datagram(source, payload))

    def leave(self, node: NodeId) -> None:
        self.event(node, LeaveRequested())

    def event(self, node: NodeId, event: SwimEvent) -> None:
        for action in self.cores[node].handle(event, self.now):
            self.perform(node, action)

    def perform(self, node: NodeId, action: SwimAction) -> None:
        match action:
            case Send(to, payload):
                self.transmit(node, to, payload)
            case Persist(_, value):
                self.stored[node] = value
            case Left():
                self.halted.add(node)
                self.notices.append((self.now, node, action))
            case _:
                self.notices.append((self.now, node, action))

    def transmit(self, node: NodeId, to: NodeId, payload: bytes) -> None:
        self.sent_bytes[node] += len(payload)
        self.sent[node] += 1
        self.longest = max(self.longest, len(payload))
        if self.rng.random() < self.loss or self.side.get(node) != self.side.get(to):
            return
        at = self.now + round(self.rng.uniform(*self.delay_ms) * MILLISECOND)
        heapq.heappush(self._queue, (at, next(self._count), to, node, payload))

    # Time

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Let time pass; with ``until``, stop once it holds and say whether it did."""
        end = self.now + round(seconds * SECOND)
        while True:
            if until is not None and until():
                return True
            node, at = self._next_wake()
            arrival = self._queue[0][0] if self._queue else None
            if arrival is not None and (at is None or arrival <= at):
                if arrival > end:
                    break
                self._deliver()
            elif node is not None and at is not None and at <= end:
                self.now = Instant(max(self.now, at))
                self.event(node, Wake())
            else:
                break
        self.now = Instant(end)
        return until is not None and until()

    def _next_wake(self) -> tuple[NodeId | None, Instant | None]:
        best: tuple[NodeId | None, Instant | None] = (None, None)
        for node, core in self.cores.items():
            at = core.deadline()
            if node not in self.frozen and at is not None and (best[1] is None or at < best[1]):
                best = (node, at)
        return best

    def _deliver(self) -> None:
        at, _, to, source, payload = heapq.heappop(self._queue)
        self.now = Instant(max(self.now, at))
        if to in self.frozen:
            self.frozen[to].append((source, payload))
        elif to in self.cores and to not in self.halted:
            self.event(to, Datagram(source, payload))

    # What is seen

    def running(self) -> list[NodeId]:
        return [node for node in self.cores if node not in self.halted]

    def view(self, node: NodeId) -> dict[NodeId, State]:
        return {member.node: member.state for member in self.cores[node].members()}

    def all_alive(self) -> bool:
        return all(
            self.view(node) == dict.fromkeys(self.nodes, State.ALIVE) or self._same(node) for node in self.running()
        )

    def _same(self, node: NodeId) -> bool:
        view = self.view(node)
        return set(view) == set(self.nodes) and set(view.values()) == {State.ALIVE}

    def all_hold(self, subject: NodeId, state: State) -> bool:
        return all(self.view(node).get(subject) is state for node in self.running() if node != subject)

    def deaths(self) -> list[tuple[int, NodeId, MemberDown]]:
        return [(at, node, notice) for at, node, notice in self.notices if isinstance(notice, MemberDown)]

    def refusals(self) -> list[Rejected]:
        return [notice for _, _, notice in self.notices if isinstance(notice, Rejected)]
