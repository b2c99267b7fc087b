"""Lifeguard IV.B at known points."""

import pytest

from gossip.config import SwimConfig
from gossip.suspicion import Suspicion, bounds, timeout
from sansio.instant import SECOND, Duration, Instant
from tests.unit.gossip.swim_net import identity

CONFIG = SwimConfig(period=Duration(SECOND), suspicion_scale=5.0, suspicion_stretch=6.0, suspicion_confirmations=3)


@pytest.mark.parametrize(("members", "shortest_s"), [(1, 5), (10, 5), (100, 10), (1000, 15)])
def test_shortest_suspicion_is_alpha_log10_n_periods_and_never_under_alpha(members: int, shortest_s: int) -> None:
    assert bounds(members, CONFIG) == (shortest_s * SECOND, 6 * shortest_s * SECOND)


def test_timeout_falls_with_the_logarithm_of_confirmations() -> None:
    # 30 - 25 * log(c + 1) / log(4), by hand
    waits = [round(timeout(Duration(5 * SECOND), Duration(30 * SECOND), c, 3) / SECOND, 3) for c in range(5)]
    assert waits == [30.0, 17.5, 10.188, 5.0, 5.0]


def test_no_confirmation_wanted_means_the_shortest() -> None:
    assert timeout(Duration(5), Duration(30), 0, 0) == 5


def test_only_independent_suspectors_shorten_a_suspicion() -> None:
    suspicion = Suspicion(identity(1), Instant(0), 16, CONFIG)
    longest = suspicion.ends
    assert not suspicion.confirm(identity(1)), "the first suspector again confirms nothing"
    assert suspicion.ends == longest
    assert suspicion.confirm(identity(2))
    assert suspicion.ends < longest


def test_confirmations_beyond_k_are_not_worth_passing_on() -> None:
    suspicion = Suspicion(identity(1), Instant(0), 16, CONFIG)
    assert [suspicion.confirm(identity(n)) for n in range(2, 7)] == [True, True, True, False, False]
    assert suspicion.ends == bounds(16, CONFIG)[0]


def test_too_few_members_for_k_confirmations_start_at_the_shortest() -> None:
    assert Suspicion(identity(1), Instant(7), 4, CONFIG).ends == 7 + bounds(4, CONFIG)[0]
    assert Suspicion(identity(1), Instant(7), 5, CONFIG).ends == 7 + bounds(5, CONFIG)[1]


def test_hurried_suspicion_ends_at_the_shortest_counted_from_its_own_start() -> None:
    suspicion = Suspicion(identity(1), Instant(7), 16, CONFIG)
    suspicion.hurry()
    assert suspicion.ends == 7 + bounds(16, CONFIG)[0]
