"""Sessions that last and sessions with many: rekeying, moving, and the bound on those end to end."""

import pytest

from dmssd.security import introduction, sessions, transport
from dmssd.security.sessions import Connect, Opened, Outgoing, PeerKnown, SessionFailed, SessionUp
from sansio.core import Rejected
from sansio.instant import MILLISECOND, SECOND, Duration
from tests.unit.security.wires import Wires, mesh_of

SHORT = Duration(100 * MILLISECOND)
NAMES = ("a", "b", "c", "d")


def acquainted(*names: str) -> Wires:
    """Members that know each other's keys, as from LSAs, and have no session yet."""
    wires = Wires()
    members = mesh_of(*names)
    for name, credentials in zip(names, members, strict=True):
        wires.start(name, credentials)
    for name in names:
        introduce(wires, name)
    return wires


def introduce(wires: Wires, name: str) -> None:
    for other, credentials in wires.credentials.items():
        if other != name:
            wires.tell(name, PeerKnown(wires.node(other), credentials.identity.x25519))


def call(wires: Wires, sender: str, receiver: str, text: bytes = b"hello") -> None:
    wires.tell(sender, Outgoing(wires.node(receiver), wires.routed(receiver), text))
    wires.run(SHORT)


def handshakes(wires: Wires) -> int:
    return sum(payload[1] == 1 for _, _, payload in wires.sent)


def has(wires: Wires, name: str, *others: str) -> bool:
    return set(wires.cores[name].peers()) == {wires.node(other) for other in others}


@pytest.fixture
def two_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "END_TO_END_MAX", 2)


@pytest.mark.usefixtures("two_at_most")
def test_of_too_many_sessions_end_to_end_the_least_recently_used_goes_at_both_ends_without_a_word_to_people():
    wires = acquainted(*NAMES)
    call(wires, "a", "b")
    call(wires, "a", "c")
    call(wires, "b", "a")  # heard of b last
    call(wires, "a", "d")
    assert has(wires, "a", "b", "d")
    assert has(wires, "c")
    assert has(wires, "b", "a")
    assert not any(wires.of(name, SessionFailed) for name in NAMES)
    assert not any(wires.of(name, Rejected) for name in NAMES)


@pytest.mark.usefixtures("two_at_most")
def test_the_next_word_to_one_whose_session_was_given_up_arrives_by_a_new_one():
    wires = acquainted(*NAMES)
    for other in "bcd":
        call(wires, "a", other)
    before = handshakes(wires)
    call(wires, "b", "a", b"again")
    assert b"again" in wires.opened("a")
    assert handshakes(wires) == before + 1


@pytest.mark.usefixtures("two_at_most")
def test_sessions_with_neighbours_are_not_counted():
    wires = acquainted(*NAMES)
    wires.tell("a", Connect(wires.node("b"), wires.to("b")))
    wires.run(SHORT)
    call(wires, "a", "b")  # over the control network too: still a neighbour
    call(wires, "a", "c")
    wires.tell("d", Outgoing(wires.node("a"), wires.routed("a"), b"from afar"))
    wires.run(SHORT)
    assert has(wires, "a", "b", "c", "d")


@pytest.mark.usefixtures("two_at_most")
@pytest.mark.parametrize("speaker", ["a", "b"])
def test_one_spoken_to_over_a_link_has_become_a_neighbour(speaker):
    wires = acquainted(*NAMES)
    call(wires, "a", "b")
    other = "b" if speaker == "a" else "a"
    wires.tell(speaker, Outgoing(wires.node(other), wires.to(other), b"hello, neighbour"))
    wires.run(SHORT)
    call(wires, "a", "c")
    call(wires, "a", "d")
    assert has(wires, "a", "b", "c", "d")


@pytest.mark.usefixtures("two_at_most")
def test_a_member_that_did_not_hear_that_its_session_was_given_up_is_called_back():
    wires = acquainted(*NAMES)
    call(wires, "a", "b")
    wires.cut.add("b")
    call(wires, "a", "c")
    call(wires, "a", "d")
    wires.cut.clear()
    call(wires, "b", "a", b"lost")
    assert b"lost" not in wires.opened("a")
    call(wires, "b", "a", b"heard")
    assert wires.opened("a")[-1] == b"heard"


def test_what_comes_for_no_session_calls_nobody_back_over_a_link_nor_one_who_is_no_member():
    wires = acquainted("a", "b")
    call(wires, "a", "b")
    stranger = Wires(seed=1)
    stranger.start("x", mesh_of("x", seed=9)[0])
    before = handshakes(wires)
    noise = bytes((1, 4)) + bytes(60)
    assert [type(action) for action in wires.tell("a", sessions.Received(wires.to("b"), noise))] == [Rejected]
    far = sessions.RoutedPath(stranger.node("x"))
    assert [type(action) for action in wires.tell("a", sessions.Received(far, noise))] == [Rejected]
    assert handshakes(wires) == before


