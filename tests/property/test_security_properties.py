"""Security against naive oracles and arbitrary bytes."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from dmssd.security.admission import JOIN_CODEC, JoinAccepted, JoinRefused, JoinRequest
from dmssd.security.certificate import CHAIN_CODEC, verify_chain
from dmssd.security.introduction import INTRODUCTION_CODEC, Introduction, meet
from dmssd.security.noise import SplitKeys
from dmssd.security.replay import WINDOW, ReplayWindow
from dmssd.security.signer import MeshVerifier
from dmssd.security.token import Token
from dmssd.security.transport import Transport
from sansio.errors import AdmissionError, RemoteProtocolError
from sansio.ids import MeshId, NodeId

LIGHT = settings(deadline=None, max_examples=150)


class NaiveWindow:
    """RFC 6479 without the cleverness: a set of all counters, and the highest."""

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def accept(self, counter: int) -> bool:
        top = max(self.seen, default=-1)
        if counter in self.seen or counter <= top - WINDOW:
            return False
        self.seen.add(counter)
        return True


steps = st.one_of(
    st.integers(-5, 5), st.integers(-WINDOW - 3, WINDOW + 3), st.integers(0, 5 * WINDOW), st.just(1), st.just(WINDOW)
)


@LIGHT
@given(st.lists(steps, max_size=80))
@example([0, WINDOW, -WINDOW, 1 - WINDOW])
def test_the_replay_window_accepts_exactly_what_a_set_of_all_counters_would(moves):
    window, naive, at = ReplayWindow(), NaiveWindow(), 0
    for move in moves:
        at = max(0, at + move)
        fresh = window.fresh(at)
        assert fresh == naive.accept(at)
        if fresh:
            window.mark(at)
            assert not window.fresh(at)


@LIGHT
@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.integers(0, 3))
def test_each_sealed_datagram_opens_exactly_once_in_any_order(order, near):
    # Around the end of an epoch too: 15 before it, or far from it.
    start = 0 if near == 0 else (near << 20) - 15
    sender = Transport(SplitKeys(b"a" * 32, b"b" * 32, b""), b"peer", start)
    receiver = Transport(SplitKeys(b"b" * 32, b"a" * 32, b""), b"peer")
    datagrams = [sender.seal(b"%d" % number) for number in range(31)]
    opened: set[int] = set()
    entered = 0
    for number in order:
        try:
            assert receiver.open(datagrams[number]) == b"%d" % number
        except RemoteProtocolError:
            # Only a repetition, or an epoch before the first that was ever entered, may be refused.
            assert number in opened or (start + number) >> 20 < entered
        else:
            assert number not in opened
            opened.add(number)
            entered = max(entered, (start + number) >> 20)


@LIGHT
@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_never_a_chain_a_proof_an_introduction_or_a_join_message_that_holds(data):
    assert not MeshVerifier(MeshId(bytes(16))).verify(NodeId(bytes(20)), b"body", data)
    for attempt in (
        lambda: verify_chain(data, MeshId(bytes(16))),
        lambda: meet(data, bytes(32), bytes(4), MeshId(bytes(16))),
    ):
        try:
            attempt()
        except RemoteProtocolError:
            continue
        raise AssertionError("accepted")
    try:
        JOIN_CODEC.decode(data, "test")
        CHAIN_CODEC.decode(data, "test")
    except RemoteProtocolError:
        pass


@LIGHT
@given(st.text(max_size=40))
def test_arbitrary_text_is_a_token_or_a_sentence(text):
    for each in (text, "dmss1." + text):
        try:
            says = str(Token.parse(each))
        except AdmissionError as problem:
            says = str(problem)
        assert says.startswith(("dmss1.", "this is not a join token", "the join token is damaged"))


@LIGHT
@given(st.binary(min_size=16, max_size=16), st.binary(min_size=20, max_size=20), st.binary(min_size=24, max_size=24))
def test_tokens_round_trip_through_text(mesh, issuer, rest):
    token = Token(MeshId(mesh), NodeId(issuer), rest[:8], rest[8:])
    assert Token.parse(str(token)) == token


names = st.text(max_size=64)
key = st.binary(min_size=32, max_size=32)
nonce = st.binary(min_size=8, max_size=8)
messages = st.one_of(
    st.builds(
        JoinRequest,
        nonce,
        st.binary(min_size=16, max_size=16),
        st.binary(min_size=16, max_size=16),
        names,
        key,
        key,
        nonce,
    ),
    st.builds(JoinAccepted, nonce, st.binary(max_size=900)),
    st.builds(JoinRefused, nonce, st.text(max_size=300)),
)


@LIGHT
@given(messages)
def test_join_messages_round_trip(message):
    assert JOIN_CODEC.decode(JOIN_CODEC.encode(message), "test") == message


@LIGHT
@given(nonce, st.integers(0, 2**63 - 1), st.binary(min_size=4, max_size=4), key, st.binary(max_size=900))
def test_introductions_round_trip(instance, generation, index, public, chain):
    said = Introduction(instance, generation, index, public, bytes(64), chain)
    assert INTRODUCTION_CODEC.decode(INTRODUCTION_CODEC.encode(said), "test") == said
