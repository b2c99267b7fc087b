"""Discovery fed by hand."""

import random

import pytest

from routing.discovery import (
    GREETING_CODEC,
    Discovery,
    DiscoveryAction,
    DiscoveryConfig,
    Greeting,
    GreetingReceived,
    MeshChanged,
    NeighbourSeen,
    OwnIdentitySeen,
    Paired,
    SendGreeting,
    Unpaired,
)
from routing.lsa import LinkNumber
from routing.neighbours import LinkDown, LinkUp
from sansio.core import Rejected, Wake
from sansio.ids import MeshId, node_id
from sansio.instant import MILLISECOND, SECOND, Duration, Instant, after

T0 = Instant(5 * SECOND)
ME, PEER, OTHER = (node_id(bytes([number])) for number in range(3))
MESH, ELSEWHERE = MeshId(b"m" * 16), MeshId(b"e" * 16)
LINK = LinkNumber(2)
THERE = "fe80::2"


def core() -> Discovery:
    return Discovery(ME, "denver", MESH, random.Random(1), DiscoveryConfig())


def on_link() -> Discovery:
    discovery = core()
    discovery.handle(LinkUp(LINK, "eth0", 10), T0)
    return discovery


def greeting(seeking: bool = False, name: str = "houston", node: bytes = PEER, mesh: MeshId = MESH) -> GreetingReceived:
    return GreetingReceived(LINK, THERE, GREETING_CODEC.encode(Greeting(node, name, mesh, seeking)))  # type: ignore[arg-type]


