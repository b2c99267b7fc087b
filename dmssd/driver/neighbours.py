"""Keeps the kernel's neighbour entries of adjacent nodes fresh (``PinNeighbour``).

An entry that decays while a link is silently dropping ends as INCOMPLETE, and then the first packet after the fault
waits half a second and more for address resolution. So each proof of life confirms the entry, with the link-layer
address that the kernel itself holds at that moment: a neighbour whose card was exchanged is learned as ever. REACHABLE,
not PERMANENT, so that nothing is left behind when the daemon goes.
"""

import ipaddress

from dmssd.driver import rtnetlink
from dmssd.driver.netlink import NetlinkSocket
from routing.lsa import LinkNumber


class NeighbourTable:
    """The neighbour entries of this network namespace."""

    def __init__(self, netlink: NetlinkSocket) -> None:
        self._netlink = netlink

    def pin(self, link: LinkNumber, address: str) -> None:
        """Confirm the entry of a link-local address; nothing where the kernel has not resolved it."""
        packed = ipaddress.IPv6Address(address).packed
        entry = rtnetlink.neighbour(self._netlink, link, packed)
        if entry is None or entry.lladdr is None or entry.is_fixed:
            return
        # A refusal means that the interface went between the two calls: there is nothing to keep fresh then.
        self._netlink.write([rtnetlink.neighbour_reachable(link, packed, entry.lladdr)])
