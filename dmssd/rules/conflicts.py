"""Addresses that more than one member calls its own.

A member may announce any prefix, and the nearest origin of it is used. For a network behind several nodes that is
meant; for a single address it is a mistake, a machine that was copied, or somebody who wants another's traffic. Which
of them is right no node can tell from the database, so it is said, to everybody, with all their names.
"""

from collections.abc import Callable, Mapping

from routing.lsa import Lsa, Prefix
from sansio.ids import NodeId

SHOWN_MAX = 8
"""Conflicts told one by one; of the rest the number."""


def address_conflicts(lsdb: Mapping[NodeId, Lsa], me: NodeId, name_of: Callable[[NodeId], str]) -> list[str]:
    """A sentence for each address that several origins announce, those that concern this node first."""
    owners: dict[Prefix, list[NodeId]] = {}
    for origin in sorted(lsdb):
        for prefix in lsdb[origin].prefixes:
            if prefix.is_host:
                owners.setdefault(prefix, []).append(origin)
    contested = sorted((me not in who, prefix, who) for prefix, who in owners.items() if len(who) > 1)
    said = [_sentence(prefix, who, me, name_of) for _, prefix, who in contested[:SHOWN_MAX]]
    rest = len(contested) - SHOWN_MAX
    return [*said, f"{rest} more addresses are announced by several members"] if rest > 0 else said


def _sentence(prefix: Prefix, owners: list[NodeId], me: NodeId, name_of: Callable[[NodeId], str]) -> str:
    address = str(prefix).rsplit("/", 1)[0]
    names = ", ".join("this node" if owner == me else name_of(owner) for owner in owners)
    return (
        f"address {address} is announced by {names}: traffic goes to the nearest;"
        " next: give each its own address in its configuration, or remove a copied machine"
    )
