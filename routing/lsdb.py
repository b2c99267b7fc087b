"""The link-state database: the newest LSA of every origin, with the bytes it was signed as.

Theory of operation: an LSA replaces another of its origin if its sequence number is higher; if two with the same
number differ (a cloned identity, or a restored disk), the one with the greater body wins everywhere, so that all
databases still end up equal. Bodies are what counts: two proofs of one body are the same LSA.

Each entry is counted down by its holder alone. What an entry has left travels with it and is never raised, so an LSA
that nobody refreshes dies everywhere within one lifetime of its origination (DESIGN 3: clocks are not trusted).

Databases are compared by a digest that is cheap to keep: the sum modulo 2^128 of a hash of each entry. Where the
digests differ, *claims* (origin, sequence, eight bytes of the body's hash), sorted by origin, say what differs.

``view`` is how the database is read by whoever computes: with machines that changed their key under their present name
(:mod:`routing.succession`). Everything else here is about the LSAs as they were signed.
"""

import hashlib
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

from routing.lsa import Lsa, Prefix
from routing.succession import heirs, renamed
from sansio.ids import NodeId
from sansio.instant import Instant

LSDB_MAX = 16_384
LSA_BYTES_MAX = 24_576
CLAIM_DIGEST_BYTES = 8
LINK_LOCAL = b"\xfe\x80"
_MODULUS = 2**128


class Freshness(Enum):
    """How a received LSA compares with the one held."""

    NEWER = "newer"
    SAME = "same"
    OLDER = "older"


@dataclass(frozen=True, slots=True)
class Entry:
    """One LSA as held. ``signed`` is the encoded ``SignedLsa``; ``expires`` is None for our own.

    ``digest`` is the hash of the body, 16 bytes; the body holds origin and sequence, so it stands for the entry.
    """

    lsa: Lsa
    body: bytes
    proof: bytes
    signed: bytes
    expires: Instant | None
    digest: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", hashlib.blake2b(self.body, digest_size=16).digest())

    @property
    def claim_digest(self) -> bytes:
        """What tells bodies of one origin and sequence number apart in a claim."""
        return self.digest[:CLAIM_DIGEST_BYTES]


def lsa_problem(lsa: Lsa) -> str | None:
    """What is wrong with a decoded LSA beyond its types, or None: the rules every holder applies alike."""
    links = {(adjacency.link, adjacency.neighbour, adjacency.remote_link) for adjacency in lsa.adjacencies}
    if len(links) != len(lsa.adjacencies):
        return "LSA names an adjacency twice"
    if any(adjacency.neighbour == lsa.origin for adjacency in lsa.adjacencies):
        return "LSA is adjacent to itself"
    if len({attachment.link for attachment in lsa.attachments}) != len(lsa.attachments):
        return "LSA names an attachment twice"
    if any(attachment.address[:2] != LINK_LOCAL for attachment in lsa.attachments):
        return "LSA attached by an address that is not link-local"
    if not all(map(_is_canonical, lsa.prefixes)):
        return "LSA with a malformed prefix"
    if not lsa.name.isprintable():
        return "LSA with an unprintable name"
    return None


def _is_canonical(prefix: Prefix) -> bool:
    bits = 8 * len(prefix.network)
    if bits not in (32, 128) or prefix.length > bits:
        return False
    host_bits = bits - prefix.length
    return int.from_bytes(prefix.network, "big") & ((1 << host_bits) - 1) == 0


class Lsdb:
    """The table itself; what may enter it is decided by :mod:`routing.linkstate`."""

    def __init__(self, me: NodeId | None = None) -> None:
        """``me``: whose copy it is, and who is never read as succeeded in it."""
        self._me = me
        self.heirs: Mapping[NodeId, NodeId] = {}  # succeeded node -> the one that it is now
        self._entries: dict[NodeId, Entry] = {}
        self._lsas: dict[NodeId, Lsa] = {}
        self._origins: list[NodeId] = []  # sorted
        self._sum = 0
        self.view: Mapping[NodeId, Lsa] = MappingProxyType(self._lsas)

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, origin: NodeId) -> Entry | None:
        """The entry of ``origin``."""
        return self._entries.get(origin)

    @property
    def digest(self) -> bytes:
        """16 bytes, equal where the contents are equal."""
        return self._sum.to_bytes(16, "big")

    def freshness(self, lsa: Lsa, body: bytes) -> Freshness:
        """How ``lsa`` compares with what is held of its origin."""
        held = self._entries.get(lsa.origin)
        if held is None:
            return Freshness.NEWER
        ours, theirs = (held.lsa.sequence, held.body), (lsa.sequence, body)
        if ours == theirs:
            return Freshness.SAME
        return Freshness.NEWER if theirs > ours else Freshness.OLDER

    def put(self, entry: Entry) -> None:
        """Hold ``entry``, in place of what was held of its origin."""
        origin = entry.lsa.origin
        held = self._entries.get(origin)
        if held is None:
            insort(self._origins, origin)
        else:
            self._sum -= _mark(held)
        self._sum = (self._sum + _mark(entry)) % _MODULUS
        self._entries[origin] = entry
        if _succeeds(entry) or (held is not None and _succeeds(held)):
            self._read_again()
        elif origin not in self.heirs:
            self._lsas[origin] = renamed(entry.lsa, self.heirs) if self.heirs else entry.lsa

    def remove(self, origin: NodeId) -> None:
        """Forget ``origin``; no error if it is not held."""
        entry = self._entries.pop(origin, None)
        if entry is not None:
            self._sum = (self._sum - _mark(entry)) % _MODULUS
            self._lsas.pop(origin, None)
            del self._origins[bisect_left(self._origins, origin)]
            if _succeeds(entry):
                self._read_again()

    def _read_again(self) -> None:
        lsas = {origin: entry.lsa for origin, entry in self._entries.items()}
        self.heirs = heirs(lsas, self._me)
        self._lsas.clear()
        self._lsas.update({each: renamed(lsa, self.heirs) for each, lsa in lsas.items() if each not in self.heirs})

    def between(self, first: bytes, last: bytes) -> Iterator[Entry]:
        """The entries whose origins lie from ``first`` to ``last``, both included, in order."""
        low = bisect_left(self._origins, NodeId(first))
        high = bisect_right(self._origins, NodeId(last))
        return (self._entries[origin] for origin in self._origins[low:high])


def _succeeds(entry: Entry) -> bool:
    return entry.lsa.successor is not None or entry.lsa.predecessor is not None


def _mark(entry: Entry) -> int:
    return int.from_bytes(entry.digest, "big")
