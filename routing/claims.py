"""Address claims: every node has addresses of its own in the mesh, and nobody hands them out.

Theory of operation (DESIGN 7, "Addresses without a registrar"). A node takes the first free candidate of a sequence
that follows from its NodeId, and says so in a signed statement that every member comes to hold. It claims only once
its copy of the statements has been compared with a member's, and uses a new address only after ``probation``, in which
an earlier claim that it had not heard of would have arrived (as duplicate address detection does, RFC 4862 5.4).

*Who keeps an address.* Each claim carries a ``generation``: one more than the highest that its author had heard of (a
Lamport clock). So a claim made in knowledge of another ranks behind it: the incumbent wins, however long it was away,
since its claim is persisted and said again unchanged. Only claims made without knowledge of one another can rank
otherwise; of those the lower generation wins, then the lower NodeId. Everybody ranks alike, so the loser knows, and
takes its next candidate. A configured address ranks before all that were drawn, and is never given up: two of them that
are the same are an operator's mistake, which the database of reachable prefixes shows (``dmssd status``).

*IPv6.* The mesh has a ULA /48 (RFC 4193: fd, then 40 bits of the hash of the mesh id); a node claims an /80 in it
and is its first address, the rest is for what runs there. *IPv4.* One address of the configured pool, never its first
or last. A candidate inside one of the machine's own networks is passed over.

    Claim      | meaning
    block      | Prefix: an IPv4 /32, an IPv6 /80, or (fixed) a /128; nil: given back
    generation | Lamport number of the claim
    fixed      | configured, not drawn

What an author has is under the subjects ``4`` and ``6``; a member can hold one block of each family, no more.
"""

import hashlib
import ipaddress
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, assert_never

import msgspec

from routing.lsa import Prefix
from sansio.core import Rejected, Wake
from sansio.errors import RemoteProtocolError
from sansio.ids import MeshId, NodeId, short
from sansio.instant import SECOND, Duration, Instant, after
from sansio.wire import WIRE, Codec

CLAIMS_MAX = 2 * 16_384
"""Claims held, of all members; one more is not heard."""

HASHED_CANDIDATES = 64
"""Candidates drawn by hash; after them the pool is walked in order from the last one."""

WALK_MAX = 65_536
"""Candidates looked at in one search. A pool with none free among so many counts as full."""

GENERATION_MAX = 2**62
ULA_BYTES, NODE_BYTES = 6, 10
FAMILIES = (4, 6)
_BITS = {4: 32, 6: 128}


class Claim(msgspec.Struct, **WIRE):
    """What one member claims of one family; drawn in the module's docstring."""

    block: Prefix | None
    generation: Annotated[int, msgspec.Meta(ge=0, le=GENERATION_MAX)]
    fixed: bool = False


CLAIM_CODEC: Codec[Claim] = Codec(Claim)


@dataclass(frozen=True, slots=True)
class ClaimConfig:
    """What to claim. ``fixed``: the node's configured addresses (/32, /128); a family that has one draws none.

    ``pool4``: where IPv4 addresses are drawn from, the same on every node; None: none is drawn. ``ula``: draw an IPv6
    block. Raising ``probation`` makes it less likely that two new nodes use one address for a moment, and delays each
    new node by as much; ``settle`` is how long to wait for a comparison with a member before claiming all the same.
    """

    fixed: tuple[Prefix, ...] = ()
    pool4: Prefix | None = None
    ula: bool = True
    probation: Duration = Duration(1 * SECOND)
    settle: Duration = Duration(5 * SECOND)


@dataclass(frozen=True, slots=True)
class Started:
    """The daemon runs; what was persisted has been told by ``ClaimHeard``."""


@dataclass(frozen=True, slots=True)
class ClaimHeard:
    """``node``'s latest claim of that family, authentic; ourselves included. ``payload``: as encoded, None: gone."""

    node: NodeId
    family: int
    payload: bytes | None


@dataclass(frozen=True, slots=True)
class Inherited:
    """What our machine claimed under its former NodeId, and goes on to: ``payload`` as for ``ClaimHeard``."""

    family: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Compared:
    """Our copy of the statements was compared with a member's, or there is no other member."""


@dataclass(frozen=True, slots=True)
class NetworksRead:
    """The networks that this machine is on by itself; replaces all before."""

    networks: tuple[Prefix, ...]


@dataclass(frozen=True, slots=True)
class ConfigSet:
    """Claim by this configuration from now on."""

    config: ClaimConfig


@dataclass(frozen=True, slots=True)
class GiveBack:
    """The node leaves for good: others may have its addresses."""


