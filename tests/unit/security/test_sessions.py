"""Sessions: handshakes over bad wires, displacement, simultaneous opens, what is refused, what is bounded."""

import itertools
import random

import pytest

from dmssd.security.certificate import found
from dmssd.security.identity import Identity
from dmssd.security.session_state import PATHS_MAX, QUEUE_MAX
from dmssd.security.sessions import (
    EARLIER_START,
    HANDSHAKES_MAX,
    INITIATIONS_MAX,
    SESSIONS_PER_PEER_MAX,
    STRANGERS_MAX,
    Connect,
    CredentialsChanged,
    ForgetPeer,
    Opened,
    Outgoing,
    PeerKnown,
    Received,
    SessionFailed,
    SessionUp,
    Transmit,
)
from sansio.core import Rejected, Wake
from sansio.errors import LocalProtocolError
from sansio.ids import NodeId
from sansio.instant import MILLISECOND, SECOND, Duration, Instant
from tests.unit.security.wires import Wires, entropy_of, mesh_of

SHORT = Duration(100 * MILLISECOND)


def pair(seed: int = 0, **faults: float) -> Wires:
    wires = Wires(seed, **faults)
    for name, credentials in zip("ab", mesh_of("a", "b"), strict=True):
        wires.start(name, credentials)
    return wires


def connected_pair() -> Wires:
    wires = pair()
    wires.tell("a", Connect(wires.node("b"), wires.to("b")))
    wires.run(SHORT)
    assert wires.cores["a"].connected(wires.node("b"))
    assert wires.cores["b"].connected(wires.node("a"))
    return wires


def say(wires: Wires, sender: str, receiver: str, text: bytes, link: int = 1) -> None:
    wires.tell(sender, Outgoing(wires.node(receiver), wires.to(receiver, link), text))


def reasons(wires: Wires, name: str) -> list[str]:
    return [action.reason for action in wires.log[name] if isinstance(action, Rejected)]


def kinds(wires: Wires) -> list[int]:
    return [payload[1] for _, _, payload in wires.sent]


def test_first_contact_is_xx_and_both_sides_learn_who_and_which_path():
    wires = pair()
    wires.tell("a", Connect(wires.node("b"), wires.to("b")))
    wires.run(SHORT)
    a, b = wires.credentials["a"], wires.credentials["b"]
    assert wires.of("a", SessionUp) == [SessionUp(b.identity.node, wires.to("b"), b.chain, True, False)]
    assert wires.of("b", SessionUp) == [SessionUp(a.identity.node, wires.to("a"), a.chain, True, False)]
    assert kinds(wires) == [1, 2, 3, 4]
    assert wires.sent[0][2][2] == 1
    assert not reasons(wires, "a")
    assert not reasons(wires, "b")


def test_a_known_key_makes_the_handshake_ik_in_one_round_trip():
    wires = pair()
    wires.tell("a", PeerKnown(wires.node("b"), wires.credentials["b"].identity.x25519))
    say(wires, "a", "b", b"early")
    wires.run(SHORT)
    assert wires.sent[0][2][2] == 2
    assert 3 not in kinds(wires)
    assert wires.opened("b") == [b"early"]
    assert wires.of("b", SessionUp) == [
        SessionUp(wires.node("a"), wires.to("a"), wires.credentials["a"].chain, True, False)
    ]


def test_a_wrong_known_key_falls_back_to_xx():
    wires = pair()
    wires.tell("a", PeerKnown(wires.node("b"), wires.credentials["a"].identity.x25519))
    say(wires, "a", "b", b"anyway")
    wires.run(Duration(3 * SECOND))
    assert wires.opened("b") == [b"anyway"]
    assert "handshake message cannot be authenticated" in reasons(wires, "b")


def test_messages_wait_for_the_handshake_in_a_bounded_queue_that_drops_the_oldest():
    wires = pair()
    for number in range(QUEUE_MAX + 3):
        say(wires, "a", "b", bytes([number + 1]))
    wires.run(SHORT)
    assert wires.opened("b") == [bytes([number + 1]) for number in range(3, QUEUE_MAX + 3)]
    assert kinds(wires).count(1) == 1


def test_confirmed_sessions_are_silent():
    wires = connected_pair()
    before = len(wires.sent)
    wires.run(Duration(600 * SECOND))
    assert len(wires.sent) == before


def test_a_message_is_opened_once_though_the_wire_repeats_it():
    wires = connected_pair()
    say(wires, "a", "b", b"once")
    wires.run(SHORT)
    datagram = wires.sent[-1][2]
    assert wires.tell("b", Received(wires.to("a"), datagram)) == [Rejected("fe80::a%1", "replayed datagram")]
    assert wires.opened("b") == [b"once"]


