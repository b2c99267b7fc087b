"""The database by itself."""

import random

from routing.lsa import LSA_CODEC, Lsa, Prefix
from routing.lsdb import Entry, Freshness, Lsdb, lsa_problem
from sansio.ids import NodeId, node_id


def entry(number: int, sequence: int = 1, name: str = "x") -> Entry:
    lsa = Lsa(node_id(number.to_bytes(4, "big")), sequence, name, (), ())
    return Entry(lsa, LSA_CODEC.encode(lsa), b"proof", b"signed", None)


def test_digest_depends_on_the_contents_and_not_on_their_history() -> None:
    rng = random.Random(1)
    entries = [entry(number, rng.randrange(100)) for number in range(50)]
    straight, crooked = Lsdb(), Lsdb()
    for one in entries:
        straight.put(one)
    for one in rng.sample(entries, 50):
        crooked.put(entry(60))
        crooked.put(one)
        crooked.remove(one.lsa.origin)
        crooked.put(one)
    assert straight.digest != crooked.digest
    crooked.remove(entry(60).lsa.origin)
    assert straight.digest == crooked.digest
    assert dict(straight.view) == dict(crooked.view)


def test_digest_tells_sequences_and_bodies_apart() -> None:
    digests = set()
    for one in (entry(1, 1), entry(1, 2), entry(1, 1, "y"), entry(2, 1)):
        lsdb = Lsdb()
        lsdb.put(one)
        digests.add(lsdb.digest)
    assert len(digests) == 4


def test_an_emptied_database_is_as_new() -> None:
    lsdb = Lsdb()
    lsdb.put(entry(1, 1))
    lsdb.put(entry(1, 2))
    lsdb.remove(entry(1).lsa.origin)
    lsdb.remove(entry(1).lsa.origin)
    assert lsdb.digest == Lsdb().digest
    assert len(lsdb) == 0


def test_freshness_is_decided_by_sequence_then_body() -> None:
    lsdb = Lsdb()
    held = entry(1, 5, "m")
    assert lsdb.freshness(held.lsa, held.body) is Freshness.NEWER
    lsdb.put(held)
    assert lsdb.freshness(held.lsa, held.body) is Freshness.SAME
    for other, expected in (
        (entry(1, 6, "a"), Freshness.NEWER),
        (entry(1, 4, "z"), Freshness.OLDER),
        (entry(1, 5, "z"), Freshness.NEWER),
        (entry(1, 5, "a"), Freshness.OLDER),
    ):
        assert lsdb.freshness(other.lsa, other.body) is expected


def test_between_yields_the_origins_of_a_range_in_order() -> None:
    lsdb = Lsdb()
    entries = sorted((entry(number) for number in range(20)), key=lambda one: one.lsa.origin)
    for one in entries:
        lsdb.put(one)
    first, last = entries[3].lsa.origin, entries[9].lsa.origin
    assert [one.lsa.origin for one in lsdb.between(first, last)] == [one.lsa.origin for one in entries[3:10]]
    assert list(lsdb.between(NodeId(b"\xff" * 20), NodeId(bytes(20)))) == []


def test_the_view_is_live_and_read_only() -> None:
    lsdb = Lsdb()
    lsdb.put(entry(1))
    assert list(lsdb.view) == [entry(1).lsa.origin]
    assert not hasattr(lsdb.view, "__setitem__")


def test_a_prefix_is_canonical_when_no_bit_beyond_its_length_is_set() -> None:
    prefixes = ("10.0.1.0/24", "10.0.0.0/23", "0.0.0.0/0", "255.255.255.255/32")
    assert lsa_problem(Lsa(node_id(b"a"), 1, "x", (), tuple(map(Prefix.parse, prefixes)))) is None
    for network in (b"\x0a\x00\x01\x01", b"\x0a\x00\x01\x80"):
        assert lsa_problem(Lsa(node_id(b"a"), 1, "x", (), (Prefix(network, 24),))) == "LSA with a malformed prefix"
