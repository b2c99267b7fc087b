"""When a node works out anew what follows from its database."""

from dmssd.rules.reacting import REACTION_DELAYS, Reaction
from sansio.instant import MILLISECOND, SECOND, Duration, Instant, after

T0 = Instant(100 * SECOND)


def reactions(gap, count, begin=T0):
    """The instants of the reactions to ``count`` changes, one every ``gap``, and to nothing more."""
    reaction, found = Reaction(), []
    for number in range(count):
        now = after(begin, Duration(number * gap))
        while (due := reaction.deadline()) is not None and due < now:
            assert reaction.take(due)
            found.append(due)
        reaction.moved(now)
        if reaction.take(now):
            found.append(now)
    while (due := reaction.deadline()) is not None:
        assert not reaction.take(Instant(due - 1))
        assert reaction.take(due)
        found.append(due)
    return found


def test_the_first_change_is_answered_at_once_and_one_long_after_it_too():
    assert reactions(5 * SECOND, 3) == [T0, T0 + 5 * SECOND, T0 + 10 * SECOND]


def test_changes_soon_after_the_first_are_answered_together():
    assert reactions(MILLISECOND, 15) == [T0, T0 + MILLISECOND + REACTION_DELAYS.short]


def test_a_commotion_takes_a_bounded_number_of_reactions_and_its_end_is_seen():
    found = reactions(MILLISECOND, 10_000)
    assert len(found) < 10 * SECOND // REACTION_DELAYS.long + REACTION_DELAYS.time_to_learn // REACTION_DELAYS.short + 3
    assert found[-1] >= T0 + 9_999 * MILLISECOND


def test_without_a_change_there_is_nothing_to_do():
    reaction = Reaction()
    assert reaction.deadline() is None
    assert not reaction.take(T0)


def test_what_is_said_of_this_node_itself_is_answered_at_once_whatever_waits():
    reaction = Reaction()
    for number in range(3):
        reaction.moved(after(T0, Duration(number * MILLISECOND)))
        reaction.take(T0)
    now = after(T0, Duration(3 * MILLISECOND))
    assert not reaction.take(now)
    reaction.moved(now, at_once=True)
    assert reaction.take(now)
    assert not reaction.take(now)