def test_a_sealed_datagram_is_thirty_bytes_longer_than_its_plaintext():
    wires = connected_pair()
    say(wires, "a", "b", b"x" * 200)
    assert len(wires.sent[-1][2]) == 230


@pytest.mark.parametrize("position", [2, 6, 14, 20, -1])
def test_an_altered_datagram_is_rejected_and_the_true_one_still_opens(position):
    wires = connected_pair()
    say(wires, "a", "b", b"payload that matters")
    datagram = wires.sent[-1][2]
    altered = bytearray(datagram)
    altered[position] ^= 0x40
    answer = wires.tell("b", Received(wires.to("a"), bytes(altered)))
    assert [type(action) for action in answer] == [Rejected]
    wires.run(SHORT)
    assert wires.opened("b") == [b"payload that matters"]


def test_an_unknown_version_kind_pattern_and_session_are_each_rejected_by_name():
    wires = connected_pair()
    path = wires.to("a")

    def refused(payload: bytes) -> str:
        (action,) = wires.tell("b", Received(path, payload))
        assert isinstance(action, Rejected)
        return action.reason

    assert refused(b"\x02\x04" + bytes(60)) == "unknown version"
    assert refused(b"\x01\x09" + bytes(60)) == "unknown kind of datagram"
    assert refused(b"\x01\x01\x07" + bytes(60)) == "unknown handshake pattern"
    assert refused(b"\x01\x04" + bytes(60)) == "unknown session"
    assert refused(b"\x01\x02" + bytes(60)) == "unknown handshake"
    assert refused(b"\x01\x03" + bytes(60)) == "unknown handshake"
    assert refused(b"\x01") == "truncated datagram"
    assert refused(b"") == "truncated datagram"


def test_lost_handshake_messages_are_repeated_until_a_session_stands():
    for seed in range(12):
        wires = pair(seed, loss=0.3, duplicate=0.2, jitter_ms=40)
        wires.tell("a", Connect(wires.node("b"), wires.to("b")))
        wires.run(Duration(8 * SECOND))
        wires.loss = 0.0
        say(wires, "a", "b", b"there")
        wires.run(Duration(SECOND))
        say(wires, "b", "a", b"and back")
        wires.run(Duration(SECOND))
        assert wires.opened("b") == [b"there"], seed
        assert wires.opened("a") == [b"and back"], seed


@pytest.mark.parametrize("known", [False, True])
def test_each_single_loss_of_a_handshake_costs_one_repetition_only(known):
    for lost in range(4):
        wires = pair()
        if known:
            wires.tell("a", PeerKnown(wires.node("b"), wires.credentials["b"].identity.x25519))
        wires.tell("a", Connect(wires.node("b"), wires.to("b")))
        while len(wires.sent) <= lost and wires._flying:
            wires.run(Duration(MILLISECOND))
        wires._flying.clear()
        wires.run(Duration(400 * MILLISECOND))
        assert wires.cores["a"].connected(wires.node("b")), lost
        assert wires.cores["b"].connected(wires.node("a")), lost
        before = len(wires.sent)
        wires.run(Duration(20 * SECOND))
        assert len(wires.sent) == before, lost


def test_a_message_that_confirms_the_session_is_opened_too():
    wires = pair()
    wires.tell("a", PeerKnown(wires.node("b"), wires.credentials["b"].identity.x25519))
    wires.tell("a", Connect(wires.node("b"), wires.to("b")))
    wires.run(Duration(2 * MILLISECOND))
    wires._flying.clear()  # the empty datagram that would have confirmed
    say(wires, "a", "b", b"first")
    wires.run(SHORT)
    assert wires.opened("b") == [b"first"]


def test_nobody_there_fails_after_the_last_try_and_drops_the_queue():
    wires = pair()
    wires.cut.add("b")
    say(wires, "a", "b", b"lost")
    wires.run(Duration(30 * SECOND))
    assert wires.of("a", SessionFailed) == [SessionFailed(wires.node("b"), wires.to("b"), "no answer")]
    assert kinds(wires) == [1] * 7
    assert wires.cores["a"].deadline() is None
    assert not wires.cores["a"]._peers
    wires.cut.clear()
    say(wires, "a", "b", b"again")
    wires.run(SHORT)
    assert wires.opened("b") == [b"again"]


def test_the_same_message_1_is_answered_by_the_same_message_2():
    wires = pair()
    wires.tell("a", Connect(wires.node("b"), wires.to("b")))
    message1 = wires.sent[-1][2]
    first = wires.tell("b", Received(wires.to("a"), message1))
    assert first == wires.tell("b", Received(wires.to("a"), message1))


