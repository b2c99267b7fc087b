"""Address claims: who gets which address, who keeps it, and what is never taken."""

import random

import pytest

from routing.claims import (
    CLAIM_CODEC,
    AddressClaims,
    AddressesChosen,
    Claim,
    ClaimConfig,
    ClaimHeard,
    ClaimLost,
    Compared,
    ConfigSet,
    GiveBack,
    Inherited,
    NetworksRead,
    PoolFull,
    PublishClaim,
    Started,
    ula_of,
)
from routing.lsa import Prefix
from sansio.core import Rejected, Wake
from sansio.ids import MeshId, node_id
from sansio.instant import SECOND, Duration, Instant, after
from tests.unit.routing.claim_nodes import settle

MESH = MeshId(b"m" * 16)
T0 = Instant(5 * SECOND)
LATER = after(T0, Duration(2 * SECOND))
ME, PEER, THIRD = sorted(node_id(bytes([number])) for number in range(3))
POOL = Prefix.parse("10.77.0.0/24")
DRAWN4 = ClaimConfig(pool4=POOL, ula=False)


def started(config=DRAWN4, me=ME):
    core = AddressClaims(me, MESH, config)
    core.handle(Started(), T0)
    return core


def published(actions):
    return [CLAIM_CODEC.decode(action.payload, "") for action in actions if isinstance(action, PublishClaim)]


def heard(node, claim, family=4):
    return ClaimHeard(node, family, CLAIM_CODEC.encode(claim))


def block_of(me=ME, config=DRAWN4, before=()):
    """What ``me`` would draw in a mesh that knows only ``before``."""
    core = started(config, me)
    for event in before:
        core.handle(event, T0)
    [claim] = published(core.handle(Compared(), T0))
    return claim.block


def test_nothing_is_claimed_before_the_claims_of_others_could_be_known():
    core = started()
    assert core.handle(heard(PEER, Claim(Prefix.parse("10.77.0.9/32"), 1)), T0) == []
    assert published(core.handle(Compared(), T0)) != []


def test_where_nobody_can_be_compared_with_the_claim_is_made_in_the_end():
    core = started()
    due = core.deadline()
    assert due == after(T0, ClaimConfig().settle)
    assert core.handle(Wake(), T0) == []
    assert published(core.handle(Wake(), due)) != []


def test_alone_a_node_uses_its_address_at_once():
    core = started()
    actions = core.handle(Compared(), T0)
    [claim] = published(actions)
    assert POOL.holds(claim.block)
    assert actions[-1] == AddressesChosen((claim.block,))
    assert actions.index(actions[-1]) > 0, "stated before it is used"
    assert core.deadline() is None


def test_among_others_an_address_is_used_only_after_probation():
    core = started()
    core.handle(heard(PEER, Claim(Prefix.parse("10.77.0.200/32"), 1)), T0)
    actions = core.handle(Compared(), T0)
    [claim] = published(actions)
    assert not any(isinstance(action, AddressesChosen) for action in actions)
    due = core.deadline()
    assert due == after(T0, ClaimConfig().probation)
    assert core.handle(Wake(), due) == [AddressesChosen((claim.block,))]


def test_a_block_that_somebody_holds_is_passed_over():
    first = block_of()
    assert block_of(before=(heard(PEER, Claim(first, 1)),)) != first


def test_a_pool_with_one_address_left_gives_that_one():
    pool = Prefix.parse("10.77.0.0/28")
    taken = [Prefix(bytes([10, 77, 0, last]), 32) for last in range(1, 15) if last != 11]
    events = tuple(heard(node_id(bytes([50, n])), Claim(block, 1)) for n, block in enumerate(taken))
    assert block_of(config=ClaimConfig(pool4=pool, ula=False), before=events) == Prefix.parse("10.77.0.11/32")


def test_a_full_pool_is_told_once_and_what_becomes_free_is_taken():
    core = started(ClaimConfig(pool4=Prefix.parse("10.77.0.0/30"), ula=False))
    for last, node in ((1, PEER), (2, THIRD)):
        core.handle(heard(node, Claim(Prefix(bytes([10, 77, 0, last]), 32), 1)), T0)
    assert core.handle(Compared(), T0) == [PoolFull(4)]
    assert core.handle(Wake(), LATER) == []
    [claim] = published(core.handle(heard(PEER, Claim(None, 2)), LATER))
    assert claim.block == Prefix.parse("10.77.0.1/32")


def test_the_first_and_last_address_of_a_pool_are_nobodys():
    blocks = {
        block_of(node_id(bytes([9, n])), ClaimConfig(pool4=Prefix.parse("10.77.0.0/30"), ula=False)) for n in range(40)
    }
    assert blocks == {Prefix.parse("10.77.0.1/32"), Prefix.parse("10.77.0.2/32")}


