"""LinkState fed by hand, and small networks of LinkState cores that exchange bytes over a bad wire."""

import hashlib
import random
from dataclasses import dataclass, field
from itertools import pairwise
from typing import assert_never

import pytest

from routing.flood import (
    CLAIM_DIGEST_BYTES,
    FLOOD_BYTES_MAX,
    FLOOD_CODEC,
    Ack,
    Claim,
    Digest,
    Flood,
    FloodItem,
    Receipt,
    Request,
    Summary,
)
from routing.linkstate import (
    SEQUENCE_KEY,
    SIGNED_CODEC,
    DrainSet,
    FloodReceived,
    LinkState,
    LinkStateAction,
    LinkStateConfig,
    LinkStateEvent,
    LsdbChanged,
    MetricsSet,
    NameSet,
    OriginsExpelled,
    PrefixesSet,
    SendFlood,
)
from routing.lsa import ADJACENCIES_MAX, LSA_CODEC, METRIC_MAX, Adjacency, LinkNumber, Lsa, Prefix, SignedLsa
from routing.neighbours import NeighbourDown, NeighbourUp
from sansio.core import Persist, Rejected, Wake
from sansio.ids import NodeId, node_id
from sansio.instant import MILLISECOND, SECOND, Duration, Instant, after

T0 = Instant(10 * SECOND)


class Seal:
    """Signs and verifies by a keyed hash: enough to tell true from false, and as deterministic as Ed25519."""

    def __init__(self, me: NodeId) -> None:
        self._me = me

    @staticmethod
    def _proof(origin: NodeId, body: bytes) -> bytes:
        return hashlib.blake2b(body, key=origin, digest_size=64).digest()

    def sign(self, body: bytes) -> bytes:
        return self._proof(self._me, body)

    def verify(self, origin: NodeId, body: bytes, proof: bytes) -> bool:
        return proof == self._proof(origin, body)


def node(number: int) -> NodeId:
    return node_id(number.to_bytes(4, "big"))


ME, A, B, C = node(0), node(1), node(2), node(3)


def core(me: NodeId = ME, stored: bytes | None = None, config: LinkStateConfig | None = None) -> LinkState:
    return LinkState(me, "n", Seal(me), Seal(me), stored, random.Random(1), config)


def up(neighbour: NodeId, link: int = 1, remote: int = 1, metric: int = 10) -> NeighbourUp:
    return NeighbourUp(neighbour, LinkNumber(link), LinkNumber(remote), "fe80::1", metric)


def down(neighbour: NodeId, link: int = 1, remote: int = 1) -> NeighbourDown:
    return NeighbourDown(neighbour, LinkNumber(link), "echo lost", LinkNumber(remote), "fe80::1")


def signed(lsa: Lsa, forged: bool = False) -> bytes:
    body = LSA_CODEC.encode(lsa)
    proof = b"no" if forged else Seal(lsa.origin).sign(body)
    return SIGNED_CODEC.encode(SignedLsa(body, proof))


def lsa(origin: NodeId, sequence: int, name: str = "x") -> Lsa:
    return Lsa(origin, sequence, name, (), ())


def flood(*lsas: Lsa, remaining_ms: int = 3_600_000, forged: bool = False) -> bytes:
    return FLOOD_CODEC.encode(Flood(tuple(FloodItem(remaining_ms, signed(one, forged)) for one in lsas)))


def sent(actions: list[LinkStateAction], kind: type) -> list[tuple[NodeId, object]]:
    decoded = [(a.neighbour, FLOOD_CODEC.decode(a.payload, "")) for a in actions if isinstance(a, SendFlood)]
    return [(neighbour, message) for neighbour, message in decoded if isinstance(message, kind)]


def flooded(actions: list[LinkStateAction]) -> list[tuple[NodeId, Lsa]]:
    lsas = []
    for neighbour, message in sent(actions, Flood):
        assert isinstance(message, Flood)
        for item in message.lsas:
            lsas.append((neighbour, LSA_CODEC.decode(SIGNED_CODEC.decode(item.signed, "").body, "")))
    return lsas


def reasons(actions: list[LinkStateAction]) -> list[str]:
    return [action.reason for action in actions if isinstance(action, Rejected)]


def ready(*neighbours: NodeId, config: LinkStateConfig | None = None) -> tuple[LinkState, Instant]:
    """A core with these neighbours up and everything so far acknowledged."""
    linkstate = core(config=config)
    linkstate.handle(Wake(), T0)
    now = T0
    for number, neighbour in enumerate(neighbours, 1):
        linkstate.handle(up(neighbour, link=number), now)
    now = after(now, Duration(60 * MILLISECOND))
    linkstate.handle(Wake(), now)
    for neighbour in neighbours:
        receipt = Ack((Receipt(ME, linkstate.mine.sequence),))
        linkstate.handle(FloodReceived(neighbour, FLOOD_CODEC.encode(receipt)), now)
    return linkstate, now


