from collections.abc import Mapping

import pytest

from routing.fib import (
    FIB_ID_FIRST,
    DeleteNexthop,
    DeleteRoute,
    Gateway,
    Installed,
    Members,
    SetGroup,
    SetNexthop,
    SetRoute,
    applied,
    diff,
    without,
)
from routing.lsa import LinkNumber, Prefix

A = Gateway(LinkNumber(2), bytes(15) + b"\x0a")
B = Gateway(LinkNumber(3), bytes(15) + b"\x0b")
C = Gateway(LinkNumber(4), bytes(15) + b"\x0c")
ONLY_A: Members = ((A, 1),)
ONLY_B: Members = ((B, 1),)
BOTH: Members = ((A, 1), (B, 1))


def prefix(number: int) -> Prefix:
    return Prefix.parse(f"10.{number // 256}.{number % 256}.0/24")


def installed(wanted: Mapping[Prefix, Members]) -> Installed:
    return applied(Installed(), diff(Installed(), wanted))


def test_an_empty_table_is_filled_nexthops_first_then_groups_then_routes() -> None:
    assert diff(Installed(), {prefix(1): BOTH, prefix(2): ONLY_A}) == (
        SetNexthop(FIB_ID_FIRST, A),
        SetNexthop(FIB_ID_FIRST + 1, B),
        SetGroup(FIB_ID_FIRST + 2, ((FIB_ID_FIRST, 1), (FIB_ID_FIRST + 1, 1))),
        SetGroup(FIB_ID_FIRST + 3, ((FIB_ID_FIRST, 1),)),
        SetRoute(prefix(1), FIB_ID_FIRST + 2),
        SetRoute(prefix(2), FIB_ID_FIRST + 3),
    )


def test_nothing_is_done_where_nothing_differs() -> None:
    wanted = {prefix(number): (BOTH, ONLY_A)[number % 2] for number in range(10)}
    assert diff(installed(wanted), wanted) == ()


def test_routes_of_one_set_of_gateways_share_one_group() -> None:
    assert len(installed({prefix(number): BOTH for number in range(100)}).groups) == 1


def test_losing_a_gateway_of_ten_thousand_routes_is_one_group_replaced_and_one_nexthop_deleted() -> None:
    before = {prefix(number): BOTH for number in range(10_000)}
    held = installed(before)
    (group,) = held.groups
    assert diff(held, dict.fromkeys(before, ONLY_B)) == (
        SetGroup(group, ((FIB_ID_FIRST + 1, 1),)),
        DeleteNexthop(FIB_ID_FIRST),
    )


def test_moving_ten_thousand_routes_to_another_gateway_touches_no_route() -> None:
    before = {prefix(number): ONLY_A for number in range(10_000)}
    operations = diff(installed(before), dict.fromkeys(before, ONLY_B))
    assert [type(operation) for operation in operations] == [SetNexthop, SetGroup, DeleteNexthop]


def test_a_group_that_merges_into_another_is_healed_before_its_routes_move() -> None:
    before = {prefix(number): ONLY_A if number < 10 else ONLY_B for number in range(100)}
    held = installed(before)
    dying, growing = held.routes[prefix(0)], held.routes[prefix(50)]
    operations = diff(held, dict.fromkeys(before, ONLY_B))
    assert operations[0] == SetGroup(dying, held.groups[growing])
    assert operations[1:11] == tuple(SetRoute(prefix(number), growing) for number in range(10))
    assert operations[11] == DeleteNexthop(dying)


def test_a_changed_weight_replaces_the_group_in_place() -> None:
    held = installed({prefix(1): BOTH})
    (group,) = held.groups
    assert diff(held, {prefix(1): ((A, 1), (B, 3))}) == (SetGroup(group, ((FIB_ID_FIRST, 1), (FIB_ID_FIRST + 1, 3))),)


def test_unwanted_routes_go_before_their_group_and_the_group_before_its_nexthops() -> None:
    assert diff(installed({prefix(1): ONLY_A}), {}) == (
        DeleteRoute(prefix(1)),
        DeleteNexthop(FIB_ID_FIRST + 1),
        DeleteNexthop(FIB_ID_FIRST),
    )


def test_ids_found_in_the_kernel_are_not_given_out_again() -> None:
    held = Installed({FIB_ID_FIRST + 1: A}, {FIB_ID_FIRST: ((FIB_ID_FIRST + 1, 1),)}, {prefix(1): FIB_ID_FIRST})
    added = [
        operation
        for operation in diff(held, {prefix(1): ONLY_A, prefix(2): ONLY_B})
        if operation.__class__ is SetNexthop
    ]
    assert added == [SetNexthop(FIB_ID_FIRST + 2, B)]


def test_a_group_left_without_routes_by_a_crash_is_used_rather_than_a_new_one() -> None:
    held = Installed({7: A}, {8: ((7, 1),)}, {})
    assert diff(held, {prefix(1): ONLY_A}) == (SetRoute(prefix(1), 8),)


def test_a_nexthop_installed_twice_is_kept_once() -> None:
    held = Installed({7: A, 9: A}, {8: ((7, 1), (9, 1))}, {prefix(1): 8})
    assert diff(held, {prefix(1): ONLY_A}) == (SetGroup(8, ((7, 1),)), DeleteNexthop(9))


def test_a_route_whose_group_the_kernel_removed_is_set_again() -> None:
    held = Installed({7: A}, {}, {})
    assert diff(held, {prefix(1): ONLY_A}) == (
        SetGroup(FIB_ID_FIRST, ((7, 1),)),
        SetRoute(prefix(1), FIB_ID_FIRST),
    )


def test_a_route_of_ours_without_a_group_is_put_into_one() -> None:
    held = Installed({7: A}, {8: ((7, 1),)}, {prefix(1): 0})
    assert diff(held, {prefix(1): ONLY_A}) == (SetRoute(prefix(1), 8),)


def test_the_local_repair_shrinks_groups_and_leaves_one_that_would_be_empty() -> None:
    held = installed({prefix(1): BOTH, prefix(2): ONLY_A, prefix(3): ONLY_B})
    shared = held.routes[prefix(1)]
    assert without(held, [A]) == (SetGroup(shared, ((FIB_ID_FIRST + 1, 1),)),)
    assert without(held, [C]) == ()


def test_a_refused_operation_has_not_happened() -> None:
    operations = diff(Installed(), {prefix(1): ONLY_A, prefix(2): ONLY_B})
    position = operations.index(SetRoute(prefix(2), FIB_ID_FIRST + 3))
    assert prefix(2) not in applied(Installed(), operations, [(position, 22)]).routes


@pytest.mark.parametrize(("gone", "left"), [(7, {8: ((9, 1),)}), (8, {})])
def test_what_hangs_on_a_deleted_nexthop_or_group_goes_with_it(gone: int, left: Mapping[int, object]) -> None:
    held = Installed({7: A, 9: B}, {8: ((7, 1), (9, 1))}, {prefix(1): 8})
    after = applied(held, [DeleteNexthop(gone)])
    assert after.groups == left
    assert set(after.routes) == ({prefix(1)} if left else set())