def test_what_comes_for_no_session_calls_back_at_a_bounded_rate():
    names = tuple(f"m{number}" for number in range(60))
    wires = acquainted("a", *names)
    noise = bytes((1, 4)) + bytes(60)
    for name in names:
        wires.tell("a", sessions.Received(wires.routed(name), noise))
    assert handshakes(wires) == sessions.FORGOTTEN_BURST


@pytest.mark.usefixtures("two_at_most")
def test_a_peer_of_the_first_protocol_is_not_told_but_called_back(monkeypatch):
    monkeypatch.setattr(introduction, "PROTOCOL", 1)
    wires = acquainted(*NAMES)
    call(wires, "a", "b")
    call(wires, "a", "c")
    sent = len(wires.sent)
    call(wires, "a", "d")
    assert not [receiver for _, receiver, _ in wires.sent[sent:] if receiver == "b"]
    assert has(wires, "b", "a")
    call(wires, "b", "a", b"lost")
    call(wires, "b", "a", b"heard")
    assert wires.opened("a")[-1] == b"heard"


def test_a_restarted_member_is_spoken_to_again_after_the_first_word_from_afar():
    wires = acquainted("a", "b")
    call(wires, "b", "a")
    wires.start("a", wires.credentials["a"])
    introduce(wires, "a")
    call(wires, "b", "a", b"lost")
    call(wires, "b", "a", b"heard")
    assert wires.opened("a") == [b"heard"]


def test_keys_change_under_loss_repetition_and_reordering_without_a_message_about_it(monkeypatch):
    monkeypatch.setattr(transport, "EPOCH_SHIFT", 6)  # a key for 64 datagrams
    wires = Wires(7, loss=0.2, duplicate=0.2, jitter_ms=30)
    for name, credentials in zip("ab", mesh_of("a", "b"), strict=True):
        wires.start(name, credentials)
    wires.tell("a", Connect(wires.node("b"), wires.to("b")))
    wires.run(Duration(20 * SECOND))
    before = len(wires.sent)
    texts = [b"%d" % number for number in range(1500)]
    for text in texts:
        for sender, receiver in ("ab", "ba"):
            wires.tell(sender, Outgoing(wires.node(receiver), wires.to(receiver), text))
        wires.run(Duration(MILLISECOND))
    wires.run(SHORT)
    assert {payload[1] for _, _, payload in wires.sent[before:]} == {4}, "nothing but sealed datagrams"
    for name in "ab":
        heard = wires.opened(name)
        assert len(heard) == len(set(heard)), "nothing is opened twice"
        assert len(heard) > 0.75 * len(texts), "only what the wire lost is missing"
        assert set(heard) & set(texts[-20:]), "the last epoch, the twenty-third, is open"
        assert {action.reason for action in wires.of(name, Rejected)} <= {"replayed datagram", "unknown session"}


def test_the_same_key_from_a_new_address_displaces_the_old_session_and_is_answered_there():
    wires = Wires()
    for name, credentials in zip("ab", mesh_of("a", "b"), strict=True):
        wires.start(name, credentials)
    wires.tell("b", Connect(wires.node("a"), wires.to("a")))
    wires.run(SHORT)
    wires.start("b", wires.credentials["b"])  # another machine under the same key, on another link
    wires.tell("b", Connect(wires.node("a"), wires.to("a", link=2)))
    wires.run(SHORT)
    up = wires.of("a", SessionUp)[-1]
    assert (up.peer, up.path, up.restarted) == (wires.node("b"), wires.to("b", link=2), True)
    wires.tell("a", Outgoing(wires.node("b"), up.path, b"welcome back"))
    wires.run(SHORT)
    assert wires.opened("b") == [b"welcome back"]
    assert len(wires.cores["a"].peers()) == 1


def test_a_session_goes_on_while_its_path_changes_with_every_datagram():
    wires = acquainted("a", "b")
    call(wires, "a", "b", b"first")
    before = handshakes(wires)
    paths = [wires.to("b"), wires.to("b", link=2), wires.routed("b"), wires.to("b", link=3)]
    for number, path in enumerate(paths * 5):
        wires.tell("a", Outgoing(wires.node("b"), path, b"%d" % number))
        wires.run(SHORT)
        assert wires.of("b", Opened)[-1].plaintext == b"%d" % number
    assert handshakes(wires) == before