def test_both_at_once_converge_on_one_session_without_a_second_session_up():
    for seed in range(8):
        wires = pair(seed, jitter_ms=20)
        wires.tell("a", Connect(wires.node("b"), wires.to("b")))
        wires.tell("b", Connect(wires.node("a"), wires.to("a")))
        wires.run(Duration(SECOND))
        assert len(wires.of("a", SessionUp)) == 1
        assert len(wires.of("b", SessionUp)) == 1
        say(wires, "a", "b", b"from a")
        say(wires, "b", "a", b"from b")
        from_a, from_b = wires.sent[-2][2], wires.sent[-1][2]
        session_at_b, session_at_a = wires.cores["b"]._by_index[from_a[2:6]], wires.cores["a"]._by_index[from_b[2:6]]
        assert session_at_b.order == session_at_a.order, "the two sides send by different sessions"
        wires.run(SHORT)
        assert wires.opened("b") == [b"from a"]
        assert wires.opened("a") == [b"from b"]
        sent = len(wires.sent)
        wires.run(Duration(30 * SECOND))
        assert len(wires.sent) == sent, "nobody flaps afterwards"


def test_both_at_once_deliver_what_was_queued_on_either_side():
    wires = pair()
    say(wires, "a", "b", b"from a")
    say(wires, "b", "a", b"from b")
    wires.run(Duration(SECOND))
    assert wires.opened("b") == [b"from a"]
    assert wires.opened("a") == [b"from b"]


def test_a_restarted_peer_displaces_the_old_session_and_says_so():
    wires = connected_pair()
    wires.start("a", wires.credentials["a"])
    wires.tell("a", Connect(wires.node("b"), wires.to("b")))
    wires.run(SHORT)
    ups = wires.of("b", SessionUp)
    assert [up.restarted for up in ups] == [False, True]
    assert [up.restarted for up in wires.of("a", SessionUp)] == [False]
    say(wires, "b", "a", b"hello again")
    wires.run(SHORT)
    assert wires.opened("a") == [b"hello again"]


def test_a_restarted_peer_that_is_called_first_displaces_the_old_session_too():
    wires = connected_pair()
    wires.start("b", wires.credentials["b"])
    for number in range(25):
        say(wires, "a", "b", b"hello %d" % number)
        wires.run(Duration(SECOND))
    assert wires.opened("b")
    assert [up.restarted for up in wires.of("a", SessionUp)] == [False, True]


def test_a_replayed_message_1_displaces_nothing():
    wires = pair()
    wires.tell("a", PeerKnown(wires.node("b"), wires.credentials["b"].identity.x25519))
    wires.tell("a", Connect(wires.node("b"), wires.to("b")))
    wires.run(SHORT)
    message1 = wires.sent[0][2]
    assert message1[2] == 2
    # Both start anew, so nothing is left by which b could know the message:
    for name in "ba":
        wires.start(name, wires.credentials[name])
    wires.tell("a", Connect(wires.node("b"), wires.to("b")))
    wires.run(Duration(30 * SECOND))
    ups = len(wires.of("b", SessionUp))
    answer = wires.tell("b", Received(wires.to("a"), message1))
    assert [type(action) for action in answer] == [Transmit]
    wires.run(Duration(30 * SECOND))
    assert len(wires.of("b", SessionUp)) == ups
    say(wires, "b", "a", b"still here")
    wires.run(SHORT)
    assert wires.opened("a") == [b"still here"]


def test_a_replayed_xx_handshake_is_refused_at_message_3():
    wires = connected_pair()
    message1, message3 = wires.sent[0][2], wires.sent[2][2]
    wires.start("b", wires.credentials["b"])
    wires.tell("b", Received(wires.to("a"), message1))
    new_index = wires.log["b"][-1].payload[6:10]
    wires.tell("b", Received(wires.to("a"), message3[:2] + new_index + message3[6:]))
    assert reasons(wires, "b") == ["handshake message cannot be authenticated"]
    assert not wires.of("b", SessionUp)


def test_rubbish_in_answer_does_not_cost_the_handshake():
    wires = pair()
    wires.tell("a", Connect(wires.node("b"), wires.to("b")))
    index = wires.sent[0][2][3:7]
    wires.tell("a", Received(wires.to("x"), b"\x01\x02" + index + bytes(200)))
    assert reasons(wires, "a") == ["handshake message cannot be authenticated"]
    wires.run(SHORT)
    assert wires.of("a", SessionUp)
    assert len(kinds(wires)) == 4


def test_another_node_that_answers_is_refused_and_the_right_one_still_can():
    wires = pair()
    wires.start("x", mesh_of("x", seed=9)[0])
    wires.tell("a", Connect(wires.node("b"), wires.to("b")))
    message1 = wires.sent[0][2]
    (answer,) = wires.cores["x"].handle(Received(wires.to("a"), message1), wires.now)
    wires.tell("a", Received(wires.to("b"), answer.payload))
    assert reasons(wires, "a") == ["another node answered"]
    wires.run(SHORT)
    assert [up.peer for up in wires.of("a", SessionUp)] == [wires.node("b")]


