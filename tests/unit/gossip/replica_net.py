"""A network of Replica cores in virtual time: seeded loss and delay, partitions, restarts from disk. Bytes only."""

import hashlib
import heapq
import itertools
import random

from gossip.replica import (
    MemberMet,
    Publish,
    Received,
    Replica,
    ReplicaAction,
    ReplicaEvent,
    Send,
    Started,
    StatementsChanged,
    TopicRules,
)
from sansio.core import Persist, Rejected, Wake
from sansio.ids import NodeId
from sansio.instant import MILLISECOND, SECOND, Instant

REALM = b"realm"
RULES = {"t": TopicRules(4), "wide": TopicRules(2_000, 20), "law": TopicRules(4, durable=True)}


def identity(number: int) -> NodeId:
    return NodeId(number.to_bytes(2, "big") * 10)


class Keys:
    """Signatures that hold by a hash: only ``proof_of`` makes them, and it is asked with the author's name."""

    def __init__(self, me: NodeId) -> None:
        self.me = me
        self.asked = 0

    def sign(self, body: bytes) -> bytes:
        return proof_of(self.me, body)

    def verify(self, origin: NodeId, body: bytes, proof: bytes) -> bool:
        self.asked += 1
        return proof == proof_of(origin, body)


def proof_of(author: NodeId, body: bytes) -> bytes:
    return hashlib.blake2b(author + body, digest_size=8).digest()


class Net:
    def __init__(self, count: int, seed: int, loss: float = 0.0) -> None:
        self.rng = random.Random(seed)
        self.loss = loss
        self.now = Instant(0)
        self.nodes = [identity(number) for number in range(1, count + 1)]
        self.side: dict[NodeId, int] = {}
        self.disks: dict[NodeId, dict[str, bytes]] = {node: {} for node in self.nodes}
        self.cores: dict[NodeId, Replica] = {}
        self.keys: dict[NodeId, Keys] = {}
        self.changes: list[tuple[NodeId, StatementsChanged]] = []
        self.rejected: list[tuple[NodeId, Rejected]] = []
        self.writes = 0
        self.sent = 0
        self.sent_bytes = 0
        self._queue: list[tuple[int, int, NodeId, NodeId, bytes]] = []
        self._count = itertools.count()
        for node in self.nodes:
            self.start(node)

    def start(self, node: NodeId) -> None:
        """Start, or start again from what is on disk."""
        keys = self.keys[node] = Keys(node)
        rng = random.Random(self.rng.getrandbits(64))
        self.cores[node] = Replica(node, REALM, keys, keys, rng, self.disks[node], RULES, lambda: self.peers(node))
        self.tell(node, Started())
        for other in self.peers(node):
            self.tell(node, MemberMet(other))
            if other in self.cores:
                self.tell(other, MemberMet(node))

    def peers(self, node: NodeId) -> list[NodeId]:
        return [other for other in self.nodes if other != node and self.joined(node, other)]

    def joined(self, a: NodeId, b: NodeId) -> bool:
        return self.side.get(a, 0) == self.side.get(b, 0)

    def tell(self, node: NodeId, event: ReplicaEvent) -> list[ReplicaAction]:
        actions = self.cores[node].handle(event, self.now)
        for action in actions:
            match action:
                case Send(to, payload):
                    self.sent += 1
                    self.sent_bytes += len(payload)
                    if self.joined(node, to) and self.rng.random() >= self.loss:
                        due = self.now + int(self.rng.uniform(1, 20) * MILLISECOND)
                        heapq.heappush(self._queue, (due, next(self._count), node, to, payload))
                case Persist(key, value):
                    self.writes += 1
                    self.disks[node][key] = value
                case StatementsChanged():
                    self.changes.append((node, action))
                case Rejected():
                    self.rejected.append((node, action))
        return actions

    def publish(self, node: NodeId, subject: bytes, body: bytes, topic: str = "t") -> list[ReplicaAction]:
        return self.tell(node, Publish(topic, subject, body))

    def run(self, seconds: float) -> None:
        end = self.now + int(seconds * SECOND)
        while True:
            due = [(when, node) for node, core in self.cores.items() if (when := core.deadline()) is not None]
            first = min(due, default=(end + 1, self.nodes[0]))
            arrival = self._queue[0][0] if self._queue else end + 1
            if min(first[0], arrival) > end:
                self.now = Instant(end)
                return
            self.now = Instant(max(self.now, min(first[0], arrival)))
            if arrival <= first[0]:
                _, _, source, to, payload = heapq.heappop(self._queue)
                if self.joined(source, to):
                    self.tell(to, Received(source, payload))
            else:
                self.tell(first[1], Wake())

    def split(self, side: set[NodeId]) -> None:
        self.side = dict.fromkeys(side, 1)

    def heal(self) -> None:
        apart = dict(self.side)
        self.side = {}
        for node in self.nodes:
            for other in self.nodes:
                if other != node and apart.get(node, 0) != apart.get(other, 0):
                    self.tell(node, MemberMet(other))

    def alike(self) -> bool:
        return len({core.digest for core in self.cores.values()}) == 1

    def said(self, node: NodeId, topic: str = "t") -> dict[tuple[NodeId, bytes], bytes]:
        return {(held.key.author, held.key.subject): held.body for held in self.cores[node].topic(topic)}
