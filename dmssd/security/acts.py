"""What members state about membership, on the topics of :mod:`gossip.replica`, and how it is encoded.

    topic   | author      | subject      | body
    admit   | an admin    | the member   | Admission: its certificate, and the votes that the author knew of
    expel   | an admin    | whom         | Vote: with what the author knew of the target's acts
    expel   | any member  | itself       | Vote: its resignation, after which only the acts that it names count
    succeed | any member  | empty        | Succession: the key under which it would go on
    waiting | any member  | empty        | who asked this member to be let in and has no token

An *act* is named by 64 bits: of a statement its mark, of a certificate :func:`certificate_mark`. A vote lists the acts
of its target that its author held, because only what was already known of an expelled admin goes on to count
(:mod:`dmssd.security.standing`).
"""

import hashlib
from typing import Annotated

import msgspec

from dmssd.security.certificate import SignedCertificate, WireKey, WireName, WireSignature
from sansio.ids import WireNodeId
from sansio.wire import WIRE, Codec

TOPIC_ADMIT = "admit"
TOPIC_EXPEL = "expel"
TOPIC_WAITING = "waiting"
TOPIC_SUCCEED = "succeed"
MEMBERSHIP_TOPICS = (TOPIC_ADMIT, TOPIC_EXPEL, TOPIC_WAITING, TOPIC_SUCCEED)

MARK_BYTES = 8
CITED_MAX = 32
"""Votes that an admission names; of more, those of the lowest marks."""

KNOWN_MAX = 2_000
"""Acts that a vote names; of more, those of the lowest marks."""

SMALL_MESH = 3
"""In a mesh of so many one admin expels another."""

WAITING_MAX = 64
"""Strangers that one member remembers as waiting; a further one is told to come back."""

REASON_CHARACTERS_MAX = 120

Mark = Annotated[bytes, msgspec.Meta(min_length=MARK_BYTES, max_length=MARK_BYTES)]


class Admission(msgspec.Struct, **WIRE):
    """The subject is a member. ``cites``: the votes that the author held when it said so.

    ``succeeds``: the member whose machine this is, and which asked to go on under this key.
    """

    certificate: SignedCertificate
    cites: Annotated[tuple[Mark, ...], msgspec.Meta(max_length=CITED_MAX)] = ()
    succeeds: WireNodeId | None = None


class Vote(msgspec.Struct, **WIRE):
    """Expel the subject. ``members``: everybody in the mesh, where those are ``SMALL_MESH`` at most; else empty.

    ``of_admin``: the author holds the subject for an admin. Who has not learnt that yet does not take one vote for
    enough.
    """

    known: Annotated[tuple[Mark, ...], msgspec.Meta(max_length=KNOWN_MAX)]
    members: Annotated[tuple[WireNodeId, ...], msgspec.Meta(max_length=SMALL_MESH)] = ()
    reason: Annotated[str, msgspec.Meta(max_length=REASON_CHARACTERS_MAX)] = ""
    of_admin: bool = False


class Succession(msgspec.Struct, **WIRE):
    """The author's next key. ``signature`` is that key's, over the mesh and the author: both want it."""

    key: WireKey
    x25519: WireKey
    signature: WireSignature


class Waiting(msgspec.Struct, **WIRE):
    """Somebody who asked to be let in: its keys, proven by its session, and the name it would like."""

    key: WireKey
    x25519: WireKey
    name: WireName


ADMISSION_CODEC: Codec[Admission] = Codec(Admission)
VOTE_CODEC: Codec[Vote] = Codec(Vote)
SUCCESSION_CODEC: Codec[Succession] = Codec(Succession)
WAITING_CODEC: Codec[tuple[Waiting, ...]] = Codec(Annotated[tuple[Waiting, ...], msgspec.Meta(max_length=WAITING_MAX)])


def certificate_mark(body: bytes) -> bytes:
    """The name of a certificate, from its bytes as signed."""
    return hashlib.blake2b(b"certificate" + body, digest_size=MARK_BYTES).digest()