def test_the_incumbent_wins_over_a_claim_made_in_knowledge_of_it_whatever_the_node_ids():
    for me, other in ((ME, PEER), (PEER, ME)):
        core = started(me=me)
        [mine] = published(core.handle(Compared(), T0))
        assert core.handle(heard(other, Claim(mine.block, mine.generation + 1)), T0) == []
        assert core.addresses == (mine.block,)


def test_whoever_comes_second_gives_way_and_takes_another():
    core = started()
    [mine] = published(core.handle(Compared(), T0))
    actions = core.handle(heard(PEER, Claim(mine.block, mine.generation - 1)), T0)
    assert actions[0] == ClaimLost(mine.block, PEER)
    [second] = published(actions)
    assert second.block != mine.block
    assert second.generation > mine.generation
    assert actions[-1] == AddressesChosen(()), "the lost address goes at once, the new one comes after probation"
    assert core.handle(Wake(), LATER) == [AddressesChosen((second.block,))]


def test_of_concurrent_claims_of_one_generation_the_lower_node_id_wins():
    outcomes = []
    for me, other in ((ME, PEER), (PEER, ME)):
        core = started(me=me)
        [mine] = published(core.handle(Compared(), T0))
        actions = core.handle(heard(other, Claim(mine.block, mine.generation)), T0)
        outcomes.append([type(action) for action in actions if isinstance(action, ClaimLost)])
    assert outcomes == [[], [ClaimLost]]


def test_what_was_persisted_is_used_at_once_and_not_said_anew():
    core = AddressClaims(ME, MESH, DRAWN4)
    block = Prefix.parse("10.77.0.42/32")
    assert core.handle(heard(ME, Claim(block, 3)), T0) == [AddressesChosen((block,))]
    assert core.handle(Started(), T0) == []
    assert core.handle(Compared(), T0) == []


@pytest.mark.parametrize("outside", ["10.78.0.1/32", "192.168.1.1/32"])
def test_what_was_persisted_outside_the_present_pool_is_given_up(outside):
    core = AddressClaims(ME, MESH, DRAWN4)
    core.handle(heard(ME, Claim(Prefix.parse(outside), 3)), T0)
    core.handle(Started(), T0)
    [claim] = published(core.handle(Compared(), T0))
    assert POOL.holds(claim.block)


def test_an_older_word_of_ours_is_corrected():
    core = started()
    [mine] = published(core.handle(Compared(), T0))
    assert published(core.handle(heard(ME, Claim(Prefix.parse("10.77.0.42/32"), 1)), T0)) == [mine]
    assert published(core.handle(heard(ME, mine), T0)) == []


def test_a_configured_address_is_claimed_at_once_and_wins():
    fixed = Prefix.parse("10.77.0.5/32")
    core = started(ClaimConfig(fixed=(fixed,), pool4=POOL, ula=False))
    assert core.addresses == (fixed,)
    assert core.handle(heard(PEER, Claim(fixed, 0)), T0) == [], "a drawn claim, however early, does not displace it"


def test_a_drawn_claim_gives_way_to_a_configured_address():
    core = started()
    [mine] = published(core.handle(Compared(), T0))
    actions = core.handle(heard(PEER, Claim(mine.block, mine.generation + 9, fixed=True)), T0)
    assert actions[0] == ClaimLost(mine.block, PEER)


def test_the_machines_own_networks_are_passed_over():
    first = block_of()
    core = started()
    core.handle(NetworksRead((Prefix(first.network[:3] + bytes(1), 24),)), T0)
    assert core.handle(Compared(), T0) == [PoolFull(4)], "the whole pool is a network of this machine"
    core = started()
    core.handle(NetworksRead((first,)), T0)
    [claim] = published(core.handle(Compared(), T0))
    assert claim.block != first


def test_a_network_that_the_machine_comes_to_later_moves_the_address():
    core = started()
    [mine] = published(core.handle(Compared(), T0))
    [second] = published(core.handle(NetworksRead((mine.block,)), T0))
    assert second.block != mine.block


def test_an_ipv6_block_of_ours_outside_the_meshs_ula_is_not_kept():
    foreign = Prefix(ula_of(MeshId(b"n" * 16))[:6] + bytes(10), 80)
    core = started(ClaimConfig())
    core.handle(heard(ME, Claim(foreign, 0), 6), T0)
    [claim] = published(core.handle(Compared(), T0))
    assert claim.block.network[:6] == ula_of(MESH)[:6]


