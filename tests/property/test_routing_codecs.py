"""Whatever the bytes: what we encode decodes to itself, and nothing from outside makes a core raise."""

import random
from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from routing.adjacency import HELLO_CODEC, Adjacencies, Heard, Hello, HelloReceived
from routing.control import FRAME_CODEC, ControlRouter, Frame, FrameReceived
from routing.discovery import GREETING_CODEC, Discovery, Greeting, GreetingReceived
from routing.flood import FLOOD_CODEC, Ack, Claim, Digest, Flood, FloodItem, FloodMessage, Receipt, Request, Summary
from routing.linkstate import SIGNED_CODEC, FloodReceived, LinkState
from routing.lsa import LSA_CODEC, Adjacency, Attachment, LinkNumber, Lsa, Prefix, SignedLsa
from routing.lsdb import lsa_problem
from routing.neighbours import LinkUp, NeighbourUp
from sansio.core import Rejected
from sansio.errors import RemoteProtocolError
from sansio.ids import MeshId, NodeId
from sansio.instant import SECOND, Instant
from sansio.wire import Codec

ME, PEER = NodeId(b"m" * 20), NodeId(b"p" * 20)
LINK = LinkNumber(1)
NOW = Instant(SECOND)
few = settings(deadline=None, max_examples=60)

nodes = st.binary(min_size=20, max_size=20).map(NodeId)
links = st.integers(1, 2**32 - 1).map(LinkNumber)
instances = st.integers(0, 2**63 - 1)
sequences = st.integers(0, 2**63 - 1)
metrics = st.integers(1, 2**24 - 1)
names = st.text(max_size=20)
blobs = st.binary(max_size=80)
prefixes = st.builds(
    Prefix, st.sampled_from([4, 5, 16]).flatmap(lambda n: st.binary(min_size=n, max_size=n)), st.integers(0, 128)
)
adjacencies = st.builds(Adjacency, nodes, links, links, metrics)
attachments = st.builds(
    Attachment, links, st.binary(min_size=14, max_size=14).map(b"\xfe\x80".__add__), st.integers(0, 5)
)
lsas = st.builds(
    Lsa,
    nodes | st.sampled_from([ME, PEER]),
    sequences,
    names,
    st.lists(adjacencies, max_size=4).map(tuple),
    st.lists(prefixes, max_size=3).map(tuple),
    st.integers(-(2**31), 2**31),
    st.integers(1, 3),
    st.lists(attachments, max_size=3).map(tuple),
    st.integers(0, 255),
)
signed_lsas = lsas.flatmap(
    lambda lsa: st.sampled_from([b"good", b"bad"]).map(
        lambda p: SIGNED_CODEC.encode(SignedLsa(LSA_CODEC.encode(lsa), p))
    )
)
greetings = st.builds(Greeting, nodes, names, st.binary(min_size=16, max_size=16).map(MeshId), st.booleans())
hellos = st.builds(
    Hello,
    instances,
    links,
    metrics,
    st.integers(1, 600_000),
    st.integers(1, 600_000),
    st.none() | st.builds(Heard, nodes, links, instances),
    st.booleans(),
    st.booleans(),
)
items = st.builds(FloodItem, st.integers(0, 2**40), signed_lsas | blobs)
floods: st.SearchStrategy[FloodMessage] = st.one_of(
    st.builds(Flood, st.lists(items, max_size=4).map(tuple)),
    st.builds(Ack, st.lists(st.builds(Receipt, nodes, sequences), max_size=4).map(tuple)),
    st.builds(Digest, st.binary(min_size=16, max_size=16), st.booleans()),
    st.builds(
        Summary,
        nodes,
        nodes,
        st.lists(st.builds(Claim, nodes, sequences, st.binary(min_size=8, max_size=8)), max_size=4).map(tuple),
    ),
    st.builds(Request, st.lists(nodes, max_size=4).map(tuple)),
)
prefix_lists = st.lists(st.binary(min_size=8, max_size=8), max_size=32).map(b"".join)
frames = st.builds(
    Frame, nodes | st.just(PEER), nodes | st.just(ME), st.integers(0, 32), prefix_lists, prefix_lists, blobs
)

CODECS: list[Codec[Any]] = [LSA_CODEC, SIGNED_CODEC, GREETING_CODEC, HELLO_CODEC, FLOOD_CODEC, FRAME_CODEC]


