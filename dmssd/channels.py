"""What travels between nodes, by the first byte of a sealed payload.

    channel   | scope      | who speaks
    HELLO     | one link   | routing.adjacency
    FLOOD     | neighbours | routing.linkstate
    CONTROL   | neighbours | routing.control: frames for others, passed on hop by hop
    FRAGMENT  | either     | dmssd.fragments: pieces of a message too large for one datagram
    SWIM      | end to end | gossip.swim
    PLAN      | end to end | dmssd.roles
    STATEMENT | end to end | gossip.replica: to members that speak protocol 2
    RPC       | end to end | dmssd.security.admission: the join exchange
    TRAFFIC   | end to end | dmssd.rules.traffic: what a member's links shall cost; since protocol 2

Link-scoped channels are believed only on a session with the neighbour on that very link; end-to-end channels only on a
session with their author, whatever carried the bytes.
"""

from enum import IntEnum


class Channel(IntEnum):
    """The first byte of a sealed payload."""

    HELLO = 1
    FLOOD = 2
    CONTROL = 3
    FRAGMENT = 4
    SWIM = 16
    PLAN = 17
    RPC = 18
    STATEMENT = 19
    TRAFFIC = 24
