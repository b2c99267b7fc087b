"""What members say to one another. Messages are msgpack arrays; the first element is the kind.

    kind | message      | fields after the kind
    1    | Ping         | incarnation, sequence, updates
    2    | PingReq      | incarnation, sequence, updates, target, wait_ms
    3    | Ack          | incarnation, sequence, updates
    4    | Nack         | incarnation, sequence, updates
    5    | Gossip       | incarnation, updates
    6    | SyncRequest  | incarnation, updates, digest
    7    | SyncPage     | incarnation, updates, after, until, answer
    8    | Leave        | incarnation, sequence, updates

    Update: node, incarnation, state, name, by, age_s

    field        | meaning
    incarnation  | in a message the sender's own, so that any contact proves it alive at that number; in an update the
                 | subject's
    sequence     | 32 random bits that the answer repeats
    updates      | claims about members: piggybacked news, or a page of the table
    target       | whom the relay shall ping
    wait_ms      | how long the asker waits for the relay's word
    digest       | 64 bits over the sender's whole table
    after, until | the page holds every member the sender knows with after < node <= until
    answer       | 1: the receiver shall send back where it knows better within that range
    state        | 0 alive, 1 suspect, 2 dead, 3 left
    name         | for people, 64 characters at most
    by           | of a suspicion: who suspects (nil: the sender); independent suspectors confirm (Lifeguard IV.B)
    age_s        | of the dead and the left: seconds since, counted by each holder, never lowered

A message is 700 bytes at most, so that sealing and relaying leave it one datagram. Source: SWIM 3.1, 4.1; Nack from
Lifeguard IV.A. The sender's own incarnation in every message is an addition: a member back from a restart is believed
from its first word on, without waiting for an update about it to come round.
"""

from typing import Annotated

import msgspec

from gossip.members import INCARNATION_MAX, NAME_MAX, Standing, State
from sansio.ids import NODE_ID_BYTES, WireNodeId
from sansio.wire import WIRE, Codec

PAYLOAD_BYTES_MAX = 700
"""What is sent never exceeds this."""

RECEIVED_BYTES_MAX = 1200
"""What is read never exceeds this: a later version may use more of the datagram."""

ENVELOPE_BYTES_MAX = 80
"""A message without its updates, whatever its kind."""

UPDATES_BYTES_MAX = PAYLOAD_BYTES_MAX - ENVELOPE_BYTES_MAX
"""Room for updates in one message: two of the largest, a dozen of the usual."""

UPDATES_MAX = 64

UPDATE_BYTES_MIN = 28
"""No update is shorter: an array of six with a node id, four numbers or nils, and an empty name."""

Incarnation = Annotated[int, msgspec.Meta(ge=0, le=INCARNATION_MAX)]
Sequence32 = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
Bound = Annotated[bytes, msgspec.Meta(max_length=NODE_ID_BYTES)]


class Update(msgspec.Struct, **WIRE):
    """A claim about one member."""

    node: WireNodeId
    incarnation: Incarnation
    state: State
    name: Annotated[str, msgspec.Meta(max_length=NAME_MAX)]
    by: WireNodeId | None = None
    age_s: Annotated[int, msgspec.Meta(ge=0, lt=2**32)] = 0

    @property
    def standing(self) -> Standing:
        """The claim as an element of the order of :mod:`gossip.members`."""
        return Standing(self.incarnation, self.state, self.name)


Updates = Annotated[tuple[Update, ...], msgspec.Meta(max_length=UPDATES_MAX)]


class Ping(msgspec.Struct, tag=1, **WIRE):
    """Are you there?"""

    incarnation: Incarnation
    sequence: Sequence32
    updates: Updates


class PingReq(msgspec.Struct, tag=2, **WIRE):
    """Ping ``target`` for me, and tell me within ``wait_ms``."""

    incarnation: Incarnation
    sequence: Sequence32
    updates: Updates
    target: WireNodeId
    wait_ms: Annotated[int, msgspec.Meta(ge=1, le=600_000)]


class Ack(msgspec.Struct, tag=3, **WIRE):
    """I am (or, from a relay: the target is); also the receipt of a ``Leave``."""

    incarnation: Incarnation
    sequence: Sequence32
    updates: Updates


class Nack(msgspec.Struct, tag=4, **WIRE):
    """I am, but the target has not answered me: your own receiving side is well."""

    incarnation: Incarnation
    sequence: Sequence32
    updates: Updates


class Gossip(msgspec.Struct, tag=5, **WIRE):
    """News that found no probe to ride on."""

    incarnation: Incarnation
    updates: Updates


class SyncRequest(msgspec.Struct, tag=6, **WIRE):
    """Send me your table, unless it is the same as mine."""

    incarnation: Incarnation
    updates: Updates
    digest: Annotated[int, msgspec.Meta(ge=0)]


class SyncPage(msgspec.Struct, tag=7, **WIRE):
    """A part of the sender's table; with no updates and an empty range: nothing differs."""

    incarnation: Incarnation
    updates: Updates
    after: Bound
    until: Bound
    answer: Annotated[int, msgspec.Meta(ge=0, le=1)]


class Leave(msgspec.Struct, tag=8, **WIRE):
    """I leave at this incarnation; acknowledge, and tell the others."""

    incarnation: Incarnation
    sequence: Sequence32
    updates: Updates


Message = Ping | PingReq | Ack | Nack | Gossip | SyncRequest | SyncPage | Leave

MESSAGE_CODEC: Codec[Message] = Codec(Message)
UPDATE_CODEC: Codec[Update] = Codec(Update)