# Originating


def test_first_event_originates_after_persisting_the_reserved_sequence() -> None:
    linkstate = core()
    assert linkstate.deadline() == 0
    actions = linkstate.handle(Wake(), T0)
    assert isinstance(actions[0], Persist)
    assert actions[0].key == SEQUENCE_KEY
    assert int.from_bytes(actions[0].value, "big") > linkstate.mine.sequence
    assert actions[-1] == LsdbChanged((ME,))
    assert dict(linkstate.lsdb) == {ME: linkstate.mine}
    assert Seal(ME).verify(ME, LSA_CODEC.encode(linkstate.mine), linkstate.proof(ME))


def test_sequence_rises_across_a_restart_from_what_was_persisted() -> None:
    first = core()
    [persist, *_] = first.handle(Wake(), T0)
    assert isinstance(persist, Persist)
    second = core(stored=persist.value)
    second.handle(Wake(), T0)
    assert second.mine.sequence > first.mine.sequence


def test_a_neighbour_up_is_advertised_at_once_and_later_ones_together() -> None:
    linkstate = core()
    linkstate.handle(Wake(), T0)
    start = after(T0, SECOND)
    actions = linkstate.handle(up(A, link=1, remote=7, metric=3), start)
    assert [one.adjacencies for _, one in flooded(actions)] == [(Adjacency(A, LinkNumber(1), LinkNumber(7), 3),)]
    sequence = linkstate.mine.sequence
    assert flooded(linkstate.handle(up(B, link=2), after(start, Duration(5 * MILLISECOND)))) == []
    linkstate.handle(up(C, link=3), after(start, Duration(10 * MILLISECOND)))
    linkstate.handle(Wake(), after(start, Duration(50 * MILLISECOND)))
    assert linkstate.mine.sequence == sequence + 1
    assert [adjacency.neighbour for adjacency in linkstate.mine.adjacencies] == sorted([A, B, C])


def test_a_node_that_never_comes_to_rest_says_so_twice_a_second_and_after_a_rest_at_once_again() -> None:
    linkstate = core()
    said: list[Instant] = []
    for beat in range(1000):
        now = after(T0, Duration(10 * beat * MILLISECOND))
        sequence = linkstate.mine.sequence
        linkstate.handle(up(A, metric=1 + beat % 2), now)
        linkstate.handle(Wake(), now)
        said += [now] if linkstate.mine.sequence > sequence else []
    waits = [later - earlier for earlier, later in pairwise(said)]
    assert all(wait < 100 * MILLISECOND for wait in waits[:9])
    assert all(wait >= 490 * MILLISECOND for wait in waits[15:])
    assert len(said) >= 25, "it is still heard"
    for beat in range(9):
        now = after(said[-1], Duration(10 * SECOND + 50 * beat * MILLISECOND))
        sequence = linkstate.mine.sequence
        linkstate.handle(up(A, metric=3 + beat), now)
        assert linkstate.mine.sequence == sequence + 1


def test_a_draining_node_advertises_the_greatest_metric_on_every_link_and_says_why() -> None:
    linkstate, now = ready(A, B)
    assert not linkstate.mine.draining
    linkstate.handle(MetricsSet({A: 3}), after(now, SECOND))
    linkstate.handle(DrainSet(True), after(now, 2 * SECOND))
    assert linkstate.mine.draining
    assert [adjacency.metric for adjacency in linkstate.mine.adjacencies] == [METRIC_MAX, METRIC_MAX]
    linkstate.handle(DrainSet(False), after(now, 3 * SECOND))
    assert not linkstate.mine.draining
    assert {one.neighbour: one.metric for one in linkstate.mine.adjacencies} == {A: 3, B: 10}


def test_a_metric_set_for_a_neighbour_replaces_that_of_its_adjacencies_until_it_is_taken_back() -> None:
    linkstate, now = ready(A, B)
    actions = linkstate.handle(MetricsSet({A: 70, C: 5}), after(now, SECOND))
    assert len(flooded(actions)) == 2
    assert {one.neighbour: one.metric for one in linkstate.mine.adjacencies} == {A: 70, B: 10}
    linkstate.handle(MetricsSet({}), after(now, 2 * SECOND))
    assert {one.neighbour: one.metric for one in linkstate.mine.adjacencies} == {A: 10, B: 10}


def test_a_gateways_preference_is_part_of_its_lsa() -> None:
    linkstate, now = ready(A)
    linkstate.handle(PrefixesSet((Prefix.parse("0.0.0.0/0"),), 200), after(now, SECOND))
    assert (linkstate.mine.gateway, linkstate.mine.prefixes) == (200, (Prefix.parse("0.0.0.0/0"),))


