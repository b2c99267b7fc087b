"""Drain and live metrics: what one node does on its operator's word, and on another member's."""

from dmssd.events import Notice, Reply
from dmssd.rules.traffic import (
    METRICS_MAX,
    ORDER_AGAIN,
    ORDER_PATIENCE,
    STORED_KEY,
    TRAFFIC_CODEC,
    Asked,
    Began,
    Heard,
    MetricDone,
    MetricOrder,
    SendTraffic,
    Traffic,
)
from routing.linkstate import DrainSet, MetricsSet
from routing.lsa import Adjacency, LinkNumber, Lsa
from sansio.core import Persist, Rejected, Wake
from sansio.ids import NodeId
from sansio.instant import SECOND, Instant, after

A, B, C, OLD = (NodeId(letter * 20) for letter in (b"A", b"B", b"C", b"O"))
NOW = Instant(SECOND)


def lsa(node: NodeId, *neighbours: NodeId) -> Lsa:
    one = LinkNumber(1)
    return Lsa(node, 1, chr(node[0]).lower(), tuple(Adjacency(other, one, one, 10) for other in neighbours), ())


LSDB = {A: lsa(A, B), B: lsa(B, A, C, OLD), C: lsa(C, B), OLD: lsa(OLD, B)}


def core(me: NodeId = A, stored: bytes | None = None, admins: tuple[NodeId, ...] = (A,)) -> Traffic:
    return Traffic(me, stored, LSDB, lambda who: 1 if who == OLD else 2, lambda who: who in admins)


def metric(a: NodeId, b: NodeId, value: int | None) -> Asked:
    return Asked(7, "metric", {"a": a.hex(), "b": b.hex(), "metric": value})


def of(kind, actions):
    return [action for action in actions if isinstance(action, kind)]


def orders(actions):
    return [(sent.to, TRAFFIC_CODEC.decode(sent.payload, "")) for sent in of(SendTraffic, actions)]


def order(number: int, neighbour: NodeId, value: int, source: NodeId = A) -> Heard:
    return Heard(source, TRAFFIC_CODEC.encode(MetricOrder(number, neighbour, value)))


def done(source: NodeId, number: int, problem: str = "") -> Heard:
    return Heard(source, TRAFFIC_CODEC.encode(MetricDone(number, problem)))


def test_draining_is_on_disk_before_anybody_is_told_and_lasts_over_a_restart() -> None:
    persist, drained, notice, reply = core().handle(Asked(7, "drain", {"on": True}), NOW)
    assert (drained, reply) == (DrainSet(True), Reply(7, {"draining": True}))
    assert notice == Notice("node.draining", {})
    assert isinstance(persist, Persist)
    assert persist.key == STORED_KEY
    assert core(stored=persist.value).handle(Began(), NOW) == [DrainSet(True), MetricsSet({})]


def test_draining_twice_changes_nothing_and_is_answered() -> None:
    traffic = core()
    traffic.handle(Asked(7, "drain", {"on": True}), NOW)
    assert traffic.handle(Asked(8, "drain", {"on": True}), NOW) == [Reply(8, {"draining": True})]
    assert DrainSet(False) in traffic.handle(Asked(9, "drain", {"on": False}), NOW)


def test_a_metric_is_set_here_and_ordered_at_the_far_end_which_is_asked_until_it_answers() -> None:
    traffic = core()
    first = traffic.handle(metric(A, B, 50), NOW)
    assert MetricsSet({B: 50}) in first
    ((to, sent),) = orders(first)
    assert (to, sent.neighbour, sent.metric) == (B, A, 50)
    assert of(Reply, first) == []
    again = after(NOW, ORDER_AGAIN)
    assert traffic.deadline() == again
    assert orders(traffic.handle(Wake(), again)) == [(B, sent)]
    (reply,) = traffic.handle(done(B, sent.number), again)
    assert reply == Reply(7, {"ends": [A.hex(), B.hex()], "metric": 50, "set_at": [A.hex(), B.hex()]})
    assert traffic.deadline() is None


def test_a_link_between_two_others_is_ordered_at_both_and_not_set_here() -> None:
    actions = core().handle(metric(B, C, 9), NOW)
    assert [(to, sent.neighbour) for to, sent in orders(actions)] == [(B, C), (C, B)]
    assert of(MetricsSet, actions) == []


def test_an_end_that_stays_silent_is_named_and_what_is_done_is_said() -> None:
    traffic = core()
    traffic.handle(metric(A, B, 50), NOW)
    (reply,) = traffic.handle(Wake(), after(NOW, ORDER_PATIENCE))
    assert reply.error is not None
    assert reply.error.startswith("b did not answer:")
    assert reply.error.endswith("it is set at a")
    assert traffic.deadline() is None


def test_an_answer_of_somebody_else_does_not_count() -> None:
    traffic = core()
    ((_, sent),) = orders(traffic.handle(metric(A, B, 50), NOW))
    assert traffic.handle(done(C, sent.number), NOW) == []
    assert len(traffic.handle(done(B, sent.number), NOW)) == 1
    assert traffic.handle(done(B, sent.number), NOW) == []


def test_nodes_that_are_not_adjacent_or_too_old_are_refused_before_anything_is_sent() -> None:
    (reply,) = core().handle(metric(A, C, 50), NOW)
    assert reply.error == "a and c are not adjacent: dmssd network global shows the links"
    (reply,) = core().handle(metric(B, OLD, 50), NOW)
    assert reply.error is not None
    assert reply.error.startswith("o runs version 0.1.0")


def test_an_order_of_an_admin_is_obeyed_kept_and_answered() -> None:
    traffic = core(B)
    actions = traffic.handle(order(3, A, 50), NOW)
    (persist,) = of(Persist, actions)
    assert MetricsSet({A: 50}) in actions
    assert orders(actions) == [(A, MetricDone(3, ""))]
    assert core(B, persist.value).metrics == {A: 50}
    # The same again: obeyed already, answered again.
    assert traffic.handle(order(3, A, 50), NOW) == [SendTraffic(A, TRAFFIC_CODEC.encode(MetricDone(3, "")))]
    assert MetricsSet({}) in traffic.handle(order(4, A, 0), NOW)


def test_an_order_of_a_member_without_the_capability_changes_nothing_and_is_told_why() -> None:
    traffic = core(B)
    rejected, answer = traffic.handle(order(3, A, 50, source=C), NOW)
    assert isinstance(rejected, Rejected)
    ((to, said),) = orders([answer])
    assert to == C
    assert "admin capability" in said.problem
    assert traffic.metrics == {}


def test_metrics_are_bounded_and_the_one_too_many_is_refused() -> None:
    traffic = core(B)
    for number in range(METRICS_MAX):
        traffic.handle(order(number, NodeId(number.to_bytes(20, "big")), 5), NOW)
    (answer,) = traffic.handle(order(9, A, 5), NOW)
    ((_, said),) = orders([answer])
    assert said.problem.startswith(f"b has {METRICS_MAX} metrics set already")
    assert A not in traffic.metrics


def test_what_is_no_message_is_rejected_and_damaged_state_means_as_configured() -> None:
    (rejected,) = core().handle(Heard(B, b"\xff"), NOW)
    assert isinstance(rejected, Rejected)
    assert core(stored=b"\xc1").handle(Began(), NOW) == [DrainSet(False), MetricsSet({})]
