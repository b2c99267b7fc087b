"""A unix socket that admits the right people and never steals another daemon's place.

The file of a daemon that died refuses connections and is replaced; one that accepts them belongs to a live daemon and
is an error. Owner and mode are set between bind and listen, so that nobody can connect before they hold.
"""

import errno
import grp
import os
import socket
import stat
from pathlib import Path

from sansio.errors import ConfigError

SOCKET_MODE = 0o660
SOCKET_GROUP = "dmssd"
BACKLOG = 64


def listen(path: Path) -> socket.socket:
    """A listening socket at ``path``, mode 0660, group dmssd where that exists.

    Raises ``ConfigError`` where a live daemon serves it, or something else is in the way.
    """
    _clear(path)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        server.bind(str(path))
        _admit_group(path)
        path.chmod(SOCKET_MODE)
        server.listen(BACKLOG)
    except OSError as error:
        server.close()
        raise _unusable(path, error) from None
    return server


def inode(path: Path) -> int | None:
    """What identifies the file at ``path``, so that only one's own is removed later."""
    try:
        return path.lstat().st_ino
    except OSError:
        return None


def _clear(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unusable(path, error) from None
    if not stat.S_ISSOCK(mode):
        raise ConfigError("socket", f"{path} exists and is no socket: remove it, or set another path")
    if _is_served(path):
        raise ConfigError("socket", f"{path} is served by a running daemon: stop that first, or set another path")
    path.unlink(missing_ok=True)


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except BlockingIOError:
            return True  # its backlog is full: busy, not dead
        except OSError as error:
            raise _unusable(path, error) from None
        return True


def _admit_group(path: Path) -> None:
    try:
        group = grp.getgrnam(SOCKET_GROUP).gr_gid
        os.chown(path, -1, group)
    except (KeyError, PermissionError):
        return  # no such group, or not ours to give away: the daemon's own group is admitted


def _unusable(path: Path, error: OSError) -> ConfigError:
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ConfigError("socket", f"{path} cannot be made ({error.strerror}): run as root, or set another path")
    return ConfigError("socket", f"{path} cannot be made ({error.strerror}): set another path")