def test_nothing_is_originated_when_nothing_changed() -> None:
    linkstate, now = ready(A)
    sequence = linkstate.mine.sequence
    linkstate.handle(up(A), after(now, SECOND))
    linkstate.handle(NameSet("n"), after(now, 2 * SECOND))
    assert linkstate.mine.sequence == sequence


def test_a_lost_adjacency_leaves_the_lsa_at_once_and_only_that_one() -> None:
    linkstate, now = ready(A, B)
    linkstate.handle(up(A, link=5, remote=6), now)
    later = after(now, SECOND)
    linkstate.handle(Wake(), later)
    later = after(later, SECOND)
    actions = linkstate.handle(down(A, link=1), later)
    assert [(a.neighbour, a.link) for a in linkstate.mine.adjacencies] == sorted([(B, 2), (A, 5)])
    assert {neighbour for neighbour, _ in flooded(actions)} == {A, B}, "A is still a neighbour over its other link"


def test_prefixes_and_name_are_advertised() -> None:
    linkstate, now = ready(A)
    prefixes = (Prefix.parse("10.5.0.2/32"), Prefix.parse("10.5.0.1/32"))
    linkstate.handle(PrefixesSet(prefixes), after(now, SECOND))
    assert linkstate.mine.prefixes == tuple(sorted(prefixes))
    linkstate.handle(NameSet("denver"), after(now, 2 * SECOND))
    assert linkstate.mine.name == "denver"


def test_own_lsa_is_renewed_before_its_lifetime_ends() -> None:
    config = LinkStateConfig(lifetime=Duration(30 * SECOND))
    linkstate, now = ready(A, config=config)
    sequence = linkstate.mine.sequence
    linkstate.handle(Wake(), after(now, 12 * SECOND))
    assert linkstate.mine.sequence == sequence + 1


def test_own_lsa_seen_with_a_higher_sequence_is_topped() -> None:
    linkstate, now = ready(A)
    actions = linkstate.handle(FloodReceived(A, flood(lsa(ME, 5000, "old me"))), after(now, SECOND))
    assert reasons(actions) == ["LSA of ours that we did not send"]
    assert linkstate.mine.sequence == 5001
    assert linkstate.mine.name == "n"
    assert (A, linkstate.mine) in flooded(actions)


def test_a_forged_own_lsa_does_not_move_our_sequence() -> None:
    linkstate, now = ready(A)
    sequence = linkstate.mine.sequence
    actions = linkstate.handle(FloodReceived(A, flood(lsa(ME, 5000), forged=True)), after(now, SECOND))
    assert reasons(actions) == ["LSA with a bad proof"]
    assert linkstate.mine.sequence == sequence


def test_a_clone_of_our_identity_does_not_make_us_flood_without_end() -> None:
    linkstate, now = ready(A)
    originated = 0
    for step in range(200):
        now = after(now, Duration(50 * MILLISECOND))
        before = linkstate.mine.sequence
        linkstate.handle(FloodReceived(A, flood(lsa(ME, before + 10, f"clone {step}"))), now)
        linkstate.handle(Wake(), now)
        originated += linkstate.mine.sequence != before
    assert originated < 30, "ten seconds of contest: a burst, then about one a second"


# Taking in


def test_a_new_lsa_is_acknowledged_held_and_passed_on_but_not_back() -> None:
    linkstate, now = ready(A, B)
    news = lsa(C, 3)
    actions = linkstate.handle(FloodReceived(A, flood(news)), now)
    assert linkstate.lsdb[C] == news
    assert sent(actions, Ack) == [(A, Ack((Receipt(C, 3),)))]
    assert flooded(actions) == [(B, news)]
    assert actions[-1] == LsdbChanged((C,))


def test_a_duplicate_is_acknowledged_and_changes_nothing() -> None:
    linkstate, now = ready(A, B)
    linkstate.handle(FloodReceived(A, flood(lsa(C, 3))), now)
    actions = linkstate.handle(FloodReceived(A, flood(lsa(C, 3))), now)
    assert sent(actions, Ack) == [(A, Ack((Receipt(C, 3),)))]
    assert len(actions) == 1


def test_an_older_lsa_is_answered_with_the_newer_one() -> None:
    linkstate, now = ready(A, B)
    linkstate.handle(FloodReceived(A, flood(lsa(C, 3))), now)
    actions = linkstate.handle(FloodReceived(A, flood(lsa(C, 2))), now)
    assert flooded(actions) == [(A, lsa(C, 3))]
    assert linkstate.lsdb[C].sequence == 3


