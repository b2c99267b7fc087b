"""What two peers say of themselves inside a handshake, once it is encrypted.

    Introduction | meaning
    instance     | 8 random bytes, new at each start of a daemon: tells a restart from a second handshake
    generation   | the initiator's number for the handshake (a Lamport clock): which of two sessions is the newer
    index        | the sender's own index, also in the clear header: here it is authenticated
    key          | the Ed25519 public key, whose hash is the NodeId
    binding      | its signature over the X25519 static key that this handshake uses
    chain        | the certificate chain of the mesh the sender belongs to
    protocol     | the highest protocol that the sender speaks (:mod:`sansio.protocol`); 0.1.0 leaves it out

The binding is demanded of members too. A certificate names an X25519 key as well, but on its issuer's word: were that
enough, an admin of any mesh could certify its own static key under somebody else's identity.

A chain of *our* mesh must hold, else the handshake is refused. A chain of another mesh is not ours to judge: its
bearer is a stranger, known by its key alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import msgspec

from dmssd.security.certificate import (
    CHAIN_BYTES_MAX,
    Credentials,
    WireKey,
    WireSignature,
    own_certificate,
    verify_chain,
)
from dmssd.security.identity import signature_holds
from dmssd.security.transport import INDEX_BYTES
from sansio.errors import RemoteProtocolError
from sansio.ids import MeshId, NodeId, node_id
from sansio.protocol import PROTOCOL, PROTOCOL_FIRST, WireProtocol, common
from sansio.wire import WIRE, Codec

INSTANCE_BYTES = 8
BINDING_CONTEXT = b"dmssd binding 1"


class Introduction(msgspec.Struct, **WIRE):
    """The payload of handshake messages; the table in the module's docstring tells the fields."""

    instance: Annotated[bytes, msgspec.Meta(min_length=INSTANCE_BYTES, max_length=INSTANCE_BYTES)]
    generation: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    index: Annotated[bytes, msgspec.Meta(min_length=INDEX_BYTES, max_length=INDEX_BYTES)]
    key: WireKey
    binding: WireSignature
    chain: Annotated[bytes, msgspec.Meta(max_length=CHAIN_BYTES_MAX)]
    protocol: WireProtocol = PROTOCOL_FIRST


INTRODUCTION_CODEC: Codec[Introduction] = Codec(Introduction)


@dataclass(frozen=True, slots=True)
class Met:
    """Who a finished handshake was with.

    ``member``: of our mesh, proved by ``chain``. ``protocol``: the highest that both speak.
    """

    node: NodeId
    x25519: bytes
    instance: bytes
    generation: int
    chain: bytes | None
    member: bool
    protocol: int = PROTOCOL


def introduce(me: Credentials, instance: bytes, generation: int, index: bytes) -> bytes:
    """Our introduction in the handshake that it knows by ``index``."""
    identity = me.identity
    binding = identity.sign(BINDING_CONTEXT, identity.x25519)
    return INTRODUCTION_CODEC.encode(
        Introduction(instance, generation, index, identity.key, binding, me.chain, PROTOCOL)
    )


Refusal = Callable[[bytes], str | None]
"""Why the bearer of a chain that holds is no member any more."""


def meet(payload: bytes, x25519: bytes, index: bytes, mesh: MeshId, refusal: Refusal = lambda chain: None) -> Met:
    """Who introduces itself; ``x25519`` is the static key that the handshake proved, ``index`` the header's.

    ``RemoteProtocolError`` where anything does not fit.
    """
    try:
        said = INTRODUCTION_CODEC.decode(payload, "handshake")
    except RemoteProtocolError:
        raise RemoteProtocolError("handshake", "introduction cannot be decoded") from None
    if said.index != index:
        raise RemoteProtocolError("handshake", "handshake header was altered")
    if not signature_holds(said.key, BINDING_CONTEXT, x25519, said.binding):
        raise RemoteProtocolError("handshake", "session key is not bound to the identity")
    node = node_id(said.key)
    member = is_member(said.chain, node, x25519, mesh, refusal)
    return Met(node, x25519, said.instance, said.generation, said.chain or None, member, common([said.protocol]))


def is_member(
    chain: bytes | None, node: NodeId, x25519: bytes, mesh: MeshId, refusal: Refusal = lambda chain: None
) -> bool:
    """Whether ``chain`` makes ``node`` a member of ``mesh``.

    ``False`` for a chain of another mesh, or none, or one whose bearer is refused: it is met as a stranger.

    ``RemoteProtocolError`` where it claims to be of ``mesh`` and does not hold.
    """
    if not chain:
        return False
    try:
        claimed = own_certificate(chain)
    except RemoteProtocolError:
        raise RemoteProtocolError("handshake", "certificate chain cannot be decoded") from None
    if claimed.mesh != mesh:
        return False
    certificate = verify_chain(chain, mesh)
    if certificate.node != node or certificate.x25519 != x25519:
        raise RemoteProtocolError("handshake", "certificate of another node")
    return refusal(chain) is None
