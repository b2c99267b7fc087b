"""Flooding: the messages between two neighbours' databases, and what still has to reach a neighbour.

Theory of operation (OSPF's flooding, RFC 2328 13, without its exchange states): a new LSA is sent to every neighbour
but the one it came from, at once, and sent again until acknowledged. ``Digest`` and ``Summary`` find what flooding
missed: equal digests end the matter; a summary page lists all claims from one origin to another, so the receiver
knows also what the sender lacks, sends that, and asks for what is newer there.

    tag | message | fields
    1   | Flood   | lsas: (remaining_ms, encoded SignedLsa) each
    2   | Ack     | receipts: (origin, sequence) each
    3   | Digest  | digest of the whole database; ask: whether an answer is wanted
    4   | Summary | first, last: the range of origins covered; claims: (origin, sequence, body digest) each, sorted
    5   | Request | origins wanted

A payload is at most ``FLOOD_BYTES_MAX`` bytes, but for a single LSA that is larger: it travels alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec

from routing.lsdb import CLAIM_DIGEST_BYTES, LSA_BYTES_MAX, Entry, Lsdb
from sansio.deadlines import Deadlines
from sansio.ids import NODE_ID_BYTES, NodeId, WireNodeId
from sansio.instant import Duration, Instant, after
from sansio.wire import WIRE, Codec

FLOOD_BYTES_MAX = 1100
FLOOD_LSAS_MAX = 24
FLOOD_PAYLOAD_MAX = LSA_BYTES_MAX + FLOOD_BYTES_MAX
CLAIMS_MAX = 24
REQUEST_MAX = 40
WINDOW = 32
URGENT_MAX = 128
RETRANSMISSIONS_MAX = 8
REMAINING_MS_MAX = 2**40

FIRST_ORIGIN = NodeId(bytes(NODE_ID_BYTES))
LAST_ORIGIN = NodeId(b"\xff" * NODE_ID_BYTES)

_ITEM_OVERHEAD = 16  # array, integer and byte-string headers around one LSA, rounded up
_MESSAGE_OVERHEAD = 8

_Sequence = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class FloodItem(msgspec.Struct, **WIRE):
    """One LSA, and the time it has left with the sender."""

    remaining_ms: Annotated[int, msgspec.Meta(ge=0, le=REMAINING_MS_MAX)]
    signed: Annotated[bytes, msgspec.Meta(max_length=LSA_BYTES_MAX)]


class Flood(msgspec.Struct, tag=1, **WIRE):
    """LSAs that the receiver may not have."""

    lsas: Annotated[tuple[FloodItem, ...], msgspec.Meta(max_length=FLOOD_LSAS_MAX)]


class Receipt(msgspec.Struct, **WIRE):
    """That an LSA, or a newer one, is held."""

    origin: WireNodeId
    sequence: _Sequence


class Ack(msgspec.Struct, tag=2, **WIRE):
    """What need not be sent again."""

    receipts: Annotated[tuple[Receipt, ...], msgspec.Meta(max_length=FLOOD_LSAS_MAX)]


class Digest(msgspec.Struct, tag=3, **WIRE):
    """The whole database in sixteen bytes."""

    digest: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    ask: bool


class Claim(msgspec.Struct, **WIRE):
    """What the sender of a summary holds of one origin."""

    origin: WireNodeId
    sequence: _Sequence
    body: Annotated[bytes, msgspec.Meta(min_length=CLAIM_DIGEST_BYTES, max_length=CLAIM_DIGEST_BYTES)]


class Summary(msgspec.Struct, tag=4, **WIRE):
    """Everything the sender holds of the origins from ``first`` to ``last``."""

    first: WireNodeId
    last: WireNodeId
    claims: Annotated[tuple[Claim, ...], msgspec.Meta(max_length=CLAIMS_MAX)]


class Request(msgspec.Struct, tag=5, **WIRE):
    """Origins whose LSAs the sender wants."""

    origins: Annotated[tuple[WireNodeId, ...], msgspec.Meta(max_length=REQUEST_MAX)]


FloodMessage = Flood | Ack | Digest | Summary | Request
FLOOD_CODEC: Codec[FloodMessage] = Codec(FloodMessage)


def pack(entries: Iterable[Entry], lifetime: Duration, now: Instant) -> list[bytes]:
    """Flood payloads that carry ``entries`` in order; an LSA too large for company travels alone."""
    payloads: list[bytes] = []
    items: list[FloodItem] = []
    size = _MESSAGE_OVERHEAD
    for entry in entries:
        remaining = lifetime if entry.expires is None else max(0, entry.expires - now)
        item = FloodItem(min(REMAINING_MS_MAX, remaining // 1_000_000), entry.signed)
        item_size = len(entry.signed) + _ITEM_OVERHEAD
        if items and (size + item_size > FLOOD_BYTES_MAX or len(items) == FLOOD_LSAS_MAX):
            payloads.append(FLOOD_CODEC.encode(Flood(tuple(items))))
            items, size = [], _MESSAGE_OVERHEAD
        items.append(item)
        size += item_size
    if items:
        payloads.append(FLOOD_CODEC.encode(Flood(tuple(items))))
    return payloads


def summarise(lsdb: Lsdb, first: NodeId, pages_max: int) -> tuple[list[bytes], NodeId]:
    """At most ``pages_max`` summary payloads from ``first`` on, and where the next call should begin."""
    entries = lsdb.between(first, LAST_ORIGIN)
    pages: list[bytes] = []
    following = next(entries, None)
    while len(pages) < pages_max:
        page: list[Claim] = []
        while following is not None and len(page) < CLAIMS_MAX:
            page.append(Claim(following.lsa.origin, following.lsa.sequence, following.claim_digest))
            following = next(entries, None)
        # A page ends just before the next page's first origin, so that together they leave no gap.
        last = LAST_ORIGIN if following is None else _before(following.lsa.origin)
        pages.append(FLOOD_CODEC.encode(Summary(first, last, tuple(page))))
        if following is None:
            return pages, FIRST_ORIGIN
        first = following.lsa.origin
    return pages, first


def _before(origin: NodeId) -> NodeId:
    return NodeId((int.from_bytes(origin, "big") - 1).to_bytes(NODE_ID_BYTES, "big"))


def requests(origins: Sequence[NodeId]) -> list[bytes]:
    """Request payloads for ``origins``."""
    return [
        FLOOD_CODEC.encode(Request(tuple(origins[start : start + REQUEST_MAX])))
        for start in range(0, len(origins), REQUEST_MAX)
    ]


@dataclass(slots=True)
class _Flight:
    """An LSA under way: the least sequence number whose receipt settles it, and how often it was sent."""

    sequence: int
    sent: int = 0


class Outbox:
    """What one neighbour still has to acknowledge.

    Fresh LSAs are due at once, up to ``URGENT_MAX`` under way; repairs wait for room in a window, so that an empty
    database is not flooded off its socket buffer. An LSA not acknowledged after ``RETRANSMISSIONS_MAX`` more copies
    is given up: ``exhausted`` is then set, and the comparison of databases must repair it. Holds one number per
    origin at most, so at most LSDB_MAX.
    """

    def __init__(self, first_wait: Duration, longest_wait: Duration) -> None:
        self._first_wait = first_wait
        self._longest_wait = longest_wait
        self._flights: dict[NodeId, _Flight] = {}
        self._due: Deadlines[NodeId] = Deadlines()
        self._waiting: dict[NodeId, int] = {}
        self.exhausted = False

    def __len__(self) -> int:
        return len(self._flights) + len(self._waiting)

    def urgent(self, origin: NodeId, sequence: int, now: Instant) -> None:
        """Have ``origin``'s LSA sent now, whatever the window."""
        self.forget(origin)
        if len(self._flights) < URGENT_MAX:
            self._launch(origin, sequence, now)
        else:
            self._waiting[origin] = sequence

    def queue(self, origin: NodeId, sequence: int) -> None:
        """Have ``origin``'s LSA sent when there is room, unless it is under way."""
        flight = self._flights.get(origin)
        if flight is None or flight.sequence < sequence:
            self.forget(origin)
            self._waiting[origin] = sequence

    def acknowledge(self, origin: NodeId, sequence: int) -> None:
        """The neighbour holds ``sequence`` of ``origin``."""
        flight = self._flights.get(origin)
        expected = flight.sequence if flight is not None else self._waiting.get(origin)
        if expected is not None and sequence >= expected:
            self.forget(origin)

    def holds(self, origin: NodeId) -> bool:
        """Whether ``origin``'s LSA has still to be acknowledged."""
        return origin in self._flights or origin in self._waiting

    def forget(self, origin: NodeId) -> None:
        """``origin``'s LSA need not be sent any more."""
        self._flights.pop(origin, None)
        self._due.cancel(origin)
        self._waiting.pop(origin, None)

    def take(self, now: Instant) -> list[NodeId]:
        """The origins whose LSAs are to be sent now, counted as sent."""
        again = self._take_due(now)
        while self._waiting and len(self._flights) < WINDOW:
            origin = next(iter(self._waiting))
            self._launch(origin, self._waiting.pop(origin), now)
        return again + self._take_due(now)

    def _take_due(self, now: Instant) -> list[NodeId]:
        return [origin for origin in self._due.pop_due(now) if self._send(origin, self._flights[origin], now)]

    def _launch(self, origin: NodeId, sequence: int, now: Instant) -> None:
        self._flights[origin] = _Flight(sequence)
        self._due.set(origin, now)

    def _send(self, origin: NodeId, flight: _Flight, now: Instant) -> bool:
        if flight.sent > RETRANSMISSIONS_MAX:
            del self._flights[origin]
            self.exhausted = True
            return False
        wait = min(self._longest_wait, self._first_wait << flight.sent)
        self._due.set(origin, after(now, Duration(wait)))
        flight.sent += 1
        return True

    def next(self) -> Instant | None:
        """When something is to be sent again; None: nothing is under way."""
        return self._due.next()
