"""More members than a node keeps sessions with: no storm of handshakes, at rest, cut or healed. Scaled down by twenty:
50 members, 13 sessions each, as 1,000 have 256 (``make bench-handshakes``)."""

import pytest

from benchmarks.handshakes import HEALING_AIM_PER_S, REST_AIM_PER_S, Crowd
from dmssd.security import sessions
from gossip import speech, swim
from gossip.swim import State
from sansio.instant import SECOND

MEMBERS, SESSIONS, CUT = 50, 13, 5
PERIODS_PER_S = SECOND / swim.SwimConfig().period


@pytest.fixture
def crowd(monkeypatch: pytest.MonkeyPatch) -> Crowd:
    monkeypatch.setattr(sessions, "END_TO_END_MAX", SESSIONS)
    monkeypatch.setattr(speech, "FAMILIAR_MAX", 6)
    monkeypatch.setattr(speech, "FAMILIAR_MIN", 2)
    return Crowd(MEMBERS)


def test_a_crowd_at_rest_begins_at_most_one_handshake_for_each_probe_and_suspects_nobody(crowd: Crowd) -> None:
    crowd.run(3)
    rate = crowd.rate(8)
    assert 0.1 < rate <= 1.1 * PERIODS_PER_S < REST_AIM_PER_S
    assert crowd.most_sessions() == SESSIONS
    everybody = [member for core in crowd.swims.values() for member in core.members()]
    assert {member.state for member in everybody} == {State.ALIVE}


def test_a_part_that_was_cut_off_comes_back_without_a_storm_of_handshakes(crowd: Crowd) -> None:
    crowd.run(3)
    crowd.away = frozenset(crowd.nodes[:CUT])
    while len({subject for _, subject in crowd.deaths if subject in crowd.away}) < CUT:
        assert crowd.now < 120 * SECOND
        assert crowd.rate(4) < HEALING_AIM_PER_S
    crowd.away = frozenset()
    healed = crowd.now
    while any(not member.state.up for core in crowd.swims.values() for member in core.members()):
        assert crowd.now < healed + 120 * SECOND
        assert crowd.rate(4) < HEALING_AIM_PER_S
    assert crowd.most_sessions() <= SESSIONS
    assert crowd.rate(6) <= 1.5 * PERIODS_PER_S, "and the crowd comes to rest"