@dataclass(frozen=True, slots=True)
class PublishClaim:
    """State the claim of that family: ``payload`` encoded."""

    family: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class AddressesChosen:
    """The node's own addresses are these, as /32 and /128; replaces all before."""

    addresses: tuple[Prefix, ...]


@dataclass(frozen=True, slots=True)
class ClaimLost:
    """``block`` was ours and is ``to``'s, whose claim came first; another is being claimed."""

    block: Prefix
    to: NodeId


@dataclass(frozen=True, slots=True)
class PoolFull:
    """No address of that family is free: this node goes without."""

    family: int


ClaimsEvent = Started | ClaimHeard | Inherited | Compared | NetworksRead | ConfigSet | GiveBack | Wake
ClaimsAction = PublishClaim | AddressesChosen | ClaimLost | PoolFull | Rejected


@dataclass(slots=True)
class _Own:
    """What we claim of one family. ``usable_at``: None while in use already."""

    claim: Claim
    usable_at: Instant | None


@dataclass(slots=True)
class _Table:
    """Everybody's claims, and who claims each block."""

    claims: dict[tuple[NodeId, int], Claim] = field(default_factory=dict)
    claimants: dict[Prefix, dict[NodeId, None]] = field(default_factory=dict)
    inside: Counter[Prefix] = field(default_factory=Counter)  # /80 -> fixed addresses in it
    released: int = 0  # how often something became free

    def put(self, node: NodeId, family: int, claim: Claim | None) -> None:
        before = self.claims.pop((node, family), None)
        if before is not None and before.block is not None:
            self.claimants[before.block].pop(node)
            if not self.claimants[before.block]:
                del self.claimants[before.block]
                self.released += 1
            if before.block.length == 128:
                self._inside(before.block, -1)
        if claim is not None and claim.block is not None:
            self.claims[node, family] = claim
            self.claimants.setdefault(claim.block, {})[node] = None
            if claim.block.length == 128:
                self._inside(claim.block, 1)

    def _inside(self, address: Prefix, change: int) -> None:
        block = _block6(address.network[:NODE_BYTES])
        self.inside[block] += change
        if not self.inside[block]:
            del self.inside[block]

    def is_free(self, block: Prefix) -> bool:
        return block not in self.claimants and block not in self.inside

    def first(self, block: Prefix) -> NodeId | None:
        """Whose the block is: the best ranked of its claimants."""
        claimants = self.claimants.get(block, {})
        return min(claimants, key=lambda node: rank(node, self.claims[node, family_of(block)]), default=None)


