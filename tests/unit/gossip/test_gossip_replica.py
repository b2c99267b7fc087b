"""The replicated set of signed statements: who comes to hold what, what is refused, what stays on disk."""

import random

import pytest

from gossip.replica import (
    CHANGE_BURST,
    FANOUT,
    PERSIST_AFTER,
    SOURCE_BURST,
    STORED_KEYS,
    AuthorsRefused,
    Key,
    Publish,
    PushNow,
    Received,
    Replica,
    Send,
    SetsEqual,
    Started,
    StatementsChanged,
)
from gossip.replica_table import UNKNOWN_TOPICS_AUTHOR_MAX
from gossip.statements import PUSH_MAX, REPLICA_CODEC, STATED_CODEC, Compare, Push, Stated, Statement, held
from sansio.core import Persist, Rejected, Wake
from sansio.errors import LocalProtocolError
from sansio.ids import NodeId
from sansio.instant import SECOND, Instant, after
from tests.unit.gossip.replica_net import REALM, RULES, Keys, Net, identity, proof_of

ME, OTHER, THIRD = identity(1), identity(2), identity(3)


def statement(author: NodeId, subject: bytes, sequence: int, body: bytes = b"x", topic: str = "t") -> Statement:
    signed = STATED_CODEC.encode(Stated(topic, subject, sequence, body))
    return Statement(author, signed, proof_of(author, signed))


def pushed(*statements: Statement) -> bytes:
    return REPLICA_CODEC.encode(Push(statements))


def alone(stored: dict[str, bytes] | None = None, peers: tuple[NodeId, ...] = (OTHER, THIRD)) -> Replica:
    keys = Keys(ME)
    core = Replica(ME, REALM, keys, keys, random.Random(1), stored or {}, RULES, lambda: peers)
    core.handle(Started(), Instant(0))
    return core


def reasons(actions: list[object]) -> list[str]:
    return [action.reason for action in actions if isinstance(action, Rejected)]


# Belief and order


def test_the_higher_sequence_wins_whatever_the_order_of_arrival():
    old, new = statement(OTHER, b"s", 1, b"old"), statement(OTHER, b"s", 2, b"new")
    first, second = alone(), alone()
    for each in (old, new):
        first.handle(Received(OTHER, pushed(each)), Instant(0))
    for each in (new, old):
        second.handle(Received(THIRD, pushed(each)), Instant(0))
    for core in (first, second):
        assert core.get("t", OTHER, b"s").body == b"new"
    assert first.digest == second.digest


def test_equally_numbered_statements_are_decided_by_their_bytes_alike():
    one, other = statement(OTHER, b"s", 1, b"one"), statement(OTHER, b"s", 1, b"two")
    first, second = alone(), alone()
    first.handle(Received(OTHER, pushed(one, other)), Instant(0))
    second.handle(Received(OTHER, pushed(other, one)), Instant(0))
    assert first.get("t", OTHER, b"s").body == second.get("t", OTHER, b"s").body == b"two"


def test_a_statement_whose_proof_does_not_hold_is_neither_held_nor_told_nor_passed_on():
    core = alone()
    forged = Statement(THIRD, statement(THIRD, b"s", 1).signed, b"whatever")
    actions = core.handle(Received(OTHER, pushed(forged)), Instant(0))
    assert reasons(actions) == ["statement whose proof does not hold"]
    assert not [action for action in actions if isinstance(action, StatementsChanged | Send)]
    assert len(core) == 0
    assert not [each for each in core.handle(Wake(), after(Instant(0), SECOND)) if isinstance(each, Send)]


def test_a_good_statement_beside_a_forged_one_is_believed():
    core = alone()
    forged = Statement(THIRD, statement(THIRD, b"s", 1).signed, b"whatever")
    actions = core.handle(Received(OTHER, pushed(forged, statement(OTHER, b"s", 1))), Instant(0))
    assert StatementsChanged("t", (Key("t", OTHER, b"s"),)) in actions


def test_what_is_known_is_not_verified_again():
    core = alone()
    keys = core._verifier
    for _ in range(3):
        core.handle(Received(OTHER, pushed(statement(OTHER, b"s", 1))), Instant(0))
    assert keys.asked == 1


