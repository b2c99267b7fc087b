"""The Forwarder: which rows it takes, and what it does to the kernel."""

from dataclasses import replace

from dmssd.events import FibProgrammed, FibRead, Notice, ProgramFib
from dmssd.roles.fd import (
    Forwarder,
    ForwarderConfig,
    ForwarderConfigured,
    LsdbMoved,
    PlanReceived,
    Retired,
    SendPlan,
    wanted_routes,
)
from dmssd.roles.messages import PLAN_CODEC, PlanAck, PlanPush, row_digest
from routing.fib import DeleteRoute, Gateway, Installed, SetGroup, SetNexthop, SetRoute, applied
from routing.filter import RouteFilter
from routing.lsa import Adjacency, LinkNumber, Lsa, Prefix
from routing.neighbours import SUCCEEDED, NeighbourDown, NeighbourUp
from routing.plan import ROW_CODEC, compute_row
from routing.segments import GatewaysSet
from sansio.core import Rejected, Wake
from sansio.ids import NodeId
from sansio.instant import MILLISECOND, Instant

A, B, C, D = (NodeId(letter * 20) for letter in (b"A", b"B", b"C", b"D"))
NOW = Instant(0)


def square(sequence=1):
    """A-B-D and A-C-D, all metrics 1: two equal-cost ways from A to D."""
    links = {A: (B, C), B: (A, D), C: (A, D), D: (B, C)}
    number = {node: index for index, node in enumerate((A, B, C, D), start=1)}

    def lsa(node):
        # The link from u to v has number 10*v at u, so the far end knows it as 10*u.
        here = LinkNumber(10 * number[node])
        adjacencies = tuple(Adjacency(v, LinkNumber(10 * number[v]), here, 1) for v in links[node])
        return Lsa(node, sequence, chr(node[0]), adjacencies, (Prefix.parse(f"10.0.0.{number[node]}/32"),))

    return {node: lsa(node) for node in links}


def up(node, link):
    return NeighbourUp(node, LinkNumber(link), LinkNumber(10), f"fe80::{link}", 1)


def down(node, link):
    return NeighbourDown(node, LinkNumber(link), "echo lost", LinkNumber(10), f"fe80::{link}")


def push(lsdb, source=D, forwarder=A):
    row = ROW_CODEC.encode(compute_row(lsdb, forwarder))
    return PlanReceived(source, "dallas", PlanPush(row_digest(row), row))


def forwarder(lsdb, **config):
    fd = Forwarder(A, lsdb, ForwarderConfig(**config))
    fd.handle(up(B, 20), NOW)
    fd.handle(up(C, 30), NOW)
    fd.handle(FibRead(Installed()), NOW)
    return fd


def programmed(actions):
    return [operation for action in actions if isinstance(action, ProgramFib) for operation in action.operations]


def settle(fd, actions, now=NOW):
    """Perform whatever it programs until it asks for nothing more."""
    performed = []
    while batch := next((action for action in actions if isinstance(action, ProgramFib)), None):
        performed += batch.operations
        actions = fd.handle(FibProgrammed(batch.batch), now)
    return performed


def acks(actions):
    return [PLAN_CODEC.decode(action.payload, "fd") for action in actions if isinstance(action, SendPlan)]


def test_a_covering_row_is_taken_acknowledged_and_programmed():
    fd = forwarder(square())
    actions = fd.handle(push(square()), NOW)
    assert acks(actions) == [PlanAck(push(square()).push.digest, accepted=True)]
    operations = settle(fd, actions)
    assert {operation.prefix for operation in operations if isinstance(operation, SetRoute)} == {
        Prefix.parse(f"10.0.0.{n}/32") for n in (2, 3, 4)
    }
    assert len({o.gateway for o in operations if isinstance(o, SetNexthop)}) == 2
    assert {len(o.members) for o in operations if isinstance(o, SetGroup)} == {1, 2}
    assert fd.plan_source == "tp dallas"


def test_a_row_that_does_not_cover_the_own_lsa_is_refused_and_answered():
    lsdb = square()
    fd = forwarder(square(sequence=2))
    actions = fd.handle(push(lsdb), NOW)
    (ack,) = acks(actions)
    assert not ack.accepted
    assert ack.reason
    assert programmed(actions) == []
    assert fd.row is None


