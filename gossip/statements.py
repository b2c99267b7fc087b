"""Signed statements and what members say to one another about them (:mod:`gossip.replica`).

    Statement  | meaning
    author     | 20 bytes: whose statement it is
    signed     | the bytes that the author signed: a Stated
    proof      | what the verifier needs: signature and standing of the author

    Stated     | meaning
    topic      | 1 to 16 characters: which rules it belongs to
    subject    | at most 64 bytes: what it is about
    sequence   | rises with each statement of the author on topic and subject
    body       | at most BODY_BYTES_MAX; empty where the author takes the statement back

    kind | message | fields after the kind
    1    | Push    | statements
    2    | Compare | digest: 64 bits over the sender's whole set
    3    | Parts   | digests: one for each of PARTS parts of the set. Answers a Compare where the sets differ
    4    | Summary | part, entries (id, sequence, mark), low, high: all that the sender holds of one part with
         |         | low <= id <= high
    5    | Want    | ids: send me those
    6    | Same    | nothing: answers a Compare where the sets are equal

A message is one datagram, but for a Summary of a large part and a Push of one large statement.
"""

import hashlib
from dataclasses import dataclass
from typing import Annotated

import msgspec

from sansio.ids import NodeId, WireNodeId, short
from sansio.wire import WIRE, Codec

TOPIC_CHARACTERS_MAX = 16
SUBJECT_BYTES_MAX = 64
BODY_BYTES_MAX = 24_576
PROOF_BYTES_MAX = 1_200
SIGNED_BYTES_MAX = BODY_BYTES_MAX + 128
SEQUENCE_MAX = 2**62

PARTS = 64
PUSH_MAX = 64
SUMMARY_MAX = 1_024
WANT_MAX = 64

DIGEST_MASK = 2**64 - 1

Topic = Annotated[str, msgspec.Meta(min_length=1, max_length=TOPIC_CHARACTERS_MAX)]
Number64 = Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]


class Stated(msgspec.Struct, **WIRE):
    """What is signed; the table in the module's docstring tells the fields."""

    topic: Topic
    subject: Annotated[bytes, msgspec.Meta(max_length=SUBJECT_BYTES_MAX)]
    sequence: Annotated[int, msgspec.Meta(ge=1, le=SEQUENCE_MAX)]
    body: Annotated[bytes, msgspec.Meta(max_length=BODY_BYTES_MAX)]


class Statement(msgspec.Struct, **WIRE):
    """One statement as it travels and as it is stored: with the bytes that were signed, never encoded anew."""

    author: WireNodeId
    signed: Annotated[bytes, msgspec.Meta(max_length=SIGNED_BYTES_MAX)]
    proof: Annotated[bytes, msgspec.Meta(max_length=PROOF_BYTES_MAX)]


class Push(msgspec.Struct, tag=1, **WIRE):
    """News, or what was asked for."""

    statements: Annotated[tuple[Statement, ...], msgspec.Meta(max_length=PUSH_MAX)]


class Compare(msgspec.Struct, tag=2, **WIRE):
    """Is your set the same as mine?"""

    digest: Number64


class Parts(msgspec.Struct, tag=3, **WIRE):
    """It is not; these are the digests of my parts."""

    digests: Annotated[tuple[Number64, ...], msgspec.Meta(min_length=PARTS, max_length=PARTS)]


class Entry(msgspec.Struct, **WIRE):
    """One statement in a summary. ``mark``: 64 bits over all of it, to tell equals from equally numbered ones."""

    id: Number64
    sequence: Annotated[int, msgspec.Meta(ge=1, le=SEQUENCE_MAX)]
    mark: Number64


class Summary(msgspec.Struct, tag=4, **WIRE):
    """All that I hold of one part: send me what is newer or missing, and ask for what you lack."""

    part: Annotated[int, msgspec.Meta(ge=0, lt=PARTS)]
    entries: Annotated[tuple[Entry, ...], msgspec.Meta(max_length=SUMMARY_MAX)]
    low: Number64
    high: Number64


class Want(msgspec.Struct, tag=5, **WIRE):
    """Send me these."""

    ids: Annotated[tuple[Number64, ...], msgspec.Meta(max_length=WANT_MAX)]


class Same(msgspec.Struct, tag=6, **WIRE):
    """Our sets are equal."""


ReplicaMessage = Push | Compare | Parts | Summary | Want | Same

STATED_CODEC: Codec[Stated] = Codec(Stated)
STATEMENT_CODEC: Codec[Statement] = Codec(Statement)
REPLICA_CODEC: Codec[ReplicaMessage] = Codec(ReplicaMessage)


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """What a statement is about, and who speaks: there is one statement for each."""

    topic: str
    author: NodeId
    subject: bytes

    @property
    def id(self) -> bytes:
        """The key in 8 bytes."""
        named = self.topic.encode() + b"\x00" + self.author + self.subject
        return hashlib.blake2b(named, digest_size=8).digest()


@dataclass(frozen=True, slots=True)
class Held:
    """A statement that was verified, with everything that is asked of it often."""

    key: Key
    id: bytes
    sequence: int
    body: bytes
    mark: bytes
    bytes_held: int
    statement: Statement

    @property
    def rank(self) -> tuple[int, bytes, bytes]:
        """Of two statements with one key the one of higher rank counts: a total order, so that all agree."""
        return (self.sequence, self.statement.signed, self.statement.proof)

    @property
    def part(self) -> int:
        """Which part of the set it belongs to."""
        return self.id[0] * PARTS // 256


def held(statement: Statement) -> Held:
    """A statement read, not verified; ``RemoteProtocolError`` where it is none."""
    stated = STATED_CODEC.decode(statement.signed, short(statement.author))
    key = Key(stated.topic, statement.author, stated.subject)
    encoded = STATEMENT_CODEC.encode(statement)
    mark = hashlib.blake2b(encoded, digest_size=8).digest()
    return Held(key, key.id, stated.sequence, stated.body, mark, len(encoded), statement)