@pytest.mark.parametrize("swapped", [False, True])
def test_of_two_lsas_with_one_sequence_the_greater_body_stays_whatever_the_order(swapped: bool) -> None:
    small, great = sorted([lsa(C, 3, "one"), lsa(C, 3, "two")], key=LSA_CODEC.encode, reverse=swapped)
    linkstate, now = ready(A)
    linkstate.handle(FloodReceived(A, flood(small)), now)
    actions = linkstate.handle(FloodReceived(A, flood(great)), now)
    assert reasons(actions) == ["conflicting LSA"]
    assert linkstate.lsdb[C] == max(small, great, key=LSA_CODEC.encode)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (Lsa(C, 1, "x", (Adjacency(C, LinkNumber(1), LinkNumber(1), 1),), ()), "LSA is adjacent to itself"),
        (Lsa(C, 1, "x", (Adjacency(A, LinkNumber(1), LinkNumber(1), 1),) * 2, ()), "LSA names an adjacency twice"),
        (Lsa(C, 1, "x", (), (Prefix(b"\x0a\x00\x00\x01", 24),)), "LSA with a malformed prefix"),
        (Lsa(C, 1, "x", (), (Prefix(b"\x0a\x00\x00\x00\x00", 24),)), "LSA with a malformed prefix"),
        (Lsa(C, 1, "x", (), (Prefix(b"\x0a\x00\x00\x00", 33),)), "LSA with a malformed prefix"),
        (Lsa(C, 1, "\x1b[2J", (), ()), "LSA with an unprintable name"),
    ],
)
def test_an_lsa_that_breaks_a_rule_is_refused_and_not_acknowledged(bad: Lsa, reason: str) -> None:
    linkstate, now = ready(A, B)
    actions = linkstate.handle(FloodReceived(A, flood(bad)), now)
    assert reasons(actions) == [reason]
    assert len(actions) == 1
    assert C not in linkstate.lsdb


def test_a_forged_lsa_is_refused_though_the_rest_of_its_payload_is_taken() -> None:
    linkstate, now = ready(A)
    items = (FloodItem(3_600_000, signed(lsa(B, 1), forged=True)), FloodItem(3_600_000, signed(lsa(C, 1))))
    actions = linkstate.handle(FloodReceived(A, FLOOD_CODEC.encode(Flood(items))), now)
    assert reasons(actions) == ["LSA with a bad proof"]
    assert B not in linkstate.lsdb
    assert C in linkstate.lsdb


def test_bytes_of_an_lsa_are_passed_on_unchanged() -> None:
    linkstate, now = ready(A, B)
    original = signed(lsa(C, 1))
    stretched = original[:0] + bytes([original[0] + 1]) + original[1:] + b"\x07"  # a field of a later version
    payload = FLOOD_CODEC.encode(Flood((FloodItem(3_600_000, stretched),)))
    [(_, passed)] = sent(linkstate.handle(FloodReceived(A, payload), now), Flood)
    assert isinstance(passed, Flood)
    assert passed.lsas[0].signed == stretched


# Retransmission


def test_an_unacknowledged_lsa_is_sent_again_with_doubling_waits_until_acknowledged() -> None:
    linkstate, now = ready(A, B)
    linkstate.handle(FloodReceived(A, flood(lsa(C, 1))), now)
    times = []
    for step in range(1, 160):
        at = after(now, Duration(step * 10 * MILLISECOND))
        times += [
            step * 10 for neighbour, one in flooded(linkstate.handle(Wake(), at)) if (neighbour, one.origin) == (B, C)
        ]
    assert times == [100, 300, 700, 1500]
    at = after(now, 2 * SECOND)
    linkstate.handle(FloodReceived(B, FLOOD_CODEC.encode(Ack((Receipt(C, 1),)))), at)
    for step in range(1, 100):
        actions = linkstate.handle(Wake(), after(at, Duration(step * 100 * MILLISECOND)))
        assert C not in [one.origin for _, one in flooded(actions)]


def test_an_acknowledgement_of_an_older_sequence_does_not_stop_retransmission() -> None:
    linkstate, now = ready(A, B)
    linkstate.handle(FloodReceived(A, flood(lsa(C, 2))), now)
    linkstate.handle(FloodReceived(B, FLOOD_CODEC.encode(Ack((Receipt(C, 1),)))), now)
    assert (B, lsa(C, 2)) in flooded(linkstate.handle(Wake(), after(now, Duration(100 * MILLISECOND))))


def test_the_same_lsa_from_a_neighbour_counts_as_its_acknowledgement() -> None:
    linkstate, now = ready(A, B)
    linkstate.handle(FloodReceived(A, flood(lsa(C, 2))), now)
    linkstate.handle(FloodReceived(B, flood(lsa(C, 2))), now)
    assert flooded(linkstate.handle(Wake(), after(now, Duration(100 * MILLISECOND)))) == []


def test_a_silent_neighbour_is_given_up_and_asked_for_its_digest_instead() -> None:
    linkstate, now = ready(A, B)
    linkstate.handle(FloodReceived(A, flood(lsa(C, 1))), now)
    copies = 0
    for step in range(1, 601):
        actions = linkstate.handle(Wake(), after(now, Duration(step * 50 * MILLISECOND)))
        copies += len([one for neighbour, one in flooded(actions) if (neighbour, one.origin) == (B, C)])
    assert copies == 8
    deadline = linkstate.deadline()
    assert deadline is not None
    assert deadline <= after(now, 37 * SECOND), "the comparison of databases goes on"