def multicasts(discovery: Discovery, start: Instant, length: Duration) -> list[int]:
    """Milliseconds after ``start`` at which greetings go to the group."""
    times = []
    while (deadline := discovery.deadline()) is not None and deadline < after(start, length):
        for action in discovery.handle(Wake(), deadline):
            assert isinstance(action, SendGreeting)
            assert action.address is None
            times.append((deadline - start) // MILLISECOND)
    return times


def answers(actions: list[DiscoveryAction]) -> list[SendGreeting]:
    return [action for action in actions if isinstance(action, SendGreeting)]


def seen(actions: list[DiscoveryAction]) -> list[NeighbourSeen]:
    return [action for action in actions if isinstance(action, NeighbourSeen)]


def test_a_link_is_greeted_at_once_then_fast_then_each_second() -> None:
    discovery = core()
    [first] = discovery.handle(LinkUp(LINK, "eth0", 10), T0)
    assert isinstance(first, SendGreeting)
    decoded = GREETING_CODEC.decode(first.payload, "")
    assert decoded == Greeting(ME, "denver", MESH, True)
    times = multicasts(discovery, T0, Duration(4 * SECOND))
    assert len([at for at in times if at <= 450]) == 4
    assert len(times) in (7, 8)


def test_a_paired_link_is_greeted_each_five_seconds_and_seeks_nobody() -> None:
    discovery = on_link()
    multicasts(discovery, T0, Duration(1 * SECOND))
    discovery.handle(Paired(LINK, THERE), after(T0, SECOND))
    times = multicasts(discovery, after(T0, 3 * SECOND), Duration(60 * SECOND))
    assert 10 <= len(times) <= 14
    deadline = discovery.deadline()
    assert deadline is not None
    [slow] = discovery.handle(Wake(), deadline)
    assert isinstance(slow, SendGreeting)
    assert not GREETING_CODEC.decode(slow.payload, "").seeking


@pytest.mark.parametrize(("mesh", "sought"), [(MESH, True), (ELSEWHERE, False)])
def test_who_has_just_come_goes_on_seeking_until_it_has_met_all_of_its_mesh_that_it_hears(
    mesh: MeshId, sought: bool
) -> None:
    discovery = on_link()
    discovery.handle(Paired(LINK, THERE), T0)
    discovery.handle(GreetingReceived(LINK, "fe80::3", greeting(node=OTHER, mesh=mesh).payload), T0)
    assert is_seeking(discovery) is sought
    discovery.handle(Paired(LINK, "fe80::3"), T0)
    assert not is_seeking(discovery)


def test_who_has_been_there_for_long_seeks_nobody_more_than_it_has() -> None:
    discovery = on_link()
    discovery.handle(Paired(LINK, THERE), T0)
    discovery.handle(GreetingReceived(LINK, "fe80::3", greeting(node=OTHER).payload), T0)
    multicasts(discovery, T0, Duration(10 * SECOND))
    assert not is_seeking(discovery)


def is_seeking(discovery: Discovery) -> bool:
    deadline = discovery.deadline()
    assert deadline is not None
    [greeted] = discovery.handle(Wake(), deadline)
    assert isinstance(greeted, SendGreeting)
    return GREETING_CODEC.decode(greeted.payload, "").seeking


def test_an_unpaired_link_is_greeted_again_soon() -> None:
    discovery = on_link()
    discovery.handle(Paired(LINK, THERE), T0)
    multicasts(discovery, T0, Duration(20 * SECOND))
    lost = after(T0, 20 * SECOND)
    discovery.handle(Unpaired(LINK, THERE), lost)
    assert multicasts(discovery, lost, Duration(200 * MILLISECOND))


def test_a_new_greeter_is_reported_and_answered_at_once_by_unicast() -> None:
    actions = on_link().handle(greeting(), T0)
    [answer] = answers(actions)
    assert answer.address == THERE
    assert not GREETING_CODEC.decode(answer.payload, "").seeking, "an answer must not call for an answer"
    assert seen(actions) == [NeighbourSeen(LINK, THERE, PEER, "houston", MESH)]


def test_a_known_greeter_is_answered_only_if_it_seeks() -> None:
    discovery = on_link()
    discovery.handle(greeting(), T0)
    discovery.handle(Paired(LINK, THERE), T0)
    later = after(T0, 10 * SECOND)
    assert discovery.handle(greeting(), later) == []
    assert len(answers(discovery.handle(greeting(seeking=True), later))) == 1


def test_a_greeter_without_a_session_is_reported_each_time() -> None:
    discovery = on_link()
    discovery.handle(greeting(), T0)
    assert len(seen(discovery.handle(greeting(), after(T0, SECOND)))) == 1


@pytest.mark.parametrize("changed", [{"mesh": ELSEWHERE}, {"name": "dallas"}, {"node": OTHER}])
def test_a_paired_greeter_that_changed_is_reported(changed: dict[str, object]) -> None:
    discovery = on_link()
    discovery.handle(greeting(), T0)
    discovery.handle(Paired(LINK, THERE), T0)
    assert len(seen(discovery.handle(greeting(**changed), T0))) == 1  # type: ignore[arg-type]


def test_answers_to_one_greeter_are_bounded_in_rate() -> None:
    discovery = on_link()
    count = sum(len(answers(discovery.handle(greeting(seeking=True), after(T0, Duration(n))))) for n in range(100))
    assert count <= 4


def test_greetings_of_one_link_are_bounded_in_rate() -> None:
    discovery = on_link()
    reported = 0
    for number in range(2000):
        payload = GREETING_CODEC.encode(Greeting(node_id(number.to_bytes(4, "big")), "x", MESH))
        reported += len(seen(discovery.handle(GreetingReceived(LINK, f"fe80::{number:x}", payload), T0)))
    assert reported <= 200


@pytest.mark.parametrize("payload", [b"", b"\x00", b"\x93\x01\x02\x03", b"x" * 600])
def test_a_greeting_that_is_none_is_rejected(payload: bytes) -> None:
    [rejected] = on_link().handle(GreetingReceived(LINK, THERE, payload), T0)
    assert isinstance(rejected, Rejected)


def test_our_own_identity_in_a_greeting_is_rejected_told_and_never_answered() -> None:
    rejected, seen = on_link().handle(greeting(node=ME), T0)
    assert isinstance(rejected, Rejected)
    assert isinstance(seen, OwnIdentitySeen)


def test_a_name_with_control_characters_is_rejected() -> None:
    [rejected] = on_link().handle(greeting(name="\x1b[31m"), T0)
    assert isinstance(rejected, Rejected)


def test_a_greeting_on_an_unknown_link_is_rejected() -> None:
    [rejected] = core().handle(greeting(), T0)
    assert isinstance(rejected, Rejected)


def test_another_mesh_is_told_at_once_on_every_link() -> None:
    discovery = on_link()
    discovery.handle(LinkUp(LinkNumber(3), "eth1", 10), T0)
    actions = discovery.handle(MeshChanged(ELSEWHERE, "denver"), after(T0, 30 * SECOND))
    assert [action.link for action in answers(actions)] == [2, 3]
    assert {GREETING_CODEC.decode(action.payload, "").mesh for action in answers(actions)} == {ELSEWHERE}


def test_a_link_that_went_down_is_silent_and_starts_anew() -> None:
    discovery = on_link()
    discovery.handle(Paired(LINK, THERE), T0)
    discovery.handle(LinkDown(LINK), T0)
    assert discovery.deadline() is None
    [again] = discovery.handle(LinkUp(LINK, "eth0", 10), after(T0, SECOND))
    assert isinstance(again, SendGreeting)
    assert GREETING_CODEC.decode(again.payload, "").seeking


def test_after_a_change_of_mesh_even_known_greeters_are_reported_again() -> None:
    discovery = on_link()
    discovery.handle(greeting(mesh=ELSEWHERE), T0)
    discovery.handle(Paired(LINK, THERE), T0)
    discovery.handle(MeshChanged(ELSEWHERE, "denver"), T0)
    assert len(seen(discovery.handle(greeting(mesh=ELSEWHERE), T0))) == 1
