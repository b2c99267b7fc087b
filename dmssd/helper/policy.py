"""What root has allowed: ``/etc/dmssd/helper.toml``. Nothing unless it is written there, and by root alone.

The file is judged like ``sudoers``: one that anybody else could have written allows nothing.
"""

import re
import stat
import tomllib
from dataclasses import dataclass

from dmssd.config.readers import Reader, array, problem, read_table, setting
from dmssd.helper.protocol import NAMESPACE_PATTERN, UNIT_PATTERN
from sansio.errors import ConfigError

POLICY_FILE = "/etc/dmssd/helper.toml"
FILE_BYTES_MAX = 65_536
ENTRIES_MAX = 256


def _matching(pattern: "re.Pattern[str]", allowed: str) -> Reader[str]:
    def read(value: object, path: str) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise problem(path, allowed, value)
        return value

    return read


_namespace = _matching(NAMESPACE_PATTERN, 'the name of a network namespace, a file of /run/netns, such as "blue"')
_unit = _matching(UNIT_PATTERN, 'the whole name of a unit such as "app.service" (no patterns)')


@dataclass(frozen=True, slots=True)
class Policy:
    """What the helper may do for the daemon. Whatever is named here, whoever takes the daemon over can do as well."""

    namespaces: tuple[str, ...] = setting((), array(_namespace, distinct=True, items_max=ENTRIES_MAX))
    """Network namespaces that the daemon may configure like its own."""

    units: tuple[str, ...] = setting((), array(_unit, distinct=True, items_max=ENTRIES_MAX))
    """Units that it may start, stop and restart."""

    cpusets: tuple[str, ...] = setting((), array(_unit, distinct=True, items_max=ENTRIES_MAX))
    """Units whose processors and memory nodes it may set, until the next boot."""


@dataclass(frozen=True, slots=True)
class Ownership:
    """Who may write a file: as ``fstat`` tells."""

    mode: int
    uid: int


def demand_roots_own(path: str, found: Ownership, kind: str) -> None:
    """Raise ``ConfigError`` where somebody else than root could have written this file or directory."""
    is_right = stat.S_ISREG(found.mode) if kind == "file" else stat.S_ISDIR(found.mode)
    if not is_right:
        raise ConfigError(path, f"is no {kind}, so nothing is allowed: replace it by one of root's")
    if found.uid != 0 or found.mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(path, f"others than root can write it, so nothing is allowed: chown root {path}; chmod go-w")


def read_policy(text: bytes) -> Policy:
    """The policy in the file's text. Raises ``ConfigError`` for one that cannot be used as a whole."""
    if len(text) > FILE_BYTES_MAX:
        raise ConfigError(POLICY_FILE, f"has more than {FILE_BYTES_MAX} bytes: shorten it")
    try:
        table = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(POLICY_FILE, f"is no TOML: {error}") from None
    return read_table(Policy, table, "")
