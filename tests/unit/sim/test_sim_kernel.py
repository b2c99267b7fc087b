import errno
import ipaddress

import pytest

from dmssd.sim.kernel import Interface, Kernel
from routing.fib import DeleteNexthop, DeleteRoute, Gateway, Installed, SetGroup, SetNexthop, SetRoute
from routing.lsa import Prefix

HERE, THERE, NET = Prefix.parse("10.5.0.1"), Prefix.parse("10.5.0.2"), Prefix.parse("10.5.0.0/24")
WAY_A = Gateway(2, ipaddress.IPv6Address("fe80::a").packed)
WAY_B = Gateway(3, ipaddress.IPv6Address("fe80::b").packed)
TWO_WAYS = (SetNexthop(1, WAY_A), SetNexthop(2, WAY_B), SetGroup(10, ((1, 1), (2, 1))), SetRoute(THERE, 10))


@pytest.fixture
def kernel() -> Kernel:
    interfaces = {link: Interface(f"eth{link}", "fe80::1", b"", 1) for link in (2, 3)}
    return Kernel(b"seed", interfaces, (HERE,))


def test_what_was_written_is_read_back(kernel):
    assert kernel.perform(TWO_WAYS) == ()
    assert kernel.installed() == Installed({1: WAY_A, 2: WAY_B}, {10: ((1, 1), (2, 1))}, {THERE: 10})


@pytest.mark.parametrize(
    ("operation", "error"),
    [
        (SetNexthop(1, Gateway(9, WAY_A.address)), errno.EINVAL),
        (SetNexthop(10, WAY_A), errno.EINVAL),
        (SetGroup(1, ((2, 1),)), errno.EINVAL),
        (SetGroup(11, ((1, 1), (99, 1))), errno.EINVAL),
        (SetGroup(11, ((1, 1), (1, 1))), errno.EINVAL),
        (SetGroup(11, ((10, 1),)), errno.EINVAL),
        (SetGroup(11, ((1, 0),)), errno.EINVAL),
        (SetGroup(11, ()), errno.EINVAL),
        (SetRoute(NET, 99), errno.EINVAL),
    ],
)
def test_what_the_kernel_refuses_changes_nothing(kernel, operation, error):
    kernel.perform(TWO_WAYS)
    before = kernel.installed()
    assert kernel.perform((operation,)) == ((0, error),)
    assert kernel.installed() == before


def test_deleting_what_is_gone_is_no_failure(kernel):
    kernel.perform(TWO_WAYS)
    before = kernel.installed()
    assert kernel.perform((DeleteRoute(NET), DeleteNexthop(99))) == ()
    assert kernel.installed() == before


def test_once_something_could_not_be_set_no_nexthop_is_deleted(kernel):
    kernel.perform(TWO_WAYS)
    failures = kernel.perform((DeleteNexthop(1), SetRoute(NET, 99), DeleteNexthop(10)))
    assert failures == ((1, errno.EINVAL), (2, errno.ECANCELED))
    assert kernel.installed() == Installed({2: WAY_B}, {10: ((2, 1),)}, {THERE: 10})


def test_a_refused_group_replacement_keeps_the_old_group_and_the_rest_of_the_batch_is_done(kernel):
    kernel.perform(TWO_WAYS)
    assert kernel.perform((SetGroup(10, ((1, 1), (7, 1))), DeleteRoute(THERE))) == ((0, errno.EINVAL),)
    assert kernel.installed().groups == {10: ((1, 1), (2, 1))}
    assert kernel.installed().routes == {}


def test_carrier_loss_removes_nexthops_and_shrinks_groups_and_keeps_routes_that_have_another_way(kernel):
    kernel.perform(TWO_WAYS)
    kernel.set_carrier(2, False)
    assert kernel.installed() == Installed({2: WAY_B}, {10: ((2, 1),)}, {THERE: 10})


def test_an_emptied_group_takes_its_routes_along_and_nothing_comes_back_with_the_carrier(kernel):
    kernel.perform(TWO_WAYS)
    for carrier in (False, True):
        kernel.set_carrier(2, carrier)
        kernel.set_carrier(3, carrier)
    assert kernel.installed() == Installed()


def test_a_nexthop_on_an_interface_without_carrier_is_refused(kernel):
    kernel.set_carrier(2, False)
    assert kernel.perform((SetNexthop(1, WAY_A),)) == ((0, errno.ENETDOWN),)


def test_deleting_a_group_takes_its_routes_along(kernel):
    kernel.perform(TWO_WAYS)
    kernel.perform((DeleteNexthop(10),))
    assert kernel.installed() == Installed({1: WAY_A, 2: WAY_B})


def test_the_longest_prefix_wins(kernel):
    kernel.perform((*TWO_WAYS, SetGroup(11, ((2, 1),)), SetRoute(NET, 11), SetRoute(THERE, 10)))
    assert len(kernel.gateways(THERE)) == 2
    assert kernel.gateways(Prefix.parse("10.5.0.77")) == ((WAY_B, 1),)
    assert kernel.gateways(Prefix.parse("10.6.0.1")) == ()


def test_one_flow_keeps_its_way_and_many_flows_share_the_ways_by_weight(kernel):
    kernel.perform((*TWO_WAYS[:2], SetGroup(10, ((1, 3), (2, 1))), SetRoute(THERE, 10)))
    chosen = [kernel.choose(THERE, flow) for flow in range(1000)]
    assert chosen == [kernel.choose(THERE, flow) for flow in range(1000)]
    assert 650 < chosen.count(WAY_A) < 850


def test_power_loss_forgets_everything(kernel):
    kernel.perform(TWO_WAYS)
    kernel.forget()
    assert kernel.installed() == Installed()
