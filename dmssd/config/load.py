"""Configuration files to :class:`~dmssd.config.schema.Config`.

The main file comes first, then ``conf.d/*.toml`` beside it in the order of their names. A later file wins: tables are
merged key by key, everything else (lists and ``[[links]]`` included) is replaced as a whole. The merged table is
checked once, and an error names the file that its value came from.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dmssd.config import paths
from dmssd.config.readers import join, read_table
from dmssd.config.schema import PROFILES, Config
from sansio.errors import ConfigError

CONFIG_BYTES_MAX = 1 << 20
DROP_IN_DIR = "conf.d"

Table = dict[str, Any]


def load(path: Path | None = None) -> Config:
    """The configuration in ``path``, or in the default file, or the defaults where that does not exist.

    Raises ``ConfigError`` for a file that cannot be read or used. An explicit ``path`` must exist.
    """
    merged: Table = {}
    origins: dict[str, Path] = {}
    for file in files(path):
        _merge(merged, _read(file), file, "", origins)
    try:
        return parse(merged)
    except ConfigError as error:
        origin = _origin(error.path, origins)
        raise ConfigError(f"{origin}: {error.path}" if origin else error.path, error.problem) from None


def parse(settings: Table) -> Config:
    """A configuration from a table that was read already; ``ConfigError`` with the bare path of the first bad key."""
    # A profile of no such name is refused with the rest.
    defaults = PROFILES.get(profile, {}) if isinstance(profile := settings.get("profile"), str) else {}
    return read_table(Config, _over(defaults, settings), "")


def _over(defaults: Mapping[str, Any], settings: Table) -> Table:
    """``settings``, and of ``defaults`` what is not among them; what is no table is left for its reader to refuse."""
    merged = dict(settings)
    for key, default in defaults.items():
        held = settings.get(key, {}) if isinstance(default, Mapping) else None
        if isinstance(held, dict):
            merged[key] = _over(default, held)
        elif key not in settings:
            merged[key] = default
    return merged


def files(path: Path | None = None) -> list[Path]:
    """What :func:`load` reads, in order; the default file only if it exists.

    Raises ``ConfigError`` where that cannot be found out.
    """
    main = Path(paths.CONFIG_FILE) if path is None else path
    try:
        wanted = path is not None or main.exists()
        return ([main] if wanted else []) + sorted((main.parent / DROP_IN_DIR).glob("*.toml"))
    except OSError as error:
        raise _unreadable(main, error) from None


def _read(file: Path) -> Table:
    try:
        with file.open("rb") as stream:
            data = stream.read(CONFIG_BYTES_MAX + 1)
    except OSError as error:
        raise _unreadable(file, error) from None
    if len(data) > CONFIG_BYTES_MAX:
        raise ConfigError(str(file), f"is larger than {CONFIG_BYTES_MAX} bytes: name a TOML file")
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        raise ConfigError(str(file), f"is not UTF-8 text (byte {error.start}): save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(str(file), f"is not valid TOML: {error}") from None
    except RecursionError:
        raise ConfigError(str(file), "is nested too deeply: dmssd knows no such setting") from None


def _unreadable(file: Path, error: OSError) -> ConfigError:
    match error:
        case FileNotFoundError():
            return ConfigError(str(file), "does not exist: write it, or name another with --config")
        case PermissionError():
            return ConfigError(str(error.filename or file), "may not be read: run as root, or change its mode")
    return ConfigError(str(file), f"cannot be read ({error.strerror}): name a TOML file")


def _merge(into: Table, table: Table, file: Path, inside: str, origins: dict[str, Path]) -> None:
    for key, value in table.items():
        path = join(inside, key)
        held = into.get(key)
        if isinstance(value, dict) and isinstance(held, dict):
            _merge(held, value, file, path, origins)
            continue
        origins[path] = file
        if isinstance(value, dict):
            into[key] = {}
            _merge(into[key], value, file, path, origins)
        else:
            into[key] = value


def _origin(path: str, origins: dict[str, Path]) -> Path | None:
    """The file that set ``path``, or the nearest enclosing value that some file set."""
    while path and path not in origins:
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return origins.get(path)
