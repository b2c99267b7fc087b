"""The TopologyProcessor: when it computes, whom it pushes to, and when it stops."""

from dmssd.roles.fd import LsdbMoved, SendPlan
from dmssd.roles.messages import PLAN_CODEC, PlanAck
from dmssd.roles.tp import AckReceived, ProcessorConfig, ProcessorConfigured, TopologyProcessor
from routing.lsa import Adjacency, LinkNumber, Lsa, Prefix
from routing.plan import ROW_CODEC, compute_row
from sansio.core import Wake
from sansio.ids import NodeId
from sansio.instant import MILLISECOND, Instant

A, B, C = (NodeId(letter * 20) for letter in (b"A", b"B", b"C"))


def line(metric=1):
    """A-B-C; the link between two nodes has the same number at both ends."""

    def lsa(node, sequence, *neighbours):
        adjacencies = tuple(Adjacency(v, LinkNumber(link), LinkNumber(link), metric) for v, link in neighbours)
        return Lsa(node, sequence, chr(node[0]), adjacencies, (Prefix(bytes([10, 0, 0, node[0]]), 32),))

    return {A: lsa(A, metric, (B, 1)), B: lsa(B, metric, (A, 1), (C, 2)), C: lsa(C, metric, (B, 2))}


def pushes(actions):
    return {action.to: PLAN_CODEC.decode(action.payload, "tp") for action in actions if isinstance(action, SendPlan)}


def ack(tp, node, push, now):
    return tp.handle(AckReceived(node, PlanAck(push.digest, accepted=True)), now)


def test_the_first_change_is_computed_at_once_and_pushed_to_everyone_in_reach():
    lsdb = line()
    sent = pushes(TopologyProcessor(A, lsdb, ProcessorConfig()).handle(LsdbMoved(), Instant(0)))
    assert set(sent) == {A, B, C}
    assert {node: ROW_CODEC.decode(push.row, "tp") for node, push in sent.items()} == {
        node: compute_row(lsdb, node) for node in lsdb
    }


def test_the_own_row_comes_first():
    actions = TopologyProcessor(C, line(), ProcessorConfig()).handle(LsdbMoved(), Instant(0))
    assert actions[0].to == C


def test_further_changes_wait_for_the_back_off_and_are_computed_together():
    lsdb = line()
    tp = TopologyProcessor(A, lsdb, ProcessorConfig())
    for node, push in pushes(tp.handle(LsdbMoved(), Instant(0))).items():
        ack(tp, node, push, Instant(0))
    lsdb |= line(metric=2)
    assert tp.handle(LsdbMoved(), Instant(1)) == []
    assert tp.handle(LsdbMoved(), Instant(2)) == []
    at = tp.deadline()
    assert at == 50 * MILLISECOND + 1
    assert set(pushes(tp.handle(Wake(), at))) == {A, B, C}
    assert tp.computations == 2


def test_an_unchanged_row_is_not_pushed_again():
    tp = TopologyProcessor(A, line(), ProcessorConfig())
    for node, push in pushes(tp.handle(LsdbMoved(), Instant(0))).items():
        ack(tp, node, push, Instant(0))
    tp.handle(LsdbMoved(), Instant(1))
    assert tp.handle(Wake(), tp.deadline()) == []


def test_a_push_is_repeated_until_it_is_acknowledged_and_then_no_more():
    tp = TopologyProcessor(A, line(), ProcessorConfig())
    first = pushes(tp.handle(LsdbMoved(), Instant(0)))
    ack(tp, A, first[A], Instant(0))
    ack(tp, B, first[B], Instant(0))
    again = pushes(tp.handle(Wake(), tp.deadline()))
    assert again == {C: first[C]}
    ack(tp, C, first[C], Instant(0))
    assert tp.deadline() is None


def test_an_acknowledgement_of_an_older_row_does_not_stop_the_repetition():
    tp = TopologyProcessor(A, line(), ProcessorConfig())
    first = pushes(tp.handle(LsdbMoved(), Instant(0)))
    tp.handle(AckReceived(C, PlanAck(bytes(16), accepted=True)), Instant(0))
    assert first[C].digest in {push.digest for push in pushes(tp.handle(Wake(), tp.deadline())).values()}


def test_repetition_is_bounded():
    config = ProcessorConfig(push_attempts=3)
    tp = TopologyProcessor(A, line(), config)
    sent = list(tp.handle(LsdbMoved(), Instant(0)))
    while (at := tp.deadline()) is not None:
        sent += tp.handle(Wake(), at)
    assert len(sent) == 9


def test_a_node_out_of_reach_is_not_pushed_to():
    lsdb = line()
    lsdb[B] = Lsa(B, 9, "B", (Adjacency(A, LinkNumber(1), LinkNumber(1), 1),), ())
    assert set(pushes(TopologyProcessor(A, lsdb, ProcessorConfig()).handle(LsdbMoved(), Instant(0)))) == {A, B}


def test_other_settings_have_everything_computed_again_after_the_back_off():
    tp = TopologyProcessor(A, line(), ProcessorConfig())
    for node, push in pushes(tp.handle(LsdbMoved(), Instant(0))).items():
        ack(tp, node, push, Instant(0))
    assert tp.handle(ProcessorConfigured(ProcessorConfig(policy="spanning")), Instant(1)) == []
    assert set(pushes(tp.handle(Wake(), tp.deadline()))) == {A, B, C}  # rows say by which policy they were made
    assert tp.computations == 2
