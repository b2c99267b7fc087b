"""Who this node is: one 32-byte seed, from which both of its key pairs come.

The seed is the Ed25519 private key. The X25519 static key that sessions use is derived from the seed by keyed
BLAKE2b rather than by the Edwards-to-Montgomery map: the two keys are then independent, so that nothing proved about
one protocol has to hold for the other, and there is still only one secret to store. Whoever shows the X25519 key also
shows the Ed25519 key's signature over it (:mod:`dmssd.security.introduction`).

Every signature is made over a context string and the body, so that none can pass for one of another kind.
"""

import hashlib
from functools import lru_cache

from nacl.bindings import crypto_scalarmult_base
from nacl.exceptions import BadSignatureError
from nacl.exceptions import ValueError as NaclValueError
from nacl.signing import SigningKey, VerifyKey

from sansio.errors import StoreError
from sansio.ids import NodeId, node_id

SEED_BYTES = 32
KEY_BYTES = 32
SIGNATURE_BYTES = 64
SIGNATURES_CACHED_MAX = 2048

_X25519_CONTEXT = b"dmssd x25519 1"


class Identity:
    """The private half of a node: its seed and what follows from it.

    ``key`` and ``x25519`` are the public keys (32 bytes each); ``x25519_private`` is for Noise alone.
    """

    __slots__ = ("_signing", "key", "node", "seed", "x25519", "x25519_private")

    def __init__(self, seed: bytes) -> None:
        """``StoreError`` where the seed is not 32 bytes."""
        if len(seed) != SEED_BYTES:
            raise StoreError(
                f"the identity key has {len(seed)} bytes instead of {SEED_BYTES}: restore it from a backup, "
                "or remove the state directory to start as a new node"
            )
        self.seed = seed
        self._signing = SigningKey(seed)
        self.key = bytes(self._signing.verify_key)
        self.node: NodeId = node_id(self.key)
        self.x25519_private = hashlib.blake2b(_X25519_CONTEXT, key=seed, digest_size=KEY_BYTES).digest()
        self.x25519 = crypto_scalarmult_base(self.x25519_private)

    def sign(self, context: bytes, body: bytes) -> bytes:
        """The 64-byte signature over ``context`` and ``body``."""
        return self._signing.sign(context + b"\x00" + body).signature

    def __repr__(self) -> str:
        return f"Identity({self.node.hex()})"  # never the seed: this ends up in records and tracebacks


@lru_cache(maxsize=SIGNATURES_CACHED_MAX)
def signature_holds(key: bytes, context: bytes, body: bytes, signature: bytes) -> bool:
    """Whether ``signature`` is ``key``'s over ``context`` and ``body``; a pure function, so its answers are kept.

    The same advertisement comes once from every neighbour and the same certificate with every message of a member:
    41 µs each if checked anew.
    """
    try:
        VerifyKey(key).verify(context + b"\x00" + body, signature)
    except (BadSignatureError, NaclValueError):
        return False
    return True