def test_a_given_up_lsa_makes_even_a_synced_neighbour_be_compared_with_soon() -> None:
    linkstate, now = ready(A, B, config=LinkStateConfig(anti_entropy=Duration(1000 * SECOND)))
    for neighbour in (A, B):
        linkstate.handle(FloodReceived(neighbour, FLOOD_CODEC.encode(Digest(linkstate.digest, ask=False))), now)
    linkstate.handle(FloodReceived(A, flood(lsa(C, 1))), now)
    asked = []
    for step in range(1, 300):
        actions = linkstate.handle(Wake(), after(now, Duration(step * 50 * MILLISECOND)))
        asked += [(step * 50, neighbour) for neighbour, _ in sent(actions, Digest)]
    assert asked
    assert asked[0] == (11_200, B) or asked[0] == (11_250, B)
    assert {neighbour for _, neighbour in asked} == {B}


# Comparing


def test_parallel_links_to_one_neighbour_carry_one_copy() -> None:
    linkstate, now = ready(A, B)
    linkstate.handle(up(B, link=9, remote=9), after(now, SECOND))
    actions = linkstate.handle(FloodReceived(A, flood(lsa(C, 1))), after(now, 2 * SECOND))
    assert [pair for pair in flooded(actions) if pair[1].origin == C] == [(B, lsa(C, 1))]


def test_a_new_neighbour_is_told_what_we_hold_at_once() -> None:
    linkstate, now = ready(A)
    linkstate.handle(FloodReceived(A, flood(lsa(C, 4))), now)
    actions = linkstate.handle(up(B, link=2), after(now, SECOND))
    [(neighbour, summary)] = sent(actions, Summary)
    assert neighbour == B
    assert isinstance(summary, Summary)
    assert {claim.origin: claim.sequence for claim in summary.claims}[C] == 4


def test_a_summary_brings_forth_what_the_sender_lacks_and_asks_for_what_we_lack() -> None:
    linkstate, now = ready(A, B)
    linkstate.handle(FloodReceived(B, flood(lsa(C, 4))), now)
    linkstate.handle(FloodReceived(A, FLOOD_CODEC.encode(Ack((Receipt(C, 4),)))), now)
    other = core(A)
    other.handle(Wake(), T0)
    other.handle(FloodReceived(B, flood(lsa(node(9), 1))), T0)
    [(_, page)] = sent(other.handle(up(ME), T0), Summary)
    actions = linkstate.handle(FloodReceived(A, FLOOD_CODEC.encode(page)), now)  # type: ignore[arg-type]
    assert {one.origin for neighbour, one in flooded(actions) if neighbour == A} >= {C, ME}
    [(_, request)] = sent(actions, Request)
    assert isinstance(request, Request)
    assert set(request.origins) == {A, node(9)}


def test_an_lsa_of_one_who_is_expelled_goes_and_is_neither_taken_nor_asked_for_again() -> None:
    linkstate, now = ready(A, B)
    linkstate.handle(FloodReceived(A, flood(lsa(C, 4))), now)
    assert C in linkstate.lsdb
    linkstate.handle(OriginsExpelled(frozenset((C, ME))), now)
    assert C not in linkstate.lsdb
    assert ME in linkstate.lsdb
    linkstate.handle(FloodReceived(A, flood(lsa(C, 5))), now)
    assert C not in linkstate.lsdb
    whole = Summary(NodeId(bytes(20)), NodeId(b"\xff" * 20), (Claim(C, 9, bytes(CLAIM_DIGEST_BYTES)),))
    assert sent(linkstate.handle(FloodReceived(A, FLOOD_CODEC.encode(whole)), now), Request) == []


def test_equal_digests_end_the_comparison() -> None:
    linkstate, now = ready(A)
    equal = FLOOD_CODEC.encode(Digest(linkstate.digest, ask=True))
    actions = linkstate.handle(FloodReceived(A, equal), now)
    assert sent(actions, Digest) == [(A, Digest(linkstate.digest, ask=False))]
    quiet = linkstate.deadline()
    assert quiet is not None
    assert quiet > after(now, 4 * SECOND), "no more until anti-entropy"


def test_a_summary_that_claims_more_than_it_covers_is_refused() -> None:
    linkstate, now = ready(A)
    page = linkstate.handle(up(B, link=2), after(now, SECOND))
    [(_, summary)] = sent(page, Summary)
    assert isinstance(summary, Summary)
    broken = Summary(NodeId(b"\xff" * 20), NodeId(b"\xff" * 20), summary.claims)
    assert reasons(linkstate.handle(FloodReceived(A, FLOOD_CODEC.encode(broken)), now)) == [
        "summary claims more than it covers"
    ]


