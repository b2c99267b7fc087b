"""State on disk: one small file per key in a directory of our own, written so that a crash leaves old or new.

A write goes to a temporary file, is flushed to the disk, takes the key's name, and the directory is flushed: after
``write`` returns the value survives a power cut. A lock held for the life of the process keeps a second daemon off,
which would otherwise speak with the same identity.
"""

import contextlib
import errno
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path

from sansio.errors import StoreError

_KEY = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
LOCK = "lock"
"""The file whose lock a daemon holds while it uses the directory, with its process id."""

_TEMPORARY = ".new"


class Store:
    """The state directory, mode 0700. Raises ``StoreError`` with what to do.

    ``writes`` and ``written_bytes`` count what was written since it was opened.
    """

    def __init__(self, directory: Path) -> None:
        """Make the directory if need be, and lock it."""
        self.directory = directory
        self.writes = self.written_bytes = 0
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory.chmod(0o700)
            self._lock = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as problem:
            raise _refused(directory, "used as state directory", problem) from None
        try:
            holder = _held_by_another(self._lock, directory)
            if holder is not None:
                hint = "stop that one, or set another state directory"
                raise StoreError(f"{directory} is used by another dmssd (pid {holder}): {hint}")
        except StoreError:
            os.close(self._lock)
            raise
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Let another process have the directory."""
        os.close(self._lock)

    def read(self, key: str) -> bytes | None:
        """The value, or ``None`` where none was ever written."""
        path = self._path(key)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as problem:
            raise _refused(path, "read", problem) from None

    def write(self, key: str, value: bytes, *, durable: bool = True) -> None:
        """Have the value on disk before returning; on failure the old value stays.

        Not ``durable``: it survives the process, not the machine, and costs the disk nothing now.
        """
        path = self._path(key)
        temporary = path.with_name(f"{path.name}{_TEMPORARY}")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(value)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            temporary.replace(path)
            if durable:
                self._flush_directory()
        except OSError as problem:
            raise _refused(path, "written", problem) from None
        self.writes += 1
        self.written_bytes += len(value)

    def delete(self, key: str) -> None:
        """Forget the value, if there is one."""
        path = self._path(key)
        try:
            path.unlink(missing_ok=True)
            self._flush_directory()
        except OSError as problem:
            raise _refused(path, "deleted", problem) from None

    def _flush_directory(self) -> None:
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key) or key == LOCK or key.endswith(_TEMPORARY):
            raise StoreError(f"{key!r} cannot be a key: lower-case letters, digits, dot, dash and underscore only")
        return self.directory / key


@contextlib.contextmanager
def idle(directory: Path, *, make: bool = False) -> Iterator[None]:
    """Keep daemons off a state directory; ``StoreError`` where one uses it.

    Nothing is made where none has ever used it, but with ``make`` the lock, for the directory's owner.
    """
    try:
        # Root comes here for the daemon's user, who must not have it take, or give him, another file by a link.
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_CREAT if make else 0)
        lock = os.open(directory / LOCK, flags, 0o600)
        if make and os.geteuid() == 0 and os.fstat(lock).st_nlink == 1:
            owner = directory.stat()
            os.fchown(lock, owner.st_uid, owner.st_gid)
    except FileNotFoundError:
        yield  # no daemon has ever used it
        return
    except OSError as problem:
        raise _refused(directory, "locked", problem) from None
    try:
        holder = _held_by_another(lock, directory)
        if holder is not None:
            hint = "stop it first (systemctl stop dmssd.socket dmssd)"
            raise StoreError(f"the daemon runs (pid {holder}) on {directory}: {hint}")
        yield
    finally:
        os.close(lock)


def _held_by_another(lock: int, directory: Path) -> str | None:
    """Take the lock, and return ``None``; or, where a daemon has it, its process id."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as problem:
        if problem.errno not in (errno.EAGAIN, errno.EACCES):
            raise _refused(directory, "locked", problem) from None
        return os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
    return None


def remove_key(directory: Path, key: str) -> None:
    """Delete a key of a directory that :func:`idle` keeps daemons off."""
    (directory / key).unlink(missing_ok=True)


def _refused(path: Path, verb: str, problem: OSError) -> StoreError:
    reason = problem.strerror or str(problem)
    return StoreError(f"{path} cannot be {verb} ({reason}): check that it belongs to the user dmssd runs as")
