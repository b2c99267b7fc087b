"""Numbers that must never repeat, without a disk write for each: reserve a range, persist its end, then spend it.

After a crash counting goes on at the persisted end, so a number is at most skipped. Used for LSA sequence numbers and
SWIM incarnations, which must rise across restarts though nobody waits for an fsync to flood or refute.
"""

from sansio.core import Persist
from sansio.errors import StoreError

COUNTER_BYTES = 8


class ReservedCounter:
    """A rising counter whose reserved end is persisted under ``key``; ``StoreError`` where that is damaged."""

    def __init__(self, key: str, stored: bytes | None, span: int) -> None:
        self._key = key
        self._span = span
        if stored is not None and (len(stored) != COUNTER_BYTES or stored[0] >= 0x40):
            raise StoreError(
                f"the stored {key} is damaged: restore the state directory from a backup, "
                "or remove it whole to start as a new node"
            )
        self._end = int.from_bytes(stored, "big") if stored else 0
        self.value = self._end

    def raise_above(self, floor: int) -> list[Persist]:
        """Move on to a value above both the present one and ``floor``; returns what to persist before using it."""
        self.value = max(self.value, floor) + 1
        if self.value < self._end:
            return []
        self._end = self.value + self._span
        return [Persist(self._key, self._end.to_bytes(COUNTER_BYTES, "big"))]
