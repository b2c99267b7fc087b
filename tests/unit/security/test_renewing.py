"""Sessions replaced in time: by age, by a raised epoch; while messages flow, without a storm, and told to nobody."""

from collections import Counter

import pytest

from dmssd.security import renewing
from dmssd.security.sessions import (
    Connect,
    ForgetPeer,
    LinkPath,
    Outgoing,
    PeerKnown,
    Received,
    RoutedPath,
    SessionFailed,
    SessionUp,
    TermsChanged,
    Transmit,
)
from sansio.core import Rejected
from sansio.ids import node_id
from sansio.instant import MILLISECOND, SECOND, Duration, Instant
from tests.unit.security.wires import Wires, mesh_of

SHORT = Duration(100 * MILLISECOND)
WINDOW = renewing.WINDOW_MIN
LONG = Duration(10**6 * SECOND)
LIFETIME = Duration(600 * SECOND)


def connected(*names: str, **faults: float) -> Wires:
    """Members on one link; the first has begun a session with each of the others."""
    wires = Wires(**faults)
    for name, credentials in zip(names, mesh_of(*names), strict=True):
        wires.start(name, credentials)
    for name in names[1:]:
        wires.tell(names[0], Connect(wires.node(name), wires.to(name)))
        wires.run(SHORT)
    return wires


def begun(wires: Wires, since: int = 0) -> list[str]:
    """Who sent how many first handshake messages."""
    return [sender for sender, _, payload in wires.sent[since:] if payload[1] == 1]


def rotate(wires: Wires, names: str, epoch: int = 1, lifetime: Duration = LONG) -> int:
    for name in names:
        wires.tell(name, TermsChanged(epoch, lifetime))
    return len(wires.sent)


def talk(wires: Wires, duration: Duration) -> list[bytes]:
    """Both ends of a pair speak every 7 ms; returns what each said."""
    end, said = wires.now + duration, []
    while wires.now < end:
        said.append(b"%d" % len(said))
        for sender, receiver in ("ab", "ba"):
            wires.tell(sender, Outgoing(wires.node(receiver), wires.to(receiver), said[-1]))
        wires.run(Duration(7 * MILLISECOND))
    return said


@pytest.mark.parametrize("jitter_ms", [0, 40])
def test_a_raised_epoch_replaces_a_session_by_one_handshake_and_every_message_arrives_once(jitter_ms):
    wires = connected("a", "b", jitter_ms=jitter_ms)
    ups = {name: len(wires.of(name, SessionUp)) for name in "ab"}
    before = rotate(wires, "ab")
    assert {wires.cores[name].ages() for name in "ab"} == {(1, 1)}
    said = talk(wires, Duration(3 * WINDOW))
    wires.run(SHORT)
    assert begun(wires, before) == ["a"], "who began the session"
    for name in "ab":
        assert sorted(wires.opened(name)) == sorted(said)
        assert wires.cores[name].ages() == (1, 0)
        assert len(wires.of(name, SessionUp)) == ups[name], "nobody is told"
        assert not wires.of(name, SessionFailed)
        assert not wires.of(name, Rejected)


def test_the_new_session_has_other_keys_and_the_old_one_opens_nothing_any_more_after_a_while():
    wires = connected("a", "b")
    wires.cut.add("b")
    wires.tell("a", Outgoing(wires.node("b"), wires.to("b"), b"late"))
    old = wires.sent[-1][2]
    wires.cut.clear()
    rotate(wires, "ab")
    wires.run(Duration(2 * WINDOW))
    wires.tell("a", Outgoing(wires.node("b"), wires.to("b"), b"new"))
    assert wires.sent[-1][2][2:6] != old[2:6], "another session's index"
    wires.run(Duration(120 * SECOND))
    assert wires.tell("b", Received(wires.to("a"), old)) == [Rejected("fe80::a%1", "unknown session")]


def test_the_other_end_begins_where_the_first_knows_of_no_terms():
    wires = connected("a", "b")
    before = rotate(wires, "b")
    wires.run(renewing.OTHER_END_AFTER)
    assert begun(wires, before) == []
    wires.run(WINDOW)
    assert begun(wires, before) == ["b"]
    assert wires.cores["b"].ages() == (1, 0)


