import pytest

from gossip.broadcasts import Broadcasts, retransmit_limit
from gossip.members import State
from gossip.messages import UPDATE_CODEC, Update
from tests.unit.gossip.swim_net import identity


def update(number: int, incarnation: int = 0) -> Update:
    return Update(identity(number), incarnation, State.ALIVE, "")


@pytest.mark.parametrize(("members", "copies"), [(1, 2), (9, 4), (16, 5), (99, 8), (999, 12)])
def test_an_update_is_sent_lambda_log10_n_plus_1_times(members: int, copies: int) -> None:
    assert retransmit_limit(4.0, members) == copies


def test_an_update_is_dropped_after_its_last_copy() -> None:
    queue = Broadcasts()
    queue.put(update(1))
    assert [len(queue.take(600, 3)) for _ in range(4)] == [1, 1, 1, 0]
    assert not queue


def test_the_least_sent_go_first_and_of_those_the_newest() -> None:
    queue = Broadcasts()
    queue.put(update(1))
    queue.put(update(2))
    queue.take(600, 9)
    queue.put(update(3))
    queue.put(update(4))
    room = 3 * len(UPDATE_CODEC.encode(update(1)))
    assert [entry.node for entry in queue.take(room, 9)] == [identity(4), identity(3), identity(2)]


def test_room_is_never_exceeded() -> None:
    queue = Broadcasts()
    for number in range(50):
        queue.put(update(number))
    assert sum(len(UPDATE_CODEC.encode(entry)) for entry in queue.take(300, 9)) <= 300


def test_a_newer_update_about_the_same_member_replaces_and_counts_anew() -> None:
    queue = Broadcasts()
    queue.put(update(1))
    queue.take(600, 2)
    queue.put(update(1, incarnation=5))
    assert len(queue) == 1
    assert [queue.take(600, 2)[0].incarnation for _ in range(2)] == [5, 5]
    assert not queue


def test_a_mesh_that_shrank_lets_old_news_go() -> None:
    queue = Broadcasts()
    queue.put(update(1))
    for _ in range(3):
        queue.take(600, 9)
    queue.take(0, 2)
    assert not queue
