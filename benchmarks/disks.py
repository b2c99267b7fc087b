"""A disk of one's own for a benchmark: an ext4 image behind a loop device, so that every sector written is counted.

What a program writes is not what a card wears by: a value of eight bytes, written so that a crash leaves old or new, is
a block of data, its inode, its directory and the file system's journal. The block device counts them all
(``/sys/block/*/stat``, field 7, sectors of 512 bytes).
"""

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

IMAGE_MIB = 64
SECTOR_BYTES = 512
WRITTEN_FIELD = 6


@dataclass(frozen=True, slots=True)
class Disk:
    """A mounted image; ``device`` is the name of its block device."""

    directory: Path
    device: str

    def written(self) -> int:
        """Bytes that have reached the device so far, after everything under way has."""
        _run("sync", "-f", str(self.directory))
        fields = Path(f"/sys/block/{self.device}/stat").read_text().split()
        return int(fields[WRITTEN_FIELD]) * SECTOR_BYTES


@contextlib.contextmanager
def disk() -> Iterator[Disk]:
    """An empty ext4, gone afterwards. SystemExit where this machine has no loop device to give, or this is not root."""
    # Not in the system's temporary directory: that may be memory, and the image should lie where files lie.
    with tempfile.TemporaryDirectory(prefix="dmssd-bench-", dir="/var/tmp") as place:
        image, mounted = Path(place, "image"), Path(place, "mounted")
        mounted.mkdir()
        with image.open("wb") as file:
            file.truncate(IMAGE_MIB << 20)
        # Tables and journal at once: otherwise the kernel fills them in later, and that would be counted.
        _run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(image))
        _run("mount", "-o", "loop", str(image), str(mounted))
        try:
            device = _run("findmnt", "-no", "SOURCE", str(mounted)).strip()
            yield Disk(mounted, Path(device).name)
        finally:
            _run("umount", str(mounted))


def _run(*argv: str) -> str:
    """Its output; SystemExit with its words where it fails."""
    try:
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    except FileNotFoundError:
        raise SystemExit(f"{argv[0]} is missing: make system installs it") from None
    except subprocess.CalledProcessError as failed:
        raise SystemExit(f"{' '.join(argv)}: {failed.stderr.strip()}") from None
