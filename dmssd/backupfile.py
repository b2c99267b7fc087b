r"""A node in one file: what a backup holds, written and checked. Nothing here touches a disk.

    file     | "dmssd-backup 1\n", u32 length of the manifest (big-endian), manifest (JSON), the members in order
    sealed   | "dmssd-sealed 1\n", 16 bytes salt, 24 bytes nonce, secretbox of a file (XSalsa20-Poly1305; its key is
               Argon2id of the passphrase, RFC 9106 4's second choice: 3 passes over 64 MiB)
    manifest | {"version", "state_format", "node", "name", "made_s", "members": [[kind, name, bytes, sha256], ...]}

Not a tar: there are no links, devices, directories or modes, and no path. A member is a key of the state directory out
of ``STATE_KEYS`` or a configuration file called as one, so that no name leads anywhere else. A file is believed as a
whole or not at all: every length, name and digest, and that nothing follows. The digests find damage; who wrote the
file only the passphrase tells.

What is not in it: join tokens and approvals, which would come back to life after they were used; changes on trial; and
what is about one machine's kernel.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dmssd.rules import rotation, traffic
from dmssd.secure import MEMBERSHIP_KEY
from gossip import replica
from sansio.errors import RemoteProtocolError, StoreError

MAGIC = b"dmssd-backup 1\n"
SEALED = b"dmssd-sealed 1\n"
MANIFEST_BYTES_MAX = 64 << 10
MEMBER_BYTES_MAX = 16 << 20
FILE_BYTES_MAX = 64 << 20
CONFIG_FILES_MAX = 64
PASSPHRASE_CHARACTERS_MIN = 8

STATE, CONFIG = "state", "config"
STATE_KEYS = (
    rotation.IDENTITY_KEY,
    *rotation.STORED_KEYS,
    MEMBERSHIP_KEY,
    *replica.STORED_KEYS,
    "lsa-sequence",
    "incarnation",
    traffic.STORED_KEY,
    "config-undone",
)
MAIN_FILE = "dmssd.toml"
_DROP_IN = re.compile(r"conf\.d/[A-Za-z0-9_][A-Za-z0-9_.-]{0,100}\.toml")
_TEXTS, _NUMBERS = ("version", "node", "name"), ("state_format", "made_s")
_SALT_BYTES, _NONCE_BYTES = 16, 24
_PASSES, _MEMORY_BYTES = 3, 64 << 20
_DAMAGED = "is damaged or is no backup of dmssd: take another copy of it"


@dataclass(frozen=True, slots=True)
class Backup:
    """One node. ``state`` by key, ``config`` by file name (``dmssd.toml``, ``conf.d/NAME.toml``)."""

    version: str
    state_format: int
    node: str
    name: str
    made_s: int
    state: Mapping[str, bytes]
    config: Mapping[str, bytes]


def may_hold(kind: str, name: str) -> bool:
    """Whether a backup may have a member of that name."""
    if kind == STATE:
        return name in STATE_KEYS
    return kind == CONFIG and (name == MAIN_FILE or bool(_DROP_IN.fullmatch(name)))


def encode(backup: Backup) -> bytes:
    """The file; ``StoreError`` where a part is larger than any node has."""
    members = [(STATE, name, value) for name, value in sorted(backup.state.items())]
    members += [(CONFIG, name, value) for name, value in sorted(backup.config.items())]
    listed = [[kind, name, len(value), hashlib.sha256(value).hexdigest()] for kind, name, value in members]
    facts = {key: getattr(backup, key) for key in (*_TEXTS, *_NUMBERS)}
    manifest = {**facts, "members": listed}
    head = json.dumps(manifest).encode()
    data = b"".join((MAGIC, len(head).to_bytes(4, "big"), head, *(value for _, _, value in members)))
    decode(data)  # what could not be restored is not worth keeping
    return data


def decode(data: bytes) -> Backup:
    """The node in a file that is not sealed; ``StoreError`` for whatever is not as :func:`encode` makes it."""
    if len(data) > FILE_BYTES_MAX:
        raise StoreError(f"the backup is larger than {FILE_BYTES_MAX >> 20} MiB, which no node is")
    if not data.startswith(MAGIC):
        raise StoreError(f"the file {_DAMAGED}")
    manifest, start = _manifest(data)
    state: dict[str, bytes] = {}
    config: dict[str, bytes] = {}
    for kind, name, size, digest in _listed(manifest):
        found = state if kind == STATE else config
        value, start = data[start : start + size], start + size
        if name in found or len(value) != size or hashlib.sha256(value).hexdigest() != digest:
            raise StoreError(f"the backup's {kind} {name} {_DAMAGED}")
        found[name] = value
    if start != len(data):
        raise StoreError(f"the backup has something behind its end: it {_DAMAGED}")
    if len(config) > CONFIG_FILES_MAX:
        raise StoreError(f"the backup has more than {CONFIG_FILES_MAX} configuration files")
    _check_identity(state)
    try:
        # A file may spell characters that no text has.
        text = {key: str(manifest[key])[:200].encode(errors="replace").decode() for key in _TEXTS}
        numbers = {key: int(manifest[key]) for key in _NUMBERS}
    except (KeyError, TypeError, ValueError, OverflowError):
        raise StoreError(f"the backup's list of contents {_DAMAGED}") from None
    if not all(0 <= number < 1 << 53 for number in numbers.values()):
        raise StoreError(f"the backup's list of contents {_DAMAGED}")
    return Backup(**text, **numbers, state=state, config=config)  # type: ignore[arg-type]


def is_sealed(data: bytes) -> bool:
    """Whether a passphrase is needed."""
    return data.startswith(SEALED)


def seal(data: bytes, passphrase: str, entropy: bytes) -> bytes:
    """Encrypt a file; ``entropy``: 40 unpredictable bytes. ``StoreError`` for a passphrase that is too short."""
    if len(passphrase) < PASSPHRASE_CHARACTERS_MIN:
        raise StoreError(f"the passphrase is too short: at least {PASSPHRASE_CHARACTERS_MIN} characters, better more")
    salt, nonce = entropy[:_SALT_BYTES], entropy[_SALT_BYTES : _SALT_BYTES + _NONCE_BYTES]
    from nacl.bindings import crypto_secretbox

    return SEALED + salt + nonce + crypto_secretbox(data, nonce, _key(passphrase, salt))


def unseal(data: bytes, passphrase: str) -> bytes:
    """The file that was encrypted; ``StoreError`` where the passphrase is another, or the file damaged."""
    from nacl.bindings import crypto_secretbox_open
    from nacl.exceptions import CryptoError

    salt_at, nonce_at = len(SEALED), len(SEALED) + _SALT_BYTES
    box_at = nonce_at + _NONCE_BYTES
    try:
        return crypto_secretbox_open(data[box_at:], data[nonce_at:box_at], _key(passphrase, data[salt_at:nonce_at]))
    except (CryptoError, ValueError):
        raise StoreError("the passphrase does not open this backup, or it is damaged: try again") from None


def _key(passphrase: str, salt: bytes) -> bytes:
    from nacl.pwhash import argon2id

    if len(salt) != _SALT_BYTES:
        raise StoreError(f"the backup {_DAMAGED}")
    return bytes(argon2id.kdf(32, passphrase.encode(), salt, _PASSES, _MEMORY_BYTES))


def _manifest(data: bytes) -> tuple[dict[str, Any], int]:
    start = len(MAGIC) + 4
    size = int.from_bytes(data[len(MAGIC) : start], "big")
    if size > MANIFEST_BYTES_MAX or len(data) < start + size:
        raise StoreError(f"the backup {_DAMAGED}")
    try:
        manifest = json.loads(data[start : start + size])
    except (ValueError, RecursionError):
        manifest = None
    if not isinstance(manifest, dict):
        raise StoreError(f"the backup's list of contents {_DAMAGED}")
    return manifest, start + size


def _listed(manifest: dict[str, Any]) -> Iterable[tuple[str, str, int, str]]:
    members = manifest.get("members")
    if not isinstance(members, list):
        raise StoreError(f"the backup's list of contents {_DAMAGED}")
    for member in members:
        match member:
            case [str(kind), str(name), int(size), str(digest)] if not isinstance(size, bool):
                if not may_hold(kind, name):
                    raise StoreError(f"the backup has a {kind[:20]!r} called {name[:80]!r}, which no backup may have")
                if not 0 <= size <= MEMBER_BYTES_MAX:
                    raise StoreError(f"the backup's {kind} {name} would have {size} bytes: it {_DAMAGED}")
                yield kind, name, size, digest
            case _:
                raise StoreError(f"the backup's list of contents {_DAMAGED}")


def _check_identity(state: Mapping[str, bytes]) -> None:
    from dmssd.security.certificate import Credentials
    from dmssd.security.identity import Identity

    if rotation.IDENTITY_KEY not in state or MEMBERSHIP_KEY not in state:
        raise StoreError("the backup holds no identity and membership: there is nothing to restore")
    problem = ""
    # While a key is being replaced the certificate is about the next one already, for a moment.
    for seed in (state[rotation.IDENTITY_KEY], state.get(rotation.NEXT_IDENTITY_KEY)):
        if seed:
            try:
                Credentials.load(Identity(seed), state[MEMBERSHIP_KEY])
            except RemoteProtocolError as refused:
                problem = refused.reason
            else:
                return
    raise StoreError(f"the backup's certificate is not its key's ({problem}): it would not start; take another backup")
