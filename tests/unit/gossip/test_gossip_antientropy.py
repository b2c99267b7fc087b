import itertools

from gossip.antientropy import FIRST, LAST, better, chunks, ranges
from gossip.members import NAME_MAX, State
from gossip.messages import UPDATE_CODEC, UPDATES_BYTES_MAX, Update
from tests.unit.gossip.swim_net import identity


def table(count: int, name: str = "node") -> list[Update]:
    return [Update(identity(n), n, State.ALIVE, name) for n in range(1, count + 1)]


def test_chunks_keep_everything_in_order_and_each_fits() -> None:
    updates = table(100)
    parts = chunks(updates)
    assert [update for part in parts for update in part] == updates
    assert all(sum(len(UPDATE_CODEC.encode(update)) for update in part) <= UPDATES_BYTES_MAX for part in parts)


def test_the_largest_update_fits_at_least_once() -> None:
    largest = Update(identity(1), 2**62 - 1, State.SUSPECT, "\U0001f409" * NAME_MAX, identity(2), 2**32 - 1)
    assert len(UPDATE_CODEC.encode(largest)) <= UPDATES_BYTES_MAX


def test_ranges_leave_no_gap_and_do_not_overlap() -> None:
    pages = ranges(chunks(table(100)))
    assert len(pages) > 2
    assert pages[0][0] == FIRST
    assert pages[-1][1] == LAST
    assert all(one[1] == other[0] for one, other in itertools.pairwise(pages))


def test_only_what_the_other_lacks_or_knows_less_well_goes_back() -> None:
    mine = [
        Update(identity(1), 5, State.ALIVE, "a"),
        Update(identity(2), 5, State.DEAD, "b"),
        Update(identity(3), 5, State.ALIVE, "c"),
        Update(identity(4), 1, State.ALIVE, "d"),
    ]
    theirs = {
        identity(1): mine[0].standing,
        identity(2): Update(identity(2), 5, State.ALIVE, "b").standing,
        identity(4): Update(identity(4), 2, State.ALIVE, "d").standing,
    }
    assert better(mine, theirs, FIRST, LAST) == [mine[1], mine[2]]


def test_nothing_outside_the_range_of_the_page_goes_back() -> None:
    assert better(table(9), {}, identity(3), identity(5)) == table(9)[3:5]