def test_an_altered_index_in_a_handshake_header_is_noticed():
    wires = pair()
    wires.tell("a", Connect(wires.node("b"), wires.to("b")))
    (message2,) = wires.tell("b", Received(wires.to("a"), wires.sent[0][2]))
    altered = bytearray(message2.payload)
    altered[6] ^= 1
    wires.tell("a", Received(wires.to("b"), bytes(altered)))
    assert reasons(wires, "a") == ["handshake header was altered"]
    assert not wires.of("a", SessionUp)


def test_our_own_identity_on_another_machine_is_refused_by_name():
    wires = pair()
    wires.start("twin", wires.credentials["a"])
    wires.tell("twin", Connect(wires.node("b"), wires.to("a")))
    wires.run(SHORT)
    assert "another machine has this node's identity" in reasons(wires, "twin")
    assert not wires.of("a", SessionUp)


def test_one_who_greets_in_our_name_is_a_twin_only_if_it_has_our_key():
    wires = pair()
    wires.start("twin", wires.credentials["a"])
    wires.tell("a", Connect(wires.node("a"), wires.to("b")))  # b greets in a's name
    wires.run(Duration(30 * SECOND))
    assert wires.cores["a"].twins.ours(wires.now) is None
    wires.tell("a", Connect(wires.node("a"), wires.to("twin")))
    wires.run(Duration(30 * SECOND))
    assert wires.cores["a"].twins.ours(wires.now) is not None
    assert not wires.of("a", SessionUp)


def test_a_member_of_another_mesh_is_a_stranger_and_shows_its_own_chain():
    wires = pair()
    foreigner = mesh_of("x", seed=9)[0]
    wires.start("x", foreigner)
    say(wires, "x", "b", b"let me in")
    wires.run(SHORT)
    assert wires.of("b", SessionUp) == [SessionUp(wires.node("x"), wires.to("x"), foreigner.chain, False, False)]
    assert wires.of("b", Opened) == [Opened(wires.node("x"), wires.to("x"), b"let me in", False)]


def test_strangers_are_bounded_and_members_are_not_displaced_by_them():
    wires = connected_pair()
    for number in range(STRANGERS_MAX + 5):
        name = f"x{number}"
        entropy = entropy_of(name)
        wires.start(name, found(Identity(entropy(32)), name, "other", entropy))
        wires.tell(name, Connect(wires.node("b"), wires.to("b")))
        wires.run(SHORT)
    assert len(wires.cores["b"].peers()) == STRANGERS_MAX + 1
    gone = [action.peer for action in wires.log["b"] if isinstance(action, SessionFailed)]
    assert gone == [wires.node(f"x{number}") for number in range(5)]
    assert wires.cores["b"].is_member(wires.node("a"))


def test_handshakes_of_one_source_are_limited_and_other_sources_are_not_harmed():
    wires = pair()
    rng = random.Random(3)
    for _ in range(200):
        message = b"\x01\x01\x01" + rng.randbytes(4 + 32)
        wires.tell("b", Received(wires.to("x"), message))
    assert reasons(wires, "b").count("too many handshake messages") == 180
    wires.tell("a", Connect(wires.node("b"), wires.to("b")))
    wires.run(SHORT)
    assert wires.cores["b"].connected(wires.node("a"))


def test_unfinished_handshakes_are_bounded_and_expire():
    wires = pair()
    rng = random.Random(3)
    for number in range(HANDSHAKES_MAX + 40):
        wires.tell("b", Received(wires.to(f"x{number}"), b"\x01\x01\x01" + rng.randbytes(36)))
    assert len(wires.cores["b"]._by_index) == HANDSHAKES_MAX
    wires.run(Duration(11 * SECOND))
    assert not wires.cores["b"]._by_index
    assert wires.cores["b"].deadline() is None


def test_random_datagrams_are_rejected_and_leave_the_session_alone():
    wires = connected_pair()
    rng = random.Random(5)
    index = wires.sent[-1][2][2:6]
    for number in range(2000):
        kind = bytes([1, rng.randint(0, 5)]) + (index if rng.random() < 0.3 else b"")
        payload = (kind if rng.random() < 0.8 else b"") + rng.randbytes(rng.randint(0, 120))
        for action in wires.cores["a"].handle(Received(wires.to(f"x{number % 50}"), payload), wires.now):
            assert isinstance(action, Rejected | Transmit)
    say(wires, "b", "a", b"unharmed")
    wires.run(SHORT)
    assert wires.opened("a") == [b"unharmed"]


