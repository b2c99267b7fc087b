"""Strangers that wait to be let in: who asked this member, who waits anywhere, and who was approved beforehand.

Each member states whom it has heard asking, in one statement that is replaced when that changes, once a second at most
(``STATE_INTERVAL``), and forgets one that asks no more. *Approvals* are an admin's own list of ids or names that it
admits as soon as they ask: for many boards at once. Each is good for one board and for a while, like a token. A name
is whatever a board calls itself: approving names trusts the network between here and there for that while.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from dmssd.security.acts import TOPIC_WAITING, WAITING_CODEC, WAITING_MAX, Waiting
from gossip.replica import Publish, Replica
from sansio.errors import RemoteProtocolError, RequestError, StoreError
from sansio.ids import NodeId, node_id
from sansio.instant import SECOND, Duration, Instant, after, earliest
from sansio.wire import Codec

ASKED_FOR = Duration(15 * SECOND)
"""One who has not asked for so long does not wait any more."""

STATE_INTERVAL = Duration(1 * SECOND)
APPROVALS_MAX = 1_024
APPROVALS_KEY = "approvals"


@dataclass(frozen=True, slots=True)
class Petition:
    """Somebody who waits, and the member that it asked."""

    waiting: Waiting
    via: NodeId

    @property
    def node(self) -> NodeId:
        """Who waits."""
        return node_id(self.waiting.key)


def petitions(replica: Replica) -> list[Petition]:
    """Everybody who waits, at any member, in order of id; each once."""
    found: dict[NodeId, Petition] = {}
    for held in replica.topic(TOPIC_WAITING):
        try:
            listed = WAITING_CODEC.decode(held.body, "waiting")
        except RemoteProtocolError:
            continue
        for waiting in listed:
            found.setdefault(node_id(waiting.key), Petition(waiting, held.key.author))
    return [found[node] for node in sorted(found)]


class Porch:
    """Who asked this member."""

    def __init__(self) -> None:
        self._asked: dict[NodeId, tuple[Waiting, Instant]] = {}
        self._stated: tuple[Waiting, ...] = ()
        self._state_at: Instant | None = None
        self._stated_at = Instant(-(2**62))

    def asked(self, node: NodeId, waiting: Waiting, now: Instant) -> bool:
        """Note that somebody asks; ``False`` where there is no room."""
        self._forget_old(now)
        if node not in self._asked and len(self._asked) >= WAITING_MAX:
            return False
        self._asked[node] = (waiting, now)
        self._plan(now)
        return True

    def admitted(self, node: NodeId, now: Instant) -> None:
        """It waits no more."""
        if self._asked.pop(node, None) is not None:
            self._plan(now)

    def deadline(self) -> Instant | None:
        """When something is to be stated, or somebody to be forgotten."""
        oldest = min((asked for _, asked in self._asked.values()), default=None)
        return earliest(self._state_at, None if oldest is None else after(oldest, ASKED_FOR))

    def wake(self, now: Instant) -> list[Publish]:
        """State anew who waits, if that changed."""
        self._forget_old(now)
        if self._state_at is None or now < self._state_at:
            return []
        self._state_at = None
        listed = tuple(self._asked[node][0] for node in sorted(self._asked))
        if listed == self._stated:
            return []
        self._stated, self._stated_at = listed, now
        return [Publish(TOPIC_WAITING, b"", WAITING_CODEC.encode(listed) if listed else b"")]

    def _plan(self, now: Instant) -> None:
        if self._state_at is None:
            self._state_at = max(now, after(self._stated_at, STATE_INTERVAL))

    def _forget_old(self, now: Instant) -> None:
        for node in [node for node, (_, asked) in self._asked.items() if now - asked >= ASKED_FOR]:
            del self._asked[node]
            self._plan(now)


class _Approval(msgspec.Struct, array_like=True):
    text: str
    remaining_ns: int  # when ``counted_from``
    counted_from: int = 0


_BOOK_CODEC: Codec[list[_Approval]] = Codec(list[_Approval])


class Approvals:
    """Ids (whole, in hex) and names that this admin admits as soon as they ask.

    ``stored`` is what ``export`` gave; ``StoreError`` where it cannot be read. While the daemon is down no time passes.
    """

    def __init__(self, stored: bytes | None, now: Instant) -> None:
        self._entries: dict[str, _Approval] = {}
        if stored is None:
            return
        try:
            entries = _BOOK_CODEC.decode(stored, APPROVALS_KEY)
        except RemoteProtocolError:
            raise StoreError("the stored approvals cannot be read: remove them from the state directory") from None
        for entry in entries[:APPROVALS_MAX]:
            entry.counted_from = now
            self._entries[entry.text] = entry

    def add(self, texts: Iterable[str], ttl: Duration, now: Instant) -> None:
        """Approve these for ``ttl``; ``RequestError``, and nothing changed, where they are too many."""
        wanted = list(dict.fromkeys(texts))
        live = {text: entry for text, entry in self._entries.items() if self._remaining(entry, now) > 0}
        if len(live.keys() | set(wanted)) > APPROVALS_MAX:
            raise RequestError(f"{APPROVALS_MAX} approvals are kept at most: wait until some are used or have expired")
        self._entries = live | {text: _Approval(text, ttl, now) for text in wanted}

    def take(self, node: NodeId, name: str, now: Instant) -> bool:
        """Whether ``node``, which calls itself ``name``, is approved; uses the approval up."""
        for text in (node.hex(), name):
            entry = self._entries.get(text)
            if entry is not None and self._remaining(entry, now) > 0:
                del self._entries[text]
                return True
        return False

    def export(self, now: Instant) -> bytes:
        """The list as bytes, each entry with the time it has left."""
        entries = list(self._entries.values())
        for entry in entries:
            entry.remaining_ns, entry.counted_from = self._remaining(entry, now), now
        return _BOOK_CODEC.encode(entries)

    def __len__(self) -> int:
        return len(self._entries)

    @staticmethod
    def _remaining(entry: _Approval, now: Instant) -> int:
        return max(0, entry.remaining_ns - (now - entry.counted_from))
