"""Who is who: a node is the hash of its public key, a mesh the hash of its founding.

``NodeId`` is the first 20 bytes of BLAKE2b(Ed25519 public key): also the node's place in the Kademlia key space. It
is never chosen, so nobody can claim another's.
"""

import hashlib
from typing import Annotated, NewType

import msgspec

NODE_ID_BYTES = 20
MESH_ID_BYTES = 16

NodeId = NewType("NodeId", bytes)
MeshId = NewType("MeshId", bytes)

# The same types as they stand in wire structs: the codec refuses any other length.
WireNodeId = Annotated[NodeId, msgspec.Meta(min_length=NODE_ID_BYTES, max_length=NODE_ID_BYTES)]
WireMeshId = Annotated[MeshId, msgspec.Meta(min_length=MESH_ID_BYTES, max_length=MESH_ID_BYTES)]


def node_id(public_key: bytes) -> NodeId:
    """The node identity of an Ed25519 public key (32 bytes)."""
    return NodeId(hashlib.blake2b(public_key, digest_size=NODE_ID_BYTES).digest())


def short(identity: bytes) -> str:
    """The first eight hex digits: for people, never for comparing."""
    return identity[:4].hex()