def test_a_row_older_in_any_origin_than_the_installed_one_is_refused():
    lsdb = square()
    newer = lsdb | {D: square(sequence=5)[D]}
    fd = forwarder(newer)
    settle(fd, fd.handle(push(newer), NOW))
    (ack,) = acks(fd.handle(push(lsdb), NOW))
    assert not ack.accepted


def test_altered_foreign_and_undecodable_rows_are_rejected_without_an_answer():
    fd = forwarder(square())
    good = push(square()).push
    others = push(square(), forwarder=B)
    for bad in (
        PlanPush(good.digest, good.row + b"x"),
        PlanPush(row_digest(b"junk"), b"junk"),
        others.push,
    ):
        (action,) = fd.handle(PlanReceived(D, "dallas", bad), NOW)
        assert isinstance(action, Rejected)
    assert fd.row is None


def test_a_lost_neighbour_leaves_its_groups_at_once_and_its_lone_routes_go():
    fd = forwarder(square())
    settle(fd, fd.handle(push(square()), NOW))
    operations = settle(fd, fd.handle(down(B, 20), NOW))
    assert DeleteRoute(Prefix.parse("10.0.0.2/32")) in operations
    dead = Gateway(LinkNumber(20), bytes.fromhex("fe80000000000000000000000000" + "0020"))
    left = [members for members in fd.wanted.values() if dead in dict(members)]
    assert left == []
    assert Prefix.parse("10.0.0.4/32") in fd.wanted


def test_with_no_plan_in_time_the_own_row_is_computed():
    fd = forwarder(square(), plan_patience=100 * MILLISECOND)
    assert fd.handle(LsdbMoved(), NOW) == []
    at = fd.deadline()
    assert at == 100 * MILLISECOND
    actions = fd.handle(Wake(), at)
    assert Notice("plan.source", {"source": "self"}) in actions
    assert programmed(actions)


def test_that_another_processor_was_first_is_no_news():
    lsdb = square()
    fd = forwarder(lsdb)
    told = [action for action in fd.handle(push(lsdb), NOW) if isinstance(action, Notice)]
    assert told == [Notice("plan.source", {"source": "tp dallas"})]
    lsdb |= square(sequence=2)
    again = fd.handle(replace(push(lsdb, source=B), name="austin"), NOW)
    assert fd.plan_source == "tp austin"
    assert not [action for action in again if isinstance(action, Notice)]


def test_with_a_current_plan_nothing_is_computed():
    fd = forwarder(square())
    settle(fd, fd.handle(push(square()), NOW))
    fd.handle(LsdbMoved(), NOW)
    assert fd.handle(Wake(), fd.deadline()) == []
    assert fd.plan_source == "tp dallas"


def test_refused_writes_are_tried_again_later_and_not_at_once():
    fd = forwarder(square())
    (batch,) = [a for a in fd.handle(push(square()), NOW) if isinstance(a, ProgramFib)]
    (notice,) = fd.handle(FibProgrammed(batch.batch, ((len(batch.operations) - 1, 22),)), NOW)
    assert notice.kind == "fib.refused"
    assert fd.refused == 1
    partial = applied(Installed(), batch.operations, ((len(batch.operations) - 1, 22),))
    assert fd.handle(FibRead(partial), NOW) == []
    retry = fd.deadline()
    assert retry > NOW
    (again,) = programmed(fd.handle(Wake(), retry))
    assert again == batch.operations[-1]


def test_after_a_restart_the_kernel_is_left_alone_until_the_old_gateways_are_back():
    lsdb = square()
    before = forwarder(lsdb)
    settle(before, before.handle(push(lsdb), NOW))
    fd = Forwarder(A, lsdb, ForwarderConfig())
    assert fd.handle(FibRead(before.installed), NOW) == []
    assert programmed(fd.handle(up(B, 20), NOW)) == []
    assert programmed(fd.handle(push(lsdb), NOW)) == []
    assert programmed(fd.handle(up(C, 30), NOW)) == []
    assert fd.installed == before.installed


