"""Whatever is installed and whatever is wanted: the batch between the two, performed step by step on a naive kernel."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from routing.fib import (
    DeleteNexthop,
    DeleteRoute,
    FibOperation,
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

GATEWAYS = [Gateway(LinkNumber(1 + number // 2), bytes(15) + bytes([number])) for number in range(6)]
PREFIXES = [Prefix.parse(f"10.0.{number}.0/24") for number in range(8)] + [Prefix.parse("fd00::/64")]

members = st.dictionaries(st.sampled_from(GATEWAYS), st.integers(1, 3), min_size=1, max_size=4).map(
    lambda weights: tuple(sorted(weights.items()))
)
wanteds = st.dictionaries(st.sampled_from(PREFIXES), members)


@st.composite
def tables(draw: st.DrawFn) -> Installed:
    """Anything the kernel can hold, also what no diff of ours would have left: unused, doubled, under any id."""
    ids = draw(st.lists(st.integers(1, 2**32 - 1), unique=True, min_size=2, max_size=12))
    split = draw(st.integers(1, len(ids) - 1))
    nexthops = {number: draw(st.sampled_from(GATEWAYS)) for number in ids[:split]}
    member = st.tuples(st.sampled_from(ids[:split]), st.integers(1, 3))
    held = st.lists(member, min_size=1, max_size=4, unique_by=lambda pair: pair[0]).map(tuple)
    groups = {number: draw(held) for number in ids[split:]}
    routes = draw(st.dictionaries(st.sampled_from(PREFIXES), st.sampled_from([*groups, 0])))
    return Installed(nexthops, groups, routes)


@dataclass
class NaiveKernel:
    """The rules of the kernel, as assertions: nothing missing is named, nothing in use is deleted."""

    nexthops: dict[int, Gateway] = field(default_factory=dict)
    groups: dict[int, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    routes: dict[Prefix, int] = field(default_factory=dict)

    def perform(self, operation: FibOperation) -> None:
        match operation:
            case SetNexthop(number, gateway):
                assert number not in self.groups
                assert number not in self.nexthops, "a nexthop in place is never turned into another"
                self.nexthops[number] = gateway
            case SetGroup(number, group):
                assert number not in self.nexthops
                assert group
                assert all(nexthop in self.nexthops for nexthop, _ in group)
                self.groups[number] = group
            case SetRoute(prefix, group):
                assert group in self.groups
                self.routes[prefix] = group
            case DeleteRoute(prefix):
                del self.routes[prefix]
            case DeleteNexthop(number) if number in self.groups:
                assert number not in self.routes.values()
                del self.groups[number]
            case DeleteNexthop(number):
                assert all(number != nexthop for group in self.groups.values() for nexthop, _ in group)
                del self.nexthops[number]

    def forwards(self) -> dict[Prefix, Members]:
        return {
            prefix: tuple(sorted((self.nexthops[nexthop], weight) for nexthop, weight in self.groups[group]))
            for prefix, group in self.routes.items()
        }


def kernel(installed: Installed) -> NaiveKernel:
    return NaiveKernel(dict(installed.nexthops), dict(installed.groups), dict(installed.routes))


@settings(deadline=None, max_examples=60)
@given(tables(), wanteds)
def test_a_diff_performed_step_by_step_yields_exactly_what_is_wanted(
    installed: Installed, wanted: dict[Prefix, Members]
) -> None:
    machine = kernel(installed)
    for operation in diff(installed, wanted):
        machine.perform(operation)
    assert machine.forwards() == wanted
    used = {nexthop for group in machine.groups.values() for nexthop, _ in group}
    assert set(machine.groups) == set(machine.routes.values()), "no group without a route"
    assert used == set(machine.nexthops), "no nexthop without a group"
    assert len(machine.groups) == len(set(wanted.values())), "one group for each set of members"


@settings(deadline=None, max_examples=60)
@given(tables(), wanteds)
def test_applied_is_what_the_kernel_then_holds_and_leaves_no_difference(
    installed: Installed, wanted: dict[Prefix, Members]
) -> None:
    machine = kernel(installed)
    operations = diff(installed, wanted)
    for operation in operations:
        machine.perform(operation)
    after = applied(installed, operations)
    assert (after.nexthops, after.groups, after.routes) == (machine.nexthops, machine.groups, machine.routes)
    assert diff(after, wanted) == ()


@settings(deadline=None, max_examples=60)
@given(tables(), wanteds)
def test_no_wanted_route_is_ever_without_a_way_while_the_batch_runs(
    installed: Installed, wanted: dict[Prefix, Members]
) -> None:
    machine = kernel(installed)
    kept = [prefix for prefix in installed.routes if prefix in wanted]
    for operation in diff(installed, wanted):
        machine.perform(operation)
        assert all(prefix in machine.routes for prefix in kept)


@settings(deadline=None, max_examples=60)
@given(tables(), st.sets(st.sampled_from(GATEWAYS)))
def test_the_local_repair_removes_dead_gateways_wherever_others_are_left_and_nothing_else(
    installed: Installed, dead: set[Gateway]
) -> None:
    machine = kernel(installed)
    for operation in without(installed, dead):
        machine.perform(operation)
    assert machine.nexthops == installed.nexthops
    assert machine.routes == installed.routes
    for number, before in installed.groups.items():
        alive = tuple(pair for pair in before if installed.nexthops[pair[0]] not in dead)
        assert machine.groups[number] == (alive or before)


@settings(deadline=None, max_examples=60)
@given(tables(), wanteds, st.data())
def test_after_any_refusals_another_diff_still_arrives(
    installed: Installed, wanted: dict[Prefix, Members], data: st.DataObject
) -> None:
    operations = diff(installed, wanted)
    refused = data.draw(st.sets(st.integers(0, len(operations)))) if operations else set()
    # As the driver does: once something could not be set, no nexthop or group is deleted.
    if any(not isinstance(operations[position], DeleteNexthop) for position in refused if position < len(operations)):
        refused |= {position for position, operation in enumerate(operations) if isinstance(operation, DeleteNexthop)}
    known = applied(installed, _consistent(installed, operations, refused))
    machine = kernel(known)
    for operation in diff(known, wanted):
        machine.perform(operation)
    assert machine.forwards() == wanted


def _consistent(installed: Installed, operations: tuple[FibOperation, ...], refused: set[int]) -> list[FibOperation]:
    """What of a batch happens if ``refused`` do not: the kernel also refuses whatever names something missing."""
    nexthops, groups = set(installed.nexthops), set(installed.groups)
    happened: list[FibOperation] = []
    for position, operation in enumerate(operations):
        if position in refused:
            continue
        match operation:
            case SetNexthop(number):
                nexthops.add(number)
            case SetGroup(number, held):
                if not nexthops.issuperset(nexthop for nexthop, _ in held):
                    continue
                groups.add(number)
            case SetRoute(_, group) if group not in groups:
                continue
            case _:
                pass
        happened.append(operation)
    return happened
