"""Push-pull with one member at a time (what is compared, and how it is cut: :mod:`gossip.antientropy`)."""

from gossip.antientropy import SYNC_PAGES_MAX, better, chunks, ranges
from gossip.events import Send, SwimAction
from gossip.ground import Ground
from gossip.members import DIGEST_MASK, fingerprint
from gossip.messages import MESSAGE_CODEC, SyncPage, SyncRequest, Update
from gossip.speech import Speech
from gossip.timers import SyncDue, SyncRetryDue
from sansio.bounded import RecentTable, TokenBucket
from sansio.core import Rejected
from sansio.ids import NodeId, short
from sansio.instant import SECOND, Duration, Instant, after

SYNCS_MAX = 4
"""Push-pulls of ours without an answer at one time. When full, a newly met member waits for the periodic one."""

SYNC_TRIES_MAX = 5
"""Requests sent for one push-pull."""

SYNC_ANSWER = Duration(10 * SECOND)
"""How long after our request a peer's pages are answered."""

GROWTH = 1.25
"""A mesh that has grown by more than this since the last push-pull has the next one soon: while it was small, news was
given few copies, and some died out."""

SOURCES_MAX = 1024
"""Members whose rates are remembered; the least recently seen is forgotten."""


class PushPull:
    """Asks one member for what differs now and then, and answers others."""

    def __init__(self, ground: Ground, speech: Speech) -> None:
        self._ground = ground
        self._speech = speech
        self._syncs: dict[NodeId, int] = {}  # asked and not answered -> requests sent
        self._asked: RecentTable[NodeId, Instant] = RecentTable(SOURCES_MAX)
        self._rate: TokenBucket[NodeId] = TokenBucket(2.0, 4.0, SOURCES_MAX)
        self._up_at_sync = 0

    # Asking

    def begin(self, now: Instant) -> None:
        """The next one, at a random phase."""
        self._ground.timers.set(SyncDue(), after(now, self._ground.random_part(self._ground.config.sync_interval)))

    def end(self) -> None:
        """Begin no more."""
        self._ground.timers.cancel(SyncDue())

    def on_due(self, now: Instant) -> list[SwimAction]:
        """With a random member."""
        ground = self._ground
        ground.timers.set(SyncDue(), after(now, ground.config.sync_interval))
        self._up_at_sync = len(ground.members.up())
        actions: list[SwimAction] = []
        for node in ground.sample_routed(ground.members.up(), 1):
            actions += self.ask(node, now)
        return actions

    def on_growth(self, now: Instant) -> None:
        """Somebody more is up."""
        if len(self._ground.members.up()) > GROWTH * self._up_at_sync:
            self._hasten(now)

    def _hasten(self, now: Instant) -> None:
        """Have the next one within a period, if it is later than that."""
        ground = self._ground
        at = ground.timers.when(SyncDue())
        if at is not None and at > after(now, ground.config.period):
            ground.timers.set(SyncDue(), after(now, ground.random_part(ground.config.period)))

    def ask(self, node: NodeId, now: Instant) -> list[SwimAction]:
        """That member, now."""
        if node in self._syncs or len(self._syncs) >= SYNCS_MAX:
            return []
        self._syncs[node] = 0
        return self.on_retry_due(node, now)

    def on_retry_due(self, node: NodeId, now: Instant) -> list[SwimAction]:
        """It has not answered yet."""
        ground = self._ground
        if self._syncs[node] >= SYNC_TRIES_MAX:
            del self._syncs[node]
            return []
        self._syncs[node] += 1
        self._asked[node] = now
        ground.timers.set(SyncRetryDue(node), after(now, ground.config.sync_retry))
        digest = self._digest()
        return [self._speech.compose(node, lambda updates: SyncRequest(ground.own.incarnation, updates, digest))]

    # Answering

    def on_request(self, source: NodeId, digest: int, now: Instant) -> list[SwimAction]:
        """Our table, unless theirs is the same."""
        if not self._rate.admit(source, now):
            return [Rejected(short(source), "push-pull asked for too often")]
        if digest == self._digest():
            return [self._page(source, (), b"", b"", 0)]
        parts = chunks(self._table(now))
        pages = list(zip(parts, ranges(parts), strict=True))
        if len(pages) > SYNC_PAGES_MAX:
            first = self._ground.rng.randrange(len(pages))
            pages = (pages[first:] + pages[:first])[:SYNC_PAGES_MAX]
        return [self._page(source, part, low, high, 1) for part, (low, high) in pages]

    def on_page(self, source: NodeId, page: SyncPage, now: Instant) -> list[SwimAction]:
        """A part of their table, believed already: what we know better."""
        if self._syncs.pop(source, None) is not None:
            self._ground.timers.cancel(SyncRetryDue(source))
        if not page.answer:
            return []
        # Tables that differed here may differ elsewhere: again, until a round finds nothing.
        self._hasten(now)
        asked = self._asked.get(source)
        if asked is None or now - asked > SYNC_ANSWER:
            return [Rejected(short(source), "push-pull page that was not asked for")]
        theirs = {update.node: update.standing for update in page.updates}
        news = better(self._table(now), theirs, page.after, page.until)
        return [self._page(source, part, b"", b"", 0) for part in chunks(news)[:SYNC_PAGES_MAX]]

    def _page(self, to: NodeId, updates: tuple[Update, ...], low: bytes, high: bytes, answer: int) -> Send:
        return Send(to, MESSAGE_CODEC.encode(SyncPage(self._ground.own.incarnation, updates, low, high, answer)))

    def _digest(self) -> int:
        mine = self._ground.own.update()
        line = fingerprint(mine.node, mine.incarnation, mine.state)
        return (self._ground.members.digest + line) & DIGEST_MASK

    def _table(self, now: Instant) -> list[Update]:
        others = [self._speech.update_of(member, now) for member in self._ground.members]
        return sorted([self._ground.own.update(), *others], key=lambda update: update.node)