def test_a_session_is_replaced_whenever_it_has_reached_its_lifetime_and_not_before():
    wires = connected("a", "b")
    before = rotate(wires, "ab", epoch=0, lifetime=LIFETIME)
    wires.run(Duration(LIFETIME - SECOND))
    assert begun(wires, before) == []
    wires.run(Duration(WINDOW + SECOND))
    assert begun(wires, before) == ["a"]
    for _ in range(9):
        talk(wires, SHORT)
        wires.run(LIFETIME)
    assert begun(wires, before) in (["a"] * 9, ["a"] * 10)
    assert not wires.of("a", Rejected)


def test_without_terms_a_session_lives_for_a_day():
    wires = connected("a", "b")
    for _ in range(47):
        talk(wires, Duration(7 * MILLISECOND))
        wires.run(Duration(1_800 * SECOND))
    assert begun(wires) == ["a"]
    talk(wires, Duration(7 * MILLISECOND))
    wires.run(Duration(1_810 * SECOND))
    assert begun(wires) == ["a", "a"]


def test_a_node_with_many_sessions_spreads_their_renewal_and_begins_no_more_than_twenty_a_second():
    others = [f"m{number}" for number in range(80)]
    wires = connected("a", *others)
    names = ["a", *others]
    before = rotate(wires, names)
    times: Counter[int] = Counter()
    for tenth in range(130):
        sent = len(wires.sent)
        wires.run(SHORT)
        times[tenth // 10] += len(begun(wires, sent))
    assert max(times.values()) <= 20
    assert len([second for second, count in times.items() if count]) >= 7, "the window is 8 s: 80 x 100 ms"
    assert begun(wires, before).count("a") == 80
    assert {wires.cores[name].ages() for name in others} == {(1, 0)}
    assert not any(wires.of(name, Rejected) for name in names)


def test_even_what_falls_due_at_one_instant_begins_one_by_one(monkeypatch):
    monkeypatch.setattr(renewing.Renewing, "_place", lambda self, peer, window: Duration(0))
    others = [f"m{number}" for number in range(30)]
    wires = connected("a", *others)
    before = rotate(wires, ["a"])
    wires.run(Duration(SECOND))
    assert 15 <= len(begun(wires, before)) <= 21


def test_a_peer_that_does_not_answer_is_asked_again_now_and_then_and_the_session_stays_in_use():
    wires = connected("a", "b")
    wires.cut.add("b")
    before = rotate(wires, "a")
    wires.run(Duration(150 * SECOND))
    assert 2 * 7 <= len(begun(wires, before)) <= 3 * 7
    assert wires.cores["a"].connected(wires.node("b"))
    assert not wires.of("a", SessionFailed)
    wires.cut.clear()
    wires.tell("a", Outgoing(wires.node("b"), wires.to("b"), b"still there"))
    wires.run(SHORT)
    assert wires.opened("b") == [b"still there"]
    wires.run(Duration(70 * SECOND))
    assert wires.cores["a"].ages() == (1, 0)


def test_an_epoch_that_is_not_higher_and_terms_told_again_replace_nothing():
    wires = connected("a", "b")
    rotate(wires, "ab", epoch=7)
    wires.run(Duration(3 * WINDOW))
    before = rotate(wires, "ab", epoch=7, lifetime=LONG)
    rotate(wires, "ab", epoch=3)
    wires.run(Duration(3 * WINDOW))
    assert begun(wires, before) == []
    rotate(wires, "ab", epoch=4)
    wires.run(Duration(3 * WINDOW))
    assert begun(wires, before) == ["a"], "higher than the one now in force"


def test_a_session_of_the_instant_at_which_the_epoch_was_raised_is_of_that_epoch():
    renewals = renewing.Renewing(node_id(b"a"))
    renewals.set_terms(1, LONG, Instant(5))
    assert [renewals.is_behind(Instant(begun)) for begun in (4, 5, 6)] == [True, False, False]


def due(me: bytes, peer: bytes, *, initiated: bool, sessions: int = 1) -> Instant:
    renewals = renewing.Renewing(node_id(me))
    renewals.set_terms(0, LIFETIME, Instant(0))
    renewals.watch(node_id(peer), Instant(0), initiated=initiated, sessions=sessions)
    found = renewals.deadline()
    assert found is not None
    return found


def test_both_ends_know_the_place_of_a_pair_and_the_other_end_waits_a_quarter_of_the_lifetime_longer():
    place = due(b"a", b"b", initiated=True) - LIFETIME
    assert 0 <= place < WINDOW
    assert due(b"b", b"a", initiated=False) == LIFETIME + LIFETIME // 4 + place
    assert due(b"a", b"c", initiated=True) != LIFETIME + place


def test_the_window_grows_with_the_number_of_sessions_up_to_five_minutes():
    place = due(b"a", b"b", initiated=True) - LIFETIME
    for sessions, window in ((20, 2), (200, 20), (3_000, 300), (4_096, 300)):
        wanted = place * window // 2
        assert abs(due(b"a", b"b", initiated=True, sessions=sessions) - LIFETIME - wanted) < MILLISECOND


def test_a_session_begun_after_the_epoch_was_raised_is_not_replaced():
    wires = connected("a", "b")
    rotate(wires, "ab")
    wires.tell("b", ForgetPeer(wires.node("a")))
    wires.tell("b", Connect(wires.node("a"), wires.to("a")))
    wires.run(SHORT)
    before = len(wires.sent)
    wires.run(Duration(2 * renewing.OTHER_END_AFTER))
    assert begun(wires, before) == []


def test_sessions_with_strangers_are_neither_counted_nor_replaced():
    wires = Wires()
    for seed, name in enumerate("ab"):
        wires.start(name, mesh_of(name, seed=seed)[0])
    wires.tell("a", Connect(wires.node("b"), wires.to("b")))
    wires.run(SHORT)
    before = rotate(wires, "ab")
    wires.run(Duration(4 * WINDOW))
    assert wires.cores["a"].connected(wires.node("b"))
    assert wires.cores["a"].ages() == (0, 0)
    assert begun(wires, before) == []


def test_a_session_that_is_gone_is_not_renewed():
    wires = connected("a", "b")
    wires.tell("a", TermsChanged(1, LONG))
    wires.tell("a", ForgetPeer(wires.node("b")))
    assert wires.cores["a"].deadline() is None
    before = len(wires.sent)
    wires.run(Duration(4 * WINDOW))
    assert begun(wires, before) == []


def test_a_member_reached_end_to_end_by_another_way_is_renewed_by_table_and_not_told_again():
    wires = Wires()
    for name, credentials in zip("ab", mesh_of("a", "b"), strict=True):
        wires.start(name, credentials)
    key = wires.credentials["b"].identity.x25519
    wires.tell("a", PeerKnown(wires.node("b"), key))
    wires.tell("a", Outgoing(wires.node("b"), wires.routed("b"), b"hello"))
    wires.run(SHORT)
    ups = {name: len(wires.of(name, SessionUp)) for name in "ab"}
    rotate(wires, "ab")
    wires.cut |= {"a", "b"}  # what is sent is carried by hand, over ways that differ each time
    deadline = wires.now + 3 * WINDOW
    carried = len(wires.sent)
    while wires.cores["a"].ages() != (1, 0) or wires.cores["b"].ages() != (1, 0):
        assert wires.now < deadline
        for sender, receiver, payload in wires.sent[carried:]:
            carried += 1
            way = RoutedPath(wires.node(sender), (b"%d" % carried,))
            wires.tell(receiver, Received(way, payload))
        wires.run(SHORT)
    assert {name: len(wires.of(name, SessionUp)) for name in "ab"} == ups
    first = next(action for action in wires.log["a"] if isinstance(action, Transmit))
    assert first.path == wires.routed("b")


def test_both_ends_that_begin_at_once_end_with_one_session_in_use_and_lose_nothing(monkeypatch):
    monkeypatch.setattr(renewing.Renewing, "_place", lambda self, peer, window: Duration(0))
    monkeypatch.setattr(renewing.Renewing, "_patience", staticmethod(lambda lifetime, *, initiated: lifetime))
    wires = connected("a", "b")
    rotate(wires, "ab", epoch=0, lifetime=LIFETIME)
    wires.run(Duration(LIFETIME - 200 * MILLISECOND))
    said = talk(wires, SECOND)
    wires.run(SHORT)
    assert begun(wires) == ["a", "a", "b"]
    for name in "ab":
        assert wires.opened(name) == said
        assert not wires.of(name, Rejected)


def test_a_neighbour_is_renewed_over_the_link_where_it_was_last_heard():
    wires = connected("a", "b")
    wires.tell("b", Outgoing(wires.node("a"), wires.to("a", link=3), b"here now"))
    wires.run(SHORT)
    before = len(wires.log["a"])
    rotate(wires, "a")
    wires.run(Duration(2 * WINDOW))
    first = next(action for action in wires.log["a"][before:] if isinstance(action, Transmit))
    assert first.path == LinkPath(3, "fe80::b")