class AddressClaims:
    """The core; see the module's docstring."""

    def __init__(self, me: NodeId, mesh: MeshId, config: ClaimConfig) -> None:
        self._me = me
        self._mesh = mesh
        self._ula = Prefix(ula_of(mesh), 8 * ULA_BYTES)
        self._config = config
        self._table = _Table()
        self._own: dict[int, _Own] = {}
        self._networks: tuple[Prefix, ...] = ()
        self._generation = 0
        self._ready = False
        self._settle_at: Instant | None = None
        self._full: dict[int, int] = {}  # families whose pool was full -> how much had been released then
        self._used: tuple[Prefix, ...] = ()
        self._given_back = False

    def handle(self, event: ClaimsEvent, now: Instant) -> list[ClaimsAction]:
        """React to one event."""
        if self._given_back:
            return []
        actions: list[ClaimsAction] = []
        match event:
            case Started():
                self._settle_at = after(now, self._config.settle)
            case ClaimHeard(node, family, payload):
                actions = self._on_heard(node, family, payload)
                if not self._concerns_us(node, family):
                    return actions
            case Inherited(family, payload):
                actions = self._on_inherited(family, payload)
            case Compared():
                self._ready = True
            case NetworksRead(networks):
                self._networks = networks
                self._full.clear()
            case ConfigSet(config):
                self._config = config
                self._full.clear()
            case GiveBack():
                return self._on_give_back()
            case Wake():
                self._on_wake(now)
            case _:
                assert_never(event)
        for family in FAMILIES:
            actions += self._review(family, now)
        return [*actions, *self._use()]

    def deadline(self) -> Instant | None:
        """When a probation ends, or waiting for a comparison."""
        if self._given_back:
            return None
        waits = [own.usable_at for own in self._own.values() if own.usable_at is not None]
        waits += [self._settle_at] if self._settle_at is not None and not self._ready else []
        return min(waits, default=None)

    @property
    def addresses(self) -> tuple[Prefix, ...]:
        """The node's own addresses, in use."""
        return self._used

    def claims(self) -> list[tuple[NodeId, int, Claim, bool]]:
        """Every claim held: its author, family, the claim, and whether the block is its author's."""
        return [
            (node, family, claim, claim.block is not None and self._table.first(claim.block) == node)
            for (node, family), claim in sorted(self._table.claims.items(), key=lambda item: item[0])
        ]

    @property
    def full(self) -> tuple[int, ...]:
        """The families of which no address was free for this node."""
        return tuple(sorted(self._full))

    # Events

    def _concerns_us(self, node: NodeId, family: int) -> bool:
        """Whether what was heard of a node can change what we claim: a thousand others claim what we never wanted."""
        own, theirs = self._own.get(family), self._table.claims.get((node, family))
        return node == self._me or own is None or (theirs is not None and theirs.block == own.claim.block)

    def _on_heard(self, node: NodeId, family: int, payload: bytes | None) -> list[ClaimsAction]:
        try:
            claim = CLAIM_CODEC.decode(payload, short(node)) if payload is not None else None
        except RemoteProtocolError:
            return [Rejected(short(node), "address claim cannot be decoded")]
        if claim is not None and (problem := _problem(family, claim)):
            return [Rejected(short(node), problem)]
        if node == self._me:
            return self._on_own_heard(family, claim)
        known = (node, family) in self._table.claims
        if not known and len(self._table.claims) >= CLAIMS_MAX:
            return [Rejected(short(node), "more address claims than can be held")]
        self._table.put(node, family, claim)
        if claim is not None:
            self._generation = max(self._generation, claim.generation)
        return []

    def _on_own_heard(self, family: int, claim: Claim | None) -> list[ClaimsAction]:
        own = self._own.get(family)
        if own is not None:
            # Not what we say now: an older word of ours, from before our disk was lost.
            return [] if claim == own.claim else [PublishClaim(family, CLAIM_CODEC.encode(own.claim))]
        if claim is not None and claim.block is not None and self._fits(family, claim):
            self._generation = max(self._generation, claim.generation)
            self._hold(family, claim, None)
        return []

    def _on_inherited(self, family: int, payload: bytes) -> list[ClaimsAction]:
        actions = self._on_heard(self._me, family, payload)
        own = self._own.get(family)
        return [*actions, PublishClaim(family, CLAIM_CODEC.encode(own.claim))] if own is not None else actions

    def _on_wake(self, now: Instant) -> None:
        if self._settle_at is not None and now >= self._settle_at:
            self._ready = True
        for own in self._own.values():
            if own.usable_at is not None and now >= own.usable_at:
                own.usable_at = None

    def _on_give_back(self) -> list[ClaimsAction]:
        self._given_back = True
        released = CLAIM_CODEC.encode(Claim(None, self._generation))
        return [PublishClaim(family, released) for family in sorted(self._own)]

    # What to claim

    def _review(self, family: int, now: Instant) -> list[ClaimsAction]:
        """Have the right claim of one family: keep it, lose it, or take the next."""
        actions: list[ClaimsAction] = []
        own = self._own.get(family)
        fixed = self._fixed(family)
        if own is not None and not self._fits(family, own.claim):
            self._drop(family)
            own = None
        if own is not None and not own.claim.fixed and own.claim.block is not None:
            holder = self._table.first(own.claim.block)
            if holder not in (None, self._me):
                assert holder is not None
                actions.append(ClaimLost(own.claim.block, holder))
                self._drop(family)
                own = None
        if own is None and fixed is not None:
            return [*actions, self._take(family, Claim(fixed, self._generation + 1, fixed=True), None)]
        if own is None and self._ready and self._draws(family):
            return actions + self._draw(family, now)
        return actions

    def _draw(self, family: int, now: Instant) -> list[ClaimsAction]:
        if self._full.get(family) == self._table.released:
            return []
        block = next((block for block in self._candidates(family) if self._is_usable(block)), None)
        if block is None:
            told = family in self._full
            self._full[family] = self._table.released
            return [] if told else [PoolFull(family)]
        self._full.pop(family, None)
        claim = Claim(block, min(self._generation + 1, GENERATION_MAX))
        alone = not self._table.claims
        return [self._take(family, claim, None if alone else after(now, self._config.probation))]

    def _take(self, family: int, claim: Claim, usable_at: Instant | None) -> PublishClaim:
        self._generation = max(self._generation, claim.generation)
        self._hold(family, claim, usable_at)
        return PublishClaim(family, CLAIM_CODEC.encode(claim))

    def _hold(self, family: int, claim: Claim, usable_at: Instant | None) -> None:
        self._own[family] = _Own(claim, usable_at)
        self._table.put(self._me, family, claim)

    def _drop(self, family: int) -> None:
        del self._own[family]
        self._table.put(self._me, family, None)

    def _use(self) -> list[ClaimsAction]:
        used = tuple(
            _own_address(own.claim.block)
            for _, own in sorted(self._own.items())
            if own.usable_at is None and own.claim.block is not None
        )
        if used == self._used:
            return []
        self._used = used
        return [AddressesChosen(used)]

    # What may be claimed

    def _fixed(self, family: int) -> Prefix | None:
        return next((address for address in self._config.fixed if 8 * len(address.network) == _BITS[family]), None)

    def _draws(self, family: int) -> bool:
        return self._config.pool4 is not None if family == 4 else self._config.ula

    def _fits(self, family: int, claim: Claim) -> bool:
        """Whether a claim of ours is one that we would make by the present configuration."""
        fixed = self._fixed(family)
        if fixed is not None or claim.fixed or claim.block is None:
            return claim.fixed and claim.block == fixed
        if not self._draws(family) or self._is_local(claim.block):
            return False
        pool = self._config.pool4 if family == 4 else self._ula
        return pool is not None and pool.holds(claim.block)

    def _is_usable(self, block: Prefix) -> bool:
        return self._table.is_free(block) and not self._is_local(block)

    def _is_local(self, block: Prefix) -> bool:
        return any(network.holds(block) or block.holds(network) for network in self._networks)

    def _candidates(self, family: int) -> Iterator[Prefix]:
        pool = self._config.pool4
        if family == 6:
            base, size, first = int.from_bytes(self._ula.network[:NODE_BYTES], "big"), 1 << 32, 0
        elif pool is not None:
            bits = 32 - pool.length
            edge = 1 if bits > 1 else 0  # a network's first and last address are no host's (RFC 3021: but for a /31)
            base, size, first = int.from_bytes(pool.network, "big"), (1 << bits) - 2 * edge, edge
        else:
            return
        offset = 0
        for attempt in range(HASHED_CANDIDATES):
            offset = self._hash(family, attempt) % size
            yield _candidate(family, base + first + offset)
        for step in range(1, min(size, WALK_MAX)):
            yield _candidate(family, base + first + (offset + step) % size)

    def _hash(self, family: int, attempt: int) -> int:
        text = b"dmssd address" + bytes((family, attempt)) + self._mesh + self._me
        return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def rank(node: NodeId, claim: Claim) -> tuple[bool, int, NodeId]:
    """Of two claims to one block, the one with the lower rank holds."""
    return not claim.fixed, claim.generation, node


