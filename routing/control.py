"""The control network: messages from any node to any other over adjacencies, needing no programmed route.

Theory of operation (DESIGN 4): a frame is handed from neighbour to neighbour. Each node passes it by its own
shortest-path table, or along the explicit route that the frame carries; each relay appends its prefix to the record,
so the receiver can answer along the reversed record even where nobody has a route to the asker, such as a *stranger*
that is about to join. What relays could forge is sealed end to end in the payload and is no matter of this module;
what can be checked here is: the last recorded relay, or the source where none is recorded, is the neighbour that
handed the frame over.

    field       | bytes  | meaning
    source      | 20     | NodeId of the originator
    destination | 20     | NodeId of the receiver
    hops        | 1      | relays that may still be passed
    record      | 8 each | prefixes of the NodeIds of the relays passed, in order
    route       | 8 each | prefixes of the relays still to pass; empty: by table
    payload     | n      | opaque

A frame costs 48 bytes and 8 for each relay. A frame that meets a relay a second time is dropped; one whose explicit
route is broken goes on by table. Strangers may send, at a bounded rate, but not relay. This core keeps no frames: it
is bounded by its tables.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, assert_never

import msgspec

from sansio.bounded import RecentTable, TokenBucket
from sansio.core import Rejected
from sansio.errors import RemoteProtocolError
from sansio.ids import NodeId, WireNodeId, short
from sansio.instant import Instant
from sansio.wire import WIRE, Codec

HOPS_MAX = 32
PREFIX_BYTES = 8
PAYLOAD_BYTES_MAX = 16_384
STRANGERS_MAX = 64
STRANGER_FRAMES_PER_SECOND = 20.0
STRANGER_FRAMES_BURST = 60.0

Route = tuple[bytes, ...]
"""Prefixes of the relays between two nodes, in order of travel, without the two."""

_Prefixes = Annotated[bytes, msgspec.Meta(max_length=HOPS_MAX * PREFIX_BYTES)]


class Frame(msgspec.Struct, **WIRE):
    """A control message under way; drawn in the module's docstring."""

    source: WireNodeId
    destination: WireNodeId
    hops: Annotated[int, msgspec.Meta(ge=0, le=HOPS_MAX)]
    record: _Prefixes
    route: _Prefixes
    payload: Annotated[bytes, msgspec.Meta(max_length=PAYLOAD_BYTES_MAX)]


FRAME_CODEC: Codec[Frame] = Codec(Frame)


def prefix(node: NodeId) -> bytes:
    """How a relay is named in records and routes: the first 8 bytes of its NodeId."""
    return node[:PREFIX_BYTES]


@dataclass(frozen=True, slots=True)
class Originate:
    """Send ``payload`` to ``destination``, along ``route`` where one is given."""

    destination: NodeId
    payload: bytes
    route: Route = ()


@dataclass(frozen=True, slots=True)
class FrameReceived:
    """A frame was opened from the session of ``neighbour``; ``stranger``: it is not, or not yet, a member."""

    neighbour: NodeId
    payload: bytes
    stranger: bool


@dataclass(frozen=True, slots=True)
class NextHopsSet:
    """Destination -> neighbour, from our own SPF; replaces the table."""

    next_hops: Mapping[NodeId, NodeId]


@dataclass(frozen=True, slots=True)
class NeighboursSet:
    """The nodes that can be reached directly; replaces the table."""

    neighbours: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class Forward:
    """Send a frame to a neighbour, sealed by its session."""

    neighbour: NodeId
    payload: bytes


@dataclass(frozen=True, slots=True)
class Arrived:
    """A payload for us, as ``source`` claims; ``route`` is what to give ``Originate`` for the answer."""

    source: NodeId
    route: Route
    payload: bytes


@dataclass(frozen=True, slots=True)
class Unreachable:
    """No way to ``destination`` is known: its payload was not sent."""

    destination: NodeId


ControlEvent = Originate | FrameReceived | NextHopsSet | NeighboursSet
ControlAction = Forward | Arrived | Unreachable | Rejected


