"""Checks of single configuration values: each reader takes a TOML value and its path, and returns it typed.

A reader either returns a value that the daemon can use as it is, or raises ``ConfigError`` with the path, what is
allowed and what was found. Tables are read by :func:`read_table` from a dataclass whose fields were declared with
:func:`setting` or :func:`required`: the dataclass is the schema, there is no second list of keys.
"""

import dataclasses
import difflib
import ipaddress
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from sansio.errors import ConfigError

T = TypeVar("T")
Reader = Callable[[object, str], T]

NAME_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,64}")
NODE_ID_PATTERN = re.compile(r"[0-9a-fA-F]{40}")
LISTEN_PORT_PATTERN = re.compile(r"[1-9][0-9]{0,4}")
PORT_MAX = 65_535
INTERFACE_GLOB_PATTERN = re.compile(r"[^\s/]{1,64}")
SOCKET_PATH_BYTES_MAX = 107  # sun_path holds 108 with its closing zero (unix(7))
SHOWN_CHARACTERS_MAX = 60
POOL4_LENGTH_MIN, POOL4_LENGTH_MAX = 8, 30


def setting(default: T, read: Reader[T]) -> T:
    """A field with a default."""
    return dataclasses.field(default=default, metadata={"read": read})


def required(read: Reader[T]) -> T:
    """A field that every table of its kind must set."""
    made: T = dataclasses.field(metadata={"read": read})
    return made


def shown(value: object) -> str:
    """A value as an error message shows it: JSON, shortened."""
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= SHOWN_CHARACTERS_MAX else text[: SHOWN_CHARACTERS_MAX - 3] + "..."


def problem(path: str, allowed: str, value: object) -> ConfigError:
    """The error for a value that is not what it must be."""
    return ConfigError(path, f"must be {allowed}, got {shown(value)}")


