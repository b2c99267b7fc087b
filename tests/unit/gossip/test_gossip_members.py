from gossip.members import Members, Standing, State, fingerprint, join
from sansio.instant import Instant
from tests.unit.gossip.swim_net import identity


def standing(incarnation: int, state: State, name: str = "a") -> Standing:
    return Standing(incarnation, state, name)


def test_at_equal_incarnation_the_worse_state_wins() -> None:
    order = [standing(3, state) for state in (State.ALIVE, State.SUSPECT, State.DEAD, State.LEFT)]
    for low, one in enumerate(order):
        for other in order[low:]:
            assert join(one, other) == join(other, one) == other


def test_a_higher_incarnation_revives_even_one_that_left() -> None:
    assert join(standing(3, State.LEFT), standing(4, State.ALIVE)) == standing(4, State.ALIVE)


def test_an_older_claim_never_wins() -> None:
    assert join(standing(4, State.ALIVE), standing(3, State.DEAD)) == standing(4, State.ALIVE)


def test_since_moves_with_the_state_and_not_with_the_incarnation() -> None:
    table = Members()
    table.put(identity(1), standing(0, State.ALIVE), Instant(10))
    assert table.put(identity(1), standing(5, State.ALIVE), Instant(20)).since == 10
    assert table.put(identity(1), standing(5, State.SUSPECT), Instant(30)).since == 30


def test_digest_depends_on_contents_and_not_on_order_or_history() -> None:
    one, other = Members(), Members()
    one.put(identity(1), standing(0, State.ALIVE), Instant(0))
    one.put(identity(2), standing(7, State.DEAD), Instant(0))
    other.put(identity(2), standing(1, State.ALIVE), Instant(0))
    other.put(identity(3), standing(1, State.ALIVE), Instant(0))
    assert one.digest != other.digest
    other.remove(identity(3))
    other.put(identity(2), standing(7, State.DEAD), Instant(5))
    other.put(identity(1), standing(0, State.ALIVE), Instant(9))
    assert one.digest == other.digest


def test_digest_tells_states_apart() -> None:
    assert len({fingerprint(identity(1), 0, state) for state in State}) == 4


def test_up_holds_the_suspect_and_dead_does_not_hold_the_left() -> None:
    table = Members()
    for number, state in enumerate(State):
        table.put(identity(number), standing(0, state), Instant(0))
    assert table.up() == (identity(0), identity(1))
    assert table.dead() == (identity(2),)


def test_a_full_table_says_so() -> None:
    table = Members(limit=1)
    assert not table.full
    table.put(identity(1), standing(0, State.ALIVE), Instant(0))
    assert table.full