def test_an_empty_body_takes_a_statement_back_for_all_and_for_good():
    net = Net(5, 1)
    net.publish(net.nodes[0], b"s", b"here")
    net.run(5)
    net.publish(net.nodes[0], b"s", b"")
    net.run(30)
    assert net.alike()
    assert all(net.said(node) == {} for node in net.nodes)
    net.tell(net.nodes[3], Received(net.nodes[2], pushed(statement(net.nodes[0], b"s", 1, b"here"))))
    assert net.said(net.nodes[3]) == {}


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x92\x09\x90", REPLICA_CODEC.encode(Compare(bytes(8)))[:-1]])
def test_bytes_that_are_no_message_are_rejected_and_change_nothing(payload: bytes):
    core = alone()
    assert reasons(core.handle(Received(OTHER, payload), Instant(0))) == ["message about statements cannot be decoded"]
    assert len(core) == 0


def test_a_statement_that_says_nothing_readable_is_rejected():
    core = alone()
    garbage = Statement(OTHER, b"\xc1garbage", proof_of(OTHER, b"\xc1garbage"))
    actions = core.handle(Received(OTHER, pushed(garbage)), Instant(0))
    assert len(reasons(actions)) == 1
    assert len(core) == 0


# Publishing


def test_a_statement_of_our_own_is_on_disk_before_anybody_is_told():
    core = alone()
    first, *rest = core.handle(Publish("t", b"s", b"body"), Instant(0))
    assert isinstance(first, Persist)
    assert first.key in STORED_KEYS
    assert rest == [StatementsChanged("t", (Key("t", ME, b"s"),))]
    due = core.deadline()
    assert due is not None
    sent = [action for action in core.handle(Wake(), due) if isinstance(action, Send)]
    assert {send.to for send in sent} == {OTHER, THIRD}


def test_saying_the_same_again_changes_nothing():
    core = alone()
    core.handle(Publish("t", b"s", b"body"), Instant(0))
    assert core.handle(Publish("t", b"s", b"body"), Instant(0)) == []


def test_a_topic_without_rules_or_a_body_beyond_them_is_the_callers_mistake():
    core = alone()
    with pytest.raises(LocalProtocolError):
        core.handle(Publish("unheard-of", b"s", b"body"), Instant(0))
    with pytest.raises(LocalProtocolError):
        core.handle(Publish("wide", b"s", bytes(21)), Instant(0))


def test_a_sequence_is_not_used_twice_after_a_restart_or_a_lost_disk():
    net = Net(3, 2)
    one, two, _ = net.nodes
    net.publish(one, b"s", b"first")
    net.run(5)
    net.start(one)
    net.publish(one, b"s", b"second")
    net.run(30)
    assert net.said(two) == {(one, b"s"): b"second"}
    net.disks[one].clear()
    net.start(one)
    net.run(30)  # the others tell it what it once said
    net.publish(one, b"s", b"third")
    net.run(30)
    assert net.said(two) == net.said(one) == {(one, b"s"): b"third"}


# Spreading


@pytest.mark.parametrize("seed", range(5))
def test_a_change_reaches_everybody_within_seconds_and_only_once_each_is_it_told(seed: int):
    net = Net(40, seed)
    net.run(30)
    net.publish(net.nodes[7], b"s", b"news")
    net.run(1)
    reached = [node for node in net.nodes if net.said(node)]
    assert len(reached) > 30
    net.run(60)
    assert net.alike()
    assert len(net.changes) == len(net.nodes)


@pytest.mark.parametrize("seed", range(5))
def test_sets_become_equal_in_spite_of_loss(seed: int):
    net = Net(12, seed, loss=0.3)
    for number, node in enumerate(net.nodes):
        net.publish(node, b"s", b"%d" % number)
        net.publish(node, b"r", b"%d" % number, topic="law")
    net.run(180)
    assert net.alike()
    assert len(net.said(net.nodes[0])) == len(net.nodes)


@pytest.mark.parametrize("seed", range(5))
def test_what_was_said_in_a_partition_is_known_to_all_soon_after_it_healed(seed: int):
    net = Net(10, seed)
    net.run(10)
    net.split(set(net.nodes[:4]))
    for node in net.nodes:
        net.publish(node, b"s", b"from " + node)
    net.run(30)
    assert not net.alike()
    assert len(net.said(net.nodes[0])) == 4
    net.heal()
    net.run(60)
    assert net.alike()
    assert len(net.said(net.nodes[0])) == 10


def test_a_newcomer_is_given_a_large_set_in_seconds():
    net = Net(2, 3)
    one, two = net.nodes
    net.split({two})
    for number in range(1_500):
        net.publish(one, number.to_bytes(2, "big"), b"body", topic="wide")
    net.heal()
    net.run(30)
    assert net.alike()
    assert len(net.said(two, "wide")) == 1_500