def test_an_address_that_was_fixed_once_and_is_not_any_more_is_given_up():
    core = started()
    core.handle(heard(ME, Claim(Prefix.parse("10.99.0.9/32"), 0, fixed=True)), T0)
    [claim] = published(core.handle(Compared(), T0))
    assert not claim.fixed
    assert POOL.holds(claim.block)


def test_the_ipv6_block_is_an_80_in_the_meshs_ula_and_the_node_its_first_address():
    core = started(ClaimConfig())
    actions = core.handle(Compared(), T0)
    [claim] = published(actions)
    ula = ula_of(MESH)
    assert ula[0] == 0xFD
    assert claim.block.length == 80
    assert claim.block.network[:6] == ula[:6]
    assert core.addresses == (Prefix(claim.block.network[:15] + b"\x01", 128),)
    assert ula_of(MeshId(b"n" * 16)) != ula


def test_a_block_with_a_configured_address_in_it_is_passed_over():
    config = ClaimConfig()
    first = block_of(config=config)
    inside = Prefix(first.network[:15] + b"\x77", 128)
    assert block_of(config=config, before=(heard(PEER, Claim(inside, 1, fixed=True), 6),)) != first


def test_addresses_follow_a_changed_configuration():
    core = started()
    core.handle(Compared(), T0)
    fixed = Prefix.parse("10.1.2.3/32")
    actions = core.handle(ConfigSet(ClaimConfig(fixed=(fixed,), ula=False)), T0)
    assert published(actions)[0].block == fixed
    assert actions[-1] == AddressesChosen((fixed,))


def test_a_node_that_leaves_gives_its_addresses_back_and_falls_silent():
    core = started()
    core.handle(Compared(), T0)
    [claim] = published(core.handle(GiveBack(), T0))
    assert claim.block is None
    assert core.handle(Wake(), LATER) == []
    assert core.deadline() is None


@pytest.mark.parametrize(
    ("family", "claim", "why"),
    [
        (4, Claim(Prefix.parse("10.0.0.0/24"), 1), "wrong size"),
        (4, Claim(Prefix.parse("fd00::/80"), 1), "wrong size"),
        (6, Claim(Prefix.parse("fd00::1/128"), 1), "wrong size"),
        (6, Claim(Prefix.parse("fd00::/48"), 1, fixed=True), "wrong size"),
        (4, Claim(Prefix.parse("127.0.0.1/32"), 1), "no node's address"),
        (4, Claim(Prefix.parse("224.0.0.5/32"), 1, fixed=True), "no node's address"),
        (6, Claim(Prefix.parse("fe80::1/128"), 1, fixed=True), "no node's address"),
        (6, Claim(Prefix(b"\xfd" + bytes(14) + b"\x01", 80), 1), "host bits"),
        (5, Claim(Prefix.parse("10.0.0.1/32"), 1), "unknown family"),
    ],
)
def test_a_claim_that_makes_no_sense_is_refused(family, claim, why):
    [rejected] = started().handle(heard(PEER, claim, family), T0)
    assert isinstance(rejected, Rejected)
    assert why in rejected.reason


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x93\xc0\x01\xc2\xc2"[:2], b"\x92\xc0\xff"])
def test_bytes_that_are_no_claim_are_refused(payload):
    [rejected] = started().handle(ClaimHeard(PEER, 4, payload), T0)
    assert rejected.reason == "address claim cannot be decoded"


def test_a_claim_is_told_with_whether_it_holds():
    core = started()
    [mine] = published(core.handle(Compared(), T0))
    core.handle(heard(PEER, Claim(mine.block, mine.generation + 1)), T0)
    assert core.claims() == sorted([(ME, 4, mine, True), (PEER, 4, Claim(mine.block, mine.generation + 1), False)])


@pytest.mark.parametrize("nodes", [2, 60])
def test_nodes_that_all_start_at_once_end_up_with_addresses_of_their_own(nodes):
    config = ClaimConfig(pool4=Prefix.parse("10.9.0.0/25"))
    cores = {me: AddressClaims(me, MESH, config) for me in (node_id(bytes([1, n])) for n in range(nodes))}
    end = settle(cores, T0, random.Random(nodes), 0.5)
    for core in cores.values():
        core.handle(Wake(), after(end, Duration(3 * SECOND)))
    held = [address for core in cores.values() for address in core.addresses]
    assert len(held) == len(set(held)) == 2 * nodes


@pytest.mark.parametrize("now_called", [PEER, THIRD])
def test_what_the_machine_claimed_under_another_key_is_claimed_again_as_it_was_and_used_at_once(now_called):
    before = started()
    [claim] = published(before.handle(Compared(), T0))
    core = started(me=now_called)
    actions = core.handle(Inherited(4, CLAIM_CODEC.encode(claim)), T0)
    assert published(actions) == [claim]
    assert AddressesChosen((claim.block,)) in actions
