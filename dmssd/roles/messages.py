"""What TopologyProcessors and Forwarders say to each other, on the plan channel, sealed end to end.

    PlanPush  | tag 1 | digest: 16 bytes of BLAKE2b(row) | row: an encoded routing.plan.Row
    PlanAck   | tag 2 | digest of the row answered       | accepted | reason: why not, for people

A push is repeated until it is acknowledged or a newer one takes its place. A refusal is an answer too: it stops the
repetition, and the next change brings the next push.
"""

import hashlib
from typing import Annotated

import msgspec

from sansio.wire import WIRE, Codec

DIGEST_BYTES = 16

Digest = Annotated[bytes, msgspec.Meta(min_length=DIGEST_BYTES, max_length=DIGEST_BYTES)]


class PlanPush(msgspec.Struct, tag=1, **WIRE):
    """One forwarder's row of a plan."""

    digest: Digest
    row: bytes


class PlanAck(msgspec.Struct, tag=2, **WIRE):
    """The forwarder's answer to a push."""

    digest: Digest
    accepted: bool
    reason: Annotated[str, msgspec.Meta(max_length=120)] = ""


PLAN_CODEC: Codec[PlanPush | PlanAck] = Codec(PlanPush | PlanAck)


def row_digest(row: bytes) -> bytes:
    """The name under which an encoded row is pushed and acknowledged."""
    return hashlib.blake2b(row, digest_size=DIGEST_BYTES).digest()
