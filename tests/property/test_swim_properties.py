"""Codecs, precedence and the core against anything."""

import random
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from gossip.broadcasts import Broadcasts
from gossip.members import INCARNATION_MAX, Members, Standing, State, join
from gossip.messages import (
    MESSAGE_CODEC,
    PAYLOAD_BYTES_MAX,
    UPDATE_CODEC,
    Ack,
    Gossip,
    Leave,
    Message,
    Nack,
    Ping,
    PingReq,
    SyncPage,
    SyncRequest,
    Update,
)
from gossip.swim import Datagram, LeaveRequested, PathChanged, PeerMet, Send, Swim, SwimConfig, SwimEvent
from sansio.core import Rejected, Wake
from sansio.errors import RemoteProtocolError
from sansio.ids import NodeId
from sansio.instant import Instant
from tests.unit.gossip.swim_net import identity

nodes = st.integers(1, 6).map(identity)
any_node = st.binary(min_size=20, max_size=20).map(NodeId)
incarnations = st.one_of(st.integers(0, 80), st.integers(0, INCARNATION_MAX))
states = st.sampled_from(State)
sequences = st.integers(0, 2**32 - 1)
updates = st.builds(
    Update,
    st.one_of(nodes, any_node),
    incarnations,
    states,
    st.text(max_size=64),
    st.one_of(st.none(), nodes),
    st.integers(0, 2**32 - 1),
)
news = st.lists(updates, max_size=4).map(tuple)
standings = st.builds(Standing, st.integers(0, 3), states, st.sampled_from(["", "a", "b"]))
bounds = st.binary(max_size=20)
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Ping, incarnations, sequences, news),
    st.builds(PingReq, incarnations, sequences, news, nodes, st.integers(1, 600_000)),
    st.builds(Ack, incarnations, sequences, news),
    st.builds(Nack, incarnations, sequences, news),
    st.builds(Gossip, incarnations, news),
    st.builds(SyncRequest, incarnations, news, st.integers(0, 2**64 - 1)),
    st.builds(SyncPage, incarnations, news, bounds, bounds, st.integers(0, 1)),
    st.builds(Leave, incarnations, sequences, news),
)
LIKE_A_MESSAGE = st.lists(
    st.recursive(
        st.one_of(st.none(), st.integers(-5, 2**63), st.binary(max_size=24), st.text(max_size=6)),
        lambda inner: st.lists(inner, max_size=6),
        max_leaves=12,
    ),
    max_size=8,
).map(msgspec.msgpack.encode)


@given(messages)
@settings(deadline=None)
def test_messages_round_trip(message: Message) -> None:
    assert MESSAGE_CODEC.decode(MESSAGE_CODEC.encode(message), "peer") == message


@given(st.one_of(st.binary(max_size=200), LIKE_A_MESSAGE))
@settings(deadline=None, max_examples=100)
def test_arbitrary_bytes_decode_or_raise_a_remote_protocol_error(data: bytes) -> None:
    try:
        message = MESSAGE_CODEC.decode(data, "peer")
    except RemoteProtocolError:
        return
    assert MESSAGE_CODEC.decode(MESSAGE_CODEC.encode(message), "peer") == message


@given(st.one_of(st.binary(max_size=200), LIKE_A_MESSAGE))
@settings(deadline=None, max_examples=60)
def test_arbitrary_bytes_are_digested_or_rejected_by_the_core(data: bytes) -> None:
    core = Swim(identity(1), "me", SwimConfig(), random.Random(0), None, lambda _: 1)
    core.handle(PeerMet(identity(2), "two"), Instant(0))
    before = core.members()
    actions = core.handle(Datagram(identity(2), data), Instant(1))
    if any(isinstance(action, Rejected) and "decoded" in action.reason for action in actions):
        assert core.members() == before
        assert len(actions) == 1


@given(standings, standings, standings)
@settings(deadline=None)
def test_precedence_is_a_join_semilattice(a: Standing, b: Standing, c: Standing) -> None:
    assert join(a, a) == a
    assert join(a, b) == join(b, a)
    assert join(join(a, b), c) == join(a, join(b, c))
    # An upper bound of both, and therefore the order that the docstring draws.
    assert join(a, join(a, b)) == join(a, b)
    assert join(a, b).incarnation == max(a.incarnation, b.incarnation)


