"""Measured metrics: what they cost, and that they move seldom."""

from dataclasses import dataclass

import pytest

from routing.linkstate import MeasuredSet
from routing.lsa import LinkNumber
from routing.measured import HOLD, METRIC_UNIT, SAMPLE_INTERVAL, LinksMeasured, Measured, cost_of, quantised
from sansio.core import Wake
from sansio.ids import NodeId
from sansio.instant import MICROSECOND, MILLISECOND, SECOND, Duration, Instant, after

A, B = NodeId(b"a" * 20), NodeId(b"b" * 20)
ONE, TWO = LinkNumber(1), LinkNumber(2)


@dataclass
class View:
    node: NodeId
    link: LinkNumber
    state: str = "up"
    rtt_ns: Duration | None = Duration(300 * MICROSECOND)
    loss_ppm: int = 0


class Bench:
    """A core, its clock, and what it sees."""

    def __init__(self, *views: View) -> None:
        self.views = list(views)
        self.core = Measured(lambda: self.views)
        self.now = Instant(SECOND)
        self.core.handle(LinksMeasured(frozenset({ONE})), self.now)

    def sample(self, times: int = 1) -> list[MeasuredSet]:
        said = []
        for _ in range(times):
            self.now = after(self.now, SAMPLE_INTERVAL)
            assert self.core.deadline() == self.now
            said += self.core.handle(Wake(), self.now)
        return said


def test_a_clean_fast_link_costs_the_unit_and_links_that_are_alike_cost_alike() -> None:
    assert {quantised(cost_of(rtt * MICROSECOND, 0)) for rtt in (1, 90, 500, 1000, 1200)} == {METRIC_UNIT}


@pytest.mark.parametrize(
    ("rtt_ms", "loss_ppm", "metric"), [(2, 0, 22), (40, 0, 384), (1, 500_000, 22), (1, 10**6, 114)]
)
def test_delay_and_loss_cost_in_proportion_rounded_to_steps_of_a_half(rtt_ms: int, loss_ppm: int, metric: int) -> None:
    assert quantised(cost_of(rtt_ms * MILLISECOND, loss_ppm)) == metric


def test_the_first_sample_counts_at_once_and_only_links_that_are_measured_and_adjacencies_that_are_up() -> None:
    slow = Duration(40 * MILLISECOND)
    bench = Bench(View(A, ONE, rtt_ns=slow), View(B, TWO, rtt_ns=slow), View(B, ONE, state="down", rtt_ns=slow))
    assert bench.sample() == [MeasuredSet({(A, ONE): 384})]
    assert bench.sample(10) == []


def test_a_lasting_change_moves_the_metric_after_the_hold_and_not_before() -> None:
    bench = Bench(View(A, ONE))
    bench.sample()
    moved = after(bench.now, HOLD)
    bench.views = [View(A, ONE, rtt_ns=Duration(40 * MILLISECOND))]
    while bench.now < moved - SAMPLE_INTERVAL:
        assert bench.sample() == []
    assert bench.sample() != []
    bench.sample(50)
    assert bench.core.metrics == {(A, ONE): 384}


def test_a_cost_that_swings_about_a_border_between_two_steps_does_not_flap() -> None:
    bench = Bench(View(A, ONE, rtt_ns=Duration(1200 * MICROSECOND)))
    bench.sample()
    said = []
    for _ in range(100):
        for rtt in (1100, 1350):  # the border is at 1.22 ms
            bench.views = [View(A, ONE, rtt_ns=Duration(rtt * MICROSECOND))]
            said += bench.sample(7)
    assert said == []


def test_an_adjacency_that_goes_is_forgotten_and_nothing_is_looked_at_where_no_link_is_measured() -> None:
    bench = Bench(View(A, ONE))
    bench.sample()
    bench.views = []
    assert bench.sample() == [MeasuredSet({})]
    bench.core.handle(LinksMeasured(frozenset()), bench.now)
    assert bench.core.deadline() is None


def test_a_changed_set_of_links_does_not_put_the_next_sample_off() -> None:
    bench = Bench(View(A, ONE))
    due = bench.core.deadline()
    bench.core.handle(LinksMeasured(frozenset({ONE, TWO})), after(bench.now, SECOND))
    assert bench.core.deadline() == due
