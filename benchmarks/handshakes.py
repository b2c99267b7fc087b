"""``python -m benchmarks.handshakes``: how many handshakes a mesh too large for its sessions costs each node.

``HANDSHAKE_NODES`` (1,000) members of one mesh, each a real ``Swim`` and a real ``Sessions`` core, on simulated time;
the control network between them is a delay of 5 ms, for the full simulator would need hours. Everybody knows
everybody, nobody has a session, and each may keep ``END_TO_END_MAX``. Counted is what a node begins and answers per
second: at rest, while a part of the mesh is cut off, and after it has come back.
"""

import heapq
import itertools
import random
import time
from collections import Counter
from collections.abc import Iterable

from benchmarks.labs import setting
from benchmarks.machine import Figure, report
from dmssd.security.certificate import Credentials, Subject, found, issue
from dmssd.security.identity import Identity
from dmssd.security.sessions import (
    END_TO_END_MAX,
    Opened,
    Outgoing,
    PeerKnown,
    Received,
    RoutedPath,
    Sessions,
    SessionsAction,
    SessionUp,
    Transmit,
)
from gossip import swim
from gossip.members import Standing, State
from gossip.swim import Swim, SwimAction, SwimConfig
from sansio.core import Wake
from sansio.ids import NodeId
from sansio.instant import MILLISECOND, SECOND, Duration, Instant, earliest

DELAY = Duration(5 * MILLISECOND)
HOPS = 3
MESSAGE1 = 1
REST_AIM_PER_S, HEALING_AIM_PER_S = 5.0, 30.0