def did_you_mean(word: str, known: list[str]) -> str:
    """A hint at the nearest known word, or at all of them."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]}?" if near else f"known here: {', '.join(sorted(known))}"


def integer(low: int, high: int) -> Reader[int]:
    """A whole number from ``low`` to ``high``, both included."""

    def read(value: object, path: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise problem(path, f"an integer from {low} to {high}", value)
        return value

    return read


def one_of(*choices: str) -> Reader[str]:
    """One of a few words."""

    def read(value: object, path: str) -> str:
        if not isinstance(value, str) or value not in choices:
            raise problem(path, "one of " + ", ".join(f'"{choice}"' for choice in choices), value)
        return value

    return read


def name(value: object, path: str) -> str:
    """A name of a node: letters, digits, ``.``, ``-`` and ``_``, 1 to 64 of them."""
    if not isinstance(value, str) or not NAME_PATTERN.fullmatch(value):
        raise problem(path, "a name of 1 to 64 letters, digits, '.', '-' or '_'", value)
    return value


def own_name(value: object, path: str) -> str:
    """A name that cannot be taken for a node id, since both select nodes."""
    if NODE_ID_PATTERN.fullmatch(checked := name(value, path)):
        raise ConfigError(path, "must not look like a node id (40 hex digits): choose another name")
    return checked


def interface_glob(value: object, path: str) -> str:
    """A shell pattern for interface names."""
    if not isinstance(value, str) or not INTERFACE_GLOB_PATTERN.fullmatch(value):
        raise problem(path, 'an interface name or pattern such as "eth*", without spaces or slashes', value)
    return value


def absolute_path(value: object, path: str) -> Path:
    """A path from the root, normalised."""
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise problem(path, 'an absolute path such as "/var/lib/dmssd"', value)
    return Path(value)


def socket_path(value: object, path: str) -> Path:
    """An absolute path short enough for a unix socket."""
    checked = absolute_path(value, path)
    if len(bytes(checked)) > SOCKET_PATH_BYTES_MAX:
        raise problem(path, f"a path of at most {SOCKET_PATH_BYTES_MAX} bytes (a limit of unix sockets)", value)
    return checked


def address4(value: object, path: str) -> str | None:
    """An IPv4 address that a node can own, in its normal form."""
    return _host_address(value, path, ipaddress.IPv4Address, 'an IPv4 host address such as "10.5.0.3"')


def address6(value: object, path: str) -> str | None:
    """An IPv6 address that a node can own, in its normal form."""
    return _host_address(value, path, ipaddress.IPv6Address, 'an IPv6 host address such as "fd00:5::3"')


def _host_address(
    value: object, path: str, kind: type[ipaddress.IPv4Address] | type[ipaddress.IPv6Address], allowed: str
) -> str:
    # ipaddress also takes integers and bytes: only text is an address here.
    if not isinstance(value, str):
        raise problem(path, allowed, value)
    try:
        address = kind(value)
    except ValueError:
        raise problem(path, allowed, value) from None
    if address.is_multicast or address.is_loopback or address.is_unspecified or address.is_link_local or "%" in value:
        raise problem(path, f"{allowed} that other nodes can reach", value)
    return str(address)


def integer_or(word: str, low: int, high: int) -> Reader[int | str]:
    """A whole number from ``low`` to ``high``, or a word in its place."""

    def read(value: object, path: str) -> int | str:
        if value == word:
            return word
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise problem(path, f'"{word}", or an integer from {low} to {high}', value)
        return value

    return read


def boolean(value: object, path: str) -> bool:
    """``true`` or ``false``."""
    if not isinstance(value, bool):
        raise problem(path, "true or false", value)
    return value


def listen_address(value: object, path: str) -> str:
    """An IP address and a TCP port, in their normal form; an IPv6 address in brackets."""
    allowed = 'an IP address and a port such as "127.0.0.1:9747" or "[::1]:9747"'
    host, _, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    # No names, which would be looked up, and no leading zeros, which differ from reader to reader.
    if not LISTEN_PORT_PATTERN.fullmatch(port) or int(port) > PORT_MAX:
        raise problem(path, allowed, value)
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        address = ipaddress.IPv6Address(host[1:-1]) if bracketed else ipaddress.IPv4Address(host)
    except ValueError:
        raise problem(path, allowed, value) from None
    if address.is_multicast or address.is_link_local or "%" in host or host == "255.255.255.255":
        raise problem(path, f"{allowed} that a machine can listen on", value)
    return f"[{address}]:{port}" if bracketed else f"{address}:{port}"


def route_entry(value: object, path: str) -> str:
    """A prefix, or the word ``default`` for 0.0.0.0/0 and ::/0 alone."""
    return value if value == "default" and isinstance(value, str) else prefix(value, path)


def pool4(value: object, path: str) -> str | None:
    """An IPv4 network that nodes draw addresses from, in its normal form."""
    allowed = 'an IPv4 network of /8 to /30 such as "10.77.0.0/16"'
    if not isinstance(value, str):
        raise problem(path, allowed, value)
    try:
        network = ipaddress.IPv4Network(value)
    except ValueError:
        raise problem(path, allowed, value) from None
    if not POOL4_LENGTH_MIN <= network.prefixlen <= POOL4_LENGTH_MAX:
        raise problem(path, allowed, value)
    if network.is_multicast or network.is_loopback or network.is_link_local or network.is_unspecified:
        raise problem(path, f"{allowed} that nodes can own addresses of", value)
    return str(network)


def prefix(value: object, path: str) -> str:
    """A prefix that a node can announce, in its normal form; a plain address is one of full length."""
    allowed = 'a prefix such as "10.1.0.0/16" or "fd00:1::/48"'
    if not isinstance(value, str):
        raise problem(path, allowed, value)
    try:
        network = ipaddress.ip_network(value)
    except ValueError as mistake:
        if "host bits" in str(mistake):
            meant = ipaddress.ip_network(value, strict=False)
            raise ConfigError(path, f"{shown(value)} has host bits set: write {meant}") from None
        raise problem(path, allowed, value) from None
    if network.prefixlen and (network.is_multicast or network.is_loopback or network.is_link_local):
        raise problem(path, f"{allowed} that other nodes can reach", value)
    return str(network)


def array(read_item: Reader[T], distinct: bool = False, items_max: int | None = None) -> Reader[tuple[T, ...]]:
    """A list of values; ``distinct``: none twice; no more than ``items_max``."""

    def read(value: object, path: str) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise problem(path, "a list", value)
        if items_max is not None and len(value) > items_max:
            raise ConfigError(path, f"has {len(value)} entries, {items_max} are allowed: say it with fewer")
        items = tuple(read_item(item, f"{path}[{position}]") for position, item in enumerate(value))
        for position, item in enumerate(items):
            if distinct and item in items[:position]:
                raise ConfigError(f"{path}[{position}]", f"{shown(item)} is listed twice: remove one")
        return items

    return read


def table(cls: type[T]) -> Reader[T]:
    """A table described by a dataclass."""

    def read(value: object, path: str) -> T:
        return read_table(cls, value, path)

    return read


def optional_table(cls: type[T]) -> Reader[T | None]:
    """The same where the table may be missing altogether."""

    def read(value: object, path: str) -> T | None:
        return read_table(cls, value, path)

    return read


def read_table(cls: type[T], value: object, path: str) -> T:
    """``value`` as an instance of ``cls``; every key known, every value of its kind.

    Raises ``ConfigError`` for the first key that is not.
    """
    if not isinstance(value, dict):
        raise problem(path, "a table", value)
    fields: dict[str, dataclasses.Field[Any]] = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    read: dict[str, Any] = {}
    for key, item in value.items():
        if key not in fields:
            raise ConfigError(join(path, key), f"is not a known setting; {did_you_mean(key, list(fields))}")
        read[key] = fields[key].metadata["read"](item, join(path, key))
    for key, field in fields.items():
        if key not in read and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(join(path, key), "is missing: it must be set")
    return cls(**read)


def join(path: str, key: str) -> str:
    """The path of ``key`` inside the table at ``path``; keys that need quotes get them."""
    shown_key = key if NAME_PATTERN.fullmatch(key) and "." not in key else json.dumps(key)
    return f"{path}.{shown_key}" if path else shown_key