def test_at_rest_only_digests_are_compared():
    net = Net(8, 4)
    net.publish(net.nodes[0], b"s", b"x")
    net.run(120)
    sent, sent_bytes = net.sent, net.sent_bytes
    net.run(100)
    assert net.sent - sent <= 8 * 100 / 10  # at least half an interval apart
    assert net.sent_bytes - sent_bytes <= 20 * (net.sent - sent)


def test_a_change_costs_as_much_as_it_changes():
    net = Net(6, 5)
    for number in range(1_000):
        net.publish(net.nodes[0], number.to_bytes(2, "big"), b"body", topic="wide")
    net.run(200)
    assert net.alike()
    before = net.sent_bytes
    net.publish(net.nodes[1], b"s", b"small")
    net.run(15)
    assert net.sent_bytes - before < 20_000  # one statement, its copies, and a summary of its part here and there


# Bounds


def test_an_author_beyond_its_bound_keeps_the_same_statements_everywhere():
    every = [statement(OTHER, b"%d" % number, 1) for number in range(12)]
    first, second = alone(), alone()
    for each in every:
        first.handle(Received(OTHER, pushed(each)), Instant(0))
    for each in reversed(every):
        second.handle(Received(OTHER, pushed(each)), Instant(0))
    assert len(first) == RULES["t"].author_max
    assert first.digest == second.digest


def test_one_author_at_its_bound_takes_no_room_from_another():
    core = alone()
    for number in range(50):
        core.handle(Received(OTHER, pushed(statement(OTHER, b"%d" % number, 1))), Instant(0))
    core.handle(Received(OTHER, pushed(statement(THIRD, b"s", 1))), Instant(0))
    assert core.get("t", THIRD, b"s") is not None


def test_topics_of_a_later_version_are_held_and_passed_on_within_one_bound():
    core = alone()
    for number in range(100):
        core.handle(Received(OTHER, pushed(statement(OTHER, b"s", 1, topic=f"later-{number}"))), Instant(0))
    assert len(core) == UNKNOWN_TOPICS_AUTHOR_MAX
    sent = [action for action in core.handle(Wake(), after(Instant(0), SECOND)) if isinstance(action, Send)]
    assert sent


def test_a_body_too_long_for_its_topic_is_refused():
    core = alone()
    actions = core.handle(Received(OTHER, pushed(statement(OTHER, b"s", 1, bytes(21), "wide"))), Instant(0))
    assert reasons(actions) == ["statement is too long for its topic"]
    assert len(core) == 0
    core.handle(Received(OTHER, pushed(statement(OTHER, b"s", 2, bytes(20), "wide"))), Instant(0))
    assert core.get("wide", OTHER, b"s") is not None


def test_an_author_that_changes_its_mind_all_the_time_is_slowed_down():
    core = alone()
    taken = 0
    for sequence in range(1, 500):
        actions = core.handle(Received(OTHER, pushed(statement(OTHER, b"s", sequence))), Instant(0))
        taken += not reasons(actions)
    assert taken == CHANGE_BURST + 1
    later = core.handle(Received(OTHER, pushed(statement(OTHER, b"s", 1_000))), after(Instant(0), 10 * SECOND))
    assert not reasons(later)


def test_forged_statements_cannot_use_up_what_their_alleged_author_may_change():
    core = alone()
    core.handle(Received(OTHER, pushed(statement(OTHER, b"s", 1))), Instant(0))
    for sequence in range(2, 300):
        forged = Statement(OTHER, statement(OTHER, b"s", sequence).signed, b"bad")
        core.handle(Received(THIRD, pushed(forged)), Instant(0))
    assert not reasons(core.handle(Received(OTHER, pushed(statement(OTHER, b"s", 2))), Instant(0)))


def test_a_member_that_pours_out_forgeries_costs_a_bounded_number_of_verifications():
    core = alone()
    forged = [Statement(OTHER, statement(OTHER, b"%d" % n, 1).signed, b"bad") for n in range(PUSH_MAX)]
    for _ in range(200):
        core.handle(Received(THIRD, pushed(*forged)), Instant(0))
    assert core._verifier.asked <= SOURCE_BURST


def test_one_who_compares_all_the_time_is_not_answered_all_the_time():
    core = alone()
    core.handle(Publish("t", b"s", b"x"), Instant(0))
    asked = [core.handle(Received(OTHER, REPLICA_CODEC.encode(Compare(bytes(8)))), Instant(0)) for _ in range(500)]
    assert sum(1 for actions in asked if any(isinstance(each, Send) for each in actions)) < 100
    assert "sets of statements compared too often" in reasons(asked[-1])