def test_different_digests_bring_a_summary_but_not_faster_than_its_gap() -> None:
    linkstate, now = ready(A)
    now = after(now, SECOND)
    other = FLOOD_CODEC.encode(Digest(b"x" * 16, ask=True))
    pages = [len(sent(linkstate.handle(FloodReceived(A, other), after(now, Duration(n))), Summary)) for n in range(50)]
    assert sum(pages) == 1
    assert len(sent(linkstate.handle(FloodReceived(A, other), after(now, SECOND)), Summary)) == 1


def test_a_lasting_difference_is_compared_ever_more_slowly() -> None:
    linkstate, now = ready(A)
    other = FLOOD_CODEC.encode(Digest(b"x" * 16, ask=False))
    asked = 0
    for step in range(1, 1200):
        actions = linkstate.handle(Wake(), after(now, Duration(step * 50 * MILLISECOND)))
        if digests := sent(actions, Digest):
            assert digests == [(A, Digest(linkstate.digest, ask=True))]
            asked += 1
            linkstate.handle(FloodReceived(A, other), after(now, Duration(step * 50 * MILLISECOND)))
    assert asked <= 20, "a minute at five seconds, after the first few"


def test_a_large_database_meets_a_new_neighbour_with_its_digest() -> None:
    linkstate, now = ready(A)
    for number in range(100, 200):
        linkstate.handle(FloodReceived(A, flood(lsa(node(number), 1))), now)
    actions = linkstate.handle(up(B, link=2), after(now, SECOND))
    assert [neighbour for neighbour, _ in sent(actions, Digest)] == [B]
    assert sent(actions, Summary) == []


def test_a_summary_with_another_body_of_one_sequence_gets_ours() -> None:
    linkstate, now = ready(A, B)
    linkstate.handle(FloodReceived(B, flood(lsa(C, 4))), now)
    linkstate.handle(FloodReceived(A, FLOOD_CODEC.encode(Ack((Receipt(C, 4),)))), now)
    page = Summary(C, C, (Claim(C, 4, b"another."),))
    actions = linkstate.handle(FloodReceived(A, FLOOD_CODEC.encode(page)), now)
    assert flooded(actions) == [(A, lsa(C, 4))]


# Bounds


def test_a_sequence_at_the_end_of_numbers_is_not_followed() -> None:
    linkstate, now = ready(A)
    sequence = linkstate.mine.sequence
    actions = linkstate.handle(FloodReceived(A, flood(lsa(ME, 2**63 - 1))), after(now, SECOND))
    assert reasons(actions) == ["LSA of ours that we did not send"]
    assert linkstate.mine.sequence == sequence


def test_a_full_database_refuses_new_origins_and_still_renews_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("routing.linkstate.LSDB_MAX", 2)
    linkstate, now = ready(A)
    linkstate.handle(FloodReceived(A, flood(lsa(B, 1))), now)
    assert reasons(linkstate.handle(FloodReceived(A, flood(lsa(C, 1))), now)) == ["database full"]
    linkstate.handle(FloodReceived(A, flood(lsa(B, 2))), now)
    assert {origin: one.sequence for origin, one in linkstate.lsdb.items() if origin != ME} == {B: 2}


def test_adjacencies_beyond_what_an_lsa_holds_are_rejected() -> None:
    linkstate = core()
    for number in range(ADJACENCIES_MAX):
        linkstate.handle(up(A, link=number + 1), T0)
    assert reasons(linkstate.handle(up(A, link=ADJACENCIES_MAX + 1), T0)) == ["more adjacencies than an LSA holds"]
    linkstate.handle(Wake(), after(T0, SECOND))
    assert len(linkstate.mine.adjacencies) == ADJACENCIES_MAX


# Ageing


def test_an_lsa_nobody_renews_is_purged_when_its_lifetime_has_passed_and_not_before() -> None:
    linkstate, now = ready(A)
    linkstate.handle(FloodReceived(A, flood(lsa(C, 1), remaining_ms=20_000)), now)
    linkstate.handle(down(A), now)
    linkstate.handle(Wake(), after(now, 19 * SECOND))
    assert C in linkstate.lsdb, "unreachable origins are kept until then"
    actions = linkstate.handle(Wake(), after(now, 20 * SECOND))
    assert C not in linkstate.lsdb
    assert LsdbChanged((C,)) in actions


def test_a_purged_lsa_is_not_sent_again() -> None:
    linkstate, now = ready(A, B, config=LinkStateConfig(anti_entropy=Duration(1000 * SECOND)))
    linkstate.handle(FloodReceived(A, flood(lsa(C, 1), remaining_ms=3000)), now)
    for neighbour in (A, B):
        linkstate.handle(FloodReceived(neighbour, FLOOD_CODEC.encode(Digest(linkstate.digest, ask=False))), now)
    for step in range(61):
        linkstate.handle(Wake(), after(now, Duration(step * 50 * MILLISECOND)))
    deadline = linkstate.deadline()
    assert C not in linkstate.lsdb
    assert deadline is not None
    assert deadline > after(now, 600 * SECOND), "nothing is left to do for it"


