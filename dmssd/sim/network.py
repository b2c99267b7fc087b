"""The simulated network: cables that delay, lose, duplicate and reorder, and that can be broken; hubs that join many.

A cable has two ends, each a (node, interface) pair; what enters one end leaves the other, multicast or not. The second
end may be a *hub*: it passes on at once to the port that has the address, to all others where it is multicast. Breakage
is counted, not flagged, so that overlapping faults heal one by one.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from dmssd.sim.clock import Clock
from routing.lsa import LinkNumber
from sansio.instant import MICROSECOND, MILLISECOND, Duration, Instant

Port = tuple[int, LinkNumber]
"""Node number and interface index."""


@dataclass(frozen=True, slots=True)
class Udp:
    """A datagram on the mesh port; ``to`` is None for the multicast group."""

    source: str
    to: str | None
    payload: bytes


@dataclass(frozen=True, slots=True)
class EchoRequest:
    """ICMPv6 echo request."""

    source: str
    to: str
    nonce: int


@dataclass(frozen=True, slots=True)
class EchoReply:
    """ICMPv6 echo reply."""

    source: str
    to: str
    nonce: int


Packet = Udp | EchoRequest | EchoReply


@dataclass(frozen=True, slots=True)
class Quality:
    """What a cable does to a packet: ``loss``, ``duplication`` and ``reordering`` are probabilities."""

    delay: Duration = Duration(500 * MICROSECOND)
    jitter: Duration = Duration(300 * MICROSECOND)
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    reordering_delay: Duration = Duration(5 * MILLISECOND)


@dataclass(slots=True)
class Cable:
    """``drops[0]`` counts the reasons why nothing gets from ``ends[0]`` to ``ends[1]``, ``drops[1]`` the other way.

    ``disturbed``: when it was last broken or mended, or a burst began or ended.
    """

    number: int
    ends: tuple[Port, Port]
    metrics: tuple[int, int]
    quality: Quality
    drops: list[int] = field(default_factory=lambda: [0, 0])
    unplugged: int = 0
    bursts: list[float] = field(default_factory=list)
    disturbed: Instant = Instant(0)
    has_hub: bool = False

    @property
    def usable(self) -> bool:
        """Whether packets pass both ways."""
        return not (self.unplugged or self.drops[0] or self.drops[1])

    @property
    def lossy(self) -> bool:
        """Whether a loss burst is on."""
        return bool(self.bursts)

    def __str__(self) -> str:
        return f"cable {self.number} ({self.ends[0][0]}-{self.ends[1][0]})"


class Network:
    """All cables; hands what arrives to ``receive(node, link, packet)``."""

    def __init__(
        self,
        clock: Clock,
        rng: random.Random,
        cables: tuple[Cable, ...],
        receive: Callable[[int, LinkNumber, Packet], None],
        address: Callable[[Port], str] = str,
    ) -> None:
        self._clock = clock
        self._random = rng.random
        self._receive = receive
        self.cables = cables
        self.sent = 0
        self._ports: dict[Port, tuple[Cable, int]] = {
            end: (cable, side) for cable in cables for side, end in enumerate(cable.ends)
        }
        self._hubs: dict[int, dict[str, Cable]] = {}  # the cables of each hub, by the address at their far end
        for cable in cables:
            if cable.has_hub:
                self._hubs.setdefault(cable.ends[1][0], {})[address(cable.ends[0])] = cable

    def cable(self, port: Port) -> Cable:
        """The cable plugged into ``port``."""
        return self._ports[port][0]

    def passes(self, port: Port, address: str) -> Port | None:
        """Where a packet to ``address`` that leaves by ``port`` now would arrive, chance apart; None if it would not.

        A cable leads to its other end, whatever the address there.
        """
        cable, side = self._ports[port]
        if cable.unplugged or cable.drops[side]:
            return None
        if not cable.has_hub:
            return cable.ends[1 - side]
        beyond = self._hubs[cable.ends[1][0]].get(address)
        passes = beyond is not None and not (beyond is cable or beyond.unplugged or beyond.drops[1])
        return beyond.ends[0] if beyond is not None and passes else None

    def send(self, port: Port, packet: Packet) -> None:
        """Put ``packet`` on the cable at ``port``."""
        self.sent += 1
        self._enter(*self._ports[port], packet)

    def _enter(self, cable: Cable, side: int, packet: Packet) -> None:
        if cable.unplugged or cable.drops[side]:
            return
        quality = cable.quality
        loss = quality.loss + sum(cable.bursts)
        if loss and self._random() < loss:
            return
        self._carry(cable, side, packet)
        if quality.duplication and self._random() < quality.duplication:
            self._carry(cable, side, packet)

    def _carry(self, cable: Cable, side: int, packet: Packet) -> None:
        quality = cable.quality
        delay = quality.delay + int(self._random() * quality.jitter)
        if quality.reordering and self._random() < quality.reordering:
            delay += quality.reordering_delay
        self._clock.after(delay, self._arrive, cable, side, packet)

    def _arrive(self, cable: Cable, side: int, packet: Packet) -> None:
        # Unplugging loses what is under way; a drop begun meanwhile does not.
        if cable.unplugged:
            return
        node, link = cable.ends[1 - side]
        if cable.has_hub and side == 0:
            ports = self._hubs[node]
            chosen = list(ports.values()) if packet.to is None else [ports[packet.to]] if packet.to in ports else []
            for beyond in chosen:
                if beyond is not cable:
                    self._enter(beyond, 1, packet)
        else:
            self._receive(node, link, packet)
