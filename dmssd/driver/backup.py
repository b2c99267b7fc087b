"""Backs a state directory up and restores it.

*Backup.* Each file of a state directory is replaced as a whole, so one reading gives each of them old or new. All are
read until two readings in a row are the same: then they are what a crash at that moment would have left, which every
daemon can start from. A running daemon is not asked and not disturbed.

*Restore.* Everything is checked, then written to ``restoring`` in the state directory and flushed; what is there goes
to ``before-restore-N``; then each file takes its name, and ``restoring`` is removed. A daemon does not start while that
is there (``formats``), so that an interrupted restore founds no node that is half the old one and half the new.
"""

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dmssd import __version__, backupfile
from dmssd.backupfile import Backup
from dmssd.driver import clock
from dmssd.driver.disk import LOCK, idle
from dmssd.driver.formats import FORMAT, FORMAT_KEY, RESTORING, format_of, newer
from dmssd.driver.originals import IPV6_OPENED_KEY, ORIGINALS_KEY
from dmssd.rules.rotation import IDENTITY_KEY
from dmssd.secure import MEMBERSHIP_KEY
from dmssd.security.certificate import own_certificate
from dmssd.security.identity import Identity
from sansio.errors import RemoteProtocolError, StoreError

READINGS_MAX = 20
KEPT_MAX = 16
ASIDE = "before-restore"
_STAYS = (LOCK, ORIGINALS_KEY, IPV6_OPENED_KEY)  # of this process and of this machine's kernel


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored, and where what was there before is kept (``None``: nothing was there)."""

    backup: Backup
    kept: Path | None


def collect(state: Path, config: Mapping[str, Path]) -> Backup:
    """A backup of the node in ``state``; ``config``: name in the backup -> file.

    ``StoreError`` says what is missing or cannot be read.
    """
    held = _settled(state)
    seed = held.get(IDENTITY_KEY)
    if seed is None:
        raise StoreError(f"{state} holds no identity: start the daemon once, or name its configuration with --config")
    format_, _ = format_of(held.pop(FORMAT_KEY, None))
    if format_ > FORMAT:
        raise StoreError(newer(str(state), *format_of(_read(state / FORMAT_KEY))))
    files = {}
    for called, path in config.items():
        if not backupfile.may_hold(backupfile.CONFIG, called):
            raise StoreError(f"{path} has a name that a backup cannot hold: letters, digits, dot, dash and underscore")
        value = _read(path)
        if value is None:
            raise StoreError(f"{path} has just gone: try again")
        files[called] = value
    if (chain := held.get(MEMBERSHIP_KEY)) is None:
        raise StoreError(f"{state} holds no membership yet: start the daemon once")
    try:
        name = own_certificate(chain).name
    except RemoteProtocolError:
        raise StoreError(f"{state}/{MEMBERSHIP_KEY} is damaged: restore an earlier backup") from None
    node = Identity(seed).node.hex()
    return Backup(__version__, format_, node, name, int(clock.wall()), held, files)


def write_file(file: Path, data: bytes) -> None:
    """Write a new file that only its owner can read, and have it on disk; ``StoreError`` where one is there already."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise StoreError(f"{file} exists already: name another file, or remove it first") from None
    except OSError as problem:
        raise StoreError(f"{file} cannot be written ({problem.strerror}): name another file") from None
    try:
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), 0o600)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as problem:
        file.unlink(missing_ok=True)
        raise StoreError(f"{file} cannot be written ({problem.strerror}): name another file") from None


def read_file(file: Path) -> bytes:
    """A file that may be a backup, sealed or not; ``StoreError`` where it cannot be one."""
    try:
        with file.open("rb") as stream:
            data = stream.read(backupfile.FILE_BYTES_MAX + 4096)
    except OSError as problem:
        raise StoreError(f"{file} cannot be read ({problem.strerror}): name a backup") from None
    return data


