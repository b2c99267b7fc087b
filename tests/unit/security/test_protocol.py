"""Which protocol two peers settle on, and what an LSA says of its origin's."""

import msgspec
import pytest

from dmssd.security.introduction import INTRODUCTION_CODEC, introduce, meet
from routing.lsa import LSA_CODEC, Lsa
from sansio.errors import RemoteProtocolError
from sansio.ids import NodeId
from sansio.protocol import PROTOCOL, PROTOCOL_FIRST, common
from tests.unit.security.wires import mesh_of

INDEX = b"indx"


def introduction(change):
    """What ``b`` says to ``a`` in a handshake, its fields changed."""
    a, b = mesh_of("a", "b")
    fields = msgspec.msgpack.decode(introduce(b, bytes(8), 1, INDEX))
    return meet(msgspec.msgpack.encode(change(fields)), b.identity.x25519, INDEX, a.mesh)


def test_two_of_ours_speak_our_protocol():
    assert introduction(lambda fields: fields).protocol == PROTOCOL


def test_who_says_no_protocol_speaks_the_first():
    # 0.1.0 sends the six fields that come before it.
    assert introduction(lambda fields: fields[:6]).protocol == PROTOCOL_FIRST


def test_with_a_later_one_ours_is_spoken():
    assert introduction(lambda fields: [*fields[:6], PROTOCOL + 5, "and what it added"]).protocol == PROTOCOL


@pytest.mark.parametrize("said", [0, -1, 2**16, "2", None, 1.5])
def test_what_is_no_protocol_is_refused(said):
    with pytest.raises(RemoteProtocolError, match="introduction cannot be decoded"):
        introduction(lambda fields: [*fields[:6], said])


def test_an_lsa_without_a_protocol_is_of_the_first():
    fields = msgspec.msgpack.decode(LSA_CODEC.encode(Lsa(NodeId(bytes(20)), 7, "old", (), ())))
    assert LSA_CODEC.decode(msgspec.msgpack.encode(fields[:6]), "test").protocol == PROTOCOL_FIRST


def test_what_all_speak_is_the_lowest_and_never_above_ours():
    assert common([PROTOCOL, 1, PROTOCOL + 1]) == 1
    assert common([PROTOCOL + 1]) == PROTOCOL
    assert common([]) == PROTOCOL


def test_an_introduction_ends_with_the_protocol():
    a, _ = mesh_of("a", "b")
    assert INTRODUCTION_CODEC.decode(introduce(a, bytes(8), 1, INDEX), "test").protocol == PROTOCOL