class Gate:
    """Believes what is marked good."""

    def sign(self, body: bytes) -> bytes:
        return b"good"

    def verify(self, origin: NodeId, body: bytes, proof: bytes) -> bool:
        return proof == b"good"


def linkstate() -> LinkState:
    core = LinkState(ME, "me", Gate(), Gate(), None, random.Random(1))
    core.handle(NeighbourUp(PEER, LINK, LINK, "fe80::2", 1), NOW)
    return core


def adjacency() -> Adjacencies:
    core = Adjacencies(ME, random.Random(1))
    core.handle(LinkUp(LINK, "eth0", 1), NOW)
    return core


def discovery() -> Discovery:
    core = Discovery(ME, "me", MeshId(b"m" * 16), random.Random(1))
    core.handle(LinkUp(LINK, "eth0", 1), NOW)
    return core


@few
@given(lsas, greetings, hellos, floods, frames)
def test_every_message_survives_its_codec(
    lsa: Lsa, greeting: Greeting, hello: Hello, flood: FloodMessage, frame: Frame
) -> None:
    assert LSA_CODEC.decode(LSA_CODEC.encode(lsa), "") == lsa
    assert GREETING_CODEC.decode(GREETING_CODEC.encode(greeting), "") == greeting
    assert HELLO_CODEC.decode(HELLO_CODEC.encode(hello), "") == hello
    assert FLOOD_CODEC.decode(FLOOD_CODEC.encode(flood), "") == flood
    assert FRAME_CODEC.decode(FRAME_CODEC.encode(frame), "") == frame


def mangled(data: bytes, rng: random.Random) -> bytes:
    """``data`` with some bytes changed, cut or added."""
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        position = rng.randrange(len(changed) + 1)
        match rng.randrange(3):
            case 0:
                changed[position:position] = bytes([rng.randrange(256)])
            case 1:
                del changed[position : position + 1]
            case _:
                changed[position : position + 1] = bytes([rng.randrange(256)])
    return bytes(changed)


@few
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_decoded_or_refused(data: bytes) -> None:
    for codec in CODECS:
        with suppress(RemoteProtocolError):
            codec.decode(data, "test")


def feed_all(data: bytes) -> list[list[Any]]:
    return [
        list(linkstate().handle(FloodReceived(PEER, data), NOW)),
        list(adjacency().handle(HelloReceived(PEER, LINK, "fe80::2", data), NOW)),
        list(discovery().handle(GreetingReceived(LINK, "fe80::2", data), NOW)),
        list(ControlRouter(ME).handle(FrameReceived(PEER, data, False), NOW)),
        list(ControlRouter(ME).handle(FrameReceived(PEER, data, True), NOW)),
    ]


@few
@given(st.binary(max_size=120))
def test_arbitrary_bytes_never_make_a_core_raise(data: bytes) -> None:
    feed_all(data)


@few
@given(floods, hellos, greetings, frames, st.randoms(use_true_random=False))
def test_well_formed_and_mangled_messages_never_make_a_core_raise(
    flood: FloodMessage, hello: Hello, greeting: Greeting, frame: Frame, rng: random.Random
) -> None:
    for data in (
        FLOOD_CODEC.encode(flood),
        HELLO_CODEC.encode(hello),
        GREETING_CODEC.encode(greeting),
        FRAME_CODEC.encode(frame),
    ):
        feed_all(data)
        feed_all(mangled(data, rng))


@few
@given(st.lists(signed_lsas, max_size=6))
def test_nothing_unproven_or_malformed_enters_the_database(signed: list[bytes]) -> None:
    core = linkstate()
    for one in signed:
        payload = FLOOD_CODEC.encode(Flood((FloodItem(3_600_000, one),)))
        refused = any(isinstance(action, Rejected) for action in core.handle(FloodReceived(PEER, payload), NOW))
        shape = SIGNED_CODEC.decode(one, "")
        lsa = LSA_CODEC.decode(shape.body, "")
        if shape.proof != b"good" or lsa_problem(lsa) is not None:
            # One that is no newer than what is held is passed over unread.
            known = core.lsdb.get(lsa.origin)
            assert refused or (known is not None and known.sequence >= lsa.sequence)
    for origin, held in core.lsdb.items():
        assert core.proof(origin) == b"good"
        assert lsa_problem(held) is None