class ControlRouter:
    """The core that passes control frames on. It has no timers."""

    def __init__(self, me: NodeId) -> None:
        self._me = me
        self._next_hops: Mapping[NodeId, NodeId] = {}
        self._neighbours: dict[bytes, NodeId] = {}  # by prefix
        self._strangers: RecentTable[bytes, NodeId] = RecentTable(STRANGERS_MAX)  # by prefix, latest heard last
        self._rate: TokenBucket[NodeId] = TokenBucket(STRANGER_FRAMES_PER_SECOND, STRANGER_FRAMES_BURST, STRANGERS_MAX)

    def handle(self, event: ControlEvent, now: Instant) -> list[ControlAction]:
        """React to one event."""
        match event:
            case Originate(destination, payload, route):
                return self._on_originate(destination, payload, route)
            case FrameReceived(neighbour, payload, stranger):
                return self._on_frame(neighbour, payload, stranger, now)
            case NextHopsSet(next_hops):
                self._next_hops = dict(next_hops)
                return []
            case NeighboursSet(neighbours):
                self._neighbours = {prefix(neighbour): neighbour for neighbour in neighbours}
                return []
            case _:
                assert_never(event)

    def deadline(self) -> Instant | None:
        """Never: nothing here waits."""
        return None

    def _on_originate(self, destination: NodeId, payload: bytes, route: Route) -> list[ControlAction]:
        if destination == self._me:
            return [Arrived(self._me, (), payload)]
        if len(payload) > PAYLOAD_BYTES_MAX or len(route) > HOPS_MAX:
            return [Unreachable(destination)]
        frame = Frame(self._me, destination, HOPS_MAX, b"", b"".join(route), payload)
        neighbour, rest = self._way(frame)
        if neighbour is None:
            return [Unreachable(destination)]
        return [self._pass_on(frame, neighbour, frame.record, rest, HOPS_MAX)]

    def _on_frame(self, neighbour: NodeId, payload: bytes, stranger: bool, now: Instant) -> list[ControlAction]:
        source = short(neighbour)
        if stranger and not self._rate.admit(neighbour, now):
            return [Rejected(source, "too many control frames from a stranger")]
        try:
            frame = FRAME_CODEC.decode(payload, source)
        except RemoteProtocolError:
            return [Rejected(source, "control frame cannot be decoded")]
        problem = self._problem(frame, neighbour, stranger)
        if problem is not None:
            return [Rejected(source, problem)]
        if stranger:
            self._strangers[prefix(neighbour)] = neighbour
        if frame.destination == self._me:
            return [Arrived(frame.source, tuple(reversed(_split(frame.record))), frame.payload)]
        return self._relay(frame, source)

    def _problem(self, frame: Frame, neighbour: NodeId, stranger: bool) -> str | None:
        if len(frame.record) % PREFIX_BYTES or len(frame.route) % PREFIX_BYTES:
            return "control frame with a broken route"
        record = _split(frame.record)
        if stranger and record and frame.destination != self._me:
            return "control frame relayed by a stranger"  # to us it may be: while we join, our relay is one
        if record[-1] != prefix(neighbour) if record else frame.source != neighbour:
            return "control frame of another neighbour"
        if frame.source == self._me or prefix(self._me) in record:
            return "control frame came round"
        return None

    def _relay(self, frame: Frame, source: str) -> list[ControlAction]:
        if frame.hops == 0 or len(frame.record) >= HOPS_MAX * PREFIX_BYTES:
            return [Rejected(source, "control frame has passed too many hops")]
        neighbour, rest = self._way(frame)
        if neighbour is None:
            return [Rejected(source, "control frame to nowhere")]
        if neighbour == frame.source or prefix(neighbour) in _split(frame.record):
            # Its own loop guard would drop it: two tables differ for a moment, and the sender will try again.
            return [Rejected(source, "control frame would go round")]
        record = frame.record + prefix(self._me)
        return [self._pass_on(frame, neighbour, record, rest, frame.hops - 1)]

    def _way(self, frame: Frame) -> tuple[NodeId | None, bytes]:
        """To whom to hand the frame, and what then remains of its explicit route."""
        name = prefix(frame.destination)
        if frame.destination in (self._neighbours.get(name), self._strangers.get(name)):
            return frame.destination, b""
        if frame.route:
            relay = self._neighbours.get(frame.route[:PREFIX_BYTES])
            if relay is not None:
                return relay, frame.route[PREFIX_BYTES:]
        return self._next_hops.get(frame.destination), b""

    def _pass_on(self, frame: Frame, neighbour: NodeId, record: bytes, route: bytes, hops: int) -> Forward:
        onward = Frame(frame.source, frame.destination, hops, record, route, frame.payload)
        return Forward(neighbour, FRAME_CODEC.encode(onward))


def _split(prefixes: bytes) -> Route:
    return tuple(prefixes[start : start + PREFIX_BYTES] for start in range(0, len(prefixes), PREFIX_BYTES))
