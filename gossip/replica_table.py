"""The bounded set of statements that a member holds, with digests that change costs in proportion to the change.

Bounds, and what happens at them:

- For each author and topic, ``TopicRules.author_max`` statements. Of more, those with the lowest ids stay: a rule that
  every member applies alike to the same statements, so that sets still become equal. Topics without rules (a later
  version's) share one such bound, ``UNKNOWN_TOPICS_AUTHOR_MAX``, and are held and passed on all the same.
- ``STATEMENTS_MAX`` and ``SET_BYTES_MAX`` altogether: a new statement is refused, one in place of another is not. Only
  many members that misbehave at once can bring that about.

A digest is the sum of the marks of all statements (modulo 2**64), kept for the whole and for each of the parts.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gossip.statements import DIGEST_MASK, PARTS, Held, Key
from sansio.ids import NodeId

STATEMENTS_MAX = 32_768
SET_BYTES_MAX = 48 << 20
UNKNOWN_TOPICS_AUTHOR_MAX = 16
AUTHOR_MAX = 2_048


@dataclass(frozen=True, slots=True)
class TopicRules:
    """What the users of a topic say about it.

    ``author_max``: statements that one author may have on it, ``AUTHOR_MAX`` at most. ``body_bytes_max``: the length of
    a body. ``durable``: kept although its author is refused (:class:`gossip.replica.AuthorsRefused`), because what it
    says still decides something.
    """

    author_max: int
    body_bytes_max: int = 1_024
    durable: bool = False


class StatementTable:
    """The set. ``rules`` are those of the known topics."""

    def __init__(self, rules: Mapping[str, TopicRules]) -> None:
        self._rules = rules
        self._held: dict[Key, Held] = {}
        self._by_id: dict[bytes, Held] = {}
        self._parts: list[dict[Key, Held]] = [{} for _ in range(PARTS)]
        self._quotas: dict[tuple[NodeId, str], dict[Key, Held]] = {}
        self._topics: dict[str, dict[Key, Held]] = {}
        self._digests = [0] * PARTS
        self._digest = 0
        self.bytes_held = 0

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Held]:
        return iter(self._held.values())

    def get(self, key: Key) -> Held | None:
        """The statement of that key."""
        return self._held.get(key)

    def by_id(self, id_: bytes) -> Held | None:
        """The statement whose key has that id."""
        return self._by_id.get(id_)

    def topic(self, topic: str) -> list[Held]:
        """All statements on a topic, in the order of author and subject."""
        found = self._topics.get(topic, {})
        return [found[key] for key in sorted(found)]

    def part(self, number: int) -> list[Held]:
        """All statements of one part, in the order of their ids."""
        return sorted(self._parts[number].values(), key=lambda held: held.id)

    @property
    def digest(self) -> bytes:
        """Over the whole set."""
        return self._digest.to_bytes(8, "big")

    @property
    def digests(self) -> tuple[bytes, ...]:
        """Over each part."""
        return tuple(digest.to_bytes(8, "big") for digest in self._digests)

    def full(self, held: Held) -> bool:
        """Whether the author has as many statements as it may, so that another one displaces one."""
        quota = self._quotas.get(self._quota(held.key), {})
        return held.key not in quota and len(quota) >= self._quota_max(held.key)

    def fits(self, held: Held) -> bool:
        """Whether ``held`` would be in the set after ``put``."""
        if held.key in self._held:
            return True
        if len(self._held) >= STATEMENTS_MAX or self.bytes_held + held.bytes_held > SET_BYTES_MAX:
            return False
        quota = self._quotas.get(self._quota(held.key), {})
        return len(quota) < self._quota_max(held.key) or any(other.id > held.id for other in quota.values())

    def put(self, held: Held) -> list[Held]:
        """Take a statement in that ``fits``; what it displaced: its predecessor, or one beyond the author's bound."""
        displaced = []
        before = self._held.get(held.key)
        if before is not None:
            displaced.append(before)
            self.remove(held.key)
        quota = self._quotas.setdefault(self._quota(held.key), {})
        quota[held.key] = held
        self._held[held.key] = self._by_id[held.id] = self._parts[held.part][held.key] = held
        self._topics.setdefault(held.key.topic, {})[held.key] = held
        self._count(held, 1)
        if len(quota) > self._quota_max(held.key):
            last = max(quota.values(), key=lambda other: other.id)
            self.remove(last.key)
            displaced.append(last)
        return displaced

    def remove(self, key: Key) -> None:
        """Forget a statement, if it is there."""
        held = self._held.pop(key, None)
        if held is None:
            return
        self._by_id.pop(held.id, None)
        del self._parts[held.part][key]
        del self._topics[key.topic][key]
        if not self._topics[key.topic]:
            del self._topics[key.topic]
        quota = self._quotas[self._quota(key)]
        del quota[key]
        if not quota:
            del self._quotas[self._quota(key)]
        self._count(held, -1)

    def _count(self, held: Held, sign: int) -> None:
        mark = sign * int.from_bytes(held.mark, "big")
        self._digest = (self._digest + mark) & DIGEST_MASK
        self._digests[held.part] = (self._digests[held.part] + mark) & DIGEST_MASK
        self.bytes_held += sign * held.bytes_held

    def _quota(self, key: Key) -> tuple[NodeId, str]:
        return (key.author, key.topic if key.topic in self._rules else "")

    def _quota_max(self, key: Key) -> int:
        rules = self._rules.get(key.topic)
        return min(rules.author_max, AUTHOR_MAX) if rules is not None else UNKNOWN_TOPICS_AUTHOR_MAX
