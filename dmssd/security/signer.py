"""Signer and verifier of link-state advertisements and of statements: the body's signature and its signer's chain.

A proof is msgpack ``[signature, chain]``. It stands alone: whoever knows the mesh id can check it, whether or not the
origin has ever been a peer. Verifying therefore also teaches who the members are (``Verifier.certificates``), which
is what lets a session with a distant member open by IK, without a round trip for names.
"""

from collections.abc import Callable

import msgspec

from dmssd.security.certificate import CHAIN_BYTES_MAX, Certificate, Credentials, WireSignature, verify_chain
from dmssd.security.identity import signature_holds
from sansio.bounded import RecentTable
from sansio.errors import RemoteProtocolError
from sansio.ids import MeshId, NodeId
from sansio.wire import WIRE, Codec

CERTIFICATES_MAX = 16384
LSA_CONTEXT = b"dmssd lsa 1"
STATEMENT_CONTEXT = b"dmssd statement 1"


class Proof(msgspec.Struct, **WIRE):
    """Who signed, and on whose word they are a member."""

    signature: WireSignature
    chain: bytes


PROOF_CODEC: Codec[Proof] = Codec(Proof)


class MeshSigner:
    """Signs as this node; satisfies :class:`routing.lsa.Signer` and :class:`gossip.replica.Signer`.

    ``context`` is what is signed; ``credentials`` may be replaced by renewed ones of the same mesh.
    """

    def __init__(self, credentials: Credentials, context: bytes = LSA_CONTEXT) -> None:
        self.credentials = credentials
        self._context = context

    def sign(self, body: bytes) -> bytes:
        """The proof that ``body`` is this node's: about 80 bytes and the chain (200 for each of its links)."""
        signature = self.credentials.identity.sign(self._context, body)
        return PROOF_CODEC.encode(Proof(signature, self.credentials.chain))


class MeshVerifier:
    """Checks proofs against one mesh; satisfies :class:`routing.lsa.Verifier` and :class:`gossip.replica.Verifier`.

    ``certificates`` holds the newest certificate of every origin that passed, at most ``CERTIFICATES_MAX``: the one
    least recently learned goes first. ``learned`` gives, once, those that were new since it was last asked.
    ``refusal`` says why the bearer of a chain that holds is no member any more (nobody is refused until it is set).
    """

    def __init__(self, mesh: MeshId, context: bytes = LSA_CONTEXT) -> None:
        self._mesh = mesh
        self.refusal: Callable[[bytes], str | None] = lambda chain: None
        self._context = context
        self.certificates: RecentTable[NodeId, Certificate] = RecentTable(CERTIFICATES_MAX)
        self._new: dict[NodeId, Certificate] = {}

    def verify(self, origin: NodeId, body: bytes, proof: bytes) -> bool:
        """Whether ``proof`` shows that ``body`` is of ``origin``, a member of the mesh; never raises."""
        try:
            shown = PROOF_CODEC.decode(proof, "proof")
            certificate = verify_chain(shown.chain, self._mesh) if len(shown.chain) <= CHAIN_BYTES_MAX else None
        except RemoteProtocolError:
            return False
        if certificate is None or certificate.node != origin or self.refusal(shown.chain) is not None:
            return False
        if not signature_holds(certificate.key, self._context, body, shown.signature):
            return False
        self.learn(certificate)
        return True

    def learn(self, certificate: Certificate) -> None:
        """Remember a certificate that has been verified for this mesh (here, or by a session)."""
        node = certificate.node
        if self.certificates.get(node) != certificate:
            self.certificates[node] = certificate
            self._new[node] = certificate

    def learned(self) -> list[Certificate]:
        """The certificates that came in since the last call, in that order."""
        new, self._new = list(self._new.values()), {}
        return new
