"""Letting in without tokens, in simulated meshes: a list of boards at once, and those that are not on it."""

from sansio.instant import SECOND
from tests.simulation.test_expelling import known, until
from tests.simulation.test_join import answer, founded


def test_twenty_boards_of_one_list_are_admitted_as_they_ask_and_one_that_is_not_on_it_stays_out():
    world = founded("star:22", 4)
    hub, *boards = world.machines
    stranger = boards.pop()
    answer(world, hub, "init", name="sim")
    listed = [board.node.hex() for board in boards]
    assert answer(world, hub, "admit", nodes=listed)["approved"] == listed
    asked = [(board, world.request(board, "join", peer="n0")) for board in boards]
    late = world.request(stranger, "join", peer="n0", timeout_s=20)
    until(world, lambda: all(number in board.replies for board, number in asked), 60 * SECOND)
    assert [board.replies[number].error for board, number in asked] == [None] * 20
    until(world, lambda: late in stranger.replies, 30 * SECOND)
    assert stranger.replies[late].error
    until(world, lambda: known(world, hub) == {hub.name, *(board.name for board in boards)}, 30 * SECOND)
