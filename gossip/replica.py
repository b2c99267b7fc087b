"""A replicated set of signed statements: every member comes to hold the same ones. The core, to be read first.

Theory of operation. A statement is what its author says on a topic about a subject; a later one of the same author,
topic and subject (a higher sequence) takes its place, and an empty body takes it back. Nobody's statement displaces
another author's: who is right where two contradict each other is for the rules of the topic to decide, as a function
of the set. So the set itself is a join semilattice: whatever the order in which statements arrive, members that got
the same ones hold the same ones.

- *Push.* What is new here (our own, or of others) is passed on once, to ``FANOUT`` random members, a moment later and
  together with other news: an epidemic that reaches nearly everyone in about log(N) steps.
- *Repair.* Every ``SYNC_INTERVAL``, and soon after meeting a member, digests are compared with one random member:
  of the whole set, then of its 64 parts, then part by part what each side holds (:mod:`gossip.statements`). Only
  differences travel; nothing is acknowledged, a lost message costs a round.
- *Belief.* A statement is verified before it is held, shown or passed on. The verifier is injected.
- *Disk.* The set is stored in ``STORED_PARTS`` pieces. A piece with a statement of our own is on disk before that is
  spoken (its sequence must never be used twice); pieces with others' statements follow within ``PERSIST_AFTER``, all
  changes of that time in one write: what a crash loses of them is repaired like any loss.

Bounds are those of :mod:`gossip.replica_table`; and statements that displace others (replacements, or new ones of an
author at its bound) are taken from each author at ``CHANGE_RATE_PER_S``, so that nobody keeps the mesh busy. What is
refused for its rate comes again with the next repair.

A topic is used by registering its rules where the replica is made (:mod:`dmssd.rules.statements`), by ``Publish``, and
by reacting to ``StatementsChanged``.

Sources: Demers et al. 1987, 1.3-1.4 (rumour mongering backed by anti-entropy).
"""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol, assert_never

import msgspec

from gossip.replica_table import StatementTable, TopicRules
from gossip.statements import (
    PARTS,
    PUSH_MAX,
    REPLICA_CODEC,
    SEQUENCE_MAX,
    STATED_CODEC,
    SUMMARY_MAX,
    WANT_MAX,
    Compare,
    Entry,
    Held,
    Key,
    Parts,
    Push,
    ReplicaMessage,
    Same,
    Stated,
    Statement,
    Summary,
    Want,
    held,
)
from sansio.bounded import TokenBucket
from sansio.core import Persist, Rejected, Wake
from sansio.deadlines import Deadlines
from sansio.errors import LocalProtocolError, RemoteProtocolError
from sansio.ids import NodeId, short
from sansio.instant import MILLISECOND, SECOND, Duration, Instant, after
from sansio.wire import WIRE, Codec

__all__ = ["Key", "Replica", "TopicRules"]

FANOUT = 4
PUSH_AFTER = Duration(50 * MILLISECOND)
"""At most so long news waits for other news."""

SYNC_INTERVAL = Duration(20 * SECOND)
SYNC_SOON = Duration(500 * MILLISECOND)
"""After meeting a member, and between the rounds of a repair that finds something."""

PERSIST_AFTER = Duration(5 * SECOND)
PUSH_BYTES = 700
"""Statements are packed into messages of about this size; a larger one travels alone."""

ANSWER_BYTES_MAX = 64 << 10
"""Statements sent in answer to one summary; the next round brings more."""

ROUND_PARTS_MAX = 8
"""Parts repaired in one round, chosen at random where more differ."""

ROUNDS_MAX = 6
"""Doublings of the wait between rounds that bring nothing."""

STORED_PARTS = 16
STORED_KEYS = tuple(f"statements-{number:x}" for number in range(STORED_PARTS))

CHANGE_RATE_PER_S, CHANGE_BURST = 2.0, 64.0  # displacements of one author
SOURCE_RATE_PER_S, SOURCE_BURST = 500.0, 5_000.0  # statements from one source that must be verified
REQUEST_RATE_PER_S, REQUEST_BURST = 8.0, 64.0  # compares, parts, summaries and wants of one source
SOURCES_MAX = 1_024
FIRST, LAST = bytes(8), b"\xff" * 8


