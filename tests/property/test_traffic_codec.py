"""Whatever the bytes on the traffic channel or on disk: they are read, or refused, and never believed in part."""

from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from dmssd.rules.traffic import (
    STORED_CODEC,
    TRAFFIC_CODEC,
    Began,
    Heard,
    MetricDone,
    MetricOrder,
    Stored,
    Traffic,
)
from routing.lsa import METRIC_MAX
from sansio.errors import RemoteProtocolError
from sansio.ids import NodeId
from sansio.instant import Instant

ME, PEER = NodeId(b"m" * 20), NodeId(b"p" * 20)
few = settings(deadline=None, max_examples=60)

nodes = st.binary(min_size=20, max_size=20).map(NodeId)
numbers = st.integers(0, 2**63 - 1)
messages = st.builds(MetricOrder, numbers, nodes, st.integers(0, METRIC_MAX)) | st.builds(
    MetricDone, numbers, st.text(max_size=200)
)
kept = st.builds(Stored, st.booleans(), st.lists(st.tuples(nodes, st.integers(1, METRIC_MAX)), max_size=5).map(tuple))


def core(stored: bytes | None = None) -> Traffic:
    return Traffic(ME, stored, {}, lambda _: 2, lambda _: True)


@few
@given(messages, kept)
def test_every_message_and_what_is_stored_survive_their_codecs(
    message: MetricOrder | MetricDone, stored: Stored
) -> None:
    assert TRAFFIC_CODEC.decode(TRAFFIC_CODEC.encode(message), "") == message
    assert STORED_CODEC.decode(STORED_CODEC.encode(stored), "") == stored


@few
@given(st.binary(max_size=100))
def test_arbitrary_bytes_never_make_the_core_raise(data: bytes) -> None:
    core().handle(Heard(PEER, data), Instant(0))
    core(data).handle(Began(), Instant(0))
    with suppress(RemoteProtocolError):
        TRAFFIC_CODEC.decode(data, "test")


@few
@given(messages)
def test_any_message_is_obeyed_or_answered_without_raising(message: MetricOrder | MetricDone) -> None:
    traffic = core()
    traffic.handle(Heard(PEER, TRAFFIC_CODEC.encode(message)), Instant(0))
    assert all(1 <= metric <= METRIC_MAX for metric in traffic.metrics.values())