def test_silence_makes_a_new_handshake_while_the_old_session_stays_in_use():
    wires = connected_pair()
    for _ in range(15):
        say(wires, "a", "b", b"talk")
        say(wires, "b", "a", b"talk")
        wires.run(Duration(SECOND))
    assert kinds(wires).count(1) == 1, "an answered session is left alone"
    for _ in range(19):
        say(wires, "a", "b", b"anyone?")
        wires.run(Duration(SECOND))
    assert kinds(wires).count(1) == 1, "not yet"
    say(wires, "a", "b", b"anyone?")
    assert kinds(wires)[-2:] == [4, 1]
    wires.run(SHORT)
    assert len(wires.of("a", SessionUp)) == 1
    assert not wires.of("a", SessionFailed)


def test_a_long_silence_is_met_by_a_handshake_now_and_then_only():
    wires = connected_pair()
    wires.cut.add("b")
    for _ in range(600):
        say(wires, "a", "b", b"anyone?")
        wires.run(Duration(100 * MILLISECOND))
    attempts = {payload for _, _, payload in wires.sent if payload[1] == 1}
    # One for each ten seconds; an attempt is an IK message 1 and, unanswered, an XX one.
    assert 4 <= len(attempts) - 1 <= 12
    assert wires.cores["a"].connected(wires.node("b"))
    assert not wires.of("a", SessionFailed)


def test_a_session_that_is_heard_does_not_grow_idle():
    wires = connected_pair()
    for _ in range(80):
        say(wires, "b", "a", b"still here")
        wires.run(Duration(60 * SECOND))
    assert not wires.of("a", SessionFailed)


def test_finished_handshakes_are_not_displaced_by_unfinished_ones():
    wires = connected_pair()
    rng = random.Random(3)
    for number in range(HANDSHAKES_MAX + 10):
        wires.tell("b", Received(wires.to(f"x{number}"), b"\x01\x01\x01" + rng.randbytes(36)))
    say(wires, "a", "b", b"still here")
    wires.run(SHORT)
    assert wires.opened("b") == [b"still here"]


def test_new_credentials_are_shown_where_the_peer_was_last_heard():
    wires = connected_pair()
    wires.tell("b", Outgoing(wires.node("a"), wires.to("a", link=3), b"from elsewhere"))
    wires.run(SHORT)
    handshake, *_ = wires.tell("a", CredentialsChanged(wires.credentials["a"]))
    assert isinstance(handshake, Transmit)
    assert handshake.path == wires.to("b", link=3)


def test_a_displaced_start_cannot_return_by_answering():
    wires = connected_pair()
    wires.start("old b", wires.credentials["b"])
    wires.tell("old b", Connect(wires.node("a"), wires.to("a")))
    wires.run(SHORT)
    wires.start("b", wires.credentials["b"])
    wires.tell("b", Connect(wires.node("a"), wires.to("a")))
    wires.run(SHORT)
    for _ in range(21):  # silence: a asks, and the displaced one answers
        wires.tell("a", Outgoing(wires.node("b"), wires.to("old b"), b"who is there?"))
        wires.now = Instant(wires.now + SECOND)
    wires.run(SHORT)
    assert EARLIER_START in reasons(wires, "a")
    assert [up.restarted for up in wires.of("a", SessionUp)] == [False, True, True]


def test_a_peer_may_not_push_the_generation_out_of_reach():
    wires = pair()
    wires.cores["b"]._generation = 2**40
    wires.tell("b", Connect(wires.node("a"), wires.to("a")))
    wires.run(SHORT)
    assert "handshake generation out of reach" in reasons(wires, "a")
    assert not wires.of("a", SessionUp)


def test_a_burst_without_an_answer_is_not_silence():
    wires = connected_pair()
    for _ in range(100):
        say(wires, "a", "b", b"burst")
    assert kinds(wires).count(1) == 1


def test_a_peer_that_forgot_us_is_found_again_without_a_restart():
    wires = connected_pair()
    wires.tell("b", ForgetPeer(wires.node("a")))
    for number in range(25):
        say(wires, "a", "b", b"%d" % number)
        wires.run(Duration(SECOND))
    assert wires.opened("b")
    assert not any(up.restarted for up in wires.of("a", SessionUp))
    say(wires, "b", "a", b"me too")
    wires.run(SHORT)
    assert wires.opened("a") == [b"me too"]


def test_a_node_that_forgot_its_peer_is_heard_again_by_its_own_handshake():
    wires = connected_pair()
    for _ in range(3):
        wires.tell("b", ForgetPeer(wires.node("a")))
        say(wires, "b", "a", b"new")
        wires.run(SHORT)
        say(wires, "a", "b", b"answer")
        wires.run(SHORT)
    assert wires.opened("a") == [b"new"] * 3
    assert wires.opened("b") == [b"answer"] * 3


