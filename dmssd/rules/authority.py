"""Who may order other members about: those whose certificate says ``admin``.

The certificate is the one that came with the member's LSA, whose proof was verified when it was taken in.
"""

from dmssd.security.certificate import own_certificate
from dmssd.security.signer import PROOF_CODEC
from routing.linkstate import LinkState
from sansio.errors import RemoteProtocolError
from sansio.ids import NodeId


def is_admin(linkstate: LinkState, node: NodeId) -> bool:
    """Whether ``node`` has the admin capability, as far as is known here."""
    try:
        proof = PROOF_CODEC.decode(linkstate.proof(node), "proof")
        return own_certificate(proof.chain).is_admin
    except (KeyError, RemoteProtocolError):
        return False
