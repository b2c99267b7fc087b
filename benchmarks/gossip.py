"""``python -m benchmarks.gossip``: gossip datagrams encoded, sealed, opened and decoded per CPU second.

Two ``Sessions`` cores of one mesh with a session between them, in one process and without a system call: a SWIM ping
is encoded, given its channel byte, sealed by the first core's ``handle(Outgoing)``, opened by the second one's
``handle(Received)`` and decoded. CPU time of this process, median of several rounds. Three sizes: the bare ping (what
most are while nothing changes), one with three updates aboard, and one as full as a message may be. The aim is held
against the ping with three updates: bare pings are the cheapest case, not the usual one while there is news.
"""

import random
import statistics
import time
from collections.abc import Callable

from benchmarks.machine import Figure, load, report
from dmssd.channels import Channel
from dmssd.security.certificate import CAPABILITY_ADMIN, Credentials, Subject, found, issue
from dmssd.security.identity import Identity
from dmssd.security.sessions import Connect, LinkPath, Opened, Outgoing, Received, Sessions, Transmit
from gossip.members import State
from gossip.messages import MESSAGE_CODEC, PAYLOAD_BYTES_MAX, Message, Ping, Update
from routing.lsa import LinkNumber
from sansio.ids import NODE_ID_BYTES, NodeId
from sansio.instant import SECOND, Instant

AIM = 60_000
ROUND = 10_000
ROUNDS = 15
NOW = Instant(1000 * SECOND)
CHANNEL = bytes((Channel.SWIM,))


class Pair:
    """Two members of one mesh, each reached by the other over a link."""

    def __init__(self) -> None:
        rng = random.Random(7)
        founder = found(Identity(rng.randbytes(32)), "alpha", "bench", rng.randbytes)
        joined = Identity(rng.randbytes(32))
        chain = issue(founder, Subject(joined.key, joined.x25519, "beta"), 1, CAPABILITY_ADMIN)
        self.alpha, self.beta = (
            Sessions(founder, rng.randbytes),
            Sessions(Credentials.load(joined, chain), rng.randbytes),
        )
        self.to_beta, self.to_alpha = (LinkPath(LinkNumber(1), f"fe80::{end}") for end in ("b", "a"))
        self.beta_node = joined.node
        self._handshake()

    def _handshake(self) -> None:
        flying = [(self.beta, action) for action in self.alpha.handle(Connect(self.beta_node, self.to_beta), NOW)]
        while flying:
            receiver, action = flying.pop(0)
            if isinstance(action, Transmit):
                sender = self.alpha if receiver is self.beta else self.beta
                back = self.to_alpha if receiver is self.beta else self.to_beta
                flying += [(sender, answer) for answer in receiver.handle(Received(back, action.payload), NOW)]
        assert self.alpha.is_member(self.beta_node)

    def pass_over(self, message: Message) -> Message:
        """The whole way of one datagram."""
        plaintext = CHANNEL + MESSAGE_CODEC.encode(message)
        (sealed,) = self.alpha.handle(Outgoing(self.beta_node, self.to_beta, plaintext), NOW)
        assert isinstance(sealed, Transmit)
        (opened,) = self.beta.handle(Received(self.to_alpha, sealed.payload), NOW)
        assert isinstance(opened, Opened)
        return MESSAGE_CODEC.decode(opened.plaintext[1:], "alpha")


def ping(updates: int) -> Ping:
    """A ping with so many updates about nodes of eight-letter names."""
    rng = random.Random(updates)
    news = tuple(Update(NodeId(rng.randbytes(NODE_ID_BYTES)), 3, State.ALIVE, "node0000") for _ in range(updates))
    return Ping(3, rng.getrandbits(32), news)


def fullest() -> Ping:
    """The ping with the most updates that a message may hold."""
    count = 0
    while len(MESSAGE_CODEC.encode(ping(count + 1))) <= PAYLOAD_BYTES_MAX:
        count += 1
    return ping(count)


def rate(work: Callable[[], object]) -> tuple[float, float]:
    """Median and highest count per CPU second over the rounds."""
    rates = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(ROUND):
            work()
        rates.append(ROUND / (time.process_time() - began))
    return statistics.median(rates), max(rates)


def main() -> None:
    """Measure the three sizes."""
    print(f"load average {load()}; {ROUNDS} rounds of {ROUND} datagrams")
    pair = Pair()
    measured = {}
    for message in (ping(0), ping(3), fullest()):
        assert pair.pass_over(message) == message
        measured[len(message.updates)] = rate(lambda message=message: pair.pass_over(message))  # type: ignore[misc]
        median, best = measured[len(message.updates)]
        payload = len(MESSAGE_CODEC.encode(message))
        print(
            f"ping with {len(message.updates):2} updates, {payload:3} bytes: {median:8,.0f}/s, at best {best:8,.0f}/s"
        )
    bare, usual, full = (median for median, _ in measured.values())
    report(
        [
            Figure(
                "gossip datagrams encoded, sealed, opened, decoded per CPU s",
                f"{AIM:,}",
                f"{usual:,.0f} with 3 updates; bare {bare:,.0f}; full {full:,.0f}",
                usual >= AIM,
            )
        ]
    )


if __name__ == "__main__":
    main()