def test_after_a_restart_the_settling_ends_even_if_a_gateway_never_comes_back():
    lsdb = square()
    before = forwarder(lsdb)
    settle(before, before.handle(push(lsdb), NOW))
    fd = Forwarder(A, lsdb, ForwarderConfig())
    fd.handle(FibRead(before.installed), NOW)
    fd.handle(up(B, 20), NOW)
    fd.handle(push(lsdb), NOW)
    operations = settle(fd, fd.handle(Wake(), fd.deadline()), fd.deadline())
    assert DeleteRoute(Prefix.parse("10.0.0.3/32")) in operations


def test_what_vanished_from_the_kernel_is_put_back():
    fd = forwarder(square())
    settle(fd, fd.handle(push(square()), NOW))
    whole = fd.installed
    settle(fd, fd.handle(FibRead(Installed()), NOW))
    assert dict(fd.installed.routes).keys() == dict(whole.routes).keys()


def test_a_retired_forwarder_takes_all_that_is_ours_out_of_the_kernel_and_takes_no_plan_up_again():
    fd = forwarder(square())
    settle(fd, fd.handle(push(square()), NOW))
    assert not fd.gone
    operations = settle(fd, fd.handle(Retired(), NOW))
    assert {o.prefix for o in operations if isinstance(o, DeleteRoute)} == {
        Prefix.parse(f"10.0.0.{n}/32") for n in (2, 3, 4)
    }
    assert fd.gone
    assert fd.deadline() is None


def test_another_policy_makes_another_own_plan_although_no_sequence_number_moved():
    """A triangle of 1, 1 and 2: the shortest paths use the dear side too, the minimum spanning tree does not."""
    lsdb = square()
    for near, far, link, remote in ((A, B, 20, 10), (B, A, 10, 20)):
        others = tuple(adjacency for adjacency in lsdb[near].adjacencies if adjacency.neighbour != far)
        lsdb[near] = Lsa(
            near,
            1,
            lsdb[near].name,
            (*others, Adjacency(far, LinkNumber(link), LinkNumber(remote), 2)),
            lsdb[near].prefixes,
        )
    fd = forwarder(lsdb, plan_patience=0)
    fd.handle(LsdbMoved(), NOW)
    settle(fd, fd.handle(Wake(), NOW))
    to_b = Prefix.parse("10.0.0.2/32")
    assert [gateway.link for gateway, _ in fd.wanted[to_b]] == [20]
    settle(fd, fd.handle(ForwarderConfigured(ForwarderConfig(plan_patience=0, policy="spanning")), NOW))
    assert [gateway.link for gateway, _ in fd.wanted[to_b]] == [30]


# Gateways and filters

DEFAULT = Prefix.parse("0.0.0.0/0")


def gateways(b=(2, 0), c=(2, 0), d=(2, 0)):
    """The square with default routes at B, C (both next to A) and D: (protocol, preference) each, 0: none stated."""
    lsdb = square()
    for node, (protocol, preference) in ((B, b), (C, c), (D, d)):
        fields = {name: getattr(lsdb[node], name) for name in lsdb[node].__struct_fields__}
        fields |= {"prefixes": (*lsdb[node].prefixes, DEFAULT), "protocol": protocol, "gateway": preference}
        lsdb[node] = Lsa(**fields)
    fields = {name: getattr(lsdb[A], name) for name in lsdb[A].__struct_fields__}
    lsdb[A] = Lsa(**fields | {"protocol": 2})
    return lsdb


def default_of(lsdb, *links):
    known = {(node, link): Gateway(link, bytes(16)) for node, link in ((B, 20), (C, 30)) if link in (links or (20, 30))}
    return [gateway.link for gateway, _ in wanted_routes(compute_row(lsdb, A), known).get(DEFAULT, ())]


def test_the_most_preferred_gateway_is_used_though_another_is_nearer():
    assert default_of(gateways(b=(2, 10), c=(2, 10), d=(2, 200))) == [20, 30]  # both ways to D
    assert default_of(gateways(b=(2, 100), c=(2, 10), d=(2, 50))) == [20]


def test_of_gateways_preferred_alike_the_nearest_are_used():
    assert default_of(gateways(b=(2, 100), c=(2, 100), d=(2, 100))) == [20, 30]
    assert default_of(gateways(b=(2, 100), c=(2, 50), d=(2, 100))) == [20]


