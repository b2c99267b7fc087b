"""Many claiming cores that hear of one another's claims, each after a delay of its own."""

import heapq
import itertools
import random

from routing.claims import AddressClaims, ClaimHeard, Compared, PoolFull, PublishClaim, Started
from sansio.core import Rejected, Wake
from sansio.ids import NodeId
from sansio.instant import SECOND, Duration, Instant, after

BATCHES = 16


def settle(cores: dict[NodeId, AddressClaims], begin: Instant, rng: random.Random, delay_s: float) -> Instant:
    """Everybody starts at once; a statement reaches the others in batches, each after a delay of its own."""
    queue: list[tuple[Instant, int, list[NodeId], object]] = []
    latest: dict[object, ClaimHeard] = {}
    everybody = list(cores)

    def push(at: Instant, nodes: list[NodeId], event: object) -> None:
        heapq.heappush(queue, (at, next(order), nodes, event))

    def spread(author: NodeId, claim: PublishClaim) -> None:
        latest[author, claim.family] = ClaimHeard(author, claim.family, claim.payload)
        rng.shuffle(everybody)
        for batch in range(BATCHES):
            late = Duration(int(rng.random() * delay_s * SECOND))
            push(after(now, late), everybody[batch::BATCHES], (author, claim.family))

    order = itertools.count()
    for node in everybody:
        push(begin, [node], Started())
        push(begin, [node], Compared())
    now = begin
    while queue:
        now, _, nodes, event = heapq.heappop(queue)
        event = latest.get(event, event)  # statements are replaced by newer ones only
        for node in nodes:
            if isinstance(event, ClaimHeard) and event.node == node:
                continue
            for action in cores[node].handle(event, now):
                assert not isinstance(action, PoolFull | Rejected)
                if isinstance(action, PublishClaim):
                    spread(node, action)
                    push(cores[node].deadline() or now, [node], Wake())
    return now