def family_of(block: Prefix) -> int:
    """4 or 6."""
    return 4 if len(block.network) == 4 else 6


def ula_of(mesh: MeshId) -> bytes:
    """The mesh's ULA /48 as 16 bytes: fd and 40 bits of the hash of its id (RFC 4193 3.2.2 with another hash)."""
    digest = hashlib.blake2b(b"dmssd ula" + mesh, digest_size=ULA_BYTES - 1).digest()
    return b"\xfd" + digest + bytes(16 - ULA_BYTES)


def _candidate(family: int, number: int) -> Prefix:
    return Prefix(number.to_bytes(4, "big"), 32) if family == 4 else _block6(number.to_bytes(NODE_BYTES, "big"))


def _block6(network: bytes) -> Prefix:
    return Prefix(network + bytes(16 - NODE_BYTES), 8 * NODE_BYTES)


def _own_address(block: Prefix) -> Prefix:
    if block.length == 8 * NODE_BYTES and len(block.network) == 16:
        return Prefix(block.network[:15] + b"\x01", 128)
    return block


def _problem(family: int, claim: Claim) -> str | None:
    block = claim.block
    if family not in FAMILIES:
        return "address claim of an unknown family"
    if block is None:
        return None
    lengths = {4: (32,), 6: (128,) if claim.fixed else (8 * NODE_BYTES,)}[family]
    if 8 * len(block.network) != _BITS[family] or block.length not in lengths:
        return "address claim of a wrong size"
    address = ipaddress.ip_address(block.network)
    if address.is_multicast or address.is_unspecified or address.is_loopback or address.is_link_local:
        return "address claim of no node's address"
    host = int.from_bytes(block.network, "big") & ((1 << (8 * len(block.network) - block.length)) - 1)
    return "address claim with host bits" if host else None
