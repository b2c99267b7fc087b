r"""The format of the state directory: which one it has, and the way from an older one to ours.

    file ``format`` | "NUMBER VERSION\n": the format, and the version of dmssd that wrote it

A directory without that file is of format 0: versions 0.1 and 0.2 wrote none. A newer format is refused, since what
this version does not know of it might be lost. Formats are raised one by one and the file is written after each step,
so that a step may be repeated after a crash and must bear that. A version that changes what a stored key means adds a
step; one that adds keys, or fields at the end of them, does not.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from dmssd import __version__
from dmssd.driver.disk import Store
from sansio.errors import StoreError

FORMAT = 1
FORMAT_KEY = "format"
RESTORING = "restoring"
"""In the state directory while a backup is restored there."""

Step = Callable[[Store], None]


def _marked(_: Store) -> None:
    """From 0 to 1: the same keys; only the format is written down."""


STEPS: Mapping[int, Step] = MappingProxyType({0: _marked})
"""Format -> what makes the next one of it."""


def ensure_format(store: Store, known: int = FORMAT, steps: Mapping[int, Step] = STEPS) -> None:
    """Have the directory in the format ``known``.

    ``StoreError`` for a newer one, one that cannot be read, and where a restore is not complete; then nothing has
    changed.
    """
    if (store.directory / RESTORING).exists():
        raise StoreError(f"a restore into {store.directory} was interrupted: run dmssd restore FILE --force again")
    present, writer = format_of(store.read(FORMAT_KEY))
    if present > known:
        raise StoreError(newer(str(store.directory), present, writer, known))
    for number in range(present, known):
        steps[number](store)
        store.write(FORMAT_KEY, f"{number + 1} {__version__}\n".encode())


def format_of(stored: bytes | None) -> tuple[int, str]:
    """The format that the file says, and the version that wrote it; ``StoreError`` where it says none."""
    if stored is None:
        return 0, "0.2.0 or older"
    number, _, writer = stored[:100].decode(errors="replace").strip().partition(" ")
    if not number.isascii() or not number.isdigit() or len(number) > 9:
        raise StoreError(f"{FORMAT_KEY} in the state directory is damaged: restore a backup (dmssd restore FILE)")
    return int(number), writer or "an unknown version"


def newer(place: str, present: int, writer: str, known: int = FORMAT) -> str:
    """The sentence that refuses a newer format."""
    return (
        f"{place} has state of format {present}, written by dmssd {writer}; this is {__version__}, which knows formats"
        f" up to {known}: install {writer} or newer again, or restore a backup that was made before the upgrade"
    )
