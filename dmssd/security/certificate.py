"""Certificates: who belongs to a mesh, and on whose word.

A mesh is the hash of its founding: ``BLAKE2b-16(founder's Ed25519 key || founding nonce)``. The founder signs its own
certificate, which alone carries the nonce and the mesh's name; every other one is signed by a member that has the
``admin`` capability. A member shows its *chain*: its own certificate, its issuer's, ... , the founder's. Whoever knows
the 16 bytes of the mesh id can check a chain and needs nothing else.

    Certificate   | meaning
    mesh          | 16 bytes
    key           | the member's Ed25519 public key
    x25519        | its static key for sessions
    name          | 1 to 64 of letters, digits, ``.``, ``-``, ``_``
    capabilities  | bit set: 1 = admin, 2 = a recovery key (of nobody, kept offline)
    expiry        | unix seconds, 0: none. Leads to renewal and warnings, never to eviction (DESIGN.md 3, Clocks)
    serial        | 63 random bits
    issuer        | NodeId of the signer; the founder's own for the founder
    founding      | founder only: the 16-byte nonce; else empty
    mesh_name     | founder only; else empty

A chain is an array of [certificate bytes as signed, signature]. It has at most ``CHAIN_MAX`` links and
``CHAIN_BYTES_MAX`` bytes, so that a handshake message carrying it stays within a datagram; an issuer whose own chain
leaves no room refuses, and says who else to ask.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

import msgspec

from dmssd.security.identity import KEY_BYTES, SIGNATURE_BYTES, Identity, signature_holds
from sansio.errors import AdmissionError, RemoteProtocolError
from sansio.ids import MESH_ID_BYTES, MeshId, NodeId, WireMeshId, WireNodeId, node_id, short
from sansio.wire import WIRE, Codec

CHAIN_MAX = 4
CHAIN_BYTES_MAX = 900
CHAINS_CACHED_MAX = 1024
NAME_CHARACTERS_MAX = 64
FOUNDING_NONCE_BYTES = 16

CAPABILITY_ADMIN = 1
CAPABILITY_RECOVERY = 2

CERTIFICATE_CONTEXT = b"dmssd certificate 1"

WireKey = Annotated[bytes, msgspec.Meta(min_length=KEY_BYTES, max_length=KEY_BYTES)]
WireSignature = Annotated[bytes, msgspec.Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]
WireName = Annotated[str, msgspec.Meta(max_length=NAME_CHARACTERS_MAX)]

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Certificate(msgspec.Struct, **WIRE):
    """What a member's issuer says of it; the table in the module's docstring tells the fields."""

    mesh: WireMeshId
    key: WireKey
    x25519: WireKey
    name: WireName
    capabilities: Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
    expiry: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    serial: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    issuer: WireNodeId
    founding: Annotated[bytes, msgspec.Meta(max_length=FOUNDING_NONCE_BYTES)] = b""
    mesh_name: WireName = ""

    @property
    def node(self) -> NodeId:
        """The member's identity."""
        return node_id(self.key)

    @property
    def is_admin(self) -> bool:
        """Whether it may admit others."""
        return bool(self.capabilities & CAPABILITY_ADMIN)


class SignedCertificate(msgspec.Struct, **WIRE):
    """A certificate's bytes as they were signed, and the issuer's signature."""

    body: bytes
    signature: WireSignature


_Chain = Annotated[tuple[SignedCertificate, ...], msgspec.Meta(min_length=1, max_length=CHAIN_MAX)]

CERTIFICATE_CODEC: Codec[Certificate] = Codec(Certificate)
CHAIN_CODEC: Codec[tuple[SignedCertificate, ...]] = Codec(_Chain)


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a certificate is to be about."""

    key: bytes
    x25519: bytes
    name: str


@dataclass(frozen=True, slots=True)
class Credentials:
    """A node's own identity and its standing: the chain that makes it a member of ``certificate.mesh``."""

    identity: Identity
    chain: bytes
    certificate: Certificate
    mesh_name: str

    @property
    def mesh(self) -> MeshId:
        """The mesh this node is a member of."""
        return self.certificate.mesh

    @classmethod
    def load(cls, identity: Identity, chain: bytes) -> "Credentials":
        """From a stored or newly received chain; ``RemoteProtocolError`` where it does not hold or is not ours."""
        founder = founder_of(chain)
        certificate = verify_chain(chain, founder.mesh)
        if certificate.key != identity.key or certificate.x25519 != identity.x25519:
            raise RemoteProtocolError(short(certificate.node), "the certificate is about another key")
        return cls(identity, chain, certificate, founder.mesh_name)


def valid_name(name: str) -> bool:
    """Whether ``name`` may name a node or a mesh: 1 to 64 of letters, digits, ``.``, ``-``, ``_``."""
    return _NAME.fullmatch(name) is not None


def checked_name(name: str) -> str:
    """``name`` itself; ``AdmissionError`` where it may not be used."""
    if not valid_name(name):
        raise AdmissionError(
            f"this name cannot be used: {name!r}; choose 1 to {NAME_CHARACTERS_MAX} of letters, digits, '.', '-', '_'"
        )
    return name


def mesh_id(founder_key: bytes, founding: bytes) -> MeshId:
    """The mesh that ``founder_key`` (32 bytes) founded with the nonce ``founding`` (16 bytes)."""
    return MeshId(hashlib.blake2b(founder_key + founding, digest_size=MESH_ID_BYTES).digest())


