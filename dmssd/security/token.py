"""Join tokens: a secret handed over out of band that admits one node (or N), for a while.

    token = "dmss1." + base64url, unpadded, of
    mesh id   16 bytes | the joiner authenticates the mesh by it: the issuer must show a chain that ends there
    issuer    20 bytes | NodeId of the member that made the token, and that alone redeems it
    token id   8 bytes
    secret    16 bytes

The issuer keeps a BLAKE2b hash of each secret, so that its state file admits nobody. Time to live is counted by the
issuer's monotonic clock, so no clock has to be right; while the daemon is down, no time passes. A token that is used
up or expired stays in the book, to tell its bearer which of the two it is, until the room is needed.

The same node may redeem the same token again while it lives, and is granted exactly the same: an answer may get lost.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

import msgspec

from sansio.errors import AdmissionError, RemoteProtocolError, StoreError
from sansio.ids import MESH_ID_BYTES, NODE_ID_BYTES, MeshId, NodeId, WireNodeId
from sansio.instant import SECOND, Duration, Instant
from sansio.wire import WIRE, Codec

PREFIX = "dmss1."
TOKEN_ID_BYTES = 8
SECRET_BYTES = 16
TOKENS_MAX = 64  # live ones; a further one is refused
TOKENS_KEPT_MAX = 128  # with those that ended; the one that ended first goes
USES_MAX = 1024
TTL_DEFAULT = Duration(600 * SECOND)
TTL_MAX = Duration(7 * 24 * 3600 * SECOND)

_TOKEN_BYTES = MESH_ID_BYTES + NODE_ID_BYTES + TOKEN_ID_BYTES + SECRET_BYTES


@dataclass(frozen=True, slots=True)
class Token:
    """A token as its bearer sees it."""

    mesh: MeshId
    issuer: NodeId
    id: bytes
    secret: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> "Token":
        """From its text form; ``AdmissionError`` where it is none."""
        text = text.strip()
        if not text.startswith(PREFIX):
            raise AdmissionError(
                f"this is not a join token: one begins with {PREFIX!r}; make one with 'dmssd token create' on a member"
            )
        digits = text.removeprefix(PREFIX)
        try:
            data = base64.b64decode(digits + "=" * (-len(digits) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            data = b""
        if len(data) != _TOKEN_BYTES:
            raise AdmissionError("the join token is damaged or incomplete: copy the whole line and try again")
        issuer_at, id_at, secret_at = MESH_ID_BYTES, MESH_ID_BYTES + NODE_ID_BYTES, _TOKEN_BYTES - SECRET_BYTES
        return cls(MeshId(data[:issuer_at]), NodeId(data[issuer_at:id_at]), data[id_at:secret_at], data[secret_at:])

    def __str__(self) -> str:
        data = self.mesh + self.issuer + self.id + self.secret
        return PREFIX + base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Grant(msgspec.Struct, **WIRE):
    """What the redemption of a token gave its bearer; enough to make the same certificate again."""

    joiner: WireNodeId
    serial: int
    capabilities: int
    expiry: int


class _Entry(msgspec.Struct, array_like=True):
    id: Annotated[bytes, msgspec.Meta(min_length=TOKEN_ID_BYTES, max_length=TOKEN_ID_BYTES)]
    secret_hash: bytes
    uses: int
    remaining_ns: int  # when ``counted_from``
    grants: list[Grant] = []
    counted_from: int = 0


_BOOK_CODEC: Codec[list[_Entry]] = Codec(list[_Entry])


@dataclass(frozen=True, slots=True)
class TokenState:
    """One token, for showing."""

    id: bytes
    uses_left: int
    remaining: Duration


class TokenBook:
    """The tokens that this node issued. ``stored`` is what ``export`` gave; ``StoreError`` where it cannot be read."""

    def __init__(self, stored: bytes | None, now: Instant) -> None:
        self._entries: dict[bytes, _Entry] = {}
        if stored is None:
            return
        try:
            entries = _BOOK_CODEC.decode(stored, "tokens")
        except RemoteProtocolError:
            raise StoreError("the stored tokens cannot be read: remove them from the state directory") from None
        for entry in entries[:TOKENS_KEPT_MAX]:
            entry.counted_from = now
            self._entries[entry.id] = entry

    def create(
        self,
        mesh: MeshId,
        issuer: NodeId,
        entropy: Callable[[int], bytes],
        now: Instant,
        *,
        uses: int = 1,
        ttl: Duration = TTL_DEFAULT,
    ) -> Token:
        """A new token for ``uses`` joiners, good for ``ttl``. Persist ``export`` before giving it out.

        ``AdmissionError`` where the numbers are out of range or ``TOKENS_MAX`` tokens are live.
        """
        if not 1 <= uses <= USES_MAX:
            raise AdmissionError(f"a token is good for 1 to {USES_MAX} uses, not {uses}")
        if not 0 < ttl <= TTL_MAX:
            raise AdmissionError(f"a token lives for 1 second to {TTL_MAX // SECOND} seconds")
        if sum(self._live(entry, now) for entry in self._entries.values()) >= TOKENS_MAX:
            raise AdmissionError(f"{TOKENS_MAX} tokens are live already: wait until one expires, or ask another admin")
        if len(self._entries) >= TOKENS_KEPT_MAX:
            del self._entries[next(id_ for id_, entry in self._entries.items() if not self._live(entry, now))]
        token = Token(mesh, issuer, entropy(TOKEN_ID_BYTES), entropy(SECRET_BYTES))
        self._entries[token.id] = _Entry(token.id, _hash(token.secret), uses, ttl, [], now)
        return token

    def redeem(self, id_: bytes, secret: bytes, wanted: Grant, now: Instant) -> Grant:
        """What ``wanted.joiner`` is granted: ``wanted``, or what it was granted before. Persist before answering.

        ``AdmissionError``, and nothing changed, where the token is unknown, wrong, used up or expired.
        """
        entry = self._entries.get(id_)
        if entry is None:
            raise AdmissionError("this token is not known to its issuer: make a new one with 'dmssd token create'")
        if not hmac.compare_digest(entry.secret_hash, _hash(secret)):
            raise AdmissionError("this token's secret is wrong: copy the whole token and try again")
        # Expiry first: even the same bearer gets nothing more from a token that has expired.
        if self._remaining(entry, now) <= 0:
            raise AdmissionError("this token has expired: make a new one with 'dmssd token create'")
        for grant in entry.grants:
            if grant.joiner == wanted.joiner:
                return grant
        if len(entry.grants) >= entry.uses:
            raise AdmissionError("this token has been used up: make a new one with 'dmssd token create'")
        entry.grants.append(wanted)
        return wanted

    def tokens(self, now: Instant) -> list[TokenState]:
        """The live tokens, the oldest first."""
        return [
            TokenState(entry.id, entry.uses - len(entry.grants), self._remaining(entry, now))
            for entry in self._entries.values()
            if self._live(entry, now)
        ]

    def export(self, now: Instant) -> bytes:
        """The book as bytes, each token with the time it has left: to be persisted at every change.

        A restart gives a token back the time since the last export, so export now and then while tokens live.
        """
        entries = list(self._entries.values())
        for entry in entries:
            entry.remaining_ns, entry.counted_from = self._remaining(entry, now), now
        return _BOOK_CODEC.encode(entries)

    @staticmethod
    def _remaining(entry: _Entry, now: Instant) -> Duration:
        return Duration(max(0, entry.remaining_ns - (now - entry.counted_from)))

    def _live(self, entry: _Entry, now: Instant) -> bool:
        return len(entry.grants) < entry.uses and self._remaining(entry, now) > 0


def _hash(secret: bytes) -> bytes:
    return hashlib.blake2b(secret, digest_size=32).digest()