def restore(state: Path, backup: Backup, *, force: bool) -> Restored:
    """Make the node in ``backup`` that of ``state``.

    ``StoreError`` while a daemon uses the directory, for a newer format, and for one that holds an identity unless
    ``force``; then nothing has changed.
    """
    if backup.state_format > FORMAT:
        raise StoreError(newer("the backup", backup.state_format, backup.version))
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        with idle(state, make=True):
            return _restore(state, backup, force=force)
    except OSError as problem:
        hint = "run as root; a restore that was interrupted is repeated with --force"
        raise StoreError(f"{state} cannot be written ({problem.strerror}): {hint}") from None


def _restore(state: Path, backup: Backup, *, force: bool) -> Restored:
    present = _present(state)
    if (IDENTITY_KEY in present or (state / RESTORING).exists()) and not force:
        hint = "restore with --force, which keeps that one aside, if this machine is to be the one in the backup"
        raise StoreError(f"{state} holds a node already: {hint}")
    aside = _aside(state) if present else None
    staged = state / RESTORING
    if staged.is_symlink():
        staged.unlink()
    shutil.rmtree(staged, ignore_errors=True)
    owner = state.stat()
    files = {**backup.state, FORMAT_KEY: f"{backup.state_format} {backup.version}\n".encode()}
    with _folder(staged, owner) as inside:
        for key, value in files.items():
            write_file(inside / key, value)
            _give(inside / key, owner)
        _flush(inside)
        _flush(state)
        if aside is not None:
            with _folder(aside, owner) as kept:
                for key in present:
                    (state / key).rename(kept / key)
        for key in files:
            (inside / key).rename(state / key)
    _flush(state)
    staged.rmdir()
    _flush(state)
    return Restored(backup, aside)


def write_config(directory: Path, config: Mapping[str, bytes]) -> list[Path]:
    """Write a backup's configuration below ``directory``; ``StoreError``, before anything, where it has other files."""
    wanted = {directory / name: value for name, value in config.items()}
    for path, value in wanted.items():
        if path.is_symlink() or path.parent.is_symlink():
            raise StoreError(f"{path} is a symbolic link or in one: name another directory")
        if path.exists() and _read(path) != value:
            raise StoreError(f"{path} exists and differs from the backup's: move it away, or name another directory")
    written = []
    for path, value in wanted.items():
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, value)
            written.append(path)
    return written


def _settled(state: Path) -> dict[str, bytes]:
    keys = (*backupfile.STATE_KEYS, FORMAT_KEY)
    before = None
    for _ in range(READINGS_MAX):
        found = {key: value for key in keys if (value := _read(state / key)) is not None}
        if found == before:
            return found
        before = found
    raise StoreError(f"{state} changes all the time: try again, or stop the daemon first")


def _read(path: Path) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as problem:
        raise StoreError(f"{path} cannot be read ({problem.strerror}): run as root") from None
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise StoreError(f"{path} is no file: remove it")
        return stream.read(backupfile.MEMBER_BYTES_MAX + 1)


def _present(state: Path) -> list[str]:
    """What is to make room: every file but those that stay."""
    return sorted(path.name for path in state.iterdir() if path.name not in _STAYS and not path.is_dir())


def _aside(state: Path) -> Path:
    for number in range(1, KEPT_MAX + 1):
        path = state / f"{ASIDE}-{number}"
        if not path.exists() and not path.is_symlink():
            return path
    raise StoreError(f"{state} keeps {KEPT_MAX} earlier nodes already: remove {ASIDE}-* first, which hold private keys")


@contextlib.contextmanager
def _folder(place: Path, owner: os.stat_result) -> Iterator[Path]:
    """A new folder, by a path that leads there whatever takes its name meanwhile; given to ``owner`` in the end.

    The daemon's user has the directory around it, and could put a link in its place while root writes.
    """
    place.mkdir(mode=0o700)
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            raise StoreError(f"{place} was exchanged by another program: see what runs as the owner of {place.parent}")
        yield Path(f"/proc/self/fd/{descriptor}")
        if os.geteuid() == 0:
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
    finally:
        os.close(descriptor)


def _give(path: Path, owner: os.stat_result) -> None:
    # Root restores; the daemon, which has the directory, is to read it.
    if os.geteuid() == 0:
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _flush(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
