import pytest

from dmssd.sim.clock import Clock, SimulationError, seeded
from sansio.instant import SECOND, Instant


def test_calls_run_in_order_of_instant_then_of_scheduling():
    clock, ran = Clock(), []
    clock.after(20, ran.append, "late")
    clock.after(10, ran.append, "first")
    clock.after(10, ran.append, "second")
    clock.run_until(Instant(clock.now + 20))
    assert ran == ["first", "second", "late"]


def test_time_stands_at_the_end_and_later_calls_wait():
    clock, ran = Clock(), []
    end = Instant(clock.now + SECOND)
    clock.at(Instant(end + 1), ran.append, "after")
    clock.run_until(end)
    assert (clock.now, ran) == (end, [])


def test_a_call_for_the_past_runs_now_and_time_never_goes_back():
    clock, seen = Clock(), []
    begin = clock.now
    clock.at(Instant(0), lambda: seen.append(clock.now))
    clock.run_until(begin)
    assert seen == [begin]


def test_a_core_whose_deadline_never_passes_is_an_error_and_not_a_hang():
    clock = Clock()

    def again() -> None:
        clock.at(clock.now, again)

    again()
    with pytest.raises(SimulationError, match="time stands still"):
        clock.run_until(clock.now)


def test_random_sources_differ_by_label_and_repeat_by_label():
    assert seeded("a").random() == seeded("a").random() != seeded("b").random()
