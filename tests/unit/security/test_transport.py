"""Sealed datagrams: the header as drawn, the rekeying epochs, what is refused."""

import pytest

from dmssd.security.noise import SplitKeys, rekey
from dmssd.security.transport import EPOCH_SHIFT, EPOCHS_AHEAD_MAX, OVERHEAD_BYTES, Transport
from sansio.errors import RemoteProtocolError

EPOCH = 1 << EPOCH_SHIFT


def ends(counter: int = 0) -> tuple[Transport, Transport]:
    ours, theirs = b"\x01" * 32, b"\x02" * 32
    return Transport(SplitKeys(ours, theirs, b""), b"THEM", counter), Transport(SplitKeys(theirs, ours, b""), b"US..")


def test_the_header_is_as_drawn():
    sender, _ = ends(counter=0x0102)
    datagram = sender.seal(b"abc")
    assert datagram[:14] == b"\x01\x04THEM" + bytes.fromhex("0201000000000000")
    assert len(datagram) == OVERHEAD_BYTES + 3


def test_the_counter_rises_with_every_datagram_so_no_nonce_repeats():
    sender, _ = ends()
    assert [sender.seal(b"")[6:14] for _ in range(3)] == [n.to_bytes(8, "little") for n in range(3)]


def test_a_session_crosses_epochs_without_a_message_about_it():
    sender, receiver = ends(EPOCH - 2)
    for number in range(4):
        assert receiver.open(sender.seal(b"%d" % number)) == b"%d" % number
    assert sender._seal_key == rekey(b"\x01" * 32) == receiver._open_key


def test_datagrams_of_the_epoch_before_still_open_when_overtaken():
    sender, receiver = ends(EPOCH - 2)
    late = [sender.seal(b"late 1"), sender.seal(b"late 2")]
    assert receiver.open(sender.seal(b"early")) == b"early"
    assert [receiver.open(datagram) for datagram in late] == [b"late 1", b"late 2"]
    with pytest.raises(RemoteProtocolError, match="replayed"):
        receiver.open(late[0])


def test_an_epoch_is_entered_only_by_an_authentic_datagram():
    sender, receiver = ends(EPOCH)
    forged = bytearray(sender.seal(b"from the next epoch"))
    forged[-1] ^= 1
    with pytest.raises(RemoteProtocolError, match="authenticated"):
        receiver.open(bytes(forged))
    assert receiver._open_epoch == 0
    assert receiver.window.top == -1
    assert receiver.open(ends()[0].seal(b"present epoch")) == b"present epoch"


@pytest.mark.parametrize("epochs", range(1, EPOCHS_AHEAD_MAX + 1))
def test_several_epochs_may_be_missed(epochs):
    sender, receiver = ends(epochs * EPOCH + 5)
    assert receiver.open(sender.seal(b"x")) == b"x"
    assert receiver.open(sender.seal(b"y")) == b"y"


def test_an_epoch_too_far_ahead_costs_no_derivation():
    sender, receiver = ends((EPOCHS_AHEAD_MAX + 1) * EPOCH)
    with pytest.raises(RemoteProtocolError, match="out of reach"):
        receiver.open(sender.seal(b"x"))


def test_an_epoch_long_past_is_refused():
    old, _ = ends()
    ancient = old.seal(b"ancient")
    sender, receiver = ends(3 * EPOCH)
    receiver.open(sender.seal(b"now"))
    with pytest.raises(RemoteProtocolError):
        receiver.open(ancient)


def test_a_forged_counter_does_not_move_the_window():
    sender, receiver = ends()
    datagram = sender.seal(b"true")
    forged = datagram[:6] + (10_000).to_bytes(8, "little") + datagram[14:]
    with pytest.raises(RemoteProtocolError):
        receiver.open(forged)
    assert receiver.open(datagram) == b"true"