def test_connect_names_each_new_path_once_and_shakes_hands_once():
    wires = connected_pair()
    handshakes = kinds(wires).count(1)
    for _ in range(3):
        wires.tell("a", Connect(wires.node("b"), wires.to("b")))
        wires.tell("a", Connect(wires.node("b"), wires.to("b", link=2)))
    assert [up.path for up in wires.of("a", SessionUp)] == [wires.to("b"), wires.to("b", link=2)]
    assert kinds(wires).count(1) == handshakes
    for link in range(3, PATHS_MAX + 5):
        wires.tell("a", Connect(wires.node("b"), wires.to("b", link)))
    assert len(wires.cores["a"]._peers[wires.node("b")].announced) == PATHS_MAX


def test_a_second_path_serves_when_the_first_is_dead():
    wires = pair()
    wires.tell("a", Connect(wires.node("b"), wires.to("nobody")))
    wires.tell("a", Connect(wires.node("b"), wires.to("b")))
    wires.run(Duration(SECOND))
    assert wires.of("a", SessionUp)[0].path == wires.to("b")


def test_a_session_made_on_one_path_seals_for_another():
    wires = connected_pair()
    wires.tell("a", Outgoing(wires.node("b"), wires.routed("b"), b"the long way"))
    wires.run(SHORT)
    assert wires.of("b", Opened) == [Opened(wires.node("a"), wires.routed("a"), b"the long way", True)]


def test_joining_a_mesh_changes_the_standing_on_both_sides_without_a_restart():
    wires = Wires()
    member, joined = mesh_of("a", "x")
    wires.start("a", member)
    entropy = entropy_of("alone")
    wires.start("x", found(joined.identity, "x", "alone", entropy))
    say(wires, "x", "a", b"as a stranger")
    wires.run(SHORT)
    wires.tell("x", CredentialsChanged(joined))
    wires.run(SHORT)
    ups = wires.of("a", SessionUp)
    assert [(up.member, up.restarted) for up in ups] == [(False, False), (True, False)]
    assert [(up.member, up.restarted) for up in wires.of("x", SessionUp)] == [(False, False), (True, False)]
    say(wires, "x", "a", b"as a member")
    wires.run(SHORT)
    assert [(heard.plaintext, heard.member) for heard in wires.of("a", Opened)] == [
        (b"as a stranger", False),
        (b"as a member", True),
    ]


def test_credentials_that_change_during_a_handshake_do_not_break_it():
    for known in (False, True):
        wires = Wires()
        member, joined = mesh_of("a", "x")
        wires.start("a", member)
        wires.start("x", found(joined.identity, "x", "alone", entropy_of("alone")))
        if known:
            wires.tell("x", PeerKnown(wires.node("a"), member.identity.x25519))
        say(wires, "x", "a", b"hello")
        wires.tell("x", CredentialsChanged(joined))
        wires.run(Duration(SECOND))
        assert [(heard.plaintext, heard.member) for heard in wires.of("a", Opened)] == [(b"hello", True)]


def test_an_idle_session_ends_and_frees_what_it_held():
    wires = connected_pair()
    wires.run(Duration(3700 * SECOND))
    assert not wires.cores["a"].connected(wires.node("b"))
    assert wires.cores["a"].deadline() is None
    assert [failed.reason for failed in wires.of("a", SessionFailed)] == ["not heard for long"]


def test_superseded_sessions_end_after_a_minute():
    wires = pair()
    wires.tell("a", Connect(wires.node("b"), wires.to("b")))
    wires.tell("b", Connect(wires.node("a"), wires.to("a")))
    wires.run(Duration(SECOND))
    assert len(wires.cores["a"]._by_index) == 2
    say(wires, "a", "b", b"x")
    wires.run(Duration(62 * SECOND))
    assert len(wires.cores["a"]._by_index) == 1
    assert wires.cores["a"].connected(wires.node("b"))


def test_forgetting_a_peer_leaves_no_timer_and_no_index():
    wires = connected_pair()
    wires.tell("a", ForgetPeer(wires.node("b")))
    assert not wires.cores["a"]._by_index
    assert wires.cores["a"].deadline() is None
    wires.tell("a", ForgetPeer(wires.node("b")))


def test_speaking_to_oneself_is_a_bug_and_calling_oneself_finds_no_twin_and_makes_no_session():
    wires = pair()
    wires.tell("a", Connect(wires.node("a"), wires.to("a")))
    wires.run(SHORT)
    assert "our own handshake over another link" in reasons(wires, "a")
    assert wires.cores["a"].twins.ours(wires.now) is None
    assert not wires.of("a", SessionUp)
    with pytest.raises(LocalProtocolError):
        wires.tell("a", Outgoing(wires.node("a"), wires.to("a"), b"echo"))


