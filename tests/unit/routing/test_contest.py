"""When an LSA of ours that we did not send means a second machine, and when only that our state was lost."""

import pytest

from routing.contest import PAUSE_MAX, ROUNDS_MIN, SHOWN_FOR, SPAN_MIN, Contest
from routing.linkstate import FloodReceived, LinkState
from routing.lsa import Lsa
from sansio.core import Wake
from sansio.instant import MILLISECOND, SECOND, Duration, Instant, after
from tests.unit.routing.test_linkstate import ME, A, core, flood, lsa, ready, up

T0 = Instant(100 * SECOND)


def rounds(contest: Contest, count: int, gap: int, now: Instant = T0, first: int = 10) -> Instant:
    """So many answers of the other side to so many numbers of ours."""
    for number in range(count):
        now = now if number == 0 else after(now, Duration(gap))
        contest.outbid(lsa(ME, first + 2 * number + 1, "other"), first + 2 * number, now)
    return now


def test_rounds_over_some_seconds_are_a_second_machine_which_is_shown_for_a_while():
    contest = Contest()
    now = rounds(contest, ROUNDS_MIN, SECOND)
    other = contest.other(now)
    assert other is not None
    assert other.name == "other"
    assert contest.other(Instant(after(now, SHOWN_FOR) - 1)) is not None
    assert contest.other(after(now, SHOWN_FOR)) is None


@pytest.mark.parametrize("gap", [SPAN_MIN // (ROUNDS_MIN - 1), PAUSE_MAX])
def test_just_enough_is_enough(gap):
    contest = Contest()
    assert contest.other(rounds(contest, ROUNDS_MIN, gap)) is not None


@pytest.mark.parametrize(
    ("count", "gap"),
    [(1, 0), (ROUNDS_MIN - 1, SECOND), (ROUNDS_MIN, 700 * MILLISECOND), (20, 100 * MILLISECOND), (50, PAUSE_MAX + 1)],
)
def test_few_rounds_quick_ones_and_ones_far_apart_are_none(count, gap):
    contest = Contest()
    assert contest.other(rounds(contest, count, gap)) is None


def test_what_comes_before_we_have_answered_is_one_round_however_much_it_is():
    contest = Contest()
    for number in range(100):
        contest.outbid(lsa(ME, 20 + number), 10, after(T0, Duration(number * 100 * MILLISECOND)))
    assert contest.other(after(T0, Duration(10 * SECOND))) is None


def test_after_a_pause_it_takes_as_many_rounds_again():
    contest = Contest()
    now = after(rounds(contest, ROUNDS_MIN - 1, SECOND), Duration(PAUSE_MAX + 1))
    assert contest.other(rounds(contest, ROUNDS_MIN - 1, SECOND, now, first=100)) is None
    assert contest.other(rounds(contest, 1, SECOND, after(now, Duration(5 * SECOND)), first=200)) is not None


def contend(linkstate: LinkState, now: Instant, count: int, theirs: str = "other") -> Instant:
    """A second machine that answers each LSA of ours a second later."""
    for _ in range(count):
        now = after(now, Duration(SECOND))
        linkstate.handle(Wake(), now)
        linkstate.handle(FloodReceived(A, flood(lsa(ME, linkstate.mine.sequence + 1, theirs))), now)
        linkstate.handle(Wake(), after(now, Duration(100 * MILLISECOND)))
    return now


def test_our_lsa_says_so_as_long_as_the_case_is_shown():
    linkstate, now = ready(A)
    now = contend(linkstate, now, ROUNDS_MIN - 1)
    assert not linkstate.mine.contested
    assert linkstate.twin(now) is None
    now = contend(linkstate, now, 2)
    assert linkstate.mine.contested
    twin = linkstate.twin(now)
    assert isinstance(twin, Lsa)
    assert twin.name == "other"
    end = after(now, SHOWN_FOR)
    linkstate.handle(Wake(), Instant(end - 1))
    assert linkstate.mine.contested
    linkstate.handle(Wake(), end)
    assert not linkstate.mine.contested
    assert linkstate.twin(end) is None


def test_the_word_about_it_costs_no_lsa_beyond_one_for_each_change():
    linkstate, now = ready(A)
    now = contend(linkstate, now, 10)
    before = linkstate.mine.sequence
    for step in range(200):
        now = after(now, Duration(50 * MILLISECOND))
        linkstate.handle(FloodReceived(A, flood(lsa(ME, linkstate.mine.sequence + 1, f"{step}"))), now)
        linkstate.handle(Wake(), now)
    assert linkstate.mine.contested
    assert linkstate.mine.sequence - before < 60, "thirty of ours in ten seconds at most, each one above theirs"


def test_a_lost_disk_and_an_old_one_are_no_second_machine():
    for stored in (None, (500).to_bytes(8, "big")):
        linkstate = core(stored=stored)
        linkstate.handle(up(A), T0)
        now = T0
        for old in (900, 900, 700, 901):
            now = after(now, Duration(2 * SECOND))
            linkstate.handle(FloodReceived(A, flood(lsa(ME, old, "of before"))), now)
            linkstate.handle(Wake(), after(now, Duration(SECOND)))
        assert linkstate.mine.sequence > 901
        assert not linkstate.mine.contested
