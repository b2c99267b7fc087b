"""ControlRouter fed by hand, and lines of them passing frames."""

import pytest

from routing.control import (
    FRAME_CODEC,
    HOPS_MAX,
    PAYLOAD_BYTES_MAX,
    PREFIX_BYTES,
    Arrived,
    ControlAction,
    ControlRouter,
    Forward,
    Frame,
    FrameReceived,
    NeighboursSet,
    NextHopsSet,
    Originate,
    Unreachable,
    prefix,
)
from sansio.core import Rejected
from sansio.ids import NodeId, node_id
from sansio.instant import SECOND, Instant, after

T0 = Instant(SECOND)
N = [node_id(bytes([number])) for number in range(HOPS_MAX + 8)]


def router(index: int, neighbours: list[int], table: dict[int, int] | None = None) -> ControlRouter:
    core = ControlRouter(N[index])
    core.handle(NeighboursSet(tuple(N[number] for number in neighbours)), T0)
    core.handle(NextHopsSet({N[to]: N[via] for to, via in (table or {}).items()}), T0)
    return core


class Line:
    """Routers 0..count-1 in a row, with tables unless left out; ``carry`` delivers until nothing moves."""

    def __init__(self, count: int, tables: bool = True, strangers: tuple[int, ...] = ()) -> None:
        self.strangers = strangers
        self.routers = []
        for me in range(count):
            near = [one for one in (me - 1, me + 1) if 0 <= one < count and one not in strangers]
            table = {to: me + (1 if to > me else -1) for to in range(count) if to != me} if tables else {}
            self.routers.append(router(me, near, {} if me in strangers else table))

    def carry(self, start: int, event: Originate) -> list[tuple[int, ControlAction]]:
        ends: list[tuple[int, ControlAction]] = []
        moving = [(start, action) for action in self.routers[start].handle(event, T0)]
        while moving:
            at, action = moving.pop(0)
            if isinstance(action, Forward):
                target = N.index(action.neighbour)
                received = FrameReceived(N[at], action.payload, at in self.strangers)
                moving += [(target, reply) for reply in self.routers[target].handle(received, T0)]
            else:
                ends.append((at, action))
        return ends


def frame(source: int, to: int, hops: int = 5, record: tuple[int, ...] = (), route: tuple[int, ...] = ()) -> bytes:
    return FRAME_CODEC.encode(
        Frame(
            N[source],
            N[to],
            hops,
            b"".join(prefix(N[one]) for one in record),
            b"".join(prefix(N[one]) for one in route),
            b"data",
        )
    )


def rejected(actions: list[ControlAction]) -> str:
    [action] = actions
    assert isinstance(action, Rejected)
    return action.reason


def test_a_frame_crosses_a_line_by_the_tables_and_can_be_answered_without_any() -> None:
    line = Line(5)
    [(at, arrived)] = line.carry(0, Originate(N[4], b"question"))
    assert at == 4
    assert arrived == Arrived(N[0], tuple(prefix(N[one]) for one in (3, 2, 1)), b"question")
    for one in line.routers:
        one.handle(NextHopsSet({}), T0)
    assert isinstance(arrived, Arrived)
    [(at, answer)] = line.carry(4, Originate(N[0], b"answer", arrived.route))
    assert at == 0
    assert answer == Arrived(N[4], tuple(prefix(N[one]) for one in (1, 2, 3)), b"answer")


def test_a_neighbour_is_reached_without_table_or_route() -> None:
    [(at, arrived)] = Line(2, tables=False).carry(0, Originate(N[1], b"x"))
    assert (at, arrived) == (1, Arrived(N[0], (), b"x"))


def test_a_message_to_ourselves_arrives() -> None:
    assert router(0, []).handle(Originate(N[0], b"x"), T0) == [Arrived(N[0], (), b"x")]


def test_an_unknown_destination_is_unreachable_and_nothing_is_sent() -> None:
    assert router(0, [1]).handle(Originate(N[9], b"x"), T0) == [Unreachable(N[9])]


def test_a_payload_beyond_the_maximum_is_not_sent() -> None:
    assert router(0, [1]).handle(Originate(N[1], bytes(PAYLOAD_BYTES_MAX + 1)), T0) == [Unreachable(N[1])]


def test_overhead_is_48_bytes_and_eight_a_relay() -> None:
    [sent] = router(0, [1], {9: 1}).handle(Originate(N[9], b"x" * 100), T0)
    assert isinstance(sent, Forward)
    first = len(sent.payload)
    assert first - 100 <= 56
    [onward] = router(1, [2], {9: 2}).handle(FrameReceived(N[0], sent.payload, False), T0)
    assert isinstance(onward, Forward)
    assert len(onward.payload) == first + PREFIX_BYTES


def test_an_explicit_route_is_preferred_to_the_table() -> None:
    [sent] = router(0, [1, 2], {9: 1}).handle(Originate(N[9], b"x", (prefix(N[2]), prefix(N[3]))), T0)
    assert isinstance(sent, Forward)
    assert sent.neighbour == N[2]
    assert FRAME_CODEC.decode(sent.payload, "").route == prefix(N[3])


def test_a_broken_explicit_route_goes_on_by_table() -> None:
    [sent] = router(1, [0, 2], {9: 2}).handle(FrameReceived(N[0], frame(0, 9, route=(7, 8)), False), T0)
    assert isinstance(sent, Forward)
    assert sent.neighbour == N[2]
    assert FRAME_CODEC.decode(sent.payload, "").route == b""


