"""Push-pull anti-entropy in pages: two members end up with the join of their tables.

The asker sends the digest of its table. If the other's is the same, that is all: at rest a round costs two small
datagrams. Otherwise the other sends its table as pages, each stating the range of node ids that it covers, and the
asker answers each page with what it knows better or besides within that range. Pages stand alone: a lost one costs
its own range until the next round, and neither side keeps state for an exchange.

memberlist exchanges whole tables over TCP; here nothing exceeds a datagram (DESIGN.md 4).
"""

from collections.abc import Iterable, Mapping

from gossip.members import Standing, join
from gossip.messages import UPDATE_CODEC, UPDATES_BYTES_MAX, UPDATES_MAX, Update
from sansio.ids import NODE_ID_BYTES, NodeId

SYNC_PAGES_MAX = 128
"""Pages sent for one request. A larger table is sent from a random page on; repeated rounds cover it."""

FIRST = b""
LAST = b"\xff" * NODE_ID_BYTES


def chunks(updates: Iterable[Update]) -> list[tuple[Update, ...]]:
    """The updates in order, cut so that each part fits into one message."""
    parts: list[tuple[Update, ...]] = []
    part: list[Update] = []
    room = UPDATES_BYTES_MAX
    for update in updates:
        size = len(UPDATE_CODEC.encode(update))
        if part and (size > room or len(part) == UPDATES_MAX):
            parts.append(tuple(part))
            part, room = [], UPDATES_BYTES_MAX
        part.append(update)
        room -= size
    if part:
        parts.append(tuple(part))
    return parts


def ranges(parts: list[tuple[Update, ...]]) -> list[tuple[bytes, bytes]]:
    """The (after, until] range of each part of a sorted table; together they cover every possible node id."""
    ends: list[bytes] = [part[-1].node for part in parts[:-1]] + [LAST]
    return list(zip([FIRST, *ends[:-1]], ends, strict=True))


def better(mine: Iterable[Update], theirs: Mapping[NodeId, Standing], after: bytes, until: bytes) -> list[Update]:
    """What of ``mine`` in that range the author of the page ``theirs`` does not know or knows less well."""
    return [
        update
        for update in mine
        if after < update.node <= until
        and ((known := theirs.get(update.node)) is None or join(known, update.standing) != known)
    ]