def test_while_a_node_of_the_first_version_is_there_all_use_the_nearest_gateway_alike():
    assert default_of(gateways(b=(2, 10), c=(1, 0), d=(2, 200))) == [20, 30]


def test_preference_is_about_default_routes_alone():
    lsdb = gateways(b=(2, 10), d=(2, 200))
    assert wanted_routes(compute_row(lsdb, A), {(B, 20): Gateway(20, bytes(16))})[Prefix.parse("10.0.0.2/32")]


def test_a_filtered_prefix_is_not_programmed_and_counted():
    fd = Forwarder(A, square(), ForwarderConfig(filter=RouteFilter(deny=(Prefix.parse("10.0.0.4/32"),))))
    fd.handle(up(B, 20), NOW)
    fd.handle(FibRead(Installed()), NOW)
    fd.handle(push(square()), NOW)
    assert sorted(map(str, fd.wanted)) == ["10.0.0.2/32"]
    assert fd.filtered == 1


def test_another_filter_takes_effect_at_once():
    fd = forwarder(square())
    settle(fd, fd.handle(push(square()), NOW))
    to_d = Prefix.parse("10.0.0.4/32")
    closed = ForwarderConfigured(ForwarderConfig(filter=RouteFilter(deny=(to_d,))))
    assert DeleteRoute(to_d) in settle(fd, fd.handle(closed, NOW))
    opened = settle(fd, fd.handle(ForwarderConfigured(ForwarderConfig()), NOW))
    assert [o.prefix for o in opened if isinstance(o, SetRoute)] == [to_d]


def test_routes_that_somebody_took_away_are_counted_and_told_and_those_of_a_dead_link_are_not():
    fd = forwarder(square())
    settle(fd, fd.handle(push(square()), NOW))
    whole = fd.installed
    to_b = Prefix.parse("10.0.0.2/32")
    routes = {prefix: group for prefix, group in whole.routes.items() if prefix != to_b}
    actions = fd.handle(FibRead(Installed(whole.nexthops, whole.groups, routes)), NOW)
    assert Notice("fib.taken", {"count": 1}) in actions
    assert fd.taken == 1
    assert [o.prefix for o in settle(fd, actions) if isinstance(o, SetRoute)] == [to_b]
    settle(fd, fd.handle(down(B, 20), NOW))
    left = {number: gateway for number, gateway in fd.installed.nexthops.items() if gateway.link != 20}
    routes = {prefix: group for prefix, group in fd.installed.routes.items() if prefix != to_b}
    fd.handle(FibRead(Installed(left, fd.installed.groups, routes)), NOW)
    assert fd.taken == 1


E = NodeId(b"E" * 20)
FE80_20 = bytes.fromhex("fe80000000000000000000000000" + "0020")


def test_a_neighbour_under_another_key_stays_in_its_groups_until_a_row_names_it():
    fd = forwarder(square())
    settle(fd, fd.handle(push(square()), NOW))
    before = dict(fd.wanted)
    settle(fd, fd.handle(up(E, 20), NOW))
    gone = NeighbourDown(B, LinkNumber(20), SUCCEEDED, LinkNumber(10), "fe80::20")
    assert settle(fd, fd.handle(gone, NOW)) == []
    assert fd.wanted == before
    # And is out of them at once when it is really lost.
    settle(fd, fd.handle(down(E, 20), NOW))
    assert [members for members in fd.wanted.values() if Gateway(LinkNumber(20), FE80_20) in dict(members)] == []


def test_a_node_beside_us_under_another_key_stays_in_its_groups():
    fd = forwarder(square())
    fd.handle(down(B, 20), NOW)
    settle(fd, fd.handle(GatewaysSet({(B, LinkNumber(20)): "fe80::20"}), NOW))
    settle(fd, fd.handle(push(square()), NOW))
    before = dict(fd.wanted)
    assert settle(fd, fd.handle(GatewaysSet({(E, LinkNumber(20)): "fe80::20"}), NOW)) == []
    assert fd.wanted == before
    settle(fd, fd.handle(GatewaysSet({}), NOW))
    assert [members for members in fd.wanted.values() if Gateway(LinkNumber(20), FE80_20) in dict(members)] == []
