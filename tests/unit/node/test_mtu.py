from dmssd.events import LinkUp
from dmssd.rules.mtu import mtu_reasons
from routing.adjacency import NeighbourView
from routing.lsa import LinkNumber
from sansio.ids import NodeId

PEER = NodeId(b"p" * 20)
LINK = LinkNumber(3)


def reasons(ours, theirs):
    links = {LINK: LinkUp(LINK, "eth0", 10, mtu=ours)}
    return mtu_reasons(links, [NeighbourView(PEER, LINK, LINK, "fe80::1", "up", 10, None, theirs)], lambda _: "peer")


def test_two_ends_of_different_mtu_are_told_with_both_and_what_to_type():
    (reason,) = reasons(9000, 1500)
    assert reason.startswith("the MTU of eth0 is 9000 here and 1500 at peer: what is larger than 1500 is lost")
    assert "ip link set dev eth0 mtu 1500" in reason


def test_equal_ends_and_ends_that_do_not_say_are_no_reason():
    assert reasons(1500, 1500) == reasons(1500, 0) == reasons(0, 1500) == []
