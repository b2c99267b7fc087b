"""The ground: deadlines, bounded tables, reserved counters, the codec."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansio.bounded import RecentTable, TokenBucket
from sansio.core import Persist
from sansio.deadlines import Deadlines
from sansio.errors import RemoteProtocolError
from sansio.instant import SECOND, Instant
from sansio.reserve import ReservedCounter
from sansio.wire import WIRE, Codec


@given(st.lists(st.tuples(st.integers(0, 9), st.one_of(st.none(), st.integers(0, 50))), max_size=60))
def test_deadlines_fire_like_a_plain_dict_would(steps):
    timers: Deadlines[int] = Deadlines()
    oracle: dict[int, int] = {}
    for key, at in steps:
        if at is None:
            timers.cancel(key)
            oracle.pop(key, None)
        else:
            timers.set(key, Instant(at))
            oracle[key] = at
        assert timers.next() == min(oracle.values(), default=None), "asked after each step, as drivers do"
    while oracle and min(oracle.values()) <= 10:
        at = oracle.pop(timers.pop_first())
        assert at <= min(oracle.values(), default=at)
        assert timers.next() == min(oracle.values(), default=None)
    assert sorted(timers.pop_due(Instant(25))) == sorted(key for key, at in oracle.items() if at <= 25)
    assert timers.next() == min((at for at in oracle.values() if at > 25), default=None)


def test_timers_due_together_fire_in_the_order_they_were_set():
    timers: Deadlines[str] = Deadlines()
    for key in ("c", "a", "b"):
        timers.set(key, Instant(5))
    assert timers.pop_due(Instant(5)) == ["c", "a", "b"]


def test_a_timer_moved_many_times_does_not_grow_the_heap_without_end():
    timers: Deadlines[str] = Deadlines()
    for at in range(10_000):
        timers.set("probe", Instant(at))
    assert len(timers._heap) < 200


def test_a_full_table_evicts_the_least_recently_written():
    table: RecentTable[str, int] = RecentTable(2)
    table["a"] = 1
    table["b"] = 2
    table["a"] = 3
    table["c"] = 4
    assert dict(table) == {"a": 3, "c": 4}


def test_a_token_bucket_admits_its_burst_then_its_rate():
    bucket: TokenBucket[str] = TokenBucket(rate_per_s=1.0, burst=3.0, limit=8)
    assert [bucket.admit("x", Instant(0)) for _ in range(4)] == [True, True, True, False]
    assert bucket.admit("y", Instant(0))
    assert bucket.admit("x", Instant(SECOND))
    assert not bucket.admit("x", Instant(SECOND))


def test_a_reserved_counter_never_repeats_across_restarts():
    counter = ReservedCounter("seq", None, span=10)
    (persist,) = counter.raise_above(0)
    spent = [counter.value]
    for _ in range(5):
        assert counter.raise_above(0) == []
        spent.append(counter.value)
    again = ReservedCounter("seq", persist.value, span=10)
    again.raise_above(0)
    assert again.value > max(spent)


def test_a_reserved_counter_persists_before_it_leaves_its_range():
    counter = ReservedCounter("seq", (5).to_bytes(8, "big"), span=10)
    assert counter.raise_above(1_000) == [Persist("seq", (1011).to_bytes(8, "big"))]
    assert counter.value == 1_001


class Greeting(msgspec.Struct, **WIRE):
    name: str
    number: int


class LongerGreeting(msgspec.Struct, **WIRE):
    name: str
    number: int
    mood: str


def test_unknown_trailing_fields_are_ignored_so_that_versions_mix():
    data = Codec(LongerGreeting).encode(LongerGreeting("a", 1, "glad"))
    assert Codec(Greeting).decode(data, "x") == Greeting("a", 1)


@given(st.binary(max_size=64))
def test_arbitrary_bytes_decode_or_are_a_remote_error_naming_the_source(data):
    sources = []
    try:
        Codec(Greeting).decode(data, "x")
    except RemoteProtocolError as problem:
        sources.append(problem.source)
    assert sources in ([], ["x"])


def test_a_missing_field_is_refused():
    with pytest.raises(RemoteProtocolError):
        Codec(LongerGreeting).decode(Codec(Greeting).encode(Greeting("a", 1)), "x")
