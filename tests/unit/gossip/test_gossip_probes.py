import random

from gossip.config import SwimConfig
from gossip.probes import ProbeOrder, direct_wait, indirect_wait
from sansio.instant import MILLISECOND, SECOND, Duration
from tests.unit.gossip.swim_net import identity


def test_every_member_is_probed_once_a_round_in_changing_order() -> None:
    order = ProbeOrder(random.Random(1))
    nodes = [identity(n) for n in range(10)]
    for node in nodes:
        order.add(node)
    rounds = [[order.next() for _ in nodes] for _ in range(3)]
    assert all(sorted(each, key=str) == sorted(nodes, key=str) for each in rounds)
    assert rounds[0] != rounds[1] != rounds[2]


def test_a_newcomer_is_probed_within_two_rounds_and_pushes_nobody_out() -> None:
    for seed in range(50):
        order = ProbeOrder(random.Random(seed))
        for n in range(6):
            order.add(identity(n))
        first = [order.next() for _ in range(3)]
        order.add(identity(77))
        rest: list[object] = []
        while len(set(first + rest) & {identity(n) for n in range(6)}) < 6:
            rest.append(order.next())
        assert len(rest) <= 4, "those still to come this round come before anyone comes twice"
        assert identity(77) in rest + [order.next() for _ in range(7)]


def test_one_removed_is_probed_no_more_and_nobody_is_skipped() -> None:
    for seed in range(50):
        order = ProbeOrder(random.Random(seed))
        for n in range(6):
            order.add(identity(n))
        first = [order.next() for _ in range(3)]
        order.remove(identity(0))
        rest = [order.next() for _ in range(6 - 3 - (identity(0) not in first))]
        assert identity(0) not in rest
        assert set(first + rest) | {identity(0)} == {identity(n) for n in range(6)}


def test_nobody_to_probe_is_none() -> None:
    order = ProbeOrder(random.Random(0))
    assert order.next() is None
    order.remove(identity(1))


def test_direct_wait_is_base_times_health_plus_an_allowance_per_hop() -> None:
    config = SwimConfig()
    assert direct_wait(config, 1, 0) == 300 * MILLISECOND
    assert direct_wait(config, 3, 5) == (900 + 100) * MILLISECOND


def test_indirect_wait_fills_the_period_and_never_shrinks_below_a_round_trip() -> None:
    config = SwimConfig()
    assert direct_wait(config, 2, 0) + indirect_wait(config, 2, 0) == 1400 * MILLISECOND
    assert indirect_wait(config, 1, 10) == (300 + 400) * MILLISECOND
    short = SwimConfig(period=Duration(SECOND // 10))
    assert indirect_wait(short, 1, 0) == 300 * MILLISECOND