def test_a_frame_that_comes_round_is_dropped() -> None:
    core = router(1, [0, 2], {9: 2})
    assert "came round" in rejected(core.handle(FrameReceived(N[0], frame(5, 9, record=(1, 0)), False), T0))
    assert "came round" in rejected(core.handle(FrameReceived(N[2], frame(1, 9, record=(2,)), False), T0))


def test_two_tables_that_point_at_each_other_do_not_loop() -> None:
    line = Line(4)
    line.routers[2].handle(NextHopsSet({N[3]: N[1]}), T0)
    line.routers[2].handle(NeighboursSet((N[1],)), T0)
    [(at, action)] = line.carry(0, Originate(N[3], b"x"))
    assert at == 2
    assert isinstance(action, Rejected)


def test_hops_run_out() -> None:
    core = router(1, [0, 2], {9: 2})
    [onward] = core.handle(FrameReceived(N[0], frame(0, 9, hops=1), False), T0)
    assert isinstance(onward, Forward)
    assert FRAME_CODEC.decode(onward.payload, "").hops == 0
    assert "hops" in rejected(core.handle(FrameReceived(N[0], frame(0, 9, hops=0), False), T0))
    assert core.handle(FrameReceived(N[0], frame(0, 1, hops=0), False), T0) == [Arrived(N[0], (), b"data")]


def test_the_longest_line_is_crossed_and_a_longer_one_is_not() -> None:
    [(at, _)] = Line(HOPS_MAX + 2).carry(0, Originate(N[HOPS_MAX + 1], b"x"))
    assert at == HOPS_MAX + 1
    [(at, action)] = Line(HOPS_MAX + 3).carry(0, Originate(N[HOPS_MAX + 2], b"x"))
    assert isinstance(action, Rejected)


def test_a_frame_that_claims_another_origin_than_its_bearer_is_rejected() -> None:
    core = router(1, [0, 2], {9: 2})
    assert "another" in rejected(core.handle(FrameReceived(N[0], frame(5, 9), False), T0))
    assert "another" in rejected(core.handle(FrameReceived(N[0], frame(5, 9, record=(6,)), False), T0))


def test_a_relay_without_a_way_rejects() -> None:
    assert "nowhere" in rejected(router(1, [0]).handle(FrameReceived(N[0], frame(0, 9), False), T0))


@pytest.mark.parametrize("payload", [b"", b"\xff", b"\x96\xc0\xc0\xc0\xc0\xc0\xc0"])
def test_bytes_that_are_no_frame_are_rejected(payload: bytes) -> None:
    rejected(router(1, [0]).handle(FrameReceived(N[0], payload, False), T0))


def test_a_record_of_odd_length_is_rejected() -> None:
    payload = FRAME_CODEC.encode(Frame(N[0], N[1], 3, b"12345", b"", b"x"))
    rejected(router(1, [0]).handle(FrameReceived(N[0], payload, False), T0))


def test_a_stranger_asks_across_the_mesh_and_is_answered() -> None:
    line = Line(4, strangers=(0,))
    line.routers[0].handle(NeighboursSet((N[1],)), T0)
    [(at, arrived)] = line.carry(0, Originate(N[3], b"let me in", (prefix(N[1]),)))
    assert at == 3
    assert isinstance(arrived, Arrived)
    assert arrived.source == N[0]
    [(at, answer)] = line.carry(3, Originate(N[0], b"welcome", arrived.route))
    assert at == 0
    assert isinstance(answer, Arrived)


def test_a_joiner_takes_answers_relayed_by_a_member_it_cannot_judge_yet() -> None:
    core = router(0, [1])
    payload = frame(3, 0, record=(2, 1))
    [arrived] = core.handle(FrameReceived(N[1], payload, True), T0)
    assert isinstance(arrived, Arrived)


def test_a_stranger_does_not_relay() -> None:
    core = router(1, [2], {9: 2})
    assert "stranger" in rejected(core.handle(FrameReceived(N[0], frame(5, 9, record=(0,)), True), T0))
    core.handle(FrameReceived(N[0], frame(0, 9), True), T0)
    [sent] = core.handle(Originate(N[9], b"x", (prefix(N[0]),)), T0)
    assert isinstance(sent, Forward)
    assert sent.neighbour == N[2], "a route through a stranger is not followed"


def test_frames_of_a_stranger_are_bounded_in_rate_and_a_member_s_are_not() -> None:
    core = router(1, [0, 2], {9: 2})
    passed = sum(isinstance(core.handle(FrameReceived(N[5], frame(5, 9), True), T0)[0], Forward) for _ in range(500))
    assert passed == 60
    later = after(T0, SECOND)
    passed = sum(isinstance(core.handle(FrameReceived(N[5], frame(5, 9), True), later)[0], Forward) for _ in range(500))
    assert passed == 20
    passed = sum(isinstance(core.handle(FrameReceived(N[0], frame(0, 9), False), T0)[0], Forward) for _ in range(500))
    assert passed == 500


def test_a_prefix_is_not_enough_to_be_the_destination() -> None:
    lookalike = NodeId(N[2][:PREFIX_BYTES] + bytes(12))
    core = router(1, [0, 2])
    assert core.handle(Originate(lookalike, b"x"), T0) == [Unreachable(lookalike)]
