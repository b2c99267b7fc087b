"""What a node takes over from the one that it was before its key was replaced.

Its addresses above all: a claim ranks by its generation and then by the author's NodeId, so that the same claim under
the new name could lose against its own old one. Hence what the predecessor claimed is claimed again as it was, and the
predecessor's own statements on addresses are not listened to any more.
"""

from collections.abc import Iterable

from routing.claims import ClaimHeard
from sansio.ids import NODE_ID_BYTES, NodeId

PREDECESSOR_KEY = "predecessor"
"""Where the NodeId is kept that this machine had before."""


def predecessor(stored: bytes | None) -> NodeId | None:
    """The node that this machine was, if it ever was another."""
    return NodeId(stored) if stored is not None and len(stored) == NODE_ID_BYTES else None


def inherited(claims: Iterable[ClaimHeard], before: NodeId | None, me: NodeId) -> dict[int, bytes]:
    """The claims of the predecessor, by family, that this node has no own word on."""
    said = list(claims)
    mine = {claim.family for claim in said if claim.node == me and claim.payload}
    return {
        claim.family: claim.payload
        for claim in said
        if claim.node == before and claim.payload and claim.family not in mine
    }