def found(identity: Identity, name: str, mesh_name: str, entropy: Callable[[int], bytes]) -> Credentials:
    """Found a mesh of one, called ``mesh_name``, whose first member is ``identity`` under ``name``."""
    founding = entropy(FOUNDING_NONCE_BYTES)
    certificate = Certificate(
        mesh=mesh_id(identity.key, founding),
        key=identity.key,
        x25519=identity.x25519,
        name=checked_name(name),
        capabilities=CAPABILITY_ADMIN,
        expiry=0,
        serial=new_serial(entropy),
        issuer=identity.node,
        founding=founding,
        mesh_name=checked_name(mesh_name),
    )
    return Credentials(identity, CHAIN_CODEC.encode((_signed(identity, certificate),)), certificate, mesh_name)


def rename_mesh(credentials: Credentials, mesh_name: str) -> Credentials:
    """The founder's credentials with the mesh under another name: same founding, so the same mesh id."""
    certificate = msgspec.structs.replace(credentials.certificate, mesh_name=checked_name(mesh_name))
    chain = CHAIN_CODEC.encode((_signed(credentials.identity, certificate),))
    return Credentials(credentials.identity, chain, certificate, mesh_name)


def new_serial(entropy: Callable[[int], bytes]) -> int:
    """A serial for a certificate: 63 random bits."""
    return int.from_bytes(entropy(8), "big") >> 1


def issue(issuer: Credentials, subject: Subject, serial: int, capabilities: int = 0, expiry: int = 0) -> bytes:
    """The chain of a new member; the same arguments give the same bytes.

    ``AdmissionError`` where the issuer may not admit, the name may not be used, or the chain would be too long.
    """
    if not issuer.certificate.is_admin:
        raise AdmissionError("this node may not admit members: use a token of a member that has the admin capability")
    certificate = Certificate(
        mesh=issuer.mesh,
        key=subject.key,
        x25519=subject.x25519,
        name=checked_name(subject.name),
        capabilities=capabilities,
        expiry=expiry,
        serial=serial,
        issuer=issuer.identity.node,
    )
    above = CHAIN_CODEC.decode(issuer.chain, "own chain")
    if len(above) >= CHAIN_MAX:
        raise AdmissionError("this admin is too far from the founder to admit: use a token of the founder")
    chain = CHAIN_CODEC.encode((_signed(issuer.identity, certificate), *above))
    if len(chain) > CHAIN_BYTES_MAX:
        raise AdmissionError(
            f"the certificate chain would be too long: {len(chain)} bytes, and {CHAIN_BYTES_MAX} fit; "
            "use a shorter name, or a token of the founder"
        )
    return chain


def _signed(issuer: Identity, certificate: Certificate) -> SignedCertificate:
    body = CERTIFICATE_CODEC.encode(certificate)
    return SignedCertificate(body, issuer.sign(CERTIFICATE_CONTEXT, body))


def own_certificate(chain: bytes) -> Certificate:
    """The first certificate of a chain, *unverified*; ``RemoteProtocolError`` where it cannot be decoded."""
    return CERTIFICATE_CODEC.decode(CHAIN_CODEC.decode(chain, "chain")[0].body, "chain")


def founder_of(chain: bytes) -> Certificate:
    """The last certificate of a chain, *unverified*; ``RemoteProtocolError`` where it cannot be decoded."""
    return CERTIFICATE_CODEC.decode(CHAIN_CODEC.decode(chain, "chain")[-1].body, "chain")


@lru_cache(maxsize=CHAINS_CACHED_MAX)
def verify_chain(chain: bytes, mesh: MeshId) -> Certificate:
    """The member that ``chain`` makes a member of ``mesh``; a pure function, so its answers are kept.

    ``RemoteProtocolError`` where a link is missing, altered, unsigned or signed without the capability.
    """
    if len(chain) > CHAIN_BYTES_MAX:
        raise RemoteProtocolError("chain", "certificate chain is too long")
    links = CHAIN_CODEC.decode(chain, "chain")
    certificates = [CERTIFICATE_CODEC.decode(link.body, "chain") for link in links]
    founder = certificates[-1]
    if mesh_id(founder.key, founder.founding) != mesh or len(founder.founding) != FOUNDING_NONCE_BYTES:
        raise RemoteProtocolError(short(certificates[0].node), "certificate of another mesh")
    for depth, (link, certificate) in enumerate(zip(links, certificates, strict=True)):
        issuer = certificates[min(depth + 1, len(certificates) - 1)]
        problem = _link_problem(link, certificate, issuer, mesh)
        if problem:
            raise RemoteProtocolError(short(certificates[0].node), problem)
    return certificates[0]


def _link_problem(link: SignedCertificate, certificate: Certificate, issuer: Certificate, mesh: MeshId) -> str | None:
    if certificate.mesh != mesh:
        return "certificate of another mesh"
    if certificate is not issuer and certificate.founding:
        return "certificate claims a founding that is not its own"  # only the last link founds
    if certificate.issuer != issuer.node:
        return "certificate chain is broken"
    if not issuer.is_admin:
        return "certificate of an issuer that may not admit"
    if not valid_name(certificate.name):
        return "certificate with a name that may not be used"
    if not signature_holds(issuer.key, CERTIFICATE_CONTEXT, link.body, link.signature):
        return "certificate signature does not hold"
    return None