def test_a_remaining_lifetime_is_not_raised_by_a_second_copy() -> None:
    linkstate, now = ready(A, B)
    linkstate.handle(FloodReceived(A, flood(lsa(C, 1), remaining_ms=20_000)), now)
    linkstate.handle(FloodReceived(B, flood(lsa(C, 1), remaining_ms=3_000_000)), now)
    linkstate.handle(Wake(), after(now, 20 * SECOND))
    assert C not in linkstate.lsdb


def test_a_lifetime_beyond_the_longest_is_cut() -> None:
    linkstate, now = ready(A, config=LinkStateConfig(lifetime=Duration(30 * SECOND)))
    linkstate.handle(FloodReceived(A, flood(lsa(C, 1), remaining_ms=2**40)), now)
    linkstate.handle(Wake(), after(now, 30 * SECOND))
    assert C not in linkstate.lsdb


def test_a_newer_sequence_renews_the_lifetime() -> None:
    linkstate, now = ready(A)
    linkstate.handle(FloodReceived(A, flood(lsa(C, 1), remaining_ms=20_000)), now)
    linkstate.handle(FloodReceived(A, flood(lsa(C, 2), remaining_ms=60_000)), after(now, 10 * SECOND))
    linkstate.handle(Wake(), after(now, 30 * SECOND))
    assert C in linkstate.lsdb


def test_a_dying_lsa_is_not_learnt_anew() -> None:
    linkstate, now = ready(A)
    actions = linkstate.handle(FloodReceived(A, flood(lsa(C, 1), remaining_ms=500)), now)
    assert C not in linkstate.lsdb
    assert sent(actions, Ack) == [(A, Ack((Receipt(C, 1),)))]


# Networks


@dataclass
class Net:
    """LinkState cores joined by wires that lose, double, delay and reorder."""

    rng: random.Random
    loss: float
    now: Instant = T0
    cores: dict[NodeId, LinkState] = field(default_factory=dict)
    edges: list[tuple[NodeId, NodeId]] = field(default_factory=list)
    wire: list[tuple[Instant, int, NodeId, NodeId, bytes]] = field(default_factory=list)
    stored: dict[NodeId, bytes] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)

    def start(self, me: NodeId) -> None:
        config = LinkStateConfig(anti_entropy=Duration(1 * SECOND))
        self.cores[me] = LinkState(
            me, "n", Seal(me), Seal(me), self.stored.get(me), random.Random(self.rng.random()), config
        )
        self.tell(me, Wake())

    def join(self, u: NodeId, v: NodeId) -> None:
        self.edges.append((u, v))
        self.tell(u, up(v, *self._numbers(u, v)))
        self.tell(v, up(u, *self._numbers(v, u)))

    def part(self, u: NodeId, v: NodeId) -> None:
        self.edges.remove((u, v))
        self.tell(u, down(v, *self._numbers(u, v)))
        self.tell(v, down(u, *self._numbers(v, u)))

    def _numbers(self, u: NodeId, v: NodeId) -> tuple[int, int]:
        order = sorted(self.cores)
        return order.index(v) + 1, order.index(u) + 1

    def tell(self, me: NodeId, event: LinkStateEvent) -> None:
        for action in self.cores[me].handle(event, self.now):
            match action:
                case SendFlood(neighbour, payload):
                    self.sizes.append(len(payload))
                    for _ in range(2 if self.rng.random() < self.loss / 2 else 1):
                        if self.rng.random() >= self.loss:
                            delay = Duration(self.rng.randrange(1, 40) * MILLISECOND)
                            self.wire.append((after(self.now, delay), len(self.sizes), me, neighbour, payload))
                case Persist(_, value):
                    self.stored[me] = value
                case Rejected() | LsdbChanged():
                    pass
                case _:
                    assert_never(action)

    def run(self, duration: Duration) -> None:
        end = after(self.now, duration)
        while True:
            self.wire.sort()
            wakes = [(deadline, me) for me, one in self.cores.items() if (deadline := one.deadline()) is not None]
            next_wake = min(wakes, default=(end, b""))
            if self.wire and self.wire[0][0] <= next_wake[0]:
                at, _, source, target, payload = self.wire.pop(0)
                if at > end:
                    self.wire.insert(0, (at, 0, source, target, payload))
                    break
                self.now = max(self.now, at)
                if (source, target) in self.edges or (target, source) in self.edges:
                    self.tell(target, FloodReceived(source, payload))
            elif next_wake[0] >= end:
                break
            else:
                self.now = max(self.now, next_wake[0])
                self.tell(NodeId(next_wake[1]), Wake())
        self.now = end

    def assert_equal(self) -> None:
        contents = [dict(one.lsdb) for one in self.cores.values()]
        assert all(content == contents[0] for content in contents)
        assert set(contents[0]) == set(self.cores)
        assert {one.digest for one in self.cores.values()} == {next(iter(self.cores.values())).digest}


