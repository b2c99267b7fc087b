"""The wire tables of gossip/messages.py against the codec, byte for byte."""

import msgspec
import pytest

from gossip.members import INCARNATION_MAX, NAME_MAX, State
from gossip.messages import (
    ENVELOPE_BYTES_MAX,
    MESSAGE_CODEC,
    PAYLOAD_BYTES_MAX,
    UPDATE_BYTES_MIN,
    UPDATE_CODEC,
    UPDATES_BYTES_MAX,
    Ack,
    Gossip,
    Leave,
    Message,
    Nack,
    Ping,
    PingReq,
    SyncPage,
    SyncRequest,
    Update,
)
from sansio.errors import RemoteProtocolError
from tests.unit.gossip.swim_net import identity

UPDATE = Update(identity(2), 5, State.SUSPECT, "b", identity(3), 0)
ROW = [identity(2), 5, 1, "b", identity(3), 0]
N = INCARNATION_MAX
WIDEST: list[Message] = [
    Ping(N, 2**32 - 1, ()),
    PingReq(N, 2**32 - 1, (), identity(1), 600_000),
    Ack(N, 2**32 - 1, ()),
    Nack(N, 2**32 - 1, ()),
    Gossip(N, ()),
    SyncRequest(N, (), 2**64 - 1),
    SyncPage(N, (), b"\xff" * 20, b"\xff" * 20, 1),
    Leave(N, 2**32 - 1, ()),
]


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (Ping(7, 9, (UPDATE,)), [1, 7, 9, [ROW]]),
        (PingReq(7, 9, (UPDATE,), identity(4), 400), [2, 7, 9, [ROW], identity(4), 400]),
        (Ack(7, 9, (UPDATE,)), [3, 7, 9, [ROW]]),
        (Nack(7, 9, (UPDATE,)), [4, 7, 9, [ROW]]),
        (Gossip(7, (UPDATE,)), [5, 7, [ROW]]),
        (SyncRequest(7, (UPDATE,), 2**64 - 1), [6, 7, [ROW], 2**64 - 1]),
        (SyncPage(7, (UPDATE,), b"", identity(5), 1), [7, 7, [ROW], b"", identity(5), 1]),
        (Leave(7, 9, (UPDATE,)), [8, 7, 9, [ROW]]),
    ],
)
def test_messages_stand_on_the_wire_as_the_table_says(message: Message, fields: list[object]) -> None:
    assert MESSAGE_CODEC.encode(message) == msgspec.msgpack.encode(fields)
    assert MESSAGE_CODEC.decode(msgspec.msgpack.encode([*fields, "from a later version"]), "peer") == message


@pytest.mark.parametrize("message", WIDEST)
def test_the_widest_envelope_leaves_the_room_for_updates_that_is_counted_on(message: Message) -> None:
    # Two bytes more for the header of an array of up to 64 updates.
    assert len(MESSAGE_CODEC.encode(message)) + 2 <= ENVELOPE_BYTES_MAX == PAYLOAD_BYTES_MAX - UPDATES_BYTES_MAX


def test_no_update_is_shorter_than_the_queue_assumes() -> None:
    assert len(UPDATE_CODEC.encode(Update(identity(1), 0, State.ALIVE, ""))) >= UPDATE_BYTES_MIN


@pytest.mark.parametrize(
    "fields",
    [
        [9, 7, 9, []],
        [1, 7, 9],
        [1, -1, 9, []],
        [1, INCARNATION_MAX + 1, 9, []],
        [1, 7, 2**32, []],
        [1, 7, 9, [[identity(2), 5, 4, "b", None, 0]]],
        [1, 7, 9, [[identity(2)[:19], 5, 1, "b", None, 0]]],
        [1, 7, 9, [[identity(2), 5, 1, "b" * (NAME_MAX + 1), None, 0]]],
        [1, 7, 9, [[identity(2), INCARNATION_MAX + 1, 1, "b", None, 0]]],
        [1, 7, 9, [ROW] * 65],
        [2, 7, 9, [], identity(4), 0],
        [7, 7, [], b"", b"\xff" * 21, 1],
    ],
)
def test_a_field_out_of_its_range_is_refused(fields: list[object]) -> None:
    with pytest.raises(RemoteProtocolError):
        MESSAGE_CODEC.decode(msgspec.msgpack.encode(fields), "peer")