class Crowd:
    """The mesh. ``begun`` and ``answered`` count handshakes by node since they were last cleared."""

    def __init__(self, count: int, seed: int = 1) -> None:
        self.now = Instant(SECOND)
        self.begun: Counter[NodeId] = Counter()
        self.deaths: list[tuple[NodeId, NodeId]] = []
        self.sessions: dict[NodeId, Sessions] = {}
        self.swims: dict[NodeId, Swim] = {}
        self.away: frozenset[NodeId] = frozenset()
        self._queue: list[tuple[Instant, int, NodeId, NodeId | None, bytes]] = []
        self._order = itertools.count()
        self._planned: dict[NodeId, Instant] = {}
        self._people(count, seed)
        self._introduce()

    @property
    def nodes(self) -> list[NodeId]:
        """Everybody, in a fixed order."""
        return list(self.swims)

    def _people(self, count: int, seed: int) -> None:
        chance = random.Random(seed)
        founder = found(Identity(chance.randbytes(32)), "n0", "crowd", chance.randbytes)
        everybody = [founder]
        for number in range(1, count):
            identity = Identity(chance.randbytes(32))
            chain = issue(founder, Subject(identity.key, identity.x25519, f"n{number}"), number)
            everybody.append(Credentials.load(identity, chain))
        for number, credentials in enumerate(everybody):
            node, rng = credentials.identity.node, random.Random(f"{seed}/{number}")
            self.sessions[node] = Sessions(credentials, rng.randbytes)
            self.swims[node] = Swim(node, f"n{number}", SwimConfig(), rng, None, lambda _: HOPS)
        self._keys = {each.identity.node: each.identity.x25519 for each in everybody}

    def _introduce(self) -> None:
        # Straight into the tables: what an acquaintance of thousands costs is another question.
        for node, core in self.swims.items():
            self._swim(node, core.handle(swim.Started(), self.now))
            for other, key in self._keys.items():
                if other != node:
                    core._ground.members.put(other, Standing(0, State.ALIVE, ""), self.now)
                    core._probing.take_turns_with(other)
                    self.sessions[node].handle(PeerKnown(other, key), self.now)
            core._pushpull._up_at_sync = len(self._keys)
            self._plan(node)

    def run(self, seconds: float) -> None:
        """Let time go by."""
        end = Instant(self.now + round(seconds * SECOND))
        while self._queue and self._queue[0][0] <= end:
            at, _, node, source, payload = heapq.heappop(self._queue)
            self.now = at
            if source is not None:
                self._session(node, self.sessions[node].handle(Received(RoutedPath(source), payload), at))
            elif self._planned.get(node) == at:
                del self._planned[node]
                if (due := self.sessions[node].deadline()) is not None and due <= at:
                    self._session(node, self.sessions[node].handle(Wake(), at))
                if (due := self.swims[node].deadline()) is not None and due <= at:
                    self._swim(node, self.swims[node].handle(Wake(), at))
            self._plan(node)
        self.now = end

    def _plan(self, node: NodeId) -> None:
        due = earliest(self.sessions[node].deadline(), self.swims[node].deadline())
        planned = self._planned.get(node)
        if due is not None and (planned is None or due < planned):
            at = max(due, self.now)
            self._planned[node] = at
            heapq.heappush(self._queue, (at, next(self._order), node, None, b""))

    def _swim(self, node: NodeId, actions: Iterable[SwimAction]) -> None:
        for action in actions:
            if isinstance(action, swim.Send):
                event = Outgoing(action.to, RoutedPath(action.to), action.payload)
                self._session(node, self.sessions[node].handle(event, self.now))
            elif isinstance(action, swim.MemberDown):
                self.deaths.append((node, action.node))

    def _session(self, node: NodeId, actions: Iterable[SessionsAction]) -> None:
        for action in actions:
            match action:
                case Transmit(RoutedPath(to), payload):
                    self.begun[node] += payload[1] == MESSAGE1
                    if (node in self.away) == (to in self.away):
                        at = Instant(self.now + DELAY)
                        heapq.heappush(self._queue, (at, next(self._order), to, node, payload))
                case Opened(peer, _, plaintext):
                    self._swim(node, self.swims[node].handle(swim.Datagram(peer, plaintext), self.now))
                case SessionUp(peer):
                    self._swim(node, self.swims[node].handle(swim.PeerMet(peer, ""), self.now))
                case _:
                    pass

    def rate(self, seconds: float) -> float:
        """Run so long; handshakes that a node begins per second, repetitions included, on average."""
        self.begun.clear()
        self.run(seconds)
        return self.begun.total() / len(self.swims) / seconds

    def most_sessions(self) -> int:
        """The largest number of sessions that anybody holds."""
        return max(len(core.peers()) for core in self.sessions.values())


def main() -> None:
    """At rest, cut, healed."""
    count, part = setting("HANDSHAKE_NODES", 1000), setting("HANDSHAKE_CUT", 10)
    crowd = Crowd(count)
    began = time.process_time()
    crowd.run(5)
    rest = crowd.rate(20)
    print(f"at rest {rest:.2f} begun a second and node ({time.process_time() - began:.0f} s)", flush=True)
    crowd.away = frozenset(crowd.nodes[:part])
    cut = [crowd.rate(5) for _ in range(6)]
    print(f"cut {cut}", flush=True)
    crowd.away = frozenset()
    healing = [crowd.rate(5) for _ in range(6)]
    print(f"healed {healing}; {len(crowd.deaths)} deaths told ({time.process_time() - began:.0f} s)", flush=True)
    held = crowd.most_sessions()
    report(
        [
            Figure(
                f"handshakes begun a second by each of {count}, at rest",
                f"{REST_AIM_PER_S:.0f}",
                f"{rest:.1f}",
                rest <= REST_AIM_PER_S,
            ),
            Figure(
                f"the same, after {part} that were cut off have come back, the worst 5 s",
                f"{HEALING_AIM_PER_S:.0f}",
                f"{max(healing):.1f}",
                max(healing) <= HEALING_AIM_PER_S,
            ),
            Figure("sessions held by anyone", f"{END_TO_END_MAX}", f"{held}", held <= END_TO_END_MAX),
        ]
    )


if __name__ == "__main__":
    main()
