"""Whatever the bytes: statements decode to themselves, and nothing from outside makes a replica raise."""

import contextlib
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from gossip.replica import Received, Replica, Started
from gossip.statements import (
    PARTS,
    REPLICA_CODEC,
    STATED_CODEC,
    Compare,
    Entry,
    Parts,
    Push,
    Stated,
    Statement,
    Summary,
    Want,
    held,
)
from sansio.core import Rejected, Wake
from sansio.errors import RemoteProtocolError
from sansio.ids import NodeId
from sansio.instant import SECOND, Instant
from tests.unit.gossip.replica_net import REALM, RULES, Keys, identity, proof_of

ME = identity(1)
few = settings(deadline=None, max_examples=60)

authors = st.integers(1, 5).map(identity)
numbers = st.binary(min_size=8, max_size=8)
stateds = st.builds(
    Stated,
    st.sampled_from(["t", "wide", "law", "later"]),
    st.binary(max_size=4),
    st.integers(1, 2**62),
    st.binary(max_size=40),
)


def signed(author: NodeId, stated: Stated, good: bool) -> Statement:
    body = STATED_CODEC.encode(stated)
    return Statement(author, body, proof_of(author, body) if good else b"bad")


statements = st.builds(signed, authors, stateds, st.booleans()) | st.builds(
    Statement, authors, st.binary(max_size=60), st.binary(max_size=20)
)
messages = st.one_of(
    st.builds(Push, st.lists(statements, max_size=6).map(tuple)),
    st.builds(Compare, numbers),
    st.builds(Parts, st.lists(numbers, min_size=PARTS, max_size=PARTS).map(tuple)),
    st.builds(
        Summary,
        st.integers(0, PARTS - 1),
        st.lists(st.builds(Entry, numbers, st.integers(1, 2**62), numbers), max_size=5).map(tuple),
        numbers,
        numbers,
    ),
    st.builds(Want, st.lists(numbers, max_size=5).map(tuple)),
)


def replica(seed: int = 1) -> Replica:
    keys = Keys(ME)
    core = Replica(ME, REALM, keys, keys, random.Random(seed), {}, RULES, lambda: [identity(2), identity(3)])
    core.handle(Started(), Instant(0))
    return core


@few
@given(messages)
def test_messages_round_trip(message):
    assert REPLICA_CODEC.decode(REPLICA_CODEC.encode(message), "peer") == message


@few
@given(st.binary(max_size=300))
def test_bytes_decode_or_are_refused(data):
    for decode in (REPLICA_CODEC.decode, STATED_CODEC.decode):
        with contextlib.suppress(RemoteProtocolError):
            decode(data, "peer")


@few
@given(st.lists(messages.map(REPLICA_CODEC.encode) | st.binary(max_size=80), max_size=8))
def test_whatever_members_say_a_replica_answers_within_bounds_and_holds_only_what_was_signed(payloads):
    core = replica()
    for step, payload in enumerate(payloads):
        now = Instant((step + 1) * SECOND)
        core.handle(Received(identity(2), payload), now)
        due = core.deadline()
        assert due is not None
        if due <= now:
            core.handle(Wake(), now)
    for topic in ("t", "wide", "law", "later"):
        for each in core.topic(topic):
            assert each.statement.proof == proof_of(each.key.author, each.statement.signed)


@few
@given(st.lists(statements, max_size=20), st.randoms())
def test_the_order_of_arrival_does_not_matter(given_statements, rng):
    first, second = replica(), replica()
    shuffled = list(given_statements)
    rng.shuffle(shuffled)
    for core, order in ((first, given_statements), (second, shuffled)):
        for statement in order:
            actions = core.handle(Received(identity(2), REPLICA_CODEC.encode(Push((statement,)))), Instant(0))
            assert not any("fast" in action.reason for action in actions if isinstance(action, Rejected))
    assert first.digest == second.digest


@few
@given(statements)
def test_a_statement_is_read_the_same_by_everybody_or_by_nobody(statement):
    try:
        each = held(statement)
    except RemoteProtocolError:
        return
    assert each == held(statement)