def test_a_wake_before_its_time_does_nothing():
    wires = pair()
    wires.tell("a", Connect(wires.node("b"), wires.to("b")))
    assert wires.tell("a", Wake()) == []
    assert wires.cores["a"].deadline() == Instant(wires.now + 150 * MILLISECOND)


def test_three_nodes_with_bad_wires_all_hear_each_other_and_nothing_twice():
    for seed in range(6):
        wires = Wires(seed, loss=0.15, duplicate=0.15, jitter_ms=60)
        for name, credentials in zip("abc", mesh_of("a", "b", "c"), strict=True):
            wires.start(name, credentials)
        number = 0
        for _ in range(40):
            for sender in "abc":
                for receiver in "abc":
                    if sender != receiver:
                        number += 1
                        say(wires, sender, receiver, b"%s%s%d" % (sender.encode(), receiver.encode(), number))
            wires.run(Duration(100 * MILLISECOND))
        wires.run(Duration(20 * SECOND))
        for name in "abc":
            heard = wires.opened(name)
            assert len(heard) == len(set(heard)), seed
            for sender in set("abc") - {name}:
                assert any(text.startswith(f"{sender}{name}".encode()) for text in heard), seed
            assert not any(up.restarted for up in wires.of(name, SessionUp)), seed


def test_forged_greetings_cannot_keep_a_true_peer_from_being_called():
    wires = pair()
    rng = random.Random(1)
    forged = [NodeId(rng.randbytes(20)) for _ in range(INITIATIONS_MAX + 10)]
    for node in forged:
        wires.tell("a", Connect(node, wires.to("nobody")))
    assert len(wires.cores["a"]._initiations) == INITIATIONS_MAX
    assert [failed.peer for failed in wires.of("a", SessionFailed)] == forged[:10]
    wires.tell("a", Connect(wires.node("b"), wires.to("b")))
    wires.run(SHORT)
    assert wires.cores["a"].connected(wires.node("b"))
    wires.run(Duration(30 * SECOND))
    assert len(wires.of("a", SessionFailed)) == len(forged)
    assert wires.cores["a"].peers() == [wires.node("b")]
    assert not wires.cores["a"]._initiations


def test_a_peer_that_falls_silent_before_it_confirms_is_reported():
    wires = pair()
    wires.tell("a", Connect(wires.node("b"), wires.to("b")))
    wires.run(Duration(2 * MILLISECOND))
    assert wires.of("a", SessionUp)
    wires.cut.add("b")
    wires._flying.clear()
    wires.run(Duration(30 * SECOND))
    assert [failed.reason for failed in wires.of("a", SessionFailed)] == ["handshake was not confirmed"]
    assert not wires.cores["a"]._by_index
    assert kinds(wires).count(3) == 7


@pytest.mark.parametrize("known", [False, True])
def test_what_is_late_of_an_earlier_start_does_not_displace_the_later_one(known):
    wires = pair()
    late: list[bytes] = []
    if known:
        wires.tell("a", PeerKnown(wires.node("b"), wires.credentials["b"].identity.x25519))
    wires.tell("a", Connect(wires.node("b"), wires.to("b")))
    wires.run(SHORT)
    # The earlier start begins one more handshake, whose last message is held back ...
    wires.tell("a", ForgetPeer(wires.node("b")))
    if known:
        wires.tell("a", PeerKnown(wires.node("b"), wires.credentials["b"].identity.x25519))
    wires.tell("a", Connect(wires.node("b"), wires.to("b")))
    wires.run(Duration(2 * MILLISECOND))
    if known:
        wires._flying.clear()
        say(wires, "a", "b", b"late")
    late = [wires.sent[-1][2]]
    wires._flying.clear()
    # ... until the later start has a session.
    wires.start("a", wires.credentials["a"])
    wires.tell("a", Connect(wires.node("b"), wires.to("b")))
    wires.run(SHORT)
    before = len(wires.of("b", SessionUp))
    (answer,) = wires.tell("b", Received(wires.to("a"), late[0]))
    assert answer == Rejected("fe80::a%1", EARLIER_START)
    assert len(wires.of("b", SessionUp)) == before
    assert not wires.opened("b")
    say(wires, "b", "a", b"to the later start")
    wires.run(SHORT)
    assert wires.opened("a") == [b"to the later start"]