@given(st.lists(standings, min_size=1, max_size=6), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_claims_in_any_order_and_any_number_end_in_the_same_belief(claims: list[Standing], rng: random.Random) -> None:
    def believe(order: list[Standing]) -> Standing:
        held = order[0]
        for claim in order[1:]:
            held = join(held, claim)
        return held

    again = [*claims, rng.choice(claims)]
    rng.shuffle(again)
    assert believe(again) == believe(claims)


@given(st.lists(st.tuples(nodes, standings, st.booleans()), max_size=30))
@settings(deadline=None)
def test_the_digest_of_a_table_is_that_of_its_contents(steps: list[tuple[NodeId, Standing, bool]]) -> None:
    table, naive = Members(), dict[NodeId, Standing]()
    for node, standing, keep in steps:
        if keep:
            table.put(node, standing, Instant(0))
            naive[node] = standing
        else:
            table.remove(node)
            naive.pop(node, None)
    fresh = Members()
    for node in sorted(naive):
        fresh.put(node, naive[node], Instant(0))
    assert table.digest == fresh.digest
    assert set(table.up()) == {node for node, standing in naive.items() if standing.state.up}


@given(st.lists(st.one_of(updates, st.integers(0, 700)), max_size=40), st.integers(1, 6))
@settings(deadline=None)
def test_the_queue_sends_each_update_its_copies_least_sent_first(steps: list[Update | int], limit: int) -> None:
    queue = Broadcasts()
    naive: dict[NodeId, tuple[Update, int]] = {}
    for step in steps:
        if isinstance(step, Update):
            queue.put(step)
            naive[step.node] = (step, 0)
            continue
        taken = queue.take(step, limit)
        assert sum(len(UPDATE_CODEC.encode(update)) for update in taken) <= step
        counts = [naive[update.node][1] for update in taken]
        assert counts == sorted(counts)
        for update in taken:
            held, count = naive.pop(update.node)
            assert held == update
            if count + 1 < limit:
                naive[update.node] = (held, count + 1)
        assert len(queue) == len(naive)


def _events(draw: Any) -> SwimEvent:
    return draw(
        st.one_of(
            st.builds(PeerMet, nodes, st.text(max_size=70)),
            st.builds(PathChanged, nodes),
            st.builds(Datagram, nodes, messages.map(MESSAGE_CODEC.encode)),
            st.just(Wake()),
            st.just(Wake()),
        )
    )


@given(st.data(), st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_no_sequence_of_events_breaks_the_core_or_a_size(data: st.DataObject, seed: int) -> None:
    rng = random.Random(seed)
    core = Swim(identity(1), "me", SwimConfig(), rng, None, lambda node: rng.choice((None, 0, 3)))
    now = Instant(0)
    leave_at = data.draw(st.integers(5, 80))
    answers: list[SwimEvent] = []
    for step in range(40):
        event = LeaveRequested() if step == leave_at else _events(data.draw)
        if answers and data.draw(st.booleans()):
            event = answers.pop()
        due = core.deadline()
        now = (
            Instant(max(now, due))
            if isinstance(event, Wake) and due is not None
            else Instant(now + rng.randrange(10**8))
        )
        for action in core.handle(event, now):
            if not isinstance(action, Send):
                continue
            assert len(action.payload) <= PAYLOAD_BYTES_MAX
            said = MESSAGE_CODEC.decode(action.payload, "me")
            if isinstance(said, Ping | PingReq | Leave):
                answer = rng.choice((Ack, Nack))(rng.randrange(9), said.sequence, ())
                answers.append(Datagram(action.to, MESSAGE_CODEC.encode(answer)))
        first, *others = core.members()
        assert first.node == identity(1), "nothing that is claimed of us is ever believed"
        assert all(member.node != identity(1) for member in others)
        assert first.state in (State.ALIVE, State.LEFT)
        due = core.deadline()
        assert due is None or not isinstance(event, Wake) or due > now, "a wake leaves nothing due"
