"""The simulated disk: what ``Persist`` wrote, surviving every crash of daemon and machine.

A write is atomic, as the driver's is (write aside, fsync, rename): a value is the old one or the new one.
"""

from collections.abc import Mapping

VALUES_MAX = 10_000


class Disk:
    """Values by key."""

    def __init__(self, initial: Mapping[str, bytes] | None = None) -> None:
        self._values: dict[str, bytes] = dict(initial or {})
        self.writes = 0

    def write(self, key: str, value: bytes) -> None:
        """Have ``value`` under ``key`` at once and for good; ``ValueError`` when the disk is full."""
        if key not in self._values and len(self._values) >= VALUES_MAX:
            raise ValueError(f"a node keeps {VALUES_MAX} values at most")
        self._values[key] = value
        self.writes += 1

    def read(self) -> dict[str, bytes]:
        """Everything there is, as a restarted daemon finds it."""
        return dict(self._values)
