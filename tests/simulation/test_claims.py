"""A thousand nodes claim addresses at the same moment, the worst there is: nobody has heard of anybody."""

import random

from routing.claims import AddressClaims, ClaimConfig
from routing.lsa import Prefix
from sansio.core import Wake
from sansio.ids import MeshId, node_id
from sansio.instant import SECOND, Duration, Instant, after
from tests.unit.routing.claim_nodes import settle

NODES = 1_000


def test_a_thousand_nodes_claim_from_a_20_and_from_the_ula_without_a_clash():
    config = ClaimConfig(pool4=Prefix.parse("10.64.0.0/20"))
    names = [node_id(number.to_bytes(2, "big")) for number in range(NODES)]
    cores = {me: AddressClaims(me, MeshId(b"thousand........"), config) for me in names}
    end = settle(cores, Instant(SECOND), random.Random(4), 0.5)
    for core in cores.values():
        core.handle(Wake(), after(end, Duration(3 * SECOND)))
    addresses = [address for core in cores.values() for address in core.addresses]
    assert len(addresses) == len(set(addresses)) == 2 * NODES
    held = {(node, family): claim for node, family, claim, holds in cores[names[0]].claims() if holds}
    assert len(held) == 2 * NODES, "everybody sees every claim as its author's"
