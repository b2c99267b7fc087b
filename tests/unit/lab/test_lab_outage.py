"""What counts as the outage of a flow."""

from dmssd.lab.outage import TAIL, judge

MS = 1_000_000


def flow(*numbers: int) -> list[tuple[int, int]]:
    return [(number, number * 5 * MS) for number in numbers]


def test_an_undisturbed_flow_has_no_gap_and_no_loss() -> None:
    outage = judge(flow(*range(100)), 100, 0, 5 * MS)
    assert (outage.gap_ns, outage.lost) == (0, 0)


def test_the_longest_gap_counts_less_the_interval() -> None:
    outage = judge(flow(*range(10), *range(12, 40), *range(60, 100)), 100, 0, 5 * MS)
    assert (outage.gap_ns, outage.lost) == (20 * 5 * MS, 22)


def test_a_flow_that_never_came_back_is_not_healed() -> None:
    assert judge(flow(*range(100 - TAIL - 1)), 100, 0, 5 * MS).gap_ns is None
    assert judge([], 100, 0, 5 * MS).gap_ns is None


def test_a_duplicate_hides_no_loss() -> None:
    assert judge(flow(*range(99), 98), 100, 0, 5 * MS).lost == 1
