"""Link-state advertisements: what one node says of itself, signed, and the smallest unit of flooding.

    field        | meaning
    origin       | NodeId of the node that speaks
    sequence     | freshness: the higher one wins, clocks never matter
    name         | the node's name, for people
    adjacencies  | one per usable link: neighbour, link, remote_link, metric
    prefixes     | what is reachable at this node, address and length
    flags        | bit set: 1 the node is draining, for people (its metrics say it to everyone who computes); 2 its
                 | identity is on two machines, for people (:mod:`routing.contest`)
    protocol     | the highest protocol that the origin speaks (:mod:`sansio.protocol`); 0.1.0 leaves it out
    attachments  | its links that are segments: link, own address there, seniority as speaker (:mod:`routing.segments`)
    gateway      | preference of the default routes among ``prefixes``, 1..255, the greater the better; 0: none stated
    successor    | the NodeId under which this machine goes on, nil: none (:mod:`routing.succession`)
    predecessor  | the NodeId under which this machine was known before, nil: none

An adjacency counts only if both ends advertise it with each other's link numbers (OSPF's two-way check, RFC 2328
16.1 (2b)): a link seen one way carries nothing. The proof beside the body (signature and certificates) is opaque
here; a ``Signer`` makes it and a ``Verifier`` checks it, both injected.
"""

import ipaddress
from typing import Annotated, NewType, Protocol

import msgspec

from sansio.ids import NodeId, WireNodeId
from sansio.protocol import PROTOCOL_FIRST, WireProtocol
from sansio.wire import WIRE, Codec

METRIC_MAX = 2**24 - 1
ADJACENCIES_MAX = 256
PREFIXES_MAX = 64
ATTACHMENTS_MAX = 64
PREFERENCE_MAX = 255
FLAG_DRAINING = 1
FLAG_CONTESTED = 2

LinkNumber = NewType("LinkNumber", int)
"""A node's own number for one of its links: the kernel's interface index."""

WireLinkNumber = Annotated[LinkNumber, msgspec.Meta(ge=1, lt=2**32)]
Preference = Annotated[int, msgspec.Meta(ge=0, le=PREFERENCE_MAX)]
Metric = Annotated[int, msgspec.Meta(ge=1, le=METRIC_MAX)]


class Prefix(msgspec.Struct, order=True, **WIRE):
    """An IPv4 or IPv6 prefix: ``network`` is 4 or 16 bytes in network order, host bits zero."""

    network: Annotated[bytes, msgspec.Meta(min_length=4, max_length=16)]
    length: Annotated[int, msgspec.Meta(ge=0, le=128)]

    @classmethod
    def parse(cls, text: str) -> "Prefix":
        """From ``10.0.0.0/24`` or a plain address; ``ValueError`` where it is neither."""
        network = ipaddress.ip_network(text)
        return cls(network.network_address.packed, network.prefixlen)

    @classmethod
    def of(cls, address: bytes, length: int) -> "Prefix":
        """The prefix of that length that ``address`` (4 or 16 bytes) lies in."""
        shift = 8 * len(address) - length
        return cls((int.from_bytes(address, "big") >> shift << shift).to_bytes(len(address), "big"), length)

    @property
    def is_default(self) -> bool:
        """Whether it is 0.0.0.0/0 or ::/0."""
        return self.length == 0

    @property
    def is_host(self) -> bool:
        """Whether it is one address."""
        return self.length == 8 * len(self.network)

    def holds(self, other: "Prefix") -> bool:
        """Whether every address of ``other`` is one of this prefix."""
        if len(self.network) != len(other.network) or self.length > other.length:
            return False
        shift = 8 * len(self.network) - self.length
        return int.from_bytes(self.network, "big") >> shift == int.from_bytes(other.network, "big") >> shift

    def __str__(self) -> str:
        return f"{ipaddress.ip_address(self.network)}/{self.length}"


class Adjacency(msgspec.Struct, order=True, **WIRE):
    """One usable link to one neighbour, as its owner sees it."""

    neighbour: WireNodeId
    link: WireLinkNumber
    remote_link: WireLinkNumber
    metric: Metric


class Attachment(msgspec.Struct, order=True, **WIRE):
    """One of the origin's links that is on a segment which many nodes share.

    ``address``: the origin's own IPv6 link-local address there, 16 bytes. ``speaks``: 0, or the rank of one that speaks
    for the segment; of two the lower is the senior.
    """

    link: WireLinkNumber
    address: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    speaks: Annotated[int, msgspec.Meta(ge=0, lt=2**32)] = 0


class Lsa(msgspec.Struct, **WIRE):
    """The body of an advertisement."""

    origin: WireNodeId
    sequence: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    name: Annotated[str, msgspec.Meta(max_length=64)]
    adjacencies: Annotated[tuple[Adjacency, ...], msgspec.Meta(max_length=ADJACENCIES_MAX)]
    prefixes: Annotated[tuple[Prefix, ...], msgspec.Meta(max_length=PREFIXES_MAX)]
    flags: int = 0
    protocol: WireProtocol = PROTOCOL_FIRST
    attachments: Annotated[tuple[Attachment, ...], msgspec.Meta(max_length=ATTACHMENTS_MAX)] = ()
    gateway: Preference = 0
    successor: WireNodeId | None = None
    predecessor: WireNodeId | None = None

    @property
    def draining(self) -> bool:
        """Whether the node has asked to be spared traffic that others can carry."""
        return bool(self.flags & FLAG_DRAINING)

    @property
    def contested(self) -> bool:
        """Whether the node has found that another machine has its identity."""
        return bool(self.flags & FLAG_CONTESTED)


class SignedLsa(msgspec.Struct, **WIRE):
    """A body as it was signed, and the proof of who signed it. Compared and stored by its exact bytes."""

    body: bytes
    proof: bytes


LSA_CODEC: Codec[Lsa] = Codec(Lsa)


class Signer(Protocol):
    """Makes the proof that a body is this node's."""

    def sign(self, body: bytes) -> bytes:
        """Signature and whatever a stranger needs to check it."""


class Verifier(Protocol):
    """Checks that a body is its origin's, and that the origin belongs to the mesh."""

    def verify(self, origin: NodeId, body: bytes, proof: bytes) -> bool:
        """Whether ``proof`` holds. Implementations cache by hash."""