def test_news_goes_to_a_few_members_however_many_there_are():
    peers = tuple(identity(number) for number in range(2, 200))
    core = alone(peers=peers)
    core.handle(Publish("t", b"s", b"x"), Instant(0))
    sent = [action for action in core.handle(Wake(), after(Instant(0), SECOND)) if isinstance(action, Send)]
    assert len({send.to for send in sent}) == FANOUT


def test_who_is_about_to_go_pushes_its_news_at_once():
    core = alone()
    core.handle(Publish("t", b"s", b""), Instant(0))
    sent = [action.to for action in core.handle(PushNow(), Instant(0)) if isinstance(action, Send)]
    assert sorted(sent) == sorted((OTHER, THIRD))
    assert core.handle(PushNow(), Instant(0)) == []


def test_members_with_equal_sets_say_so_and_each_learns_it():
    asker, asked = alone(), alone()
    [compare] = [action for action in asker.handle(Wake(), after(Instant(0), 100 * SECOND)) if isinstance(action, Send)]
    [answer] = asked.handle(Received(OTHER, compare.payload), Instant(0))
    assert asker.handle(Received(compare.to, answer.payload), Instant(0)) == [SetsEqual(compare.to)]
    asked.handle(Publish("t", b"s", b"x"), Instant(0))
    [differs] = asked.handle(Received(OTHER, compare.payload), Instant(0))
    assert not any(isinstance(each, SetsEqual) for each in asker.handle(Received(OTHER, differs.payload), Instant(0)))


# Refused authors


def test_statements_of_a_refused_author_go_but_for_those_that_still_decide_something():
    core = alone()
    core.handle(Received(OTHER, pushed(statement(OTHER, b"s", 1), statement(OTHER, b"s", 1, topic="law"))), Instant(0))
    actions = core.handle(AuthorsRefused(frozenset({OTHER})), Instant(0))
    assert actions == [StatementsChanged("t", (Key("t", OTHER, b"s"),))]
    assert core.get("t", OTHER, b"s") is None
    assert core.get("law", OTHER, b"s") is not None
    assert core.handle(Received(THIRD, pushed(statement(OTHER, b"s", 2))), Instant(0)) == []
    core.handle(AuthorsRefused(frozenset()), Instant(0))
    core.handle(Received(THIRD, pushed(statement(OTHER, b"s", 2))), Instant(0))
    assert core.get("t", OTHER, b"s") is not None


# Disk


def test_a_restarted_member_tells_what_it_stored_without_asking_anybody():
    net = Net(4, 6)
    for node in net.nodes:
        net.publish(node, b"s", b"by " + node)
    net.run(60)
    one = net.nodes[0]
    before = net.cores[one].digest
    net.split({one})
    net.changes.clear()
    net.start(one)
    assert net.cores[one].digest == before
    assert [len(change.keys) for node, change in net.changes if node == one] == [4]
    assert net.keys[one].asked == 0


def test_many_changes_are_written_together_and_only_in_the_pieces_that_changed():
    net = Net(2, 7)
    one, two = net.nodes
    net.run(30)
    net.writes = 0
    for number in range(400):
        net.tell(two, Received(one, pushed(statement(one, b"%d" % number, 1, topic="wide"))))
    net.run(PERSIST_AFTER / SECOND + 1)
    assert net.writes <= len(STORED_KEYS)
    net.run(60)
    net.writes = 0
    net.tell(two, Received(one, pushed(statement(one, b"one more", 1, topic="wide"))))
    net.run(PERSIST_AFTER / SECOND + 1)
    assert net.writes == 1


def test_what_was_stored_in_another_mesh_or_is_damaged_is_not_read():
    core = alone()
    persist = core.handle(Publish("t", b"s", b"body"), Instant(0))[0]
    assert isinstance(persist, Persist)
    assert len(alone({persist.key: persist.value})) == 1
    assert len(alone({persist.key: persist.value[:-1]})) == 0
    keys = Keys(ME)
    elsewhere = Replica(ME, b"other", keys, keys, random.Random(1), {persist.key: persist.value}, RULES, lambda: ())
    assert len(elsewhere) == 0


def test_held_statements_keep_the_bytes_that_were_signed():
    signed = STATED_CODEC.encode(Stated("t", b"s", 1, b"x"))
    longer = bytes((signed[0] + 1,)) + signed[1:] + b"\x01"  # a later version's further field
    core = alone()
    core.handle(Received(OTHER, pushed(Statement(OTHER, longer, proof_of(OTHER, longer)))), Instant(0))
    assert core.get("t", OTHER, b"s").statement.signed == longer
    assert held(Statement(OTHER, longer, b"")).body == b"x"
