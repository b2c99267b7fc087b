"""The part this node has in the segments it is on: whom to be adjacent to, and when to speak for one.

Theory of operation. On a link with more than two nodes not all pairs are adjacent: two *speakers* are adjacent to
everybody, the others to them alone, and the rest is derived (:mod:`routing.pseudonode`).

Who speaks. The speakers' ranks are in their hellos and LSAs. Where fewer than two seats are taken, or nobody who speaks
is there, the nodes of lowest id among those that are there take what is free, each with a rank above all others: the
*designated* member is the most senior, so a newcomer displaces nobody, and when it is lost the other one is designated
at that very moment. A speaker with two seniors steps down. A daemon that restarts keeps its seat, since its kernel
still serves, and takes it again from its own LSA. A node new on a link waits ``wait`` to hear who speaks (RFC 2328
9.1, "Waiting"); so does everybody after a speaker has stepped down.

Who is adjacent. Everybody pairs with the first node that it meets, after a moment (``settle``) with the two of lowest
id that it has met by then, and with whoever speaks; with others only if the database does not, after ``patience``, show
both on one segment. Adjacencies that a segment makes superfluous are *spared* once the database shows it, and not
before: connection is never given up for a promise.

Who is reached. Every node on the segment by its own address (``GatewaysSet``), as long as any adjacency on the link is
up; but not one that was adjacent and is lost, at once and before the database says so. A node without a speaker's
adjacency is lost when its speakers say so, which all hear within a flood of the detection.

A node that cannot be adjacent to a speaker which others hold, for ``pair_patience``, is on no segment: it withdraws its
attachment and is adjacent to whom it can, as on a plain link. Pairs that cannot hear one another and of which neither
speaks are not found out: the medium of a segment is taken to be one.

Bounds: ``MET_MAX`` nodes are remembered, the latest heard; segments hold what the database holds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import Any, assert_never

from routing.lsa import ATTACHMENTS_MAX, Attachment, LinkNumber, Lsa
from routing.neighbours import (
    SPARED,
    SUCCEEDED,
    LinkDown,
    LinkUp,
    NeighbourDown,
    NeighbourRestarting,
    NeighbourSpeaks,
    NeighbourUp,
)
from routing.pseudonode import SEGMENTS_PROTOCOL, Port, Segment, segments
from sansio.bounded import RecentTable
from sansio.core import Wake
from sansio.deadlines import Deadlines
from sansio.ids import NodeId
from sansio.instant import MILLISECOND, SECOND, Duration, Instant, after
from sansio.protocol import common

MET_MAX = 1024
SPEAKERS = 2
OTHERS_MIN = 2
"""Other nodes on a link that make it a segment, where the configuration leaves it open."""

POINT_TO_POINT = "point-to-point"
SEGMENT = "segment"
AUTO = "auto"


@dataclass(frozen=True, slots=True)
class SegmentsConfig:
    """How long to wait for others. Raising ``settle`` avoids adjacencies where many meet at once, and delays the second
    one on a link; raising ``wait`` avoids speakers too many at a cold start and delays the first; raising ``patience``
    avoids adjacencies that are soon spared and delays those that are not.
    """

    settle: Duration = Duration(100 * MILLISECOND)
    wait: Duration = Duration(300 * MILLISECOND)
    patience: Duration = Duration(1 * SECOND)
    pair_patience: Duration = Duration(3 * SECOND)


@dataclass(frozen=True, slots=True)
class Met:
    """There is a session with the member ``node``, and it was heard on this link from this address."""

    node: NodeId
    link: LinkNumber
    address: str
    protocol: int


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Nobody has answered there for long."""

    node: NodeId
    link: LinkNumber
    address: str


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The node goes on under another key: whatever is known of it here is known of ``heir``."""

    node: NodeId
    heir: NodeId


@dataclass(frozen=True, slots=True)
class LsdbMoved:
    """The link-state database changed."""


@dataclass(frozen=True, slots=True)
class PairWanted:
    """Become adjacent to this node."""

    node: NodeId
    link: LinkNumber
    address: str


@dataclass(frozen=True, slots=True)
class Unmet:
    """Say again when this node is heard there: it was on our segment, and is not any more."""

    node: NodeId
    link: LinkNumber
    address: str


@dataclass(frozen=True, slots=True)
class Spared:
    """On this link exactly these nodes need no adjacency with us."""

    link: LinkNumber
    nodes: frozenset[NodeId]


@dataclass(frozen=True, slots=True)
class RankSet:
    """On this link we speak for the segment, by this rank; 0: we do not."""

    link: LinkNumber
    rank: int


@dataclass(frozen=True, slots=True)
class AttachmentsSet:
    """What our LSA is to say of segments; replaces all before."""

    attachments: tuple[Attachment, ...]


@dataclass(frozen=True, slots=True)
class GatewaysSet:
    """Who is reached directly over segments, and by which address; replaces all before."""

    addresses: Mapping[tuple[NodeId, LinkNumber], str]


_Judged = NeighbourUp | NeighbourDown | NeighbourRestarting | NeighbourSpeaks
SegmentsEvent = LinkUp | LinkDown | Met | Forgotten | Succeeded | _Judged | LsdbMoved | Wake
SegmentsAction = PairWanted | Unmet | Spared | RankSet | AttachmentsSet | GatewaysSet

_Place = tuple[NodeId, str]


@dataclass(slots=True)
class _Meeting:
    since: Instant
    protocol: int
    asked: bool = False


@dataclass(slots=True)
class _Link:
    """What is known of one of our links."""

    number: LinkNumber
    address: str
    kind: str
    rank: int = 0
    waits_until: Instant | None = None  # None: nobody has been adjacent yet
    settles_at: Instant | None = None  # None: nobody has been met yet
    up: dict[_Place, None] = field(default_factory=dict)
    restarting: dict[NodeId, None] = field(default_factory=dict)
    ranks: dict[NodeId, int] = field(default_factory=dict)  # as hellos say
    lost: dict[NodeId, None] = field(default_factory=dict)  # was adjacent, and the database has not taken it off yet
    missing: dict[NodeId, Instant] = field(default_factory=dict)  # speakers that we are not adjacent to, since when
    withdrawn: dict[NodeId, None] = field(default_factory=dict)  # those for whom we withdrew
    beside: dict[NodeId, str] = field(default_factory=dict)  # who else is on the segment, by the database
    parting: dict[NodeId, str] = field(default_factory=dict)  # who else was on it when it came to an end
    parting_until: Instant = Instant(0)
    speaking: dict[NodeId, int] = field(default_factory=dict)  # and which of them speak
    spared: frozenset[NodeId] = frozenset()
    attachment: Attachment | None = None
    ranked: bool = False  # we have spoken here since the start

    @property
    def adjacent(self) -> set[NodeId]:
        """Who is adjacent to us here."""
        return {node for node, _ in self.up}


class Segments:
    """The core; ``lsdb`` is a live, read-only view of this node's link-state database."""

    def __init__(self, me: NodeId, lsdb: Mapping[NodeId, Lsa], config: SegmentsConfig | None = None) -> None:
        self._me = me
        self._lsdb = lsdb
        self._config = config or SegmentsConfig()
        self._links: dict[LinkNumber, _Link] = {}
        self._met: RecentTable[tuple[LinkNumber, NodeId, str], _Meeting] = RecentTable(MET_MAX)
        self._segments: tuple[Segment, ...] = ()
        self._possible = True
        self._timers: Deadlines[LinkNumber] = Deadlines()
        self._attachments: tuple[Attachment, ...] = ()
        self._gateways: dict[tuple[NodeId, LinkNumber], str] = {}
        self._unmet: list[Unmet] = []

    def handle(self, event: SegmentsEvent, now: Instant) -> list[SegmentsAction]:
        """React to one event."""
        concerned = self._note(event, now)
        actions: list[SegmentsAction] = []
        for link in concerned:
            actions += self._judge(link, now)
        actions += self._unmet
        self._unmet = []
        return actions + self._told(now)

    def deadline(self) -> Instant | None:
        """When a wait or a patience ends."""
        return self._timers.next()

    def gateways(self) -> GatewaysSet:
        """Who is reached directly over segments now."""
        return GatewaysSet(dict(self._gateways))

    def rank(self, link: LinkNumber) -> int:
        """Our rank as speaker on a link; 0: we do not speak there."""
        return self._links[link].rank if link in self._links else 0

    # What is known

    def _note(self, event: SegmentsEvent, now: Instant) -> list[_Link]:
        match event:
            case LinkUp():
                return self._on_link_up(event)
            case LinkDown(number):
                self._links.pop(number, None)
                self._timers.cancel(number)
                for key in [key for key in self._met if key[0] == number]:
                    del self._met[key]
                return []
            case Met(node, number, address, protocol):
                return self._on_met(node, number, address, protocol, now)
            case Forgotten(node, number, address):
                self._met.pop((number, node, address), None)
            case Succeeded(node, heir):
                return self._on_succeeded(node, heir)
            case LsdbMoved():
                return self._on_lsdb_moved(now)
            case Wake():
                return [self._links[number] for number in self._timers.pop_due(now)]
            case _:
                self._on_neighbour(event, now)
        link = self._links.get(event.link)
        return [link] if link is not None else []

    def _on_link_up(self, event: LinkUp) -> list[_Link]:
        link = self._links.get(event.link)
        if link is None:
            link = self._links[event.link] = _Link(event.link, event.address, event.kind)
        link.address, link.kind = event.address, event.kind
        return [link]

    def _on_met(self, node: NodeId, number: LinkNumber, address: str, protocol: int, now: Instant) -> list[_Link]:
        link = self._links.get(number)
        if link is None:
            return []
        known = self._met.get((number, node, address))
        if known is None or known.protocol != protocol:
            self._met[number, node, address] = _Meeting(now, protocol)
        if link.settles_at is None:
            link.settles_at = after(now, self._config.settle)
        return [link]

    def _on_succeeded(self, node: NodeId, heir: NodeId) -> list[_Link]:
        for number, who, address in [place for place in self._met if place[1] == node]:
            self._met[number, heir, address] = self._met.pop((number, who, address))
        for link in self._links.values():
            link.up = {(heir if who == node else who, address): None for who, address in link.up}
            tables: tuple[dict[NodeId, Any], ...] = (
                link.restarting,
                link.ranks,
                link.lost,
                link.missing,
                link.withdrawn,
                link.beside,
                link.parting,
                link.speaking,
            )
            for table in tables:
                if node in table:
                    table[heir] = table.pop(node)
        # Nothing to judge: not a thing has changed but a name, and the database is about to say so too.
        return []

    def _on_neighbour(self, event: _Judged, now: Instant) -> None:
        link = self._links.get(event.link)
        if link is None:
            return
        match event:
            case NeighbourUp(node, _, _, address):
                if not link.up:
                    # New on the link, or back on it: others may have come to speak meanwhile.
                    link.waits_until = after(now, self._config.wait)
                link.up[node, address] = None
                link.restarting.pop(node, None)
                link.lost.pop(node, None)
            case NeighbourDown(node, _, reason, _, address):
                link.up.pop((node, address), None)
                link.restarting.pop(node, None)
                if node not in link.adjacent:
                    link.ranks.pop(node, None)
                    if reason not in (SPARED, SUCCEEDED):
                        link.lost[node] = None
            case NeighbourRestarting(node):
                link.restarting[node] = None
            case NeighbourSpeaks(node, _, rank):
                if rank < link.ranks.get(node, 0):
                    link.waits_until = after(now, self._config.wait)
                link.ranks[node] = rank
            case _:
                assert_never(event)

    def _on_lsdb_moved(self, now: Instant) -> list[_Link]:
        # One that speaks protocol 1 is enough: then all is as it knows it.
        before = self._possible
        self._possible = common(lsa.protocol for lsa in self._lsdb.values()) >= SEGMENTS_PROTOCOL
        found = segments(self._lsdb)
        if self._possible == before and not found and not self._segments and not self._attachments:
            return []
        self._segments = found
        for link in self._links.values():
            self._read(link, now)
        return list(self._links.values())

    def _read(self, link: _Link, now: Instant) -> None:
        """What the database says of the segment that a link is on."""
        mine = [segment for segment in self._segments if Port(self._me, link.number) in segment.members]
        before = link.beside
        link.beside = {
            port.node: str(IPv6Address(address))
            for segment in mine
            for port, address in reversed(list(segment.members.items()))
            if port.node != self._me
        }
        if mine:
            link.parting = {}
        elif before:
            # The row in use still leads there directly; the next one will not.
            link.parting, link.parting_until = before, after(now, self._config.patience)
        ranks = {
            Port(node, attachment.link): attachment.speaks
            for node, lsa in self._lsdb.items()
            for attachment in lsa.attachments
        }
        link.speaking = {
            port.node: ranks[port] for segment in mine for port in segment.speakers if port.node != self._me
        }
        if mine:
            # Who falls off a segment that we are still on is gone: it is met again when it is heard again.
            gone = before.keys() - link.beside.keys() - link.adjacent
            for key in [key for key in self._met if key[0] == link.number and key[1] in gone]:
                del self._met[key]
                self._unmet.append(Unmet(key[1], link.number, key[2]))
        own = self._lsdb.get(self._me)
        for attachment in own.attachments if own is not None and not link.ranked else ():
            if attachment.link == link.number and attachment.speaks:
                link.rank = -attachment.speaks  # before a restart; confirmed when judged

    # What follows

    def _judge(self, link: _Link, now: Instant) -> list[SegmentsAction]:
        actions: list[SegmentsAction] = []
        shared = self._is_shared(link)
        self._judge_pairs(link, shared, now)
        rank = self._rank(link, shared, now)
        if rank != link.rank:
            link.rank = rank
            actions.append(RankSet(link.number, rank))
        # Of a pair of which neither speaks any more the speakers judge, and no loss of before counts.
        for node in list(link.lost):
            if node not in link.beside or not (rank or node in link.speaking):
                del link.lost[node]
        attached = shared and not link.withdrawn
        link.attachment = Attachment(link.number, IPv6Address(link.address).packed, rank) if attached else None
        link.ranked = link.ranked or rank > 0
        spared = frozenset(
            node for node in link.beside if not rank and not link.speaking.get(node) and not link.ranks.get(node)
        )
        if spared != link.spared:
            link.spared = spared
            actions.append(Spared(link.number, spared))
        actions += self._wants(link, now)
        self._arm(link, shared, now)
        return actions

    def _is_shared(self, link: _Link) -> bool:
        if not self._possible or link.kind == POINT_TO_POINT or not link.address:
            return False
        return link.kind == SEGMENT or len(link.adjacent | link.beside.keys()) >= OTHERS_MIN

    def _judge_pairs(self, link: _Link, shared: bool, now: Instant) -> None:
        adjacent = link.adjacent
        link.missing = {
            node: link.missing.get(node, now) for node in link.speaking if node not in adjacent and not link.rank
        }
        for node, since in link.missing.items():
            if now >= after(since, self._config.pair_patience):
                link.withdrawn[node] = None
        for node in list(link.withdrawn):
            lsa = self._lsdb.get(node)
            speaks = lsa is not None and any(attachment.speaks for attachment in lsa.attachments)
            if node in adjacent or not speaks or not shared:
                del link.withdrawn[node]

    def _rank(self, link: _Link, shared: bool, now: Instant) -> int:
        if not shared or link.withdrawn:
            return 0
        adjacent = link.adjacent
        seats = {node: link.ranks.get(node) or link.speaking.get(node, 0) for node in adjacent}
        seats |= {node: rank for node, rank in link.speaking.items() if node not in adjacent and node not in link.lost}
        seats = {node: rank for node, rank in seats.items() if rank}
        live = {node for node in (*adjacent, *link.beside) if node not in link.restarting and node not in link.lost}
        if link.rank:
            own = abs(link.rank)
            seniors = [node for node, rank in seats.items() if node in live and (rank, node) < (own, self._me)]
            return own if len(seniors) < SPEAKERS else 0
        if link.waits_until is None or now < link.waits_until:
            return 0
        free = max(SPEAKERS - len(seats), 0 if live & seats.keys() else 1)
        first = sorted({self._me, *(node for node in live if node not in seats)})[:free]
        known = (0, *seats.values(), *link.speaking.values(), *link.ranks.values())
        return max(known) + 1 if self._me in first else 0

    def _wants(self, link: _Link, now: Instant) -> list[PairWanted]:
        here = {key: meeting for key, meeting in self._met.items() if key[0] == link.number}
        settled = len(here) == 1 or (link.settles_at is not None and now >= link.settles_at)
        first = sorted({self._me, *(node for _, node, _ in here)})[:SPEAKERS] if settled else []
        wanted: list[PairWanted] = []
        for (_, node, address), meeting in here.items():
            if node in link.spared:
                meeting.asked = False
            elif not meeting.asked and (self._me in first or node in first or self._is_due(link, node, meeting, now)):
                meeting.asked = True
                wanted.append(PairWanted(node, link.number, address))
        if link.rank:
            met = {node for _, node, _ in here}
            adjacent = link.adjacent
            for node, address in link.beside.items():
                if node not in met and node not in adjacent and node not in link.lost:
                    self._met[link.number, node, address] = _Meeting(now, SEGMENTS_PROTOCOL, asked=True)
                    wanted.append(PairWanted(node, link.number, address))
        return wanted

    def _is_due(self, link: _Link, node: NodeId, meeting: _Meeting, now: Instant) -> bool:
        speaks = link.rank or link.speaking.get(node) or link.ranks.get(node)
        plain = not self._possible or link.kind == POINT_TO_POINT or meeting.protocol < SEGMENTS_PROTOCOL
        return bool(speaks or plain or now >= after(meeting.since, self._config.patience))

    def _arm(self, link: _Link, shared: bool, now: Instant) -> None:
        config = self._config
        due = [after(since, config.pair_patience) for since in link.missing.values()]
        due += [
            after(meeting.since, config.patience)
            for (number, node, _), meeting in self._met.items()
            if number == link.number and not meeting.asked and node not in link.spared
        ]
        if shared and link.waits_until is not None:
            due.append(link.waits_until)
        if link.settles_at is not None:
            due.append(link.settles_at)
        if link.parting:
            due.append(link.parting_until)
        ahead = [instant for instant in due if instant > now]
        if ahead:
            self._timers.set(link.number, min(ahead))
        else:
            self._timers.cancel(link.number)

    def _told(self, now: Instant) -> list[SegmentsAction]:
        """What concerns all links together, where it is news."""
        actions: list[SegmentsAction] = []
        links = [self._links[number] for number in sorted(self._links)]
        attachments = tuple(link.attachment for link in links if link.attachment is not None)[:ATTACHMENTS_MAX]
        if attachments != self._attachments:
            self._attachments = attachments
            actions.append(AttachmentsSet(attachments))
        gateways = {
            (node, link.number): address
            for link in links
            if link.up
            for node, address in (link.beside or _parting(link, now)).items()
            if node not in link.lost
        }
        if gateways != self._gateways:
            self._gateways = gateways
            # First, so that nothing is spared before it can be reached without.
            actions.insert(0, GatewaysSet(gateways))
        return actions


def _parting(link: _Link, now: Instant) -> dict[NodeId, str]:
    return link.parting if now < link.parting_until else {}
