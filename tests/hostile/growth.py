"""What has grown: every container that can be reached from a core, held against the maximum that is promised for it.

Nothing here knows the cores. A table with a limit of its own (``RecentTable``, a deque with ``maxlen``) is held to
that; one that is named below, to the constant that bounds it; every other to ``SMALL``, more than a mesh of a few
nodes needs. So a new table that a stranger can fill is found by filling it, whether or not anybody thought of it.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Any

from gossip.members import MEMBERS_MAX
from gossip.replica_table import STATEMENTS_MAX
from routing.lsdb import LSDB_MAX
from sansio.bounded import RecentTable

SMALL = 300
SAMPLED = 40  # values of one container that are looked into
DEPTH_MAX = 12

BY_MEMBERS = MEMBERS_MAX + 1
"""Tables with a line for each member: a member that lies can name as many as the member table holds, and no more."""

BOUNDS: dict[str, int] = {
    "Members._table": MEMBERS_MAX,
    "Members._up": MEMBERS_MAX,
    "Members._dead": MEMBERS_MAX,
    "ProbeOrder": BY_MEMBERS,
    "Broadcasts": BY_MEMBERS,
    "Swim._suspicions": BY_MEMBERS,
    "Swim._timers.Deadlines._due": 4 * BY_MEMBERS,
    "Deadlines._heap": 16 * BY_MEMBERS,  # what is cancelled stays for a while: Deadlines sees to it
    "StatementTable": STATEMENTS_MAX,
    "Replica._news": STATEMENTS_MAX,
    "Replica._met": BY_MEMBERS,
    "Lsdb._entries": LSDB_MAX,
    "Lsdb._lsas": LSDB_MAX,
    "Lsdb._origins": LSDB_MAX,
}


def overgrown(root: object, bounds: dict[str, int] | None = None) -> list[str]:
    """A line for each container under ``root`` that is larger than promised."""
    allowed = BOUNDS if bounds is None else bounds
    found = []
    for path, container in containers(root):
        limit = _own_limit(container)
        if limit is None:
            limit = next((size for name, size in allowed.items() if f".{name}" in f".{path}"), SMALL)
        if len(container) > limit:
            found.append(f"{path} holds {len(container)}, {limit} are promised")
    return found


def containers(root: object) -> Iterator[tuple[str, Any]]:
    """Every container reachable through attributes and values, each once, with the way there in class names."""
    seen: set[int] = set()
    waiting: list[tuple[str, object, int]] = [(type(root).__name__, root, 0)]
    while waiting:
        path, item, depth = waiting.pop()
        if id(item) in seen or depth > DEPTH_MAX or isinstance(item, str | bytes | int | float | type):
            continue
        seen.add(id(item))
        if isinstance(item, dict | list | set | frozenset | tuple | deque):
            yield path, item
            inside = item.values() if isinstance(item, dict) else item
            waiting += [(path, value, depth + 1) for value, _ in zip(inside, range(SAMPLED), strict=False)]
        if _is_ours(item):
            name = type(item).__name__
            waiting += [(f"{path}.{name}.{field}", value, depth + 1) for field, value in _fields(item)]


def _is_ours(item: object) -> bool:
    return type(item).__module__.partition(".")[0] in ("dmssd", "gossip", "routing", "sansio", "collections")


def _fields(item: object) -> Iterator[tuple[str, object]]:
    if isinstance(item, OrderedDict | deque) and not isinstance(item, RecentTable):
        return
    yield from getattr(item, "__dict__", {}).items()
    for kind in type(item).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(item, name):
                yield name, getattr(item, name)


def _own_limit(container: Any) -> int | None:
    if isinstance(container, RecentTable):
        return container._limit
    return container.maxlen if isinstance(container, deque) else None