def test_two_machines_with_one_key_are_told_apart_and_counted():
    wires = connected_pair()
    wires.start("twin", wires.credentials["a"])
    wires.tell("twin", Connect(wires.node("b"), wires.to("b")))
    wires.run(SHORT)
    assert [up.restarted for up in wires.of("b", SessionUp)] == [False, True]
    wires.tell("a", ForgetPeer(wires.node("b")))
    wires.tell("a", Connect(wires.node("b"), wires.to("b")))
    wires.run(Duration(SECOND))
    assert EARLIER_START in reasons(wires, "b")
    assert len(wires.of("b", SessionUp)) == 2


def test_sessions_of_one_peer_are_bounded():
    wires = connected_pair()
    for _ in range(3 * SESSIONS_PER_PEER_MAX):
        wires.tell("a", ForgetPeer(wires.node("b")))
        wires.tell("a", Connect(wires.node("b"), wires.to("b")))
        wires.run(SHORT)
        assert len(wires.cores["b"]._by_index) <= SESSIONS_PER_PEER_MAX
    say(wires, "b", "a", b"by the newest")
    wires.run(SHORT)
    assert wires.opened("a") == [b"by the newest"]


@pytest.mark.parametrize("known", [False, True])
def test_every_altered_or_shortened_handshake_message_is_refused_and_the_true_one_still_serves(known):
    wires = pair()
    if known:
        wires.tell("a", PeerKnown(wires.node("b"), wires.credentials["b"].identity.x25519))
    wires.tell("a", Connect(wires.node("b"), wires.to("b")))
    rng = random.Random(7)
    while not (wires.cores["a"].connected(wires.node("b")) and wires.cores["b"].connected(wires.node("a"))):
        _, receiver, message = wires.sent[-1]
        for number in range(60):
            altered = bytearray(message)
            altered[rng.randrange(len(altered))] ^= 1 << rng.randrange(8)
            shortened = message[: rng.randrange(len(message))]
            for bad in (bytes(altered), shortened, message + b"\x00"):
                # From many sources, so that the rate limit does not do the work.
                answers = wires.cores[receiver].handle(Received(wires.to(f"x{number}"), bad), wires.now)
                assert not any(isinstance(answer, SessionUp | Opened) for answer in answers)
        wires.run(Duration(MILLISECOND))
    assert len(wires.of("a", SessionUp)) == len(wires.of("b", SessionUp)) == 1


class Chaos:
    """Three nodes that talk while wires lose, nodes restart and forget, and links are cut."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.wires = Wires(seed, loss=0.2, duplicate=0.2, jitter_ms=80)
        self.mesh = dict(zip("abc", mesh_of("a", "b", "c"), strict=True))
        self.said = 0
        self.opened: dict[str, list[Opened]] = {name: [] for name in "abc"}
        for name, credentials in self.mesh.items():
            self.wires.start(name, credentials)

    def chat(self, times: int) -> None:
        for _ in range(times):
            for sender, receiver in itertools.permutations("abc", 2):
                self.said += 1
                say(self.wires, sender, receiver, f"{sender}>{receiver}:{self.said}".encode())
            self.wires.run(Duration(500 * MILLISECOND))

    def upset(self) -> None:
        name = self.rng.choice("abc")
        match self.rng.randrange(4):
            case 0:
                self.collect(name)
                self.wires.start(name, self.mesh[name])
            case 1:
                self.wires.tell(name, ForgetPeer(self.wires.node(self.rng.choice("abc"))))
            case 2:
                self.wires.cut = {name}
            case 3:
                self.wires.cut = set()

    def collect(self, name: str) -> None:
        self.opened[name] += [action for action in self.wires.log[name] if isinstance(action, Opened)]
        self.wires.log[name].clear()


@pytest.mark.parametrize("seed", range(12))
def test_chaos_never_opens_twice_nor_from_another_and_heals(seed):
    chaos = Chaos(seed)
    wires = chaos.wires
    for _ in range(25):
        chaos.chat(2)
        chaos.upset()
    wires.loss, wires.cut = 0.0, set()
    chaos.chat(60)
    for name in "abc":
        chaos.collect(name)
    handshakes = kinds(wires).count(1)
    chaos.chat(60)
    assert kinds(wires).count(1) == handshakes, "at rest nobody begins a handshake"
    for name in "abc":
        assert not wires.of(name, SessionUp), "at rest nothing comes up"
        for sender in sorted(set("abc") - {name}):
            heard = [text for text in wires.opened(name) if text.startswith(sender.encode())]
            assert len(heard) >= 59, f"{sender} is not heard by {name}"
        chaos.collect(name)
        texts = [action.plaintext for action in chaos.opened[name]]
        assert len(texts) == len(set(texts))
        for action in chaos.opened[name]:
            sender, receiver = action.plaintext.decode().partition(":")[0].split(">")
            assert (chaos.mesh[sender].identity.node, receiver) == (action.peer, name)