class Signer(Protocol):
    """Signs as this node."""

    def sign(self, body: bytes) -> bytes:
        """The proof that ``body`` is this node's."""


class Verifier(Protocol):
    """Checks who signed."""

    def verify(self, origin: NodeId, body: bytes, proof: bytes) -> bool:
        """Whether ``proof`` shows that ``body`` is of ``origin``, a member; never raises."""


@dataclass(frozen=True, slots=True)
class Started:
    """The first event. What was stored is told as changed, so that its users need no other way to learn of it."""


@dataclass(frozen=True, slots=True)
class Received:
    """``source``, a member, said ``payload`` on the channel of statements."""

    source: NodeId
    payload: bytes


@dataclass(frozen=True, slots=True)
class Publish:
    """State ``body`` about ``subject``; an empty body takes back what was stated. Without effect where it is held."""

    topic: str
    subject: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class MemberMet:
    """A member is up that understands statements: compare sets with it soon."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class AuthorsRefused:
    """Statements of these authors are neither taken nor kept, but on durable topics. Replaces the refusal before."""

    authors: frozenset[NodeId]


@dataclass(frozen=True, slots=True)
class PushNow:
    """Let no news wait for other news: the node is about to go."""


@dataclass(frozen=True, slots=True)
class PersistNow:
    """Have on disk what is held, without waiting for more."""


ReplicaEvent = Started | Received | Publish | MemberMet | AuthorsRefused | PushNow | PersistNow | Wake


@dataclass(frozen=True, slots=True)
class Send:
    """Send ``payload`` to ``to`` on the channel of statements."""

    to: NodeId
    payload: bytes


@dataclass(frozen=True, slots=True)
class StatementsChanged:
    """What is held under these keys of one topic is not what it was: other, new or gone. Sorted."""

    topic: str
    keys: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class SetsEqual:
    """``node`` held the same set as we did a moment ago: what the mesh had stated is known here."""

    node: NodeId


ReplicaAction = Send | StatementsChanged | SetsEqual | Persist | Rejected


class _StoredPart(msgspec.Struct, **WIRE):
    realm: Annotated[bytes, msgspec.Meta(max_length=64)]
    statements: list[Statement]


_STORED_CODEC: Codec[_StoredPart] = Codec(_StoredPart)


@dataclass(frozen=True, slots=True)
class _PushDue:
    pass


@dataclass(frozen=True, slots=True)
class _SyncDue:
    pass


@dataclass(frozen=True, slots=True)
class _PersistDue:
    pass


class Replica:
    """The set as one member holds it.

    ``realm`` names the mesh: what was stored in another is not read. ``stored`` holds what ``Persist`` wrote under
    ``STORED_KEYS``. ``peers`` tells, when asked, the members that are up and understand statements.
    """

    def __init__(
        self,
        me: NodeId,
        realm: bytes,
        signer: Signer,
        verifier: Verifier,
        rng: random.Random,
        stored: Mapping[str, bytes],
        topics: Mapping[str, TopicRules],
        peers: Callable[[], Sequence[NodeId]],
    ) -> None:
        self._me = me
        self._realm = realm
        self._signer = signer
        self._verifier = verifier
        self._rng = rng
        self._topics = topics
        self._peers = peers
        self._table = StatementTable(topics)
        self._refused: frozenset[NodeId] = frozenset()
        self._news: dict[Key, NodeId] = {}  # to be pushed -> whom it came from
        self._unsaved: set[int] = set()
        self._met: dict[NodeId, None] = {}
        self._timers: Deadlines[_PushDue | _SyncDue | _PersistDue] = Deadlines()
        self._rounds = 0  # of repair that followed one another and brought nothing
        self._changes: TokenBucket[NodeId] = TokenBucket(CHANGE_RATE_PER_S, CHANGE_BURST, SOURCES_MAX)
        self._sources: TokenBucket[NodeId] = TokenBucket(SOURCE_RATE_PER_S, SOURCE_BURST, SOURCES_MAX)
        self._requests: TokenBucket[NodeId] = TokenBucket(REQUEST_RATE_PER_S, REQUEST_BURST, SOURCES_MAX)
        self._load(stored)

    # The door

    def handle(self, event: ReplicaEvent, now: Instant) -> list[ReplicaAction]:
        """React to one event."""
        match event:
            case Started():
                self._timers.set(_SyncDue(), after(now, self._random_part(SYNC_INTERVAL)))
                return _changes({each.key: None for each in self._table})
            case Received(source, payload):
                return self._on_received(source, payload, now)
            case Publish(topic, subject, body):
                return self._on_publish(topic, subject, body, now)
            case MemberMet(node):
                return self._on_met(node, now)
            case AuthorsRefused(authors):
                return self._on_refused(authors, now)
            case PushNow():
                return self._on_push_due()
            case PersistNow():
                return self._on_persist_due()
            case Wake():
                return self._on_wake(now)
            case _:
                assert_never(event)

    def deadline(self) -> Instant | None:
        """When this core next wants a ``Wake``."""
        return self._timers.next()

    def get(self, topic: str, author: NodeId, subject: bytes) -> Held | None:
        """What ``author`` says on ``topic`` about ``subject``; with an empty body: it took it back."""
        return self._table.get(Key(topic, author, subject))

    def topic(self, topic: str) -> list[Held]:
        """Everything stated on a topic and not taken back, in the order of author and subject."""
        return [held for held in self._table.topic(topic) if held.body]

    def __len__(self) -> int:
        return len(self._table)

    @property
    def digest(self) -> bytes:
        """Eight bytes that members holding the same set have in common."""
        return self._table.digest

    # Our own

    def _on_publish(self, topic: str, subject: bytes, body: bytes, now: Instant) -> list[ReplicaAction]:
        rules = self._topics.get(topic)
        if rules is None or len(body) > rules.body_bytes_max:
            raise LocalProtocolError(f"statement on {topic!r} that its rules do not allow")
        before = self._table.get(Key(topic, self._me, subject))
        if before is not None and before.body == body:
            return []
        sequence = before.sequence + 1 if before is not None else 1
        if sequence > SEQUENCE_MAX:
            return []
        signed = STATED_CODEC.encode(Stated(topic, subject, sequence, body))
        mine = held(Statement(self._me, signed, self._signer.sign(signed)))
        if not self._table.fits(mine):
            return [Rejected(short(self._me), "no room for a further statement of this node")]
        changed = self._put(mine, self._me, now)
        self._unsaved.discard(_stored_part(mine))
        return [self._piece(_stored_part(mine)), *_changes(changed)]

    # What others say

    def _on_received(self, source: NodeId, payload: bytes, now: Instant) -> list[ReplicaAction]:
        try:
            message = REPLICA_CODEC.decode(payload, short(source))
        except RemoteProtocolError:
            return [Rejected(short(source), "message about statements cannot be decoded")]
        if not isinstance(message, Push) and not self._requests.admit(source, now):
            return [Rejected(short(source), "sets of statements compared too often")]
        return self._on_message(source, message, now)

    def _on_message(self, source: NodeId, message: ReplicaMessage, now: Instant) -> list[ReplicaAction]:
        match message:
            case Push(statements):
                return self._on_push(source, statements, now)
            case Compare(digest):
                if digest == self._table.digest:
                    return [Send(source, REPLICA_CODEC.encode(Same()))]
                return [Send(source, REPLICA_CODEC.encode(Parts(self._table.digests)))]
            case Parts(digests):
                return self._on_parts(source, digests, now)
            case Summary():
                return self._on_summary(source, message)
            case Same():
                return [SetsEqual(source)]
            case Want(ids):
                found = [held for id_ in ids if (held := self._table.by_id(id_)) is not None]
                return self._push(source, found)
            case _:
                assert_never(message)

    def _on_push(self, source: NodeId, statements: Sequence[Statement], now: Instant) -> list[ReplicaAction]:
        changed: dict[Key, None] = {}
        rejected: list[ReplicaAction] = []
        for statement in statements:
            try:
                changed |= self._believe(source, held(statement), now)
            except RemoteProtocolError as problem:
                rejected.append(Rejected(short(source), problem.reason))
        return [*rejected, *_changes(changed)]

    def _believe(self, source: NodeId, new: Held, now: Instant) -> dict[Key, None]:
        """Hold a statement, if it is news and holds; ``RemoteProtocolError`` where it is refused."""
        before = self._table.get(new.key)
        if before is not None and new.rank <= before.rank:
            return {}
        rules = self._topics.get(new.key.topic)
        if new.key.author in self._refused and not (rules is not None and rules.durable):
            return {}  # not a fault of the source, which may not know yet
        if rules is not None and len(new.body) > rules.body_bytes_max:
            raise RemoteProtocolError(short(source), "statement is too long for its topic")
        if not self._table.fits(new):
            raise RemoteProtocolError(short(source), "statement beyond what its author may have")
        if not self._sources.admit(source, now):
            raise RemoteProtocolError(short(source), "statements come too fast from one member")
        if not self._verifier.verify(new.key.author, new.statement.signed, new.statement.proof):
            raise RemoteProtocolError(short(source), "statement whose proof does not hold")
        # Last, so that nobody can use up what another author may change.
        displaces = before is not None or self._table.full(new)
        if displaces and not self._changes.admit(new.key.author, now):
            raise RemoteProtocolError(short(source), "statements of one author change too fast")
        return self._put(new, source, now)

    def _put(self, new: Held, source: NodeId, now: Instant) -> dict[Key, None]:
        displaced = self._table.put(new)
        for each in (new, *displaced):
            self._dirty(each, now)
        self._news[new.key] = source
        self._rounds = 0
        if _PushDue() not in self._timers:
            self._timers.set(_PushDue(), after(now, self._random_part(PUSH_AFTER)))
        return {each.key: None for each in (new, *displaced)}

    def _on_refused(self, authors: frozenset[NodeId], now: Instant) -> list[ReplicaAction]:
        self._refused = authors
        gone = [each for each in self._table if each.key.author in authors and not self._is_durable(each.key.topic)]
        for each in gone:
            self._table.remove(each.key)
            self._dirty(each, now)
        return _changes({each.key: None for each in gone})

    def _is_durable(self, topic: str) -> bool:
        rules = self._topics.get(topic)
        return rules is not None and rules.durable

    # Time

    def _on_wake(self, now: Instant) -> list[ReplicaAction]:
        actions: list[ReplicaAction] = []
        for timer in self._timers.pop_due(now):
            match timer:
                case _PushDue():
                    actions += self._on_push_due()
                case _SyncDue():
                    actions += self._on_sync_due(now)
                case _PersistDue():
                    actions += self._on_persist_due()
                case _:
                    assert_never(timer)
        return actions

    def _on_persist_due(self) -> list[ReplicaAction]:
        pieces: list[ReplicaAction] = [self._piece(number) for number in sorted(self._unsaved)]
        self._unsaved.clear()
        return pieces

    def _on_push_due(self) -> list[ReplicaAction]:
        news, self._news = self._news, {}
        peers = [node for node in self._peers() if node != self._me]
        actions: list[ReplicaAction] = []
        for node in self._rng.sample(peers, min(FANOUT, len(peers))):
            fresh = [self._table.get(key) for key, source in news.items() if node not in (source, key.author)]
            actions += self._push(node, [each for each in fresh if each is not None])
        return actions

    def _push(self, to: NodeId, statements: Iterable[Held]) -> list[ReplicaAction]:
        return [Send(to, REPLICA_CODEC.encode(Push(tuple(batch)))) for batch in _batches(statements)]

    # Repair

    def _on_met(self, node: NodeId, now: Instant) -> list[ReplicaAction]:
        # A newcomer to a large mesh meets everybody and asks a few; everybody asking it would be a flood.
        if self._rng.random() * len(self._peers()) < FANOUT:
            self._met[node] = None
            self._hasten_sync(SYNC_SOON, now)
        return []

    def _on_sync_due(self, now: Instant) -> list[ReplicaAction]:
        self._timers.set(_SyncDue(), after(now, Duration(SYNC_INTERVAL // 2 + self._random_part(SYNC_INTERVAL))))
        peers = [node for node in self._peers() if node != self._me]
        met = [node for node in self._met if node in peers]
        self._met = {}
        chosen = met[:FANOUT] or self._rng.sample(peers, min(1, len(peers)))
        return [Send(node, REPLICA_CODEC.encode(Compare(self._table.digest))) for node in chosen]

    def _hasten_sync(self, within: Duration, now: Instant) -> None:
        soon = after(now, self._random_part(within))
        at = self._timers.when(_SyncDue())
        if at is None or at > soon:
            self._timers.set(_SyncDue(), soon)

    def _on_parts(self, source: NodeId, digests: Sequence[bytes], now: Instant) -> list[ReplicaAction]:
        pairs = enumerate(zip(digests, self._table.digests, strict=True))
        differing = [number for number, (theirs, mine) in pairs if theirs != mine]
        if len(differing) > ROUND_PARTS_MAX:
            differing = sorted(self._rng.sample(differing, ROUND_PARTS_MAX))
        if differing:
            # Again soon, for more and in case of loss; less and less soon where that brings nothing, for what one
            # side refuses must not keep both busy.
            self._met[source] = None
            self._hasten_sync(Duration(SYNC_SOON << self._rounds), now)
            self._rounds = min(self._rounds + 1, ROUNDS_MAX)
        return [Send(source, REPLICA_CODEC.encode(self._summary(number))) for number in differing]

    def _summary(self, number: int) -> Summary:
        statements = self._table.part(number)
        first = self._rng.randrange(len(statements)) if len(statements) > SUMMARY_MAX else 0
        shown = statements[first : first + SUMMARY_MAX]
        low = shown[0].id if first else FIRST
        high = LAST if first + SUMMARY_MAX >= len(statements) else shown[-1].id
        return Summary(number, tuple(Entry(each.id, each.sequence, each.mark) for each in shown), low, high)

    def _on_summary(self, source: NodeId, summary: Summary) -> list[ReplicaAction]:
        theirs = {entry.id: entry for entry in summary.entries}
        better: list[Held] = []
        room = ANSWER_BYTES_MAX
        for each in self._table.part(summary.part):
            if not summary.low <= each.id <= summary.high or room < 0:
                continue
            entry = theirs.get(each.id)
            if entry is None or (entry.sequence <= each.sequence and entry.mark != each.mark):
                better.append(each)
                room -= each.bytes_held
        wanted = [
            entry.id
            for entry in summary.entries
            if (mine := self._table.by_id(entry.id)) is None
            or (mine.sequence <= entry.sequence and mine.mark != entry.mark)
        ]
        actions = self._push(source, better)
        for start in range(0, len(wanted), WANT_MAX):
            actions.append(Send(source, REPLICA_CODEC.encode(Want(tuple(wanted[start : start + WANT_MAX])))))
        return actions

    # Disk

    def _load(self, stored: Mapping[str, bytes]) -> None:
        for name in STORED_KEYS:
            if name not in stored:
                continue
            try:
                part = _STORED_CODEC.decode(stored[name], name)
                statements = [held(statement) for statement in part.statements]
            except RemoteProtocolError:
                continue  # damaged: the other members have it
            if part.realm != self._realm:
                continue
            for each in statements:
                if self._table.fits(each):
                    self._table.put(each)

    def _dirty(self, changed: Held, now: Instant) -> None:
        self._unsaved.add(_stored_part(changed))
        if _PersistDue() not in self._timers:
            self._timers.set(_PersistDue(), after(now, PERSIST_AFTER))

    def _piece(self, number: int) -> Persist:
        width = PARTS // STORED_PARTS
        parts = range(number * width, (number + 1) * width)
        kept = [each.statement for part in parts for each in self._table.part(part)]
        return Persist(STORED_KEYS[number], _STORED_CODEC.encode(_StoredPart(self._realm, kept)))

    def _random_part(self, of: Duration) -> Duration:
        return Duration(int(of * self._rng.random()))


def _stored_part(each: Held) -> int:
    return each.part * STORED_PARTS // PARTS


def _changes(changed: Mapping[Key, None]) -> list[ReplicaAction]:
    topics: dict[str, list[Key]] = {}
    for key in sorted(changed):
        topics.setdefault(key.topic, []).append(key)
    return [StatementsChanged(topic, tuple(keys)) for topic, keys in topics.items()]


def _batches(statements: Iterable[Held]) -> list[list[Statement]]:
    batches: list[list[Statement]] = []
    room = 0
    for each in statements:
        if not batches or each.bytes_held > room or len(batches[-1]) == PUSH_MAX:
            batches.append([])
            room = PUSH_BYTES
        batches[-1].append(each.statement)
        room -= each.bytes_held
    return batches