def grown(seed: int, nodes: int, loss: float) -> Net:
    net = Net(random.Random(seed), loss)
    ids = [node(number) for number in range(nodes)]
    for one in ids:
        net.start(one)
    for number in range(1, nodes):
        net.join(ids[number], ids[net.rng.randrange(number)])
    for _ in range(nodes // 2):
        u, v = net.rng.sample(ids, 2)
        if (u, v) not in net.edges and (v, u) not in net.edges:
            net.join(u, v)
    return net


@pytest.mark.parametrize("seed", range(6))
def test_at_rest_all_databases_are_equal_under_loss_duplication_and_reordering(seed: int) -> None:
    net = grown(seed, 9, loss=0.3)
    net.run(Duration(20 * SECOND))
    net.assert_equal()
    assert max(net.sizes) <= FLOOD_BYTES_MAX


def test_without_loss_a_cold_start_is_over_within_a_few_round_trips() -> None:
    net = grown(7, 16, loss=0.0)
    net.run(Duration(700 * MILLISECOND))
    net.assert_equal()


@pytest.mark.parametrize("seed", range(3))
def test_two_parts_that_meet_again_end_up_with_one_database(seed: int) -> None:
    net = Net(random.Random(seed), 0.2)
    ids = [node(number) for number in range(8)]
    for one in ids:
        net.start(one)
    for u, v in pairwise(ids):
        net.join(u, v)
    net.run(Duration(5 * SECOND))
    net.part(ids[3], ids[4])
    net.run(Duration(2 * SECOND))
    for one in ids:
        net.tell(one, NameSet(f"renamed {one.hex()[:4]}"))
    net.run(Duration(2 * SECOND))
    assert net.cores[ids[0]].lsdb[ids[7]].name == "n", "news does not cross the cut"
    net.join(ids[3], ids[4])
    net.run(Duration(20 * SECOND))
    net.assert_equal()
    assert net.cores[ids[0]].lsdb[ids[7]].name != "n"


@pytest.mark.parametrize("keeps_state", [True, False])
def test_a_node_that_lost_its_memory_is_known_by_its_new_lsa(keeps_state: bool) -> None:
    net = grown(3, 6, loss=0.1)
    net.run(Duration(5 * SECOND))
    victim = node(2)
    if not keeps_state:
        net.tell(victim, FloodReceived(node(0), flood(lsa(victim, 4000))))  # has counted far
        net.run(Duration(5 * SECOND))
        del net.stored[victim]
    old = net.cores[victim].mine.sequence
    net.start(victim)
    for u, v in net.edges:
        if victim in (u, v):
            other = v if u == victim else u
            net.tell(victim, up(other, *net._numbers(victim, other)))
            net.tell(other, up(victim, *net._numbers(other, victim)))
    net.tell(victim, NameSet("reborn"))
    net.run(Duration(20 * SECOND))
    net.assert_equal()
    assert net.cores[node(0)].lsdb[victim].name == "reborn"
    assert net.cores[victim].mine.sequence > old


def test_a_database_of_hundreds_crosses_one_lossy_link() -> None:
    net = Net(random.Random(5), 0.2)
    full, empty = node(0), node(1)
    net.start(full)
    net.start(empty)
    for number in range(2, 402):
        net.tell(full, FloodReceived(node(number), flood(lsa(node(number), number))))
    net.join(full, empty)
    net.run(Duration(30 * SECOND))
    assert dict(net.cores[empty].lsdb) == dict(net.cores[full].lsdb)
    assert len(net.cores[empty].lsdb) == 402


def test_a_planted_sequence_that_is_not_raised_breaks_equality() -> None:
    """The rule is in one place, and a checker of equal databases sees when it is broken."""

    class Stuck(LinkState):
        def _next_sequence(self, floor: int) -> tuple[int, list[Persist]]:
            return 1, []

    net = grown(1, 5, loss=0.0)
    victim = node(2)
    net.cores[victim] = Stuck(victim, "n", Seal(victim), Seal(victim), None, random.Random(1))
    for u, v in net.edges:
        if victim in (u, v):
            net.tell(victim, up(v if u == victim else u, *net._numbers(victim, v if u == victim else u)))
    net.run(Duration(5 * SECOND))
    net.tell(victim, NameSet(""))  # a lesser body, so that the rule for conflicts does not heal it
    net.run(Duration(10 * SECOND))
    with pytest.raises(AssertionError):
        net.assert_equal()
