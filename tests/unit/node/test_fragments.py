"""Cutting and joining of messages larger than a datagram."""

import random

import pytest

from dmssd.fragments import FRAGMENTS_MAX, PARTIALS_MAX, Fragments
from sansio.errors import RemoteProtocolError
from sansio.ids import NodeId

ALICE = NodeId(b"a" * 20)
BOB = NodeId(b"b" * 20)


def test_pieces_fit_the_room_and_join_in_any_order():
    message = random.Random(1).randbytes(5_000)
    pieces = list(Fragments().cut(message, 800))
    assert all(len(piece) <= 800 for piece in pieces)
    random.Random(2).shuffle(pieces)
    receiver = Fragments()
    joined = [receiver.collect(ALICE, piece) for piece in pieces]
    assert joined[:-1] == [None] * (len(pieces) - 1)
    assert joined[-1] == message


def test_a_repeated_piece_does_not_complete_a_message():
    first, second = Fragments().cut(b"x" * 1_000, 800)
    receiver = Fragments()
    assert receiver.collect(ALICE, first) is None
    assert receiver.collect(ALICE, first) is None
    assert receiver.collect(ALICE, second) == b"x" * 1_000


def test_pieces_of_two_senders_are_never_mixed():
    first, second = Fragments().cut(b"x" * 1_000, 800)
    receiver = Fragments()
    assert receiver.collect(ALICE, first) is None
    assert receiver.collect(BOB, second) is None


def test_half_received_messages_are_bounded_and_the_oldest_is_forgotten():
    sender, receiver = Fragments(), Fragments()
    cut = [list(sender.cut(bytes([number % 256]) * 1_000, 800)) for number in range(PARTIALS_MAX + 1)]
    for first, _ in cut:
        receiver.collect(ALICE, first)
    assert receiver.collect(ALICE, cut[0][1]) is None
    assert receiver.collect(ALICE, cut[-1][1]) is not None


def test_a_message_that_needs_too_many_pieces_is_refused_by_the_sender():
    with pytest.raises(ValueError, match="fragments"):
        list(Fragments().cut(b"x" * 800 * (FRAGMENTS_MAX + 1), 800))


@pytest.mark.parametrize(
    "piece",
    [b"", b"1234567", b"\0\0\0\1\0\2\0\2xx", b"\0\0\0\1\0\0\0\1xx", b"\0\0\0\1\0\0\xff\xffxx"],
)
def test_nonsense_is_a_remote_error_and_nothing_else(piece):
    with pytest.raises(RemoteProtocolError):
        Fragments().collect(ALICE, piece)
